"""The images that a recipe asks for, cut to its limits."""

from dataclasses import replace
from pathlib import Path

import torch

from nestlib.data.datasets import FolderSet, ImageSet, load_dataset
from nestlib.recipes.recipe import GanRecipe, Recipe


def load_sets(
    recipe: Recipe, *, data_dir: Path | None = None, download: bool = False
) -> tuple[ImageSet | FolderSet, ImageSet | FolderSet]:
    """Training and test set of a recipe, cut to its limits."""
    options = {"data_dir": data_dir, "download": download}
    return (
        load_split(recipe, "train", recipe.train_limit, **options),
        load_split(recipe, "test", recipe.test_limit, **options),
    )


def load_split(
    recipe: Recipe | GanRecipe, split: str, limit: int | None = None, *,
    data_dir: Path | None = None, download: bool = False,
) -> ImageSet | FolderSet:  # fmt: skip
    """One split of a recipe's data, cut to `limit` images where one is given."""
    images = load_dataset(
        recipe.dataset, split, data_dir=data_dir, image_size=recipe.image_size, download=download,
        **recipe.dataset_options,
    )  # fmt: skip
    return images if limit is None else take(images, limit)


def take(images: ImageSet | FolderSet, limit: int) -> ImageSet | FolderSet:
    """`limit` images of a set, drawn once and for all: equal for every recipe and seed.

    Raises:
        ValueError: the set has fewer.
    """
    if limit > len(images):
        raise ValueError(f"{images.name} {images.split} has {len(images)} images, not {limit}")
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:limit]
    names = ("images", "labels", "files", "places", "boxes", "box_labels")
    parts = {name: getattr(images, name, None) for name in names}
    return replace(images, **{k: part[chosen] for k, part in parts.items() if part is not None})
