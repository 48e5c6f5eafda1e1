"""The images that a recipe asks for, cut to its limits."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from nestlib.data.datasets import FolderSet, ImageSet, load_dataset
from nestlib.recipes.recipe import GanRecipe, Recipe

HELD_OUT = "held_out"  # a split: training images that a run does not train on


def load_sets(
    recipe: Recipe, *, data_dir: Path | None = None, download: bool = False
) -> tuple[ImageSet | FolderSet, ImageSet | FolderSet]:
    """Training set of a recipe, and the images that it is evaluated on: test or held_out.

    Both have the training set's classes and numbers.

    Raises:
        ValueError: as `load_split`.
    """
    options = {"data_dir": data_dir, "download": download}
    scored = (HELD_OUT, None) if recipe.held_out else ("test", recipe.test_limit)
    train = load_split(recipe, "train", recipe.train_limit, **options)
    return train, load_split(recipe, *scored, **options, class_names=train.identifiers)


def load_split(
    recipe: Recipe | GanRecipe, split: str, limit: int | None = None, *,
    data_dir: Path | None = None, download: bool = False,
    class_names: Sequence[str] | None = None,
) -> ImageSet | FolderSet:  # fmt: skip
    """One split of a recipe's data: its subset, or cut to `limit` images if one is given.

    Args:
        split: train, test, or held_out: the training images that a Recipe with `held_out` is
            evaluated on.
        class_names: what numbers the classes, as `load_dataset` takes it.

    Raises:
        ValueError: a class that is not among `class_names`, or fewer images than were asked for.
    """
    images = load_dataset(
        recipe.dataset, "train" if split == HELD_OUT else split, data_dir=data_dir,
        image_size=recipe.image_size, download=download, class_names=class_names,
        **recipe.dataset_options,
    )  # fmt: skip
    subset, held_out = getattr(recipe, "train_subset", None), getattr(recipe, "held_out", None)
    if split != "test" and subset is not None:
        kept, beside = take_equally(images, subset, held_out or 0)
        return kept if split == "train" else replace(beside, split=HELD_OUT)
    return images if limit is None else take(images, limit)


def take_equally(images: ImageSet, count: int, beside: int = 0) -> tuple[ImageSet, ImageSet]:
    """`count` images, equally many per class, and `beside` other images, likewise.

    Drawn once and for all: a smaller count is a part of a larger one. The others come from the
    order's end.

    Raises:
        ValueError: counts that the classes do not divide, or a class with fewer images.
    """
    classes = images.num_classes
    if count % classes or beside % classes:
        raise ValueError(
            f"{count} images and {beside} others cannot be equally many per class for {classes} "
            f"classes; take multiples of {classes}"
        )
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    labels = images.labels[order]
    each = [order[labels == label] for label in range(classes)]
    fewest = min(map(len, each))
    if (count + beside) // classes > fewest:
        raise ValueError(
            f"{images.name} {images.split} has {fewest} images of its rarest class, not "
            f"{count // classes} and {beside // classes} others; take at most {fewest * classes} "
            "in all, or fetch the whole data set"
        )
    first = torch.cat([own[: count // classes] for own in each])
    last = torch.cat([own[len(own) - beside // classes :] for own in each])
    return images.select(first), images.select(last)


def take(images: ImageSet | FolderSet, limit: int) -> ImageSet | FolderSet:
    """`limit` images of a set, drawn once and for all: the same for every recipe and seed.

    Raises:
        ValueError: the set has fewer.
    """
    if limit > len(images):
        raise ValueError(f"{images.name} {images.split} has {len(images)} images, not {limit}")
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images.select(order[:limit])
