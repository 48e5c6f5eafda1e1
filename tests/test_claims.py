"""Claims: the paper's own words, decided by records alone, and none by hand."""

import dataclasses
import math
import re
import textwrap
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SHARED

from nestbook.claims.catalog import CLAIMS
from nestbook.claims.claim import NO_RECORD, Claim, Comparison, Mean, examine
from nestbook.report.claims import (
    SCALES,
    claims_table,
    contradictions_table,
    plot_claims,
    plot_forest,
    say_claims,
)
from nestbook.report.tables import NOT_RUN
from nestbook.sweeps.plans import plan
from nestbook.sweeps.small import runs_by_line
from nestlib.metrics.accuracy import pack_right
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import to_dict
from nestlib.records import Record

PAPER = SHARED / "paper" / "paper.txt"
BY_ID = {claim.id: claim for claim in CLAIMS}
SUPPORTED_CELL = "\u2713\u00a0supported"
TINY, SMALL = (Mean("table1", ("cifar10", f"NesT-{size}")) for size in "TS")


pytestmark = pytest.mark.usefixtures("no_fingerprints")


def add_runs(store, bar, values, images=10_000):
    """Made-up records, of this test alone."""
    for seed, top1 in enumerate(values):
        recipe = replace(bar.recipe(), seed=seed)
        data = {s: {"fingerprint": "0" * 64, "images": images} for s in ("train", "test")}
        store.add(Record(recipe.run_id, "train", to_dict(recipe), {"data": data},
                         {"test/top1": top1}))  # fmt: skip


def test_there_are_claims_of_every_part_and_no_two_alike():
    assert len(CLAIMS) >= 20 and len(BY_ID) == len(CLAIMS)
    assert len({claim.quote for claim in CLAIMS}) == len(CLAIMS)
    assert {"4.1", "4.2", "4.3", "4.4", "4.5", "4.6", "A.3"} < {claim.section for claim in CLAIMS}
    assert {"jitter", "taught-86.1", "lighter"} < set(BY_ID)


@pytest.mark.skipif(not PAPER.exists(), reason="no ../shared/paper here")
@pytest.mark.parametrize("claim", CLAIMS, ids=lambda claim: claim.id)
def test_quotes_are_the_papers_words(claim):
    def words(text):
        return re.sub(r"[^a-z0-9.%]", "", text.lower())

    quote, text = words(claim.quote), words(PAPER.read_text())
    # A figure's caption may lie between two parts of a sentence.
    assert quote in text or any(
        quote[:cut] in text and quote[cut:] in text for cut in range(15, len(quote) - 15)
    )


def test_every_fresh_seed_counts_whichever_are_missing_or_stale(store):
    add_runs(store, TINY, [90.0, 91.0, 92.0])
    claim = Claim("x", "0", "", "", (Comparison(((1, TINY),), 80.0),))
    first = TINY.recipe()
    (store.local / f"{first.run_id}.json").unlink()  # as where a sweep was stopped
    outcome = examine(claim, store)
    assert [run.recipe["seed"] for run in outcome.ruling.runs] == [1, 2]
    assert outcome.status == "supported"
    last = replace(first, seed=2)
    record = store.find(last.run_id)
    stale = record.environment | {"probe": [1.0] * 8}
    store.add(replace(record, environment=stale))
    with pytest.warns(UserWarning, match=f"the record of {last.run_id} is stale"):
        assert [run.recipe["seed"] for run in examine(claim, store).ruling.runs] == [1]


def test_no_verdict_is_typed():
    """A claim has no field that could hold one, and without records none is decided."""
    fields = {field.name for field in dataclasses.fields(Claim)}
    assert fields == {
        "id", "section", "quote", "test", "comparisons", "one_suffices", "printed", "small_test",
        "small",
    }  # fmt: skip


def test_every_bar_has_a_recipe_of_the_papers_data():
    bars = {bar for claim in CLAIMS for c in claim.comparisons for _, bar in c.terms}
    assert len(bars) > 100
    recipes = {bar: bar.recipe() for bar in bars}
    assert {r.dataset for r in recipes.values()} == {"cifar10", "cifar100", "imagenet"}
    figure6 = plan("figure6", "paper", [0])
    bar = Mean("figure6", ("cifar10", "T", "S=2", "depth 3"))
    assert recipes[bar] == figure6[bar.key][0]
    jitter = Mean("recipe", ("imagenet/nest_tiny", "augmentation.color_jitter=0"))
    assert recipes[jitter].augmentation.color_jitter == 0


