"""A plan's bars in tables and pictures: mean, spread and n of records, or "not run yet"."""

import numpy as np
import pytest
import scipy.stats

from nestbook.paper import FIGURE4_REMOVED, TABLE1, TABLE_A3
from nestbook.report.ablations import (
    plot_aggregations,
    plot_figure4,
    plot_figure6,
    plot_figure_a2,
    plot_table_a3,
)
from nestbook.report.bars import QUICK_LABEL, bars_table, find_bars
from nestbook.report.tables import NOT_RUN
from nestbook.sweeps import plans
from nestlib.metrics.intervals import sampling_half_width
from nestlib.models.aggregation import AGGREGATIONS
from nestlib.recipes.recipe import to_dict
from nestlib.records import Record

PLOTS = {
    "figure4": plot_figure4, "figure5": lambda bars: plot_aggregations(bars, "figure5"),
    "figure6": plot_figure6, "figure_a1": lambda bars: plot_aggregations(bars, "figure_a1"),
    "figure_a2": plot_figure_a2, "table_a3": plot_table_a3,
}  # fmt: skip
SCORES = [60.0, 64.0, 71.0]


pytestmark = pytest.mark.usefixtures("no_fingerprints")


def add_runs(store, recipes, scores, images=1000):
    """Made-up records, of this test alone."""
    environment = {"device": "CPU", "data": {"test": {"images": images, "fingerprint": "x"}}}
    for recipe, top1 in zip(recipes, scores):
        summary = {"test/top1": top1, "train_seconds": 30.0 * (recipe.seed + 1)}
        store.add(Record(recipe.run_id, "train", to_dict(recipe), environment, summary))


def artists(picture):
    """By gid, what is drawn of marks and their whiskers."""
    return {
        line.get_gid(): line
        for axes in picture.figure.axes for line in axes.lines if line.get_gid()
    }  # fmt: skip


def marks_of(picture, name):
    """The gids whose tooltip begins with a bar's name."""
    return [gid for gid, text in picture.tooltips.items() if text.splitlines()[0] == name]


def texts(picture):
    found = [text.get_text() for text in picture.figure.texts]
    return found + [text.get_text() for axes in picture.figure.axes for text in axes.texts]


# Tables


def test_a_row_is_its_runs(store):
    plan = plans.plan("figure5", "quick")
    add_runs(store, plan["digits", "image", "avgpool3x3"], SCORES)
    table = bars_table("Figure", find_bars("figure5", store).quick)
    assert table.caption == f"Figure: {QUICK_LABEL}"
    (row,) = [row for row in table.rows if row[0] == "digits, image, avgpool3x3"]
    recipe = plan["digits", "image", "avgpool3x3"][0]
    _, top1, half, more, n, seconds, ids = row
    reach = scipy.stats.t.ppf(0.975, 2) * np.std(SCORES, ddof=1) * np.sqrt(1 + 1 / 3)
    assert more == f"{65 - reach:.1f} to {65 + reach:.1f}"
    assert top1.value == pytest.approx(65) and n == "3"
    assert top1.spread == pytest.approx(np.std(SCORES, ddof=1))
    assert half.value == pytest.approx(sampling_half_width(65.0, 1000))
    assert seconds.value == 60 and ids == f"digits/nest_narrow-s*-{recipe.config_hash}"
    assert recipe.run_id in top1.source
    assert "30 to 90, together 3 min" in table.notes[-1] and "1,000 test images" in table.notes[-1]


def test_bars_without_any_number_say_so_and_share_a_row(store):
    table = bars_table("Figure", find_bars("figure5", store).real)
    rows = {row[0]: row for row in table.rows}
    assert rows["cifar10, image, conv3x3_ln_maxpool3x3"][1].value == TABLE1["NesT-T"].cifar10
    gpu = "cifar10 (one GPU, nest_tiny_s2_depth3, 60 epochs), image: conv3x3_ln_maxpool3x3"
    assert any(name.startswith(gpu) for name in rows)  # NesT3-T: without a number of the paper's
    shared = "cifar10, image: conv3x3_stride2, avgpool3x3, patch_merge"
    assert rows[shared][1:3] == ("", NOT_RUN)
    assert all(row[2:] == (NOT_RUN,) for row in table.rows)


