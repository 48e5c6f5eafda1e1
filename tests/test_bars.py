"""A plan's bars in tables, pictures and sentences: mean, spread and n of records, or none."""

import numpy as np
import pytest
import scipy.stats

from nestbook.paper import FIGURE4_REMOVED, TABLE1, TABLE_A2_TAUGHT, TABLE_A3
from nestbook.report import ablations, findings
from nestbook.report.ablation_tables import (
    heads_table,
    lengths_table,
    lessons_table,
    removals_table,
    teachers_table,
)
from nestbook.report.ablations import (
    plot_aggregations,
    plot_figure4,
    plot_figure6,
    plot_figure_a2,
    plot_table_a3,
)
from nestbook.report.aggregations import name_design
from nestbook.report.bars import QUICK_LABEL, bars_table, find_bars, make_remarks
from nestbook.report.tables import NOT_RUN, Number
from nestbook.sweeps import plans
from nestlib.metrics.intervals import sampling_half_width
from nestlib.models.aggregation import AGGREGATIONS
from nestlib.recipes.recipe import to_dict
from nestlib.records import Record

PLOTS = {
    "figure4": plot_figure4, "figure5": lambda bars: plot_aggregations(bars, "5"),
    "figure6": plot_figure6, "figure_a1": lambda bars: plot_aggregations(bars, "A1"),
    "figure_a2": plot_figure_a2, "table_a3": plot_table_a3,
}  # fmt: skip
SCORES = [60.0, 64.0, 71.0]


pytestmark = pytest.mark.usefixtures("no_fingerprints")


def add_runs(store, recipes, scores, images=1000):
    """Made-up records, of this test alone."""
    environment = {
        "device": "A chip",
        "data": {"test": {"images": images, "fingerprint": "x"}},
    }
    for recipe, top1 in zip(recipes, scores):
        summary = {"test/top1": top1, "train_seconds": 30.0 * (recipe.seed + 1)}
        store.add(Record(recipe.run_id, "train", to_dict(recipe), environment, summary))


@pytest.mark.parametrize("figure", PLOTS)
def test_every_series_of_a_figure_has_a_look_of_its_own(store, monkeypatch, figure):
    """Also where its panels share one legend: narrow models beside the paper's."""
    shown = []
    monkeypatch.setattr(ablations, "plot_bands", lambda stem, about, bands: shown.extend(bands))
    PLOTS[figure](find_bars(figure, store))
    looks = {
        series: panel.style_of(series)
        for band in shown for panel in band.panels for _, series in panel.bars
    }  # fmt: skip
    assert len(looks) > 1 and len(set(map(str, looks.values()))) == len(looks), looks


def artists(picture):
    """By gid, what is drawn of marks and their whiskers."""
    return {
        line.get_gid(): line
        for axes in picture.figure.axes for line in axes.lines if line.get_gid()
    }  # fmt: skip


def marks_of(picture, name):
    """The gids whose tooltip begins with a bar's name."""
    return [gid for gid, text in picture.tooltips.items() if text.splitlines()[0] == name]


def titles(picture):
    return [axes.get_title(loc="left") for axes in picture.figure.axes]


def texts(picture):
    found = [text.get_text() for text in picture.figure.texts]
    return found + [text.get_text() for axes in picture.figure.axes for text in axes.texts]


# Tables


def test_a_row_is_its_runs(store):
    plan = plans.plan("figure5", "quick")
    add_runs(store, plan["digits", "image", "avgpool3x3"], SCORES)
    table = bars_table("Figure", find_bars("figure5", store).quick)
    (row,) = table.rows
    recipe = plan["digits", "image", "avgpool3x3"][0]
    name, top1, n, half, more = row
    assert name == "AvgPool3x3, image plane"
    assert table.columns == ("Bar", "Measured (%)", "n", "Sampling ±", "One more run")
    reach = scipy.stats.t.ppf(0.975, 2) * np.std(SCORES, ddof=1) * np.sqrt(1 + 1 / 3)
    assert more == f"{65 - reach:.1f} to {65 + reach:.1f}"
    assert top1.value == pytest.approx(65) and n == "3"
    assert top1.spread == pytest.approx(np.std(SCORES, ddof=1))
    assert half.value == pytest.approx(sampling_half_width(65.0, 1000))
    assert recipe.run_id in top1.source
    line, (details,) = table.sources.line, table.sources.details
    took = "60 seconds per run (median, at most 90), 3 min in all"
    assert line == f"3 runs on A chip, 1,000 test images, {took}"
    assert all(one.run_id in details for one in plan["digits", "image", "avgpool3x3"])


