"""Figure 8's tables and curves, and figure A4's maps, show what records and maps hold."""

from dataclasses import replace

import numpy as np
import pytest

from nestbook.evaluations.examples import FIGURE_A4
from nestbook.evaluations.localizers import METHODS, NO_WEIGHTS
from nestbook.paper import FIGURE8, FIGURE8_CITED, FIGURE8_LATER
from nestbook.report.localization import (
    STYLES,
    boxes_table,
    figure8,
    localization_table,
    plot_localization,
    printed_beside,
    say_figure8,
    say_figure_a4,
    say_measured,
)
from nestbook.report.maps import draw_maps
from nestbook.report.tables import NOT_RUN, PAPER
from nestlib.explain.localize import THRESHOLDS, find_boxes
from nestlib.metrics.localization import score_localization
from nestlib.records import Record


def make_record(row, seed=0, **recipe):
    rng = np.random.default_rng(seed)
    maps = rng.random((40, 4, 4), np.float32)
    low = rng.integers(0, 30, (40, 1, 2))
    truth = np.concatenate([low, low + 33], -1)
    right = rng.random(40) < 0.5
    scores = score_localization(find_boxes(maps, (64, 64)), truth, right)
    timed = {"ours": [1.0, 2.0, 1.0], "one_by_one": [3.0, 5.0, 4.0]}
    return Record(
        f"localize/{row}", "explain", {"name": "digits/x", "epochs": 3, **recipe},
        {"device": "CPU"},
        {"row": row, "method": METHODS[row], "map_size": [4, 4], "image_size": [64, 64],
         "top1_error": 100 * float((~right).mean()), **scores,
         "higher_inside": 0.75,
         "true_boxes_at_map_size": {"best": {"error": 7.5, "threshold": 0.35}},
         "contours_disagree": 0.25,
         "seconds": {"maps": 1.0, "boxes": 2.0},
         "boxes_timed": {"maps": 200, "image_size": [224, 224], "seconds": timed}},
    )  # fmt: skip


@pytest.fixture
def results():
    made = {row: make_record(row, seed) for seed, row in enumerate(METHODS)}
    return made | {"ADL": "no weights at x"}


def test_the_table_shows_each_records_errors(results):
    table = localization_table("digits", results)
    rows = {row[0]: row for row in table.rows}
    record = results["NesT CAM"]
    shown = rows["NesT CAM"]
    assert shown[1].value == record.summary["top1_error"]
    for cell, (score, way) in zip(shown[2:6], [
        ("top1", "best"), ("top1", "held_out"), ("gt_known", "best"), ("gt_known", "held_out")
    ]):  # fmt: skip
        found = record.summary[score][way]
        assert (cell.value, cell.source, cell.n) == (found["error"], record.run_id, 40)
        assert cell.spread == pytest.approx((found["interval"][1] - found["interval"][0]) / 2)
    assert shown[8].value == 75
    assert shown[6].value == record.summary["gt_known"]["best"]["threshold"]
    assert rows["ADL"][1] == NOT_RUN and "ADL: no weights at x" in table.notes
    assert rows["true box as 4x4 map"][4].value == 7.5
    assert rows["whole image"][4].value == record.summary["gt_known"]["errors"][0]
    (described,) = [line for line in table.sources.details if line.startswith("NesT CAM")]
    assert described.endswith(record.run_id) and "40 images" in described
    again = localization_table("digits", results, explain=False)
    assert again.notes == ["ADL: no weights at x"] and again.rows == table.rows


