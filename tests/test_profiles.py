"""Profiles leave records that the report shows; without one it says so."""

from functools import partial

import pytest
import torch

from nestbook.profiles import registry
from nestbook.profiles.choices import attention_choices, product_choices
from nestbook.profiles.explaining import STEPS, explaining_costs
from nestbook.profiles.export import export_speeds
from nestbook.profiles.input_rate import input_rates
from nestbook.profiles.step import step_kinds
from nestbook.report.profiles import draw_growth, show_profile
from nestbook.report.tables import NOT_RUN
from nestlib.models import create_model


def test_roofline_leaves_a_record_that_is_shown(store, monkeypatch):
    monkeypatch.setattr(registry, "ROOFLINE_BATCH", {"cpu": 1})
    one_round = lambda *words, **how: profiles_roofline(*words, **how, rounds=1, warmup=0)  # noqa: E731
    profiles_roofline = registry.roofline
    monkeypatch.setattr(registry, "roofline", one_round)
    record = registry.run_profile("roofline", store, device="cpu", committed=True)
    assert record.run_id.startswith("bench/roofline-full-") and record.kind == "bench"
    (found,) = store.find_benches("roofline")
    table = show_profile("roofline", [found])
    assert (
        table.rows[-1][0] == "whole pass, timed at once"
        and record.run_id in table.sources.details[0]
    )
    assert sum(part["gflop"] for part in record.summary["parts"]) == pytest.approx(11.6, rel=0.01)


def test_step_leaves_a_record_that_is_shown(store, monkeypatch):
    monkeypatch.setattr(registry, "STEP_MODELS", ("nest_tiny_cifar",))
    monkeypatch.setitem(registry.SPEED_BATCH_SIZES, (32, "cpu"), 1)
    monkeypatch.setattr(
        registry, "step_kinds", partial(step_kinds, rounds=1, seconds_per_round=0.0)
    )
    record = registry.run_profile("step", store, device="cpu", precision="bf16", progress=False)
    table = show_profile("step", [record], "bf16")
    assert table.columns[1:] == ("nestlib nest_tiny_cifar", "timm nest_tiny_cifar")
    ours, timms = (m["kinds"] for m in record.summary["models"].values())
    gflop = [sum(kind["gflop"] for kind in kinds.values()) for kinds in (ours, timms)]
    assert gflop[0] == pytest.approx(gflop[1], rel=0.01)  # one function, so one work


def test_growth_leaves_a_record_that_is_shown(store, monkeypatch):
    asked = {}

    def growth(series, **how):
        asked.update(how, lines=[line.axis for line in series])
        return {"settings": {"device": "cpu", "threads": 1, "precision": "fp32", "torch": "2",
                             "rounds_done": 1}, "lines": []}  # fmt: skip

    monkeypatch.setattr(registry, "growth", growth)
    record = registry.run_profile("growth", store, device="cpu", precision="bf16")
    assert asked["precision"] == "bf16" and asked["rounds"] >= 5
    assert asked["lines"] == ["batch", "pixels", "pixels", "pixels", "depth"]
    assert show_profile("growth", [record]).rows == []