def test_records_decide(store):
    claim = Claim("x", "0", "larger is better", "", (Comparison(((1, SMALL), (-1, TINY))),))
    assert examine(claim, store).status == NO_RECORD
    add_runs(store, TINY, (96.0, 96.1, 96.2))
    assert examine(claim, store).status == NO_RECORD
    add_runs(store, SMALL, (97.0,))
    assert examine(claim, store).status == "undecided"  # one run decides nothing
    add_runs(store, SMALL, (97.0, 97.1, 97.2))
    outcome = examine(claim, store)
    assert outcome.status == "supported" and len(outcome.ruling.runs) == 6
    assert outcome.ruling.verdicts[0].value == pytest.approx(1.0)
    add_runs(store, SMALL, (95.0, 95.1, 95.2))
    assert examine(claim, store).status == "contradicted"


def test_all_or_one_and_how_many_share_the_error(store):
    add_runs(store, TINY, (96.0, 96.1, 96.2))
    add_runs(store, SMALL, (97.0, 97.1, 97.2))
    base = Mean("table1", ("cifar10", "NesT-B"))
    up, down = ((Comparison(((1, a), (-1, b)))) for a, b in ((SMALL, TINY), (TINY, SMALL)))
    missing = Comparison(((1, base), (-1, SMALL)))

    def status(*comparisons, **how):
        return examine(Claim("x", "0", "", "", comparisons, **how), store).status

    assert status(up, up) == "supported" and status(up, missing) == "undecided"
    assert status(up, down) == "contradicted" and status(down, missing) == "contradicted"
    one = {"one_suffices": True}
    assert status(up, down, **one) == "supported" and status(up, missing, **one) == "supported"
    assert status(down, missing, **one) == "undecided"
    assert status(down, down, **one) == "contradicted"
    widths = [
        examine(Claim("x", "0", "", "", (up,) * k), store).ruling.verdicts[0].half_width
        for k in (1, 5)
    ]
    assert widths[1] > 1.2 * widths[0]


def test_stale_records_decide_nothing(store):
    add_runs(store, TINY, (96.0, 96.1, 96.2))
    claim = Claim("x", "0", "", "", (Comparison(((1, TINY),), 90.0),))
    assert examine(claim, store).status == "supported"
    for record in store.find_seeds(TINY.recipe()):
        store.add(replace(record, environment=record.environment | {"probe": [1.0] * 8}))
    with pytest.warns(UserWarning, match="is stale"):
        assert examine(claim, store).status == NO_RECORD


def test_what_the_papers_own_numbers_contradict():
    """Each by arithmetic that anyone can redo on the printed tables."""
    printed = {claim.id: claim.printed for claim in CLAIMS if claim.printed}
    against = {name for name, one in printed.items() if one.status == "contradicted"}
    assert against == {"nest3-speed", "layers", "teaching-helps", "deit-size"}
    assert "= 6.2" in printed["nest3-speed"].numbers
    assert "10 at depth 5" in printed["layers"].numbers
    assert "NesT-B, CIFAR-10 -0.1" in printed["teaching-helps"].numbers
    assert printed["57-percent"].status == "supported"
    assert all(math.isfinite(b.low) or math.isfinite(b.high)
               for claim in CLAIMS for b in claim.comparisons)  # fmt: skip