def test_the_papers_table_stands_beside_scores_and_later_methods():
    unscored = figure8({row: "needs images" for row in METHODS})
    assert [row[1].value for row in unscored.rows[:5]] == list(FIGURE8.values())
    assert all(row[1].source == PAPER and row[2] == NOT_RUN for row in unscored.rows[:5])
    assert [row[0] for row in unscored.rows[5:]] == list(FIGURE8_LATER)
    marked = {row[0].removesuffix(" §") for row in unscored.rows if row[0].endswith("§")}
    assert marked == set(FIGURE8) - set(FIGURE8_CITED)
    assert f"{', '.join(METHODS)}: needs images" in unscored.notes  # a reason is said once
    record = make_record("NesT CAM", weights="nest_small_jx", limit=40)
    scored = figure8({row: NO_WEIGHTS for row in METHODS} | {"NesT CAM": record})
    cell = scored.rows[4][2]
    assert cell.value == record.summary["top1"]["best"]["error"]
    assert "(of 40 images)" in str(cell)  # a part must not be read as the whole


def test_boxes_are_timed_per_map():
    table = boxes_table({"NesT CAM": make_record("NesT CAM"), "ADL": "no weights"})
    _, minutes, ratio, contours = table.rows[0]
    assert minutes.value == pytest.approx(50_000 / 200 / 60)
    assert ratio.value == 3.0 and ratio.n == 3 and contours.value == 25
    assert boxes_table({"ADL": "no weights"}).rows[0][0] == NOT_RUN
    later = make_record("NesT CAM")  # records are not timed any more
    del later.summary["boxes_timed"]
    assert boxes_table({"NesT CAM": later}).rows[0][1:3] == ("", "")


def test_the_small_table_beside_the_walks_holds_the_prints_and_what_was_scored(results):
    unscored = {row: "needs images" for row in METHODS}
    alone = printed_beside(unscored, unscored)
    assert alone.columns == ("Method", "ImageNet, paper")
    beside = printed_beside(unscored, results)
    assert beside.columns[1:] == ("ImageNet, paper", "Tiny ImageNet, here")
    by_row = {name.removesuffix(" §"): cells for name, *cells in beside.rows}
    assert [cells[0].value for cells in by_row.values()] == list(FIGURE8.values())
    assert by_row["ADL"][1] == ""
    record = results["NesT CAM"]
    found = by_row["NesT CAM"][1]
    assert (found.value, found.source) == (record.summary["top1"]["best"]["error"], record.run_id)


# What the pages say


def with_summary(record, **changes):
    return replace(record, summary=record.summary | changes)


def with_error(record, error, whole, half=1.0):
    held_out = {"error": error, "interval": [error - half, error + half]}
    known = record.summary["gt_known"] | {"held_out": held_out, "errors": [whole]}
    return with_summary(record, gt_known=known)


@pytest.mark.parametrize(
    ("whole", "judged"),
    [(48.4, "no better than"), (45.0, "worse than"), (52.0, "better than")],
)
def test_figure8_says_what_the_whole_image_would_do(whole, judged):
    unscored = {row: "needs images" for row in METHODS}
    tiny = unscored | {"NesT CAM": with_error(make_record("NesT CAM"), 48.3, whole)}
    said = say_figure8("quick", (False,) * 4, unscored, tiny)
    assert said.startswith("The paper's table has not been scored on ImageNet here. With narrow m")
    assert "none of the four walks drawn ends on its digit" in said
    assert f"miss the object in 48.3 % of 40 Tiny ImageNet images, {judged} the whole" in said
    assert said.endswith(f"({whole:.1f} %).")


def test_figure8_says_no_more_than_there_is():
    unscored = {row: "needs images" for row in METHODS}
    assert say_figure8("gpu", None, unscored, unscored) == (
        "The paper's table has not been scored on ImageNet here."
    )
    found = say_figure8("quick", (True, True, False, True), unscored, unscored)
    assert found.endswith("With narrow models, three of the four walks drawn end on their digits.")
    record = make_record("NesT CAM", weights="nest_small_jx")
    scored = say_figure8("quick", None, unscored | {"NesT CAM": record}, unscored)
    error = record.summary["top1"]["best"]["error"]
    assert f"wrong for {error:.1f} % of 40 ImageNet images here, for 51.8 % in the paper" in scored


