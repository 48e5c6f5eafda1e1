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
from nestbook.report.grounding import grounding_table
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
    assert not any("SHA-256" in note for note in grounding_table([whole]).notes)
    store.add(Record(run_id, "train", {}, {}, {"weights_sha256": "f" * 64}))
    with pytest.warns(UserWarning, match=f"{run_id} has no more: it was trained again"):
        assert find_planted(store) == []
    old = replace(whole, environment=record.environment)  # of before sums were kept
    store.add(old)
    assert find_planted(store) == [old] and old.run_id in grounding_table([old]).notes[-1]


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
    assert all(way in text for way in WAYS)
    assert "not run yet" in str(grounding_table([]))


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
    assert result.exit_code == 0 and "Planted truth" in result.stdout
    assert list(tmp_path.glob("runs/records/planted/*.json"))