@pytest.mark.parametrize(
    "tops, predicted",
    [
        ((5.0, 15.0, 25.0), "0.0 to 64.7"),
        ((5.0, 50.0, 99.0), "-"),  # from chance to 100
        ((9.7, 9.7, 9.7), "-"),  # all at chance
        ((90.0, 95.0, 99.0), "72.3 to 100.0"),
    ],
)
def test_one_more_run_is_predicted_within_0_and_100_where_that_tells_something(
    store, tops, predicted
):
    add_runs(store, plans.plan("table_a3", "quick")["multi_head", "1"], list(tops))
    (row,) = bars_table("Table", find_bars("table_a3", store).quick).rows
    assert row[-1] == predicted


def test_bars_without_any_number_are_counted_once_for_the_page(store):
    bars = find_bars("figure5", store)
    rows = {row[0]: row[1:] for row in bars_table("Figure", bars.real).rows}
    assert set(rows) == {
        f"{data}: Ours, image plane" for data in ("CIFAR-10", "CIFAR-100", "ImageNet")
    }  # the others have no number
    assert rows["CIFAR-10: Ours, image plane"][0].value == TABLE1["NesT-T"].cifar10
    assert all(len(row) == 1 for row in rows.values())  # no column of ours
    assert bars_table("Small", bars.small) is None and bars_table("Quick", bars.quick) is None
    *_, missing = make_remarks([*bars.small, *bars.real, *bars.quick]).lines
    counts = {"small": 7, "gpu": 7, "paper": 21, "quick": 7}
    assert all(f"{n} of {n} bars of {budget}" in missing for budget, n in counts.items())
    assert "nest sweep figure5 --budget small" in missing and "--board" in missing
    for recipes in plans.plan("figure5", "small").values():
        add_runs(store, recipes, SCORES)
    bars = find_bars("figure5", store)
    *_, missing = make_remarks([*bars.small, *bars.real, *bars.quick]).lines
    assert "of small" not in missing and "--budget gpu" in missing
    assert len(make_remarks(bars.small).lines) == 1  # how to read it, and nothing is missing


def test_one_run_that_is_two_bars_is_one_row(store):
    plan = plans.plan("figure_a2", "quick")
    assert plan["alone", "NesT", "RandAugment"] == plan["in sequence", "NesT", "RandAugment"]
    add_runs(store, plan["alone", "NesT", "RandAugment"], SCORES)
    (row,) = bars_table("Figure", find_bars("figure_a2", store).quick).rows
    assert row[0] == "NesT without RandAugment"


def test_designs_have_the_names_of_the_papers_axes():
    ours, *others = [name_design(name, "5") for name in plans.FIGURE5]
    assert (ours, *others) == ("Ours", "Conv3x3", "AvgPool3x3", "PatchMerge")
    short = {name: name_design(name, "A1") for name in AGGREGATIONS}
    assert short[plans.FIGURE5[0]] == "C3-LN-MX3" and short["avgpool3x3"] == "AVG3"
    assert len(set(short.values())) == len(AGGREGATIONS)  # none stands for two


def test_tables_of_the_paper_are_shown_as_it_prints_them(store):
    removed = removals_table(find_bars("figure4", store))
    assert removed.columns == ("Removed", "NesT-T, paper", "DeiT-B, paper")
    assert {row[0]: (row[2].value, row[1].value) for row in removed.rows} == FIGURE4_REMOVED
    lengths = {row[0]: [cell.value for cell in row[1:]] for row in lengths_table().rows}
    assert lengths == {"S = 1": [256, 64, 16, 4], "S = 2": [64, 16, 4, 1]}
    bars = find_bars("table_a2", store)
    left, right = teachers_table(bars), lessons_table(bars)
    assert [tuple(map(str, row)) for row in left.rows] == [
        ("PN-164-48", "-", "80.7", "81.5"), ("PN-164-270", "-", "83.4", "84.9"),
        ("PN-164-48", "NesT-B", "84.5", "83.7"), ("PN-164-270", "NesT-B", "84.9", "83.8"),
    ]  # fmt: skip
    assert {row[0]: tuple(cell.value for cell in row[1:]) for row in right.rows} == TABLE_A2_TAUGHT
    heads = heads_table(find_bars("table_a3", store))
    assert {int(row[0]): row[2].value for row in heads.rows} == TABLE_A3
    assert [row[1].value for row in heads.rows] == [768, 384, 256, 128, 64, 32, 16, 8]