def test_attention_leaves_a_record_that_is_shown(store, monkeypatch):
    monkeypatch.setattr(registry, "ATTENTION_WORDS", {"cpu": 392})
    brief = partial(attention_choices, rounds=2, seconds_per_round=0.0)
    monkeypatch.setattr(registry, "attention_choices", brief)
    record = registry.run_profile("attention", store, device="cpu", progress=False)
    assert record.run_id.startswith("bench/attention-full-")
    table = show_profile("attention", [record])
    assert [row[:4] for row in table.rows][:4] == [
        ("4", "3 x 32", "98", "fused"),
        ("16", "3 x 32", "24", "fused"),
        ("49", "3 x 32", "8", "fused"),
        ("196", "3 x 32", "2", "fused"),
    ]
    assert len(table.rows) == 2 * 2 * 4
    assert table.rows[8][:4] == ("4", "3 x 32, one key", "98", "plain")
    for row, choice in zip(table.rows, (r["rule"] for r in record.summary["rows"])):
        own = 6 + 2 * list(record.summary["rows"][0]["seconds"]).index(choice)
        assert row[own : own + 2] == ("1", "1") and row[4].n == 2
    assert show_profile("attention", [record], "bf16").rows == [(NOT_RUN,)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_products_leave_a_record_that_is_shown(store, monkeypatch, precision):
    monkeypatch.setattr(registry, "PRODUCTS", {"small": (2, 16, 8)})
    brief = partial(product_choices, rounds=2, seconds_per_round=0.0)
    monkeypatch.setattr(registry, "product_choices", brief)
    record = registry.run_profile(
        "products", store, device="cpu", precision=precision, progress=False
    )
    table = show_profile("products", [record], precision)
    assert [row[:3] for row in table.rows] == [
        ("small, qkv", "2 x 16", "8 to 24"),
        ("small, fc1", "2 x 16", "8 to 32"),
        ("small, fc2", "2 x 16", "32 to 8"),
    ]
    assert precision in table.caption and record.run_id in table.sources.details[0]


def test_input_leaves_a_record_that_is_shown(store, monkeypatch):
    monkeypatch.setattr(registry, "INPUT_BATCH", {"cpu": 2})
    monkeypatch.setattr(
        registry, "input_rates", partial(input_rates, rounds=1, seconds_per_round=0.0)
    )
    record = registry.run_profile("input", store, device="cpu", progress=False)
    table = show_profile("input", [record])
    assert [row[0] for row in table.rows] == [
        "input side alone", *registry.INPUT_RECIPES, "input side alone, one thread",
        *(f"{name}, one thread" for name in registry.INPUT_ONE_THREAD),
    ]  # fmt: skip
    for rows in (table.rows[:3], table.rows[3:]):
        alone = rows[0][1].value
        for _, rate, ratio in rows[1:]:
            assert ratio.value == pytest.approx(alone / rate.value, rel=1e-2)
    threads = [record.summary["settings"], record.summary["one_thread"]["settings"]]
    assert [settings["threads"] for settings in threads] == [1, 1]  # as all tests run


def test_without_a_record_every_part_says_so():
    shown = [show_profile(name, []) for name in registry.PROFILES]
    for table in (*shown, draw_growth([])):
        assert table.rows == [(NOT_RUN,)] and "nest profile" in table.notes[0]


def test_explaining_leaves_a_record_that_is_shown(store, monkeypatch):
    monkeypatch.setattr(registry, "EXPLAINED", ("nest_tiny_cifar",))
    monkeypatch.setattr(registry, "EXPLAINED_IMAGES", 2)
    monkeypatch.setattr(registry, "explaining_costs", partial(explaining_costs, rounds=3))
    record = registry.run_profile("explaining", store, device="cpu", progress=False)
    (measured,) = record.summary["rows"]
    assert set(measured["seconds"]) == set(STEPS)
    table = show_profile("explaining", [record])
    (row,) = table.rows
    ratios = [a / b for a, b in zip(*(measured["seconds"][s] for s in list(STEPS)[1::-1]))]
    assert row[0] == "nest_tiny_cifar" and row[3].n == 3
    assert row[3].value == sorted(ratios)[1] and row[3].source == record.run_id
    assert table.columns[3:] == tuple(step for step in STEPS if step != "forward and backward")
    with pytest.raises(ValueError, match="explaining is measured in fp32, not bf16"):
        registry.run_profile("explaining", store, device="cpu", precision="bf16")


def test_export_leaves_a_record_that_is_shown(store, monkeypatch):
    pytest.importorskip("onnxruntime", reason="the extra `onnx` is not installed")
    narrow = partial(create_model, embed_dim=12, num_hierarchies=2, patch_size=4)
    monkeypatch.setattr(registry, "create_model", narrow)
    monkeypatch.setattr(registry, "EXPORTED", ("nest_tiny_cifar",))
    monkeypatch.setattr(
        registry, "export_speeds", partial(export_speeds, rounds=3, seconds_per_round=0.0)
    )
    torch.set_num_threads(2)
    record = registry.run_profile("export", store, device="cpu", progress=False)
    assert torch.get_num_threads() == 2
    table = show_profile("export", [record])
    assert [row[:4] for row in table.rows] == [
        ("nest_tiny_cifar", "32x32", batch, threads) for threads in "12" for batch in ("1", "32")
    ]
    for row, measured in zip(table.rows, record.summary["rows"]):
        eager, other = measured["seconds"]["eager"], measured["seconds"]["onnxruntime"]
        ratios = [a / b for a, b in zip(eager, other)]
        assert row[6].n == 3 and row[6].value == pytest.approx(sorted(ratios)[1], rel=0.01)
        assert row[4].value == pytest.approx(int(row[2]) / sorted(eager)[1], rel=0.01)
        assert row[4].source == record.run_id
    assert 0 < record.summary["rows"][0]["difference"] < 1e-5
    for where, what in (("bf16", "cpu"), "in fp32"), (("fp32", "cuda"), "only on the CPU"):
        with pytest.raises(ValueError, match=f"export is measured {what}"):
            registry.check_profile("export", *where)
