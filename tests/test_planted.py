"""The planted-truth runner and its table, on a smoke run."""

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from nestbook.evaluations.planted import (
    CANVASES,
    WAYS,
    find_planted,
    load_canvases,
    record_id,
    run_planted,
)
from nestbook.report.grounding import DEFAULT, grounding_table, say_figure3, say_measured
from nestlib.cli.main import app
from nestlib.records import Record, Store


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    return run_planted(Store(folder, folder), budget="smoke", progress=False)


def test_models_that_are_trained_again_do_not_get_the_old_record(record, store):
    """A record of three runs, one of which has other weights now."""
    runs = {f"digits/nest_planted-s{seed}-0": str(seed) * 64 for seed in range(3)}
    for run_id, sha256 in runs.items():
        store.add(Record(run_id, "train", {}, {}, {"weights_sha256": sha256}))
    environment = record.environment | {"weights": runs}
    whole = replace(record, run_id=record_id("quick"), environment=environment)
    store.add(whole)
    assert find_planted(store) == [whole]
    assert "SHA-256" not in str(grounding_table([whole]))
    store.add(Record(run_id, "train", {}, {}, {"weights_sha256": "f" * 64}))
    with pytest.warns(UserWarning, match=f"{run_id} no longer has: it was trained again"):
        assert find_planted(store) == []
    old = replace(whole, environment=record.environment)  # of before sums were kept
    store.add(old)
    assert find_planted(store) == [old] and old.run_id in grounding_table([old]).sources.details[-1]


def test_every_way_is_judged_on_every_canvas(record):
    (row,) = record.summary["models"]
    assert len(WAYS) == 15
    for name, per_image in (("four", 4), ("small", 1)):
        assert set(row[name]["ways"]) == set(WAYS)
        assert row[name]["queries"] == 8 * per_image
    together = record.summary["together"]
    rate = together["four"]["ways"]["CAM"]["leaf"]
    assert rate["rate"] == row["four"]["ways"]["CAM"]["leaf"] / 32
    assert rate["interval"][0] <= rate["rate"] <= rate["interval"][1]
    assert record.recipe["budget"] == "smoke" and "smoke" in record.run_id


def test_the_table_names_its_record_and_chance(record):
    text = str(grounding_table([record]))
    assert record.run_id in text and "25.0" in text
    assert all(text.count(f"| {way} ") == 1 for way in WAYS)
    assert "not run yet" in str(grounding_table([]))


def with_rates(record, **rates):
    """The record with other quadrant rates of the default way, and intervals of 4 points."""
    together = record.summary["together"]
    for canvas, rate in rates.items():
        ways = together[canvas]["ways"]
        hit = {"rate": rate, "interval": [rate - 0.02, rate + 0.02]}
        new = ways | {DEFAULT: ways[DEFAULT] | {"quadrant": hit}}
        together = together | {canvas: together[canvas] | {"ways": new}}
    return replace(record, summary=record.summary | {"together": together})


def test_the_point_says_both_rates_and_judges_them_by_chance(record):
    said = say_figure3([with_rates(record, four=0.706, small=0.253)])
    assert "four digits on a canvas, GradCAT finds its quadrant in 70.6 % of 32 walks (ch" in said
    assert said.endswith("in 25.3 % of 8 walks (no better than chance, 25.0 %).")
    worse = say_figure3([with_rates(record, four=0.1, small=0.3)])
    assert "10.0 % of 32 walks (worse than chance, 25.0 %)" in worse
    assert worse.endswith("30.0 % of 8 walks (chance: 25.0 %).")
    assert "has not been counted" in say_figure3([]) and "%" not in say_figure3([])
    assert say_measured([record]).startswith("measured: 1 narrow model") and not say_measured([])


def test_small_digits_are_small_and_four_are_in_four_quadrants():
    small = load_canvases("small", "smoke").boxes[:, 0]
    assert (small[:, 2:] - small[:, :2] < 0.3 * 64).all()
    assert load_canvases("four", "smoke").boxes.shape == (
        8,
        CANVASES["four"]["digits_per_image"],
        4,
    )


def test_the_command_refuses_what_is_not_there():
    result = CliRunner().invoke(app, ["explain", "truth"])
    assert isinstance(result.exception, ValueError)
    assert "'truth'; valid: planted, blanking, figure8" in str(result.exception)


def test_no_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="num_models is 0"):
        run_planted(Store(tmp_path, tmp_path), num_models=0)


def test_the_command_prints_the_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["explain", "planted", "--budget", "smoke"])
    assert result.exit_code == 0 and "finds the digit asked for" in result.stdout
    assert list(tmp_path.glob("runs/records/planted/*.json"))
