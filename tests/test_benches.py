from dataclasses import replace

import pytest
import torch

from nestlib.benches import bench_id, choose_rows, find_or_run_bench, run_bench
from nestlib.recipes import TABLE1
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
    quick = bench_id("table1", "quick", torch.device("cpu"), "fp32")
    store.add(replace(record, run_id=quick))
    assert find_or_run_bench("table1", store, "quick", device="cpu").run_id == quick
    assert store.find_benches("table1") == []  # nothing is committed unasked


def test_full_bench_holds_every_row_with_a_model():
    assert choose_rows("table1", "full") == [name for name, row in TABLE1.items() if row.recipe]
    assert set(choose_rows("table1", "quick")) <= set(choose_rows("table1", "full"))


def test_bench_id_names_rows_device_and_precision():
    name = bench_id("table1", "full", torch.device("cpu"), "bf16")
    assert name.startswith("bench/table1-full-") and name.endswith("-bf16")


@pytest.mark.parametrize(
    ("table", "rows", "message"),
    [("table9", "full", "no bench 'table9'; there are table1"),
     ("table1", "all", "rows 'all' is not one of full, quick, smoke")],
)  # fmt: skip
def test_unknown_benches_are_refused(store, table, rows, message):
    with pytest.raises(ValueError, match=message):
        run_bench(table, store, rows=rows, device="cpu")
