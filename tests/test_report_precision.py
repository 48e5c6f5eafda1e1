"""bf16 beside fp32: differences are those of pairs of one seed."""

import pytest

from nestbook.report.precision import precision_table
from nestbook.report.tables import NOT_RUN
from nestbook.sweeps.plans import plan
from nestlib.recipes.recipe import to_dict
from nestlib.records import Record

NAME = "digits/nest_narrow"


def leave(store, precision, top1, seeds=(0, 1, 2)):
    recipes = plan("precision", "quick", seeds)[NAME, precision]
    for recipe, value in zip(recipes, top1, strict=True):
        data = {"test": {"images": 1024, "fingerprint": "0" * 64}}
        environment = {"data": data, "finished": "2026-11-28", "device": "a CPU"}
        store.add(
            Record(recipe.run_id, "train", to_dict(recipe), environment, {"test/top1": value})
        )


def row_of(store):
    return next(row for row in precision_table(store).rows if row[0] == NAME)


pytestmark = pytest.mark.usefixtures("no_fingerprints")


def test_difference_is_the_mean_of_the_pairs_with_its_interval(store):
    leave(store, "fp32", [50.0, 70.0, 60.0])
    leave(store, "bf16", [51.0, 72.0, 63.0])
    _, images, fp32, bf16, difference, verdict = row_of(store)
    assert images == "1,024" and (fp32.value, bf16.value) == (60.0, 62.0)
    # Pairs differ by 1, 2 and 3: mean 2, deviation 1, and t(0.975, 2) = 4.3027 over the root of 3.
    assert difference.value == 2.0 and difference.n == 3
    assert difference.spread == pytest.approx(4.3027 / 3**0.5, rel=1e-4) and verdict == "yes"
    assert "digits/nest_narrow-s2-" in difference.source


def test_a_difference_beyond_its_interval_is_named(store):
    leave(store, "fp32", [50.0, 70.0, 60.0])
    leave(store, "bf16", [52.0, 72.0, 62.1])
    assert row_of(store)[-1] == "no"


def test_one_pair_and_none_show_no_difference(store):
    leave(store, "fp32", [50.0, 60.0], seeds=(0, 1))
    leave(store, "bf16", [51.0], seeds=(0,))
    assert row_of(store)[2].n == 2 and row_of(store)[4:] == (NOT_RUN, "")
    other = next(r for r in precision_table(store).rows if r[0] == "cifar10/nest_narrow")
    assert other[2:] == (NOT_RUN, NOT_RUN, NOT_RUN, "")
