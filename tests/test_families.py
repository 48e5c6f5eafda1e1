"""Table 1's seven families at equal size: who is ahead, by the records that there are."""

import numpy as np
import pytest
from made_records import add

from nestbook.benchmarks.bench import run_bench
from nestbook.report.families import (
    families_table,
    find_families,
    interval_of,
    plot_families,
    rates_table,
    say_families,
)
from nestbook.report.tables import NOT_RUN
from nestbook.sweeps.plans import plan
from nestlib.recipes.named import get_recipe

pytestmark = pytest.mark.usefixtures("no_fingerprints")


def test_narrow_rows_of_table1_show_accuracy_and_cost(store):
    bars = plan("table1", "small", [0, 1, 2])
    means = [add(store, recipe, 0.6) for recipe in bars["cifar10", "NesT-T"]]
    found = find_families(store)
    table = families_table(found, None)
    rows = {row[0]: dict(zip(table.columns, row)) for row in table.rows}
    assert list(rows) == ["Pyramid", "WRN", "DeiT", "PVT", "CCT", "Swin", "NesT"]
    assert rows["NesT"]["Top-1 (%)"].value == pytest.approx(np.mean(means))
    assert (rows["NesT"]["n"], rows["NesT"]["Params (M)"]) == ("3", NOT_RUN)
    assert rows["DeiT"]["Top-1 (%)"] == NOT_RUN
    assert table.sources.line == "3 runs on A processor, 10,000 test images"
    bench = run_bench("small", store, form="smoke", device="cpu", committed=True)
    assert list(bench.summary) == ["NesT-T"]
    table = families_table(found, bench)
    *others, row = (dict(zip(table.columns, row)) for row in table.rows)
    assert row["Params (M)"].value == pytest.approx(0.361, abs=1e-3) and row["GFLOPs"].value > 0.03
    assert row["Training images/s"].value > 0 and bench.run_id in row["Training images/s"].source
    assert all(other["Params (M)"] == NOT_RUN for other in others)


RATES = {"Pyramid": 0.77, "WRN": 0.82, "DeiT": 0.6, "PVT": 0.59, "CCT": 0.72, "Swin": 0.56,
         "NesT": 0.72}  # fmt: skip


def add_families(store, names, seeds):
    for (_, row), recipes in plan("table1", "small", seeds).items():
        for recipe in recipes:
            name = next((n for n in names if row.startswith(n)), None)
            if name:
                add(store, recipe, RATES[name] + 0.002 * recipe.seed * (-1) ** len(name))


@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
def test_the_sentence_names_who_is_ahead_of_nest(store, seeds):
    add_families(store, RATES, seeds)
    found = find_families(store)
    said = say_families(found, store)
    scores = {family.name: family.scores for family in found}
    assert f"narrow NesT reaches {scores['NesT'].mean:.1f} % (n = {len(seeds)})" in said
    ahead, _, behind = said.partition("ahead of ")[2].partition("behind ")
    assert [name in ahead for name in ("DeiT", "PVT", "Swin")] == [True] * 3
    assert [name in behind for name in ("WRN", "Pyramid")] == [True] * 2
    if len(seeds) == 1:  # no spread, so the order is of the values alone, and the page says it
        assert said.endswith("One run per family: the order may still change.")
        assert "not told apart" not in said
    else:
        assert "not told apart from CCT" in said and "One run" not in said
    picture = plot_families(found, None)
    marks = [text for gid, text in picture.tooltips.items() if gid.startswith("top1-")]
    assert len(marks) == 7 and all(f"n = {len(seeds)}" in text for text in marks)
    assert picture.figure.axes[0].get_yticklabels()[0].get_text() == "WRN"  # the best on top
    picture.to_svg()


def test_the_sentence_while_runs_are_missing(store):
    assert say_families(find_families(store), store) == ""
    assert plot_families(find_families(store), None) is None
    for (row, rate), (recipe,) in plan("learning_rates", "small", [0]).items():
        add(store, recipe, RATES[next(n for n in RATES if row.startswith(n))] - 0.01 * float(rate))
    said = say_families(find_families(store), store)
    assert said.startswith("In the runs that chose the learning rates (the best of three per")
    assert "ahead of DeiT, PVT and Swin (60" in said and "behind WRN and Pyramid (81" in said
    assert "not told apart from CCT (72.2 %)" in said and said.endswith("They decide no claim.")
    add_families(store, ["WRN", "Pyramid"], [0])
    said = say_families(find_families(store), store)
    assert "Trained so far at equal size" in said and "(n = 1)" in said
    assert said.endswith("Not run yet: DeiT, PVT, CCT, Swin and NesT.")
    add_families(store, ["NesT"], [0, 1])
    said = say_families(find_families(store), store)
    assert "(n = 1 to 2): behind WRN and Pyramid" in said
    assert "Some have one run only: their order may still change." in said
    rows = plot_families(find_families(store), None).figure.axes[0].get_yticklabels()
    assert [label.get_text() for label in rows][:3] == ["WRN", "Pyramid", "NesT"]


def test_the_interval_of_a_mean_has_both_parts(store):
    add_families(store, ["NesT"], [0])
    one = find_families(store)[-1].scores
    assert interval_of(one) == one.half_width
    add_families(store, ["NesT"], [0, 1, 2])
    three = find_families(store)[-1].scores
    seeds = 4.303 * three.spread / np.sqrt(3)  # Student's t at two degrees of freedom
    assert interval_of(three) == pytest.approx(np.hypot(seeds, three.half_width), rel=1e-3)


def test_rates_are_shown_where_all_three_are_recorded(store):
    bars = plan("learning_rates", "small", [0])
    for (row, rate), (recipe,) in bars.items():
        if row == "NesT-T" or (row, rate) == ("WRN28-10", "0.1"):
            add(store, recipe, 0.5 + float(rate))
    rows = {row[0]: row[2:] for row in rates_table(store).rows}
    for cell, rate in zip(rows["NesT"], ("0.002", "0.004", "0.008")):
        (recipe,) = bars["NesT-T", rate]
        assert (cell.source, cell.mark) == (recipe.run_id, f" (at {rate})")
        assert cell.value == store.find(recipe.run_id).summary["held_out/top1"]
    assert rates_table(store).sources.line == "3 runs on A processor"
    assert rows["WRN"][0] == NOT_RUN and rows["WRN"][-1] == "not chosen yet"
    chosen = f"{get_recipe('small/nest_narrow').lr_per_256:g}"
    assert (rows["NesT"][-1], rows["DeiT"][-1]) == (chosen, "not chosen yet")
