"""What a run costs before it is begun, by its recipe alone: images and multiply-adds."""

import json
from functools import cache

import torch

from nestlib.data.datasets import dataset_info
from nestlib.metrics.cost import count_gflops
from nestlib.models import create_model
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import GanRecipe, Recipe


def estimate_cost(recipe: Recipe | GanRecipe) -> float:
    """What a run costs, in multiply-adds * 10^9: a step's backward pass is twice its forward.

    A GAN's discriminator sees real images, generated ones, and these again for the generator.
    """
    if isinstance(recipe, GanRecipe):
        with torch.device("meta"):
            networks = recipe.build_generator(), recipe.build_discriminator()
        made, judged = (count_gflops(network, recipe.image_size) for network in networks)
        return recipe.steps * recipe.batch_size * 3 * (made + 3 * judged)
    gflops = 3 * _forward_gflops(recipe)
    if recipe.distillation:
        name, seed = recipe.distillation.teacher_recipe
        gflops += _forward_gflops(get_recipe(name, seed=seed))
    return count_images_seen(recipe) * gflops


def count_images_seen(recipe: Recipe) -> int:
    """Training images over all of a run's epochs; the rest of an epoch's last batch is left out."""
    images = recipe.train_subset or recipe.train_limit or recipe.dataset_options.get(
        "num_images", dataset_info(recipe.dataset).num_train
    )  # fmt: skip
    return recipe.epochs * (images // recipe.batch_size) * recipe.batch_size


def _forward_gflops(recipe: Recipe) -> float:
    num_classes = dataset_info(recipe.dataset).num_classes
    options = json.dumps(recipe.model_options, sort_keys=True)
    return _count_gflops(recipe.model, recipe.image_size, num_classes, options)


@cache
def _count_gflops(model: str, image_size: int, num_classes: int, options: str) -> float:
    """Recipes of a plan share models, so each is counted once."""
    with torch.device("meta"):  # of shapes alone
        network = create_model(
            model, img_size=image_size, num_classes=num_classes, **json.loads(options)
        )
    return count_gflops(network, image_size)