def test_removals_on_digits_say_how_they_were_trained(store):
    assert not any("Digits" in note for note in removals_table(find_bars("figure4", store)).notes)
    add_runs(store, plans.plan("figure4", "quick")["removed", "NesT narrow", "none"], SCORES)
    assert (
        removals_table(find_bars("figure4", store))
        .notes[-1]
        .startswith("Digits: 10 epochs with strong augmentation, but for what is removed.")
    )


def test_what_is_not_run_says_where_the_bars_of_one_gpu_are(store):
    """Table A2's are the paper's own runs; figure A2's are shorter."""

    def last_remark(figure):
        return make_remarks(find_bars(figure, store).real).lines[-1]

    assert "21 of 21 bars of paper (those of gpu are among paper's)" in last_remark("table_a2")
    assert "24 of 24 bars of gpu, 24 of 24 bars of paper." in last_remark("figure_a2")


def test_tables_of_the_paper_have_our_runs_beside_once_there_are_any(store):
    add_runs(store, plans.plan("table_a2", "paper")["cifar10", "NesT-B", "alone"], SCORES)
    right = lessons_table(find_bars("table_a2", store))
    assert right.columns[1:3] == ("C10, alone", "C10, alone: measured")
    cells = {row[0]: row[2] for row in right.rows}
    assert cells["DeiT-B"] == NOT_RUN and cells["NesT-B"].value == pytest.approx(65)
    add_runs(store, plans.plan("table_a3", "small")["multi_head", "6"], SCORES)
    heads = heads_table(find_bars("table_a3", store))
    column = heads.columns.index("narrow, CIFAR-10, multi-head")
    assert {row[0]: row[column] for row in heads.rows}["6"].value == pytest.approx(65)
    assert sum(isinstance(row[column], Number) for row in heads.rows) == 1


@pytest.mark.parametrize("figure", sorted(set(plans.FIGURES) - {"figure7"}))
def test_the_papers_numbers_never_stand_beside_digits(store, figure):
    bars = find_bars(figure, store)
    assert all(bar.dataset == "digits" and bar.printed is None for bar in bars.quick)
    assert all(bar.dataset != "digits" for bar in bars.real)
    assert any(bar.printed for bar in bars.real)
    add_runs(store, next(iter(plans.plan(figure, "quick").values())), SCORES)
    assert "Paper (%)" not in bars_table("Figure", find_bars(figure, store).quick).columns


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
    assert any("Digits, n = 3" in title and "no result of the paper" in title
               for title in titles(picture))  # fmt: skip
    picture.to_svg()


def test_one_run_has_no_spread(store):
    plan = plans.plan("figure6", "quick")
    add_runs(store, plan["digits", "narrow", "S=2", "depth 3"], SCORES[:1])
    picture = plot_figure6(find_bars("figure6", store))
    (gid,) = marks_of(picture, "digits: narrow, S = 2, depth 3")
    assert f"{gid}-sampling" in artists(picture) and f"{gid}-spread" not in artists(picture)
    assert any("digits: 5 of 6 bars" in text for text in texts(picture))


def test_bars_stand_in_the_order_of_the_plan_and_equal_planes_are_one_bar(store):
    plan = plans.plan("figure_a1", "quick", seeds=(0,))
    for i, recipes in enumerate(plan.values()):
        add_runs(store, recipes, [20.0 + i])
    picture = plot_aggregations(find_bars("figure_a1", store), "A1")
    first, *_, axes = picture.figure.axes  # names stand at the first panel, digits last
    names = [name_design(one, "A1") for one in AGGREGATIONS]
    assert [text.get_text() for text in first.get_yticklabels()] == names
    assert all((one.get_yticks() == first.get_yticks()).all() for one in picture.figure.axes)
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
    assert legend == ["image plane", "block plane", "both planes"]