def test_table_shows_every_claim_and_its_records(store):
    claim = BY_ID["nest-size"]
    for _, bar in {term for c in claim.comparisons for term in c.terms}:
        size = "TSB".index(bar.key[1][-1])
        add_runs(store, bar, [80 + 2 * size + seed / 10 for seed in range(3)])
    table = claims_table(store)
    assert table.columns == ("Section", "The paper says", *SCALES)
    rows = {row[1]: row[2:] for row in table.rows}
    assert list(rows) == [claim.quote for claim in CLAIMS]
    assert rows[claim.quote] == (SUPPORTED_CELL, SUPPORTED_CELL, "")
    assert any(real == NOT_RUN for _, real, _ in rows.values())
    assert {small for *_, small in rows.values()} == {NOT_RUN, ""}
    (said,) = [line for line in table.sources.details if "NesT improves consistently" in line]
    assert claim.test in said and claim.printed.numbers in said
    assert "supported; +2.00 ±" in said and "points (4 of 4)" in said
    assert said.count("(n = 3)") == 6
    recipe = get_recipe("cifar100/nest_base")
    assert f"cifar100/nest_base-s*-{recipe.config_hash} (n = 3)" in said
    assert len(table.sources.details) == len(CLAIMS)


def test_without_records_the_table_names_what_is_not_run_once(store):
    text = claims_table(store).to_markdown()
    head = text.split("\n")[2]
    assert "Its own numbers" in head and "Small scale" not in head and "no record" not in text
    assert text.count("Columns left out until they are run: Paper's data; Small scale") == 1
    # A page whose claims have no number of the paper has no such column at all.
    assert claims_table(store, ["figure5"]).columns == (
        "Section", "The paper says", "Paper's data", "Small scale",
    )  # fmt: skip


def test_the_sentence_counts_what_the_papers_numbers_and_the_runs_decide(store):
    printed = [claim.printed for claim in CLAIMS if claim.printed]
    against = [claim.section for claim in CLAIMS if claim.printed and not claim.printed.holds]
    beginning = (
        f"The paper's own numbers support {len(printed) - len(against)} of its {len(CLAIMS)} "
        f"findings and contradict {len(against)} (sections 4.1, 4.4 and A.3). "
    )
    assert list(dict.fromkeys(against)) == ["4.1", "4.4", "A.3"]
    assert say_claims(store) == (
        f"{beginning}Runs on the paper's data have decided none; small-scale runs have decided "
        f"none of the {len(SMALL_CLAIMS)} that narrow models can be asked."
    )
    for row, bar in zip((60.0, 50.0), [bar for _, bar in BY_ID["pvt-small"].small[0].terms]):
        add_runs(store, bar, [row, row + 0.1, row + 0.2])
    said = say_claims(store)
    assert said.startswith(beginning)
    assert "small-scale runs have decided 1 (1 supported) of the" in said
    for row, bar in zip((97.0, 96.0), [Mean("table1", ("cifar10", f"NesT-{s}")) for s in "TS"]):
        add_runs(store, bar, [row, row, row])
    assert "on the paper's data have decided 1 (1 contradicted);" in say_claims(store)


def test_what_is_contradicted_stands_with_the_numbers_that_do(store):
    rows = contradictions_table(store).rows
    assert [row[1:] for row in rows] == [
        (claim.quote, "Its own numbers", claim.printed.numbers)
        for claim in CLAIMS if claim.printed and not claim.printed.holds
    ]  # fmt: skip
    claim = BY_ID["pvt-small"]
    for row, (_, bar) in zip((50.0, 60.0), claim.small[0].terms):
        add_runs(store, bar, [row, row, row])
    (row,) = [row for row in contradictions_table(store).rows if row not in rows]
    assert row[:3] == ("4.1", claim.quote, "Small scale")
    assert row[3].startswith("narrow PVT above narrow DeiT: -10.00 ± ")


# At budget small


SMALL_CLAIMS = [claim for claim in CLAIMS if claim.small]


def test_what_can_be_asked_of_narrow_models_is_asked_of_budget_small_alone():
    assert len(SMALL_CLAIMS) >= 15
    assert all(bool(claim.small) == bool(claim.small_test) for claim in CLAIMS)
    planned = {
        recipe.run_id for runs in runs_by_line().values() for recipe in runs if recipe.seed == 0
    }
    for claim in SMALL_CLAIMS:
        for comparison in claim.small:
            assert math.isfinite(comparison.low) or math.isfinite(comparison.high)
            for _, bar in comparison.terms:
                assert bar.budget == "small" and bar.recipe().run_id in planned
    assert not any(b.budget == "small" for c in CLAIMS for k in c.comparisons for _, b in k.terms)
    # Sizes, other data sets and accuracies as such have no counterpart.
    none = {"nest-size", "deit-size", "imagenet-best", "14-percent", "100-epochs", "nest3-94.5"}
    assert not none & {claim.id for claim in SMALL_CLAIMS}


