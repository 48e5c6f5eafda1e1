"""The pages of budget small: accuracy by training images, Table 1's narrow rows, their rates."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nestbook.benchmarks.bench import run_bench
from nestbook.report.ablations import gaps_table, plot_training_images
from nestbook.report.bars import bars_table, find_bars, find_small_bars
from nestbook.report.table1 import rates_table, table1_small
from nestbook.report.tables import NOT_RUN
from nestbook.sweeps.plans import plan
from nestlib.metrics.accuracy import pack_right
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import to_dict
from nestlib.records import Record

pytestmark = pytest.mark.usefixtures("no_fingerprints")


def add(store, recipe, rate, seconds=600.0, device="A processor"):
    """A made-up record, of this test alone."""
    draws = np.random.default_rng(recipe.seed).random(10_000)  # equal for all models of a seed
    right = torch.as_tensor(draws < rate)
    top1 = 100 * right.double().mean().item()
    scored = "held_out" if recipe.held_out else "test"
    summary = {f"{scored}/top1": top1, "train_seconds": seconds, "num_params": 361_000}
    summary |= {} if recipe.held_out else {"test/right": pack_right(right)}
    data = {scored: {"fingerprint": "0" * 64, "images": 10_000}}
    store.add(Record(recipe.run_id, "train", to_dict(recipe), {"device": device, "data": data},
                     summary))  # fmt: skip
    return top1


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


def test_the_figure_without_records_says_so(store):
    found = find_small_bars("training_images", store)
    assert "Not run yet: CIFAR-10" in plot_training_images(found).description
    assert all(row[1:] == (NOT_RUN, NOT_RUN) for row in gaps_table(found).rows)


def test_narrow_rows_of_table1_show_accuracy_speed_and_rate(store):
    bars = plan("table1", "small", [0, 1, 2])
    means = [add(store, recipe, 0.6) for recipe in bars["cifar10", "NesT-T"]]
    rows = {row[0]: row for row in table1_small(store).rows}
    assert len(rows) == 7
    name, top1, _, n, params, *_, rate = rows["NesT-T"][1:]
    assert (name, n, params, rate) == ("small/nest_narrow", "3", NOT_RUN, "not chosen yet")
    assert top1.value == pytest.approx(np.mean(means))
    assert rows["DeiT-T"][2] == NOT_RUN
    bench = run_bench("small", store, form="smoke", device="cpu", committed=True)
    assert list(bench.summary) == ["NesT-T"]
    table = table1_small(store, bench=bench)
    (row,) = [row for row in table.rows if row[0] == "NesT-T"]
    assert row[5].value == pytest.approx(0.361, abs=1e-3) and row[6].value > 0.03
    assert row[7].value > 0 and bench.run_id in row[7].source
    assert [row[5] for row in table.rows].count(NOT_RUN) == 6


def test_rates_are_shown_where_all_three_are_recorded(store):
    bars = plan("learning_rates", "small", [0])
    for (row, rate), (recipe,) in bars.items():
        if row == "NesT-T" or (row, rate) == ("WRN28-10", "0.1"):
            add(store, recipe, 0.5 + float(rate))
    rows = {row[0]: row[2:] for row in rates_table(store).rows}
    assert [cell.endswith(f"(at {rate})") for cell, rate in
            zip(rows["NesT-T"], ("0.002", "0.004", "0.008"))] == [True] * 3  # fmt: skip
    assert rows["WRN28-10"][0] == NOT_RUN and rows["WRN28-10"][-1] == "not chosen yet"
    chosen = f"{get_recipe('small/nest_narrow').lr_per_256:g}"
    assert rows["NesT-T"][-1] == chosen
    shown = {row[0]: row[-1] for row in table1_small(store).rows}
    assert (shown["NesT-T"], shown["DeiT-T"]) == (chosen, "not chosen yet")


def test_small_bars_stand_apart_from_the_papers_and_from_digits(store):
    row = plan("figure5", "small", [0, 1])["cifar10", "block", "avgpool3x3"]
    for recipe in row:
        add(store, recipe, 0.6)
    bars = find_bars("figure5", store, (0, 1))
    assert sum(len(bar.records) for bar in bars.small) == 2
    assert not any(bar.records for bar in [*bars.real, *bars.quick])
    assert all(bar.printed is None for bar in bars.small)
    table = bars_table("Small", bars.small)
    assert "Small: narrow models" in table.to_markdown() and "Paper (%)" not in table.columns
    assert any("cifar10 (narrow models, 10,000 images), block, avgpool3x3" in r[0]
               for r in table.rows)  # fmt: skip
    assert not any("make of processor" in note for note in table.notes)
    add(store, plan("figure5", "small", [0])["cifar10", "image", "avgpool3x3"][0], 0.6, device="B")
    notes = bars_table("Small", find_bars("figure5", store).small).notes
    (note,) = [note for note in notes if "Not all runs are of one make of processor" in note]
    assert "A processor: cifar10 (narrow models, 10,000 images), block, avgpool3x3" in note
    assert "B: cifar10 (narrow models, 10,000 images), image, avgpool3x3" in note
    assert replace(row[0], budget="quick").run_id != row[0].run_id