def test_without_records_nothing_is_drawn_but_what_the_paper_prints(store):
    for figure, plot in PLOTS.items():
        picture = plot(find_bars(figure, store))
        gids = [gid for gid in artists(picture) if gid in picture.tooltips]
        assert all(gid.endswith("-paper") for gid in gids)
        inside = [text.get_text() for axes in picture.figure.axes for text in axes.texts]
        assert not any(inside)  # an axis without records is empty
    picture = PLOTS["figure5"](find_bars("figure5", store))
    assert [title.split("\n") for title in titles(picture)] == [
        ["CIFAR-10", "narrow models"], ["CIFAR-10", "as in the paper"],
        ["CIFAR-100", "as in the paper"], ["ImageNet", "as in the paper"],
        ["Digits", "no result of the paper"],
    ]  # fmt: skip
    said = (
        "Not run yet: CIFAR-10 (narrow models, 10,000 images), CIFAR-10, CIFAR-100, ImageNet, "
        "digits"
    )
    assert " ".join(" ".join(texts(picture)).split()).count("ot run yet") == 1
    assert said in " ".join(texts(picture)) and said in picture.description


def test_records_and_the_papers_numbers_stand_side_by_side(store):
    recipes = plans.plan("table_a3", "paper")["multi_head", "12"]
    add_runs(store, recipes, [95.0, 96.0, 97.0], images=10_000)
    picture = plot_table_a3(find_bars("table_a3", store))
    ours, paper = marks_of(picture, "CIFAR-10: multi-head, 12 heads")
    assert artists(picture)[ours].get_ydata() == pytest.approx([96.0])
    assert artists(picture)[paper].get_ydata() == pytest.approx([TABLE_A3[12]])
    assert "printed by the paper (Table A3)" in picture.tooltips[paper]
    half = sampling_half_width(TABLE_A3[1], 10_000)
    (other,) = marks_of(picture, "CIFAR-10: multi-head, 1 head")
    whisker = artists(picture)[f"{other}-sampling"].get_ydata()
    assert whisker == pytest.approx([TABLE_A3[1] - half, TABLE_A3[1] + half])


def test_smoke_runs_are_no_bars(store):
    smoke = plans.plan("figure5", "smoke")
    for recipes in smoke.values():
        add_runs(store, recipes, [50.0])
    assert not any(bar.records for bar in find_bars("figure5", store).quick)


# Sentences

SAY = {figure: getattr(findings, f"say_{figure}") for figure in (*PLOTS, "table_a2")}


def add_bars(store, figure, budget, tops, seeds=(0, 1, 2)):
    """Made-up records of some bars: {key: mean}, whose seeds lie 0.1 apart."""
    plan = plans.plan(figure, budget, seeds)
    for key, top1 in tops.items():
        add_runs(store, plan[key], [top1 + 0.1 * i for i in range(len(seeds))], images=10_000)


def test_sentences_without_records_say_that_nothing_was_run(store):
    for figure, say in SAY.items():
        text = say(find_bars(figure, store))
        assert "None of the paper's runs has been repeated here" in text
        assert "digits" not in text and "narrow" not in text and "n =" not in text


def test_a_sentence_is_of_the_largest_scale_that_has_its_runs(store):
    image, block = ("image", "block")
    ours, *others = plans.FIGURE5
    add_bars(store, "figure5", "quick", {
        ("digits", image, ours): 60, ("digits", image, others[0]): 10
    })  # fmt: skip
    text = findings.say_figure5(find_bars("figure5", store))
    assert "on digits (a check of the code only), only NesT's own aggregation has learned" in text
    assert text.endswith("60.1 % on the image plane; all other designs (1) are at chance, n = 3.")
    add_bars(store, "figure5", "small", {("cifar10", image, ours): 60})  # nothing to compare
    assert "on digits" in findings.say_figure5(find_bars("figure5", store))
    add_bars(store, "figure5", "small", {
        ("cifar10", block, ours): 55, ("cifar10", image, others[1]): 62,
        ("cifar10", image, others[2]): 40,
    })  # fmt: skip
    text = findings.say_figure5(find_bars("figure5", store))
    assert "for narrow models on 10,000 images of CIFAR-10" in text and "digits" not in text
    assert "2.0 ± " in text and "behind AvgPool3x3, the best of 2 other designs" in text
    assert "its image plane 5.0 ±" in text and "ahead of its block plane" in text
    add_bars(store, "figure5", "paper", {
        ("cifar100", image, ours): 78, ("cifar100", image, others[0]): 77
    })  # fmt: skip
    text = findings.say_figure5(find_bars("figure5", store))
    assert text.startswith("On CIFAR-100, NesT's own aggregation is 1.0 ±")
    assert "None of" not in text


