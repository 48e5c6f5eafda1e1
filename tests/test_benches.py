from dataclasses import replace

import pytest
import torch

from nestlib.benches import bench_id, choose_rows, find_or_run_bench, run_bench
from nestlib.recipes import TABLES
from nestlib.records import Store


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "committed", tmp_path / "local")


def test_bench_leaves_a_record_that_is_found_again(store, monkeypatch):
    record = find_or_run_bench("table1", store, "smoke", device="cpu")
    assert record.kind == "bench" and list(record.summary) == ["NesT-T"]
    row = record.summary["NesT-T"]
    assert row["images_per_second"]["forward"]["median"] > 0
    assert row["images_per_second"]["train"]["median"] > 0
    assert record.recipe["budget"] == "smoke" and record.environment["device_kind"] == "cpu"
    monkeypatch.setattr("nestlib.benches.bench", lambda *_, **__: pytest.fail("timed again"))
    light = bench_id("table1", "light", torch.device("cpu"), "fp32")
    store.add(replace(record, run_id=light))
    assert find_or_run_bench("table1", store, "quick", device="cpu").run_id == light
    assert store.find_benches("table1") == []  # nothing is committed unasked


@pytest.mark.parametrize("table", TABLES)
def test_full_and_quick_benches_hold_every_row(table):
    assert choose_rows(table, "full") == choose_rows(table, "quick") == list(TABLES[table])
    assert set(choose_rows(table, "light")) < set(TABLES[table])
    assert choose_rows(table, "smoke") == ["NesT-T"]


def test_bench_id_names_rows_device_and_precision():
    name = bench_id("table1", "full", torch.device("cpu"), "bf16")
    assert name.startswith("bench/table1-full-") and name.endswith("-bf16")


@pytest.mark.parametrize(
    ("table", "form", "message"),
    [("table9", "full", "no bench 'table9'; there are table1, table2"),
     ("table1", "all", "no form 'all' of a bench; there are full, quick, light, smoke")],
)  # fmt: skip
def test_unknown_benches_are_refused(store, table, form, message):
    with pytest.raises(ValueError, match=message):
        run_bench(table, store, form=form, device="cpu")