def add_small(store, bar, rates, generator=None, shared=None):
    """Made-up records that keep which of 10,000 images are right, of this test alone."""
    for seed, rate in enumerate(rates):
        recipe = replace(bar.recipe(), seed=seed)
        draws = shared if shared is not None else generator.random(10_000)
        right = torch.as_tensor(draws < rate)
        data = {s: {"fingerprint": "0" * 64, "images": 10_000} for s in ("train", "test")}
        summary = {"test/top1": 100 * right.double().mean().item(), "test/right": pack_right(right)}
        store.add(Record(recipe.run_id, "train", to_dict(recipe), {"data": data}, summary))


def test_narrow_models_decide_in_a_column_of_their_own(store):
    claim = BY_ID["pvt-small"]
    ((_, pvt), (_, deit)) = claim.small[0].terms
    assert examine(claim, store).small.status == NO_RECORD
    draws = np.random.default_rng(0)
    add_small(store, pvt, (0.62, 0.625, 0.63), draws)
    add_small(store, deit, (0.57, 0.575, 0.58), draws)
    outcome = examine(claim, store)
    assert (outcome.status, outcome.small.status) == (NO_RECORD, "supported")
    table = claims_table(store, ["pvt-small"])
    assert table.rows[0][2:] == (SUPPORTED_CELL, NOT_RUN, SUPPORTED_CELL)
    (said,) = table.sources.details
    assert "narrow models: narrow PVT above narrow DeiT: supported; +" in said
    assert said.count("(n = 3)") == 2
    picture = plot_claims(store)
    assert picture.tooltips["claims-2-pvt-small"].startswith("Small scale: supported\n")
    assert picture.tooltips["claims-1-pvt-small"].startswith("Paper's data: not run\n")
    assert picture.tooltips["claims-2-nest-size"].startswith("Small scale: cannot be asked\n")
    numbers = BY_ID["pvt-small"].printed.numbers
    assert picture.tooltips["claims-0-pvt-small"].endswith(numbers)
    assert len(picture.tooltips) == 3 * len(CLAIMS)
    assert f"1 supported, {len(SMALL_CLAIMS) - 1} not run" in picture.description
    picture.to_svg()
    forest = plot_forest(store)
    (verdict,) = outcome.small.verdicts
    said = f"PVT-T - DeiT-T: {verdict.value:+.2f} ± {verdict.half_width:.2f} points, supported"
    assert said in forest.description
    assert list(forest.tooltips) == ["forest-pvt-small-0"]
    (mark,) = [line for line in forest.figure.axes[0].lines if line.get_gid()]
    assert mark.get_xdata() == [verdict.value]
    low, high = forest.figure.axes[0].get_xlim()  # the interval ends inside, zero is shown
    assert low < 0 and verdict.value + verdict.half_width < high
    forest.to_svg()


def test_both_sides_count_by_the_seeds_that_both_have(store):
    """A bar that Table 1 has five seeds of stands beside a design of figure 5 with three."""
    claim = BY_ID["patch-merge"]
    ((_, ours), (_, merge)) = claim.small[0].terms
    draws = np.random.default_rng(0)
    add_small(store, merge, (0.53, 0.54, 0.55), draws)
    add_small(store, ours, (0.70, 0.71, 0.72), draws)
    equal = examine(claim, store).small
    add_small(store, ours, (0.70, 0.71, 0.72, 0.20, 0.99), draws)
    more = examine(claim, store).small
    assert [run.recipe["seed"] for run in more.runs] == [0, 1, 2, 0, 1, 2]
    assert more.verdicts[0].value == pytest.approx(equal.verdicts[0].value, abs=2)
    assert more.status == "supported"
    # No seed in common: all count.
    for seed in range(3):
        record = store.find(replace(merge.recipe(), seed=seed).run_id)
        moved = replace(merge.recipe(), seed=seed + 10)
        store.add(replace(record, run_id=moved.run_id, recipe=to_dict(moved)))
        (store.local / f"{record.run_id}.json").unlink()
    assert len(examine(claim, store).small.runs) == 8


