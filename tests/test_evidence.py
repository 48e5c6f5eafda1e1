"""The run plan: in its order, nothing twice; one failed run costs the others nothing."""

from dataclasses import replace

import pytest

from nestbook.recipes.rows import TABLE1
from nestbook.report.run_plan import coverage_table, items_table, plan_table
from nestbook.report.tables import NOT_RUN
from nestbook.run_plan import entries as run_plan
from nestbook.run_plan.entries import Entry, find_coverage, list_entries, run_entries
from nestlib.records import Record


def test_the_plan_is_the_issues():
    entries = list_entries()
    assert [entry.item for entry in entries] == sorted(entry.item for entry in entries)
    assert len({entry.name for entry in entries}) == len(entries)
    assert {entry.item for entry in entries} == set(range(1, 9))
    benches = [entry.bench for entry in entries if entry.item == 1]
    assert {"table1", "table2", "figure7", "speed"} <= set(benches)
    second, third = (next(e.recipe for e in entries if e.item == item) for item in (2, 3))
    assert (second.name, second.epochs) == ("cifar10/nest_tiny_s2_depth3", 300)
    assert (third.name, third.epochs) == ("cifar10/nest_tiny", 300)
    rivals = {entry.recipe.name: entry for entry in entries if entry.item == 4}
    assert set(rivals) == {TABLE1[row].recipe for row in run_plan.RIVALS}
    assert all(r.recipe.epochs in (30, 60, 100, 300) or r.minutes <= 12 for r in rivals.values())
    assert all(r.minutes <= 12 or r.recipe.epochs == 30 for r in rivals.values())
    trained = [entry.recipe for entry in entries if entry.recipe]
    assert {r.dataset for r in trained} == {"cifar10", "tiny_imagenet"}


def test_expected_minutes_are_multiply_adds_over_the_assumed_rate(tiny_recipe):
    double = Entry(1, "", replace(tiny_recipe, epochs=2 * tiny_recipe.epochs))
    assert double.minutes == pytest.approx(2 * Entry(1, "", tiny_recipe).minutes)
    macs = run_plan.estimate_cost(tiny_recipe) * 1e9
    assert Entry(1, "", tiny_recipe).minutes * 60 * 100e12 == pytest.approx(2 * macs)


def test_what_has_no_record_is_run_in_order_and_failures_are_passed_over(
    tiny_recipe, store, tmp_path, monkeypatch
):
    broken = replace(tiny_recipe, name="digits/deit_narrow", dataset="cifar10", dataset_options={})
    entries = [
        Entry(1, "a bench", bench="table1"), Entry(2, "no data", broken), Entry(3, "", tiny_recipe)
    ]  # fmt: skip
    monkeypatch.setattr(run_plan, "list_entries", lambda: entries)
    said = []
    how = {
        "data_root": tmp_path,
        "runs_dir": tmp_path / "runs",
        "device": "cpu",
        "say": said.append,
    }
    assert not run_entries(store, max_seconds=60, **how)  # the bench is not begun with so little
    assert [line.split(":")[0] for line in said] == [broken.run_id] * 2 + [tiny_recipe.run_id] * 2
    assert "failed: FileNotFoundError" in said[1] and said[-1].endswith("done")
    record = store.find(tiny_recipe.run_id)
    assert (
        record is not None and (tmp_path / "weights" / f"{tiny_recipe.run_id}.safetensors").exists()
    )
    assert entries[2].find(store) is None  # as it was made on a CPU
    gpu = replace(record, environment=record.environment | {"device_kind": "cuda"})
    store.add(gpu, committed=True)
    assert entries[2].find(store) == gpu
    said.clear()
    assert run_entries(store, only=3, **how) and said == []


def test_tables_show_records_of_gpus_and_count_the_papers_bars(tiny_recipe, store, monkeypatch):
    entries = [Entry(1, "benches", bench="speed"), Entry(2, "a run", tiny_recipe)]
    assert [row[3] for row in plan_table(entries, store).rows] == [NOT_RUN, NOT_RUN]
    environment = {"device_kind": "cuda", "device": "a GPU", "data": {}, "finished": "2026"}
    store.add(Record(tiny_recipe.run_id, "train", {}, environment, {}), committed=True)
    assert [row[3] for row in plan_table(entries, store).rows] == [
        NOT_RUN, f"{tiny_recipe.run_id} (a GPU)"
    ]  # fmt: skip
    assert [row[3] for row in items_table(entries, store).rows] == ["0 of 1", "1 of 1"]
    found = find_coverage(store)
    assert {"table1, cifar10", "table2", "figure_a1", "figure7"} <= set(found)
    assert coverage_table({"x": {"a": [1], "b": []}}).rows == [("x", "2", "1")]
