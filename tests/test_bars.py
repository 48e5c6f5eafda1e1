"""A plan's table holds each bar's mean, spread and n, or says that it was not run."""

import statistics

import pytest

from nestlib.measure.accuracy import sampling_half_width
from nestlib.records import Record
from nestlib.report import bars_table
from nestlib.report.tables import NOT_RUN


def make_run(seed, top1):
    data = {"test": {"images": 1000, "fingerprint": "x"}}
    return Record(
        f"digits/x-s{seed}-0", "train", {"seed": seed, "budget": "quick"},
        {"device": "CPU", "data": data}, {"test/top1": top1},
    )  # fmt: skip


def test_a_bar_is_its_runs():
    scores = [60.0, 64.0, 71.0]
    found = {("digits", "image", "a"): [make_run(i, s) for i, s in enumerate(scores)],
             ("digits", "block", "a"): []}  # fmt: skip
    table = bars_table("Figure", found)
    name, top1, half, n, budget = table.rows[0]
    assert name == "digits, image, a" and (n, budget) == ("3", "quick")
    assert top1.value == pytest.approx(65) and top1.spread == pytest.approx(
        statistics.stdev(scores)
    )
    assert half.value == sampling_half_width(65.0, 1000)
    assert table.rows[1][1] == NOT_RUN
    assert "n = 3, CPU" in table.notes[-1] and "digits/x-s2-0" in table.notes[-1]