def test_models_that_err_on_the_same_images_are_told_apart_sooner(store):
    """Paired: their interval is that of the difference, not of two independent draws."""
    claim = BY_ID["pvt-small"]
    ((_, pvt), (_, deit)) = claim.small[0].terms
    shared = np.random.default_rng(0).random(10_000)
    add_small(store, pvt, (0.605, 0.606, 0.607), shared=shared)
    add_small(store, deit, (0.60, 0.601, 0.602), shared=shared)
    (verdict,) = examine(claim, store).small.verdicts
    assert verdict.status == "supported" and verdict.sampling_half_width < 0.2
    # Other test images: no pair is left.
    for seed in range(3):
        record = store.find(replace(deit.recipe(), seed=seed).run_id)
        record.environment["data"]["test"]["fingerprint"] = "1" * 64
        store.add(record)
    (verdict,) = examine(claim, store).small.verdicts
    assert verdict.status == "undecided" and verdict.sampling_half_width > 1.0


def test_an_undecided_one_says_how_many_seeds_would_do(store):
    claim = BY_ID["pvt-small"]
    ((_, pvt), (_, deit)) = claim.small[0].terms
    shared = np.random.default_rng(0).random(10_000)
    add_small(store, pvt, (0.60, 0.62, 0.64), shared=shared)
    add_small(store, deit, (0.58, 0.60, 0.62), shared=shared)
    outcome = examine(claim, store)
    needed = outcome.small.verdicts[0].seeds_needed
    assert outcome.small.status == "undecided" and 4 <= needed <= 30
    (said,) = claims_table(store, ["pvt-small"]).sources.details
    assert f"; {needed} seeds per side would decide it; small/" in said


def test_one_run_per_side_shows_a_difference_without_an_interval(store):
    claim = BY_ID["pvt-small"]
    for top1, (_, bar) in zip((60.0, 50.0), claim.small[0].terms):
        add_runs(store, bar, [top1])
    (said,) = claims_table(store, ["pvt-small"]).sources.details
    assert "undecided; +10.00 points (1 of 1); one run on a side decides nothing; " in said
    forest = plot_forest(store)
    assert "PVT-T - DeiT-T: +10.00 points, undecided" in forest.description
    assert "inf" not in forest.description + said
    forest.to_svg()


def test_the_forest_is_one_line_until_something_is_run(store):
    forest = plot_forest(store)
    assert forest.description == (
        f"Narrow models can be asked {len(SMALL_CLAIMS)} sentences: none has been run yet."
    )
    assert forest.figure.axes == [] and forest.figure.get_figheight() < 0.5
    forest.to_svg()


def test_rows_of_the_forest_are_named_by_what_tells_them_apart(store):
    claim = BY_ID["abstract-96"]
    for _, bar in {term for c in claim.small for term in c.terms}:
        add_runs(store, bar, [50.0, 51.0, 52.0])
    texts = [text.get_text() for text in plot_forest(store).figure.axes[0].texts]
    assert texts[:5] == [
        textwrap.fill(claim.small_test, 44), "DeiT-T", "PVT-T", "CCT-7/3x1", "Swin-T",
    ]  # fmt: skip


def test_a_status_is_told_by_shape_and_sign_beside_colour(store):
    claim = BY_ID["nest-size"]
    bars = {bar for c in claim.comparisons for _, bar in c.terms}
    for bar in bars:
        add_runs(store, bar, [96.0, 96.0, 96.0])
    axes = plot_claims(store).figure.axes[0]
    look = {line.get_gid(): (line.get_marker(), line.get_mfc()) for line in axes.lines}
    shown = {
        look[f"claims-{scale}-{name}"]
        for scale, name in ((0, "nest-size"), (0, "layers"), (1, "cam"), (2, "nest-size"))
    }
    assert len(shown) == 4


def test_a_figures_page_shows_its_own_claims_alone(store):
    table = claims_table(store, ["heads", "shallow"])
    assert [row[1] for row in table.rows] == [BY_ID["shallow"].quote, BY_ID["heads"].quote]
    with pytest.raises(ValueError, match=r"no claim 'headz'; did you mean heads"):
        claims_table(store, ["headz"])
