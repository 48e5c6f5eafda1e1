"""Models by the name of the recipe that trains them: what `create_model` does with such a name."""

import re

import torch
from torch import nn

from nestlib.data.datasets import dataset_info
from nestlib.models.weights import load_weights
from nestlib.recipes.named import get_recipe, list_recipes
from nestlib.recipes.recipe import GanRecipe, Recipe
from nestlib.runs.weights import choose_run, count_classes, find_weights, open_trained


def list_committed() -> list[str]:
    """The classifiers' recipes with committed weights, by name."""
    folder = open_trained().committed.parent / "weights"
    found = set()
    for path in folder.rglob("*.safetensors.sha256"):
        run_id = path.relative_to(folder).as_posix().removesuffix(".safetensors.sha256")
        name = re.sub(r"-s\d+-[0-9a-f]{8}$", "", run_id)
        if name in list_recipes() and _is_classifier(name, run_id):
            found.add(name)
    return sorted(found)


def _is_classifier(name: str, run_id: str) -> bool:
    """Whether a run is of a recipe as it is now, and of a classifier."""
    recipe = get_recipe(name)
    return isinstance(recipe, Recipe) and run_id.endswith(f"-{recipe.config_hash}")


def create_from_recipe(
    name: str, *, pretrained: bool = False, seed: int | None = None,
    num_classes: int | None = None, **options,
) -> nn.Module:  # fmt: skip
    """Build a recipe's model, as `nestlib.create_model` says."""
    store = open_trained()
    recipe = choose_run(name, seed, store)
    if isinstance(recipe, GanRecipe):
        raise ValueError(
            f"{name} trains a generator, not a classifier; "
            f"nestlib.runs.weights.load_trained({name!r}) gives it"
        )
    if seed is not None and not pretrained:
        raise ValueError(f"seed={seed} chooses among trained weights; give pretrained=True, too")
    if not pretrained:
        known = dataset_info(recipe.dataset).num_classes
        return recipe.build_model(known if num_classes is None else num_classes, **options)
    weights = find_weights(recipe, store)
    known, state = count_classes(recipe, weights.record), weights.load().state_dict()
    asked = known if num_classes is None else num_classes
    model = recipe.build_model(asked, **options)
    head = _find_head(recipe, known, asked)
    fresh = {key: tensor for key, tensor in model.state_dict().items() if key in head}
    try:
        return load_weights(model, {k: t for k, t in state.items() if k not in head} | fresh)
    except RuntimeError as error:
        changed = ", ".join(f"{key}={value!r}" for key, value in options.items())
        raise RuntimeError(
            f"the weights of {recipe.run_id} do not fit a model with {changed}; leave these "
            f"options out, or give pretrained=False for random weights: {error}"
        ) from error


def _find_head(recipe: Recipe, known: int, asked: int) -> set[str]:
    """The names of the tensors that differ between models of so many classes."""
    with torch.device("meta"):  # shapes alone
        states = [recipe.build_model(number).state_dict() for number in (known, asked)]
    shapes = [{key: tensor.shape for key, tensor in state.items()} for state in states]
    return {key for key in shapes[0] if shapes[0][key] != shapes[1].get(key)}
