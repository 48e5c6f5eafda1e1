"""The page of training images, and the bars of budget small."""

from dataclasses import replace

import pytest
from made_records import add

from nestbook.report.ablation_tables import gaps_table
from nestbook.report.ablations import plot_training_images
from nestbook.report.bars import bars_table, find_bars, find_small_bars
from nestbook.report.findings import point_of_training_images
from nestbook.report.tables import NOT_RUN
from nestbook.sweeps.plans import plan

pytestmark = pytest.mark.usefixtures("no_fingerprints")


def test_gaps_are_those_of_the_means_with_paired_intervals(store):
    bars = plan("training_images", "small", [0, 1, 2])
    rates = {"NesT narrow": 0.65, "DeiT narrow": 0.6}
    for (model, number), row in bars.items():
        if model in rates and number != "50,000":
            for recipe in row:
                add(store, recipe, rates[model])
    found = find_small_bars("training_images", store)
    rows = {row[0]: row[1:] for row in gaps_table(found).rows}
    assert list(rows) == ["1,000", "2,500", "10,000", "50,000"]
    assert rows["50,000"] == (NOT_RUN, NOT_RUN) and rows["1,000"][1] == NOT_RUN
    gap = rows["10,000"][0]
    assert gap.value == pytest.approx(5.0, abs=0.3) and gap.n == 3
    # Of the same images: two independent draws of 10,000 would be 1.3 points apart.
    assert 0.1 < gap.spread < 1.0
    picture = plot_training_images(found)
    assert len([text for text in picture.tooltips.values() if "n = 3 seeds" in text]) == 6
    picture.to_svg()
    point = point_of_training_images(found)
    for number in ("1,000", "10,000"):  # 50,000 are not run
        assert f"with {number} images NesT is {rows[number][0].value:.1f} ±" in point.sentence
    assert "ahead of DeiT" in point.sentence and "WRN" not in point.sentence
    assert [chip.text for chip in point.chips] == ["measured: n = 3, A processor"]


def test_a_gap_of_single_runs_has_no_interval(store):
    for (_, number), (recipe,) in plan("training_images", "small", [0]).items():
        if number == "10,000":
            add(store, recipe, 0.6)
    table = gaps_table(find_small_bars("training_images", store))
    assert all(cell.spread is None for cell in table.rows[2][1:]) and "inf" not in str(table)


def test_without_records_the_page_says_so(store):
    found = find_small_bars("training_images", store)
    assert "Not run yet: CIFAR-10" in plot_training_images(found).description
    assert gaps_table(found) is None
    point = point_of_training_images(found)
    assert point.sentence == "No answer yet: none of the 12 points has been run."
    assert [chip.text for chip in point.chips] == ["not run"]


def test_small_bars_stand_apart_from_the_papers_and_from_digits(store):
    row = plan("figure5", "small", [0, 1])["cifar10", "block", "avgpool3x3"]
    for recipe in row:
        add(store, recipe, 0.6)
    bars = find_bars("figure5", store, (0, 1))
    assert sum(len(bar.records) for bar in bars.small) == 2
    assert not any(bar.records for bar in [*bars.real, *bars.quick])
    assert all(bar.printed is None for bar in bars.small)
    table = bars_table("Small", bars.small)
    assert "Paper (%)" not in table.columns
    assert [line[0] for line in table.rows] == ["AvgPool3x3, block plane"]
    assert "(narrow models, 10,000 images)" in bars.small[0].name
    add(store, plan("figure5", "small", [0])["cifar10", "image", "avgpool3x3"][0], 0.6, device="B")
    sources = bars_table("Small", find_bars("figure5", store).small).sources
    assert sources.line.startswith("3 runs on A processor and B, 10,000 test images")
    assert [detail.partition(":")[0] for detail in sources.details] == ["B", "A processor"]
    assert replace(row[0], budget="quick").run_id != row[0].run_id