@pytest.mark.parametrize("figure", sorted(set(plans.FIGURES) - {"figure7"}))
def test_the_papers_numbers_never_stand_beside_digits(store, figure):
    bars = find_bars(figure, store)
    assert all(bar.dataset == "digits" and bar.printed is None for bar in bars.quick)
    assert all(bar.dataset != "digits" for bar in bars.real)
    assert any(bar.printed for bar in bars.real)
    assert "Paper (%)" not in bars_table("Figure", bars.quick).columns


def test_the_papers_numbers_are_at_their_bars(store):
    def printed(figure, dataset="cifar100"):
        return {b.key: b.printed.value for b in find_bars(figure, store).real
                if b.printed and b.dataset == dataset}  # fmt: skip

    removed = {k[1:]: v for k, v in printed("figure4", "imagenet").items() if k[0] == "removed"}
    assert removed == {
        (model, step): values[i]
        for i, model in enumerate(("DeiT-B", "NesT-T")) for step, values in FIGURE4_REMOVED.items()
    }  # fmt: skip
    heads = {int(key[1]): value for key, value in printed("table_a3", "cifar10").items()}
    assert heads == TABLE_A3
    # Table A2 as on paper, both halves; "soft" is ours.
    assert printed("table_a2") == {
        ("cifar100", "teacher", "PN-164-48", "standard"): 80.7,
        ("cifar100", "teacher", "PN-164-48", "strong"): 81.5,
        ("cifar100", "teacher", "PN-164-270", "standard"): 83.4,
        ("cifar100", "teacher", "PN-164-270", "strong"): 84.9,
        ("cifar100", "NesT-B", "PN-164-48", "standard", "hard"): 84.5,
        ("cifar100", "NesT-B", "PN-164-48", "strong", "hard"): 83.7,
        ("cifar100", "NesT-B", "PN-164-270", "standard", "hard"): 84.9,
        ("cifar100", "NesT-B", "PN-164-270", "strong", "hard"): 83.8,
        ("cifar100", "NesT-B", "alone"): 82.6,
        ("cifar100", "DeiT-B", "alone"): 70.5,
        ("cifar100", "DeiT-B", "PN-164-48", "standard", "hard"): 81.5,
        ("cifar100", "NesT-B", "PN-164-270", "standard", "hard", "1000 epochs"): 86.1,
    }
    assert list(printed("table_a2", "cifar10").values()) == [92.4, 97.2, 95.5, 97.1]


# Pictures


@pytest.mark.parametrize("figure", PLOTS)
def test_a_mark_has_the_spread_and_the_sampling_of_its_runs(store, figure):
    plan = plans.plan(figure, "quick")
    key = list(plan)[1]
    add_runs(store, plan[key], SCORES)
    bars = find_bars(figure, store)
    picture = PLOTS[figure](bars)
    (bar,) = [bar for bar in bars.quick if bar.key == key]
    gid = marks_of(picture, bar.name)[0]
    upright = f"{gid}-spread" in artists(picture) and np.ptp(
        artists(picture)[f"{gid}-spread"].get_ydata()
    ) > 0  # fmt: skip

    def ends(part):
        line = artists(picture)[part]
        return np.asarray(line.get_ydata() if upright else line.get_xdata(), float)

    assert ends(gid) == pytest.approx([np.mean(SCORES)])
    spread, half = np.std(SCORES, ddof=1), sampling_half_width(np.mean(SCORES), 1000)
    assert ends(f"{gid}-spread") == pytest.approx([65 - spread, 65 + spread])
    assert ends(f"{gid}-sampling") == pytest.approx([65 - half, 65 + half])
    assert "n = 3 seeds" in picture.tooltips[gid] and QUICK_LABEL in picture.tooltips[gid]
    assert any(QUICK_LABEL[1:] in text and "(n = 3)" in text for text in texts(picture))
    picture.to_svg()