def test_one_run_a_side_and_small_differences_are_undecided(store):
    tops = {("epochs", "NesT narrow", "10"): 60, ("epochs", "DeiT narrow", "10"): 50}
    add_bars(store, "figure4", "small", tops, seeds=[0])
    text = findings.say_figure4(find_bars("figure4", store, [0]))
    assert "NesT is 10.0 points ahead of DeiT (undecided) after 10 epochs, n = 1." in text
    add_bars(store, "figure4", "small", {
        **tops, ("epochs", "NesT narrow", "100"): 70, ("epochs", "DeiT narrow", "100"): 70.1
    })  # fmt: skip
    text = findings.say_figure4(find_bars("figure4", store))
    first, last = text.split(" and ")
    assert "10.0 ±" in first and "ahead of DeiT after 10 epochs" in first
    assert "0.1 ±" in last and "behind (undecided) after 100 epochs, n = 3." in last


def test_sentences_name_what_was_found(store):
    add_bars(store, "figure6", "small", {
        ("cifar10", "narrow", "S=2", "depth 2"): 50, ("cifar10", "narrow", "S=2", "depth 3"): 60,
        ("cifar10", "narrow", "S=2", "depth 4"): 58, ("cifar10", "narrow", "S=1", "depth 4"): 70,
    })  # fmt: skip
    text = findings.say_figure6(find_bars("figure6", store))
    assert "depth 3 is the best of 3 depths at S = 2, 10.0 ±" in text
    assert "ahead of depth 2, the worst, n = 3." in text
    last = " ".join(plans.IN_SEQUENCE)
    add_bars(store, "figure_a2", "small", {
        ("in sequence", "NesT", "none"): 60, ("in sequence", "NesT", last): 59,
        ("in sequence", "DeiT", "none"): 50, ("in sequence", "DeiT", last): 53,
    })  # fmt: skip
    text = findings.say_figure_a2(find_bars("figure_a2", store))
    assert "with RandAugment, CutMix, MixUp and RandomErasing all removed, NesT loses" in text
    assert "NesT loses 1.0 ±" in text and "DeiT gains 3.0 ±" in text and "Swin" not in text
    add_bars(store, "table_a3", "quick", {
        (kind, str(heads)): top1 for kind, heads, top1 in (
            ("multi_head", 1, 50), ("multi_head", 12, 52), ("multi_query", 1, 50),
            ("multi_query", 12, 53))
    })  # fmt: skip
    text = findings.say_table_a3(find_bars("table_a3", store))
    assert "spans 2.0 points and multi-query attention 3.0, beside" in text
    add_bars(store, "table_a3", "small", {("multi_head", "1"): 50, ("multi_head", "12"): 52})
    text = findings.say_table_a3(find_bars("table_a3", store))
    assert "scores span 0.36 points" in text
    assert "multi-head attention with 1 to 12 heads spans 2.0 points, beside" in text

    add_bars(store, "table_a2", "small", {
        ("cifar10", "NesT", "alone"): 60, ("cifar10", "NesT", "PN", "standard", "hard"): 57
    })  # fmt: skip
    text = findings.say_table_a2(find_bars("table_a2", store))
    assert "taught NesT loses 3.0 ±" in text
    assert "NesT-B loses 0.1 points on CIFAR-10 and gains 1.9 points on CIFAR-100" in text
    assert "crosses block borders in 11 of 15 designs on the image plane and in none" in (
        findings.say_figure_a1(find_bars("figure_a1", store))
    )