def test_figure_a4_says_whose_maps_are_high_on_the_object(results):
    shares = {"R50 GradCAM++": 1.0, "DeiT RollOut": 0.9, "NesT CAM": 0.077, "ACoL": 0.0}
    scored = results | {row: with_summary(results[row], higher_inside=share)
                        for row, share in shares.items()}  # fmt: skip
    said = say_figure_a4("digits", scored, FIGURE_A4)
    assert "in 7.7 % of 40 canvases with one digit" in said and "ACoL" not in said
    assert "R50 GradCAM++'s in 100.0 %" in said and "DeiT RollOut's in 90.0 %" in said
    assert said.endswith("The paper shows the opposite on three birds.")
    best = scored | {"NesT CAM": with_summary(scored["NesT CAM"], higher_inside=1.0)}
    assert "opposite" not in say_figure_a4("digits", best, FIGURE_A4)
    none = say_figure_a4("imagenet", dict.fromkeys(METHODS, "needs images"), FIGURE_A4)
    assert none == "No class map of NesT has been scored on ImageNet images here."


def test_a_chip_says_what_was_measured_on(results):
    assert say_measured({"ADL": "no weights"}) == ""
    where = {"device": "Intel(R) Xeon(R) Processor, 2 cores"}
    quick = replace(make_record("NesT CAM", budget="quick"), environment=where)
    said = say_measured({"NesT CAM": quick})
    assert said == "measured: narrow models, n = 1, Xeon, 2 cores"
    published = {"NesT CAM": make_record("NesT CAM", weights="nest_small_jx")}
    assert say_measured(published).startswith("measured: published weights")


# Curves


def test_curves_are_the_errors_and_the_best_is_marked(results):
    picture = plot_localization({"digits": results, "tiny_imagenet": {}}, "figure8")
    (axes,) = picture.figure.axes
    curves = {line.get_label(): line for line in axes.lines if line.get_label()[0] != "_"}
    assert set(curves) == set(METHODS) - {"ADL"}
    found = results["ACoL"].summary["gt_known"]
    assert list(curves["ACoL"].get_xdata()) == list(THRESHOLDS)
    assert list(curves["ACoL"].get_ydata()) == found["errors"]
    assert f"ACoL: {found['best']['error']:.1f} %" in picture.tooltips["digits-acol"]
    assert picture.to_svg() == picture.to_svg()
    assert plot_localization({"digits": {}}, "figure8").rows == [(NOT_RUN,)]


def test_every_row_has_its_own_look():
    assert set(STYLES) == set(METHODS)
    assert len({color for color, *_ in STYLES.values()}) == len(STYLES)
    assert len({marker for *_, marker in STYLES.values()}) == len(STYLES)


# Maps


def test_maps_are_drawn_with_the_box_of_their_threshold():
    images = np.full((2, 32, 32, 3), 90, np.uint8)
    maps = np.zeros((2, 4, 4), np.float32)
    maps[:, 1:3, 1:3] = 1
    truth = np.array([[[4, 4, 11, 11], [-1, -1, -1, -1]]] * 2)
    picture = draw_maps(images, ["a", "b"], {"CAM": maps, "other": maps}, {"CAM": 0.5}, truth, "m")
    first, cam, other = picture.figure.axes[:3]
    assert (len(first.patches), len(cam.patches), len(other.patches)) == (1, 2, 1)
    found = cam.patches[0]
    (box,) = find_boxes(maps[:1], (32, 32), [0.5])[0]
    assert (found.get_x(), found.get_y()) == (box[0] - 0.5, box[1] - 0.5)
    assert found.get_width() == box[2] - box[0] + 1
    assert first.patches[0].get_width() == 8
    shown = cam.images[-1].get_array()
    assert shown.min() == 0 and shown.max() == 1 and shown.argmax() // 32 in range(8, 24)
    with pytest.raises(ValueError, match="1 CAM for 2 images"):
        draw_maps(images, ["a", "b"], {"CAM": maps[:1]}, {}, None, "m")
