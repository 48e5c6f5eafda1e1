"""Profiles leave records that the report shows; without one it says so."""

import pytest

from nestlib import profiles, report
from nestlib.records import Store
from nestlib.report.tables import NOT_RUN


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "committed", tmp_path / "local")


def test_roofline_leaves_a_record_that_is_shown(store, monkeypatch):
    monkeypatch.setattr(profiles, "ROOFLINE_BATCH", {"cpu": 1})
    one_round = lambda *words, **how: profiles_roofline(*words, **how, rounds=1, warmup=0)  # noqa: E731
    profiles_roofline = profiles.roofline
    monkeypatch.setattr(profiles, "roofline", one_round)
    record = profiles.run_profile("roofline", store, device="cpu", committed=True)
    assert record.run_id.startswith("bench/roofline-full-") and record.kind == "bench"
    (found,) = store.find_benches("roofline")
    table = report.show_roofline([found])
    assert table.rows[-1][0] == "whole pass, timed at once" and record.run_id in table.notes[0]
    assert sum(part["gflop"] for part in record.summary["parts"]) == pytest.approx(11.6, rel=0.01)


def test_growth_leaves_a_record_that_is_shown(store, monkeypatch):
    asked = {}

    def growth(series, **how):
        asked.update(how, lines=[line.axis for line in series])
        return {"settings": {"device": "cpu", "threads": 1, "precision": "fp32", "torch": "2",
                             "rounds_done": 1}, "lines": []}  # fmt: skip

    monkeypatch.setattr(profiles, "growth", growth)
    record = profiles.run_profile("growth", store, device="cpu", precision="bf16")
    assert asked["precision"] == "bf16" and asked["rounds"] >= 5
    assert asked["lines"] == ["batch", "pixels", "pixels", "pixels", "depth"]
    assert report.show_growth([record]).rows == []


def test_without_a_record_every_part_says_so():
    for shown in (report.show_roofline([]), report.show_growth([]), report.draw_growth([])):
        assert shown.rows == [(NOT_RUN,)] and "nest profile" in shown.notes[0]