def test_one_run_has_no_spread(store):
    plan = plans.plan("figure6", "quick")
    add_runs(store, plan["digits", "narrow", "S=2", "depth 3"], SCORES[:1])
    picture = plot_figure6(find_bars("figure6", store))
    (gid,) = marks_of(picture, "digits, narrow, S=2, depth 3")
    assert f"{gid}-sampling" in artists(picture) and f"{gid}-spread" not in artists(picture)
    assert any("not run yet: narrow, S=1; narrow, S=2 at 2, 4, 5" in text.replace("\n", " ")
               for text in texts(picture))  # fmt: skip


def test_bars_stand_in_the_order_of_the_plan_and_equal_planes_are_one_bar(store):
    plan = plans.plan("figure_a1", "quick", seeds=(0,))
    for i, recipes in enumerate(plan.values()):
        add_runs(store, recipes, [20.0 + i])
    picture = plot_aggregations(find_bars("figure_a1", store), "figure_a1")
    (axes,) = picture.figure.axes
    assert [text.get_text() for text in axes.get_yticklabels()] == list(AGGREGATIONS)
    bars = sorted(axes.patches, key=lambda bar: bar.get_y())
    values = [bar.get_x() + bar.get_width() for bar in bars]
    assert values == [20.0 + i for i in range(len(plan))]  # one bar a key, none twice
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # from top to bottom
    colors = {bar.get_facecolor() for bar in bars}
    one = [i for i, key in enumerate(plan) if not AGGREGATIONS[key[2]].crosses]
    assert len(colors) == 3 and len({bars[i].get_facecolor() for i in one}) == 1
    (legend,) = [
        [text.get_text() for text in legend.get_texts()]
        for legend in picture.figure.legends
        if "image plane" in [text.get_text() for text in legend.get_texts()]
    ]
    assert legend == ["image plane", "block plane", "both planes, one function"]


def test_without_records_nothing_is_drawn_but_what_the_paper_prints(store):
    for figure, plot in PLOTS.items():
        picture = plot(find_bars(figure, store))
        gids = [gid for gid in artists(picture) if gid in picture.tooltips]
        assert all(gid.endswith("-paper") for gid in gids)
        assert NOT_RUN in " ".join(texts(picture)).lower()
    missing = texts(PLOTS["figure5"](find_bars("figure5", store)))
    gpu = "CIFAR-10 (one GPU, nest_tiny_s2_depth3, 60 epochs)"
    small = "CIFAR-10 (narrow models, 10,000 images)"
    assert f"Not run yet: {small}, {gpu}, CIFAR-10, CIFAR-100, ImageNet" in missing
    assert missing.count(NOT_RUN) == len(plans.plan("figure5", "quick"))


def test_records_and_the_papers_numbers_stand_side_by_side(store):
    recipes = plans.plan("table_a3", "paper")["multi_head", "12"]
    add_runs(store, recipes, [95.0, 96.0, 97.0], images=10_000)
    picture = plot_table_a3(find_bars("table_a3", store))
    ours, paper = marks_of(picture, "cifar10, multi_head, 12")
    assert artists(picture)[ours].get_ydata() == pytest.approx([96.0])
    assert artists(picture)[paper].get_ydata() == pytest.approx([TABLE_A3[12]])
    assert "printed by the paper (Table A3)" in picture.tooltips[paper]
    half = sampling_half_width(TABLE_A3[1], 10_000)
    (other,) = marks_of(picture, "cifar10, multi_head, 1")
    whisker = artists(picture)[f"{other}-sampling"].get_ydata()
    assert whisker == pytest.approx([TABLE_A3[1] - half, TABLE_A3[1] + half])


def test_smoke_runs_are_no_bars(store):
    smoke = plans.plan("figure5", "smoke")
    for recipes in smoke.values():
        add_runs(store, recipes, [50.0])
    assert not any(bar.records for bar in find_bars("figure5", store).quick)
