"""Budget small: what its bars have in common, and where their learning rates come from."""

import pytest
import torch

from nestlib.measure.cost import count_params
from nestlib.recipes.named import (
    SMALL_IMAGES_SEEN,
    SMALL_SUBSET,
    TABLE1,
    get_recipe,
    small_schedule,
)
from nestlib.recipes.plans import RATES, plan
from nestlib.runs.sweeps import count_images_seen

FAMILIES = {row: entry.small for row, entry in TABLE1.items() if entry.small}


def test_seven_families_are_of_equal_size():
    sizes = {}
    for row, name in FAMILIES.items():
        with torch.device("meta"):
            sizes[row] = count_params(get_recipe(name).build_model(10))
    assert len(sizes) == 7
    assert all(300_000 <= size <= 400_000 for size in sizes.values())
    ours = sizes["NesT-T"]
    assert all(abs(size - ours) < 0.07 * ours for size in sizes.values()), sizes


@pytest.mark.parametrize("subset", [1_000, 2_500, 10_000, 50_000])
def test_every_subset_sees_the_same_number_of_images(subset):
    recipe = get_recipe("small/nest_narrow", **small_schedule(subset))
    assert recipe.train_subset == subset
    assert count_images_seen(recipe) == SMALL_IMAGES_SEEN
    assert recipe.warmup_epochs == pytest.approx(0.05 * recipe.epochs)
    assert recipe.epochs / recipe.evaluate_every in (5, 6)


def test_a_subset_that_gives_no_whole_epochs_is_refused():
    with pytest.raises(ValueError, match="no whole number of epochs of 7000"):
        small_schedule(7_000)


def test_learning_rates_are_judged_on_held_out_images_alone():
    runs = plan("learning_rates", "small", [0])
    assert {row for row, _ in runs} == set(FAMILIES)
    for (row, rate), (recipe,) in runs.items():
        final = get_recipe(FAMILIES[row])
        assert recipe.held_out == 5_000 and recipe.train_subset == SMALL_SUBSET
        assert recipe.lr_per_256 == float(rate) and float(rate) in RATES[final.optimizer]
        assert final.lr_per_256 in RATES[final.optimizer]
        assert final.held_out is None
    with pytest.raises(ValueError, match="learning_rates has no runs at budget quick"):
        plan("learning_rates", "quick", [0])
