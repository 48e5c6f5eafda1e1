"""What to run, by name: a row of a table is a named recipe, written as differences from a default.

    nest recipes                      lists the names
    nest train cifar10/nest_tiny      carries one out

What a recipe should reach is the paper's figure (nestlib.paper) and, once it ran, its record's.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from nestlib.data.augment import Augmentation
from nestlib.recipe import BUDGETS, Recipe

# What every recipe of a data set shares; the rest are Recipe's own defaults (published CIFAR NesT).
DEFAULTS: dict[str, dict[str, Any]] = {
    # Half a minute a run. Digits are not flipped, a short run has no use for regularisation, and
    # plain canvases let it learn in that time.
    "digits": dict(
        dataset="digits", dataset_options=dict(canvas="plain", num_images=1024),
        augmentation=Augmentation.none(), epochs=5, warmup_epochs=1, batch_size=16,
        lr_per_256=8e-3, drop_path_rate=0.0, budget="quick",
    ),
    "cifar10": dict(dataset="cifar10", precision="bf16"),
    "tiny_imagenet": dict(
        dataset="tiny_imagenet", image_size=64, batch_size=256, precision="bf16",
    ),
    "imagenet": dict(
        dataset="imagenet", image_size=224, batch_size=1024, warmup_epochs=20, precision="bf16",
        augmentation=Augmentation(crop_padding=0, color_jitter=0.3), budget="paper",
    ),
}  # fmt: skip

S2_DEPTH3 = {"num_hierarchies": 3, "patch_size": 2}

# name: (what it is, its differences). The narrow ones have about 0.3 M parameters each.
NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "digits/nest_narrow": (
        "narrow NesT (d = 48, S = 2, depth 3) on the embedded digits",
        dict(model="nest_tiny_cifar", model_options=dict(embed_dim=48, **S2_DEPTH3)),
    ),
    "digits/deit_narrow": (
        "narrow DeiT (d = 64, S = 4, 6 layers) on the embedded digits",
        dict(model="deit_tiny_cifar",
             model_options=dict(patch_size=4, embed_dim=64, depth=6, num_heads=2)),
    ),
    "digits/swin_narrow": (
        "narrow Swin (d = 24, S = 2, 3 stages of 2) on the embedded digits",
        dict(model="swin_tiny_cifar",
             model_options=dict(patch_size=2, embed_dim=24, depths=[2, 2, 2], num_heads=[1, 2, 4],
                                window_size=4)),
    ),
    "digits/wrn_narrow": (
        "WRN10-2 on the embedded digits",
        dict(model="wrn28_10_cifar", model_options=dict(depth=10, width=2)),
    ),
    "cifar10/nest_narrow": (
        "ours: narrow NesT (d = 48, S = 2, depth 3), 10 epochs, flips and crops alone; a CPU, 1 h",
        dict(
            model="nest_tiny_cifar", model_options=dict(embed_dim=48, **S2_DEPTH3),
            augmentation=replace(Augmentation.none(), crop_padding=2, flip=0.5),
            epochs=10, warmup_epochs=1, batch_size=128, lr_per_256=4e-3, drop_path_rate=0.0,
            precision="fp32", budget="quick",
        ),
    ),
    # NesT's batches are the published ones of a device (D17).
    "cifar10/nest_tiny": ("Table 1, NesT-T: S = 1, depth 4", dict(model="nest_tiny_cifar")),
    "cifar10/nest_small": ("Table 1, NesT-S", dict(model="nest_small_cifar", batch_size=64)),
    "cifar10/nest_base": ("Table 1, NesT-B", dict(model="nest_base_cifar", batch_size=32)),
    "cifar10/nest_tiny_s2_depth3": (
        "section 4.1's NesT3-T with S = 2 (94.5 % in the paper)",
        dict(model="nest_tiny_cifar", model_options=S2_DEPTH3),
    ),
    "cifar10/deit_tiny": ("Table 1, DeiT-T: S = 2", dict(model="deit_tiny_cifar")),
    "cifar10/deit_small": ("Table 1, DeiT-S: S = 2", dict(model="deit_small_cifar")),
    "cifar10/deit_base": ("Table 1, DeiT-B: S = 2", dict(model="deit_base_cifar")),
    # As the authors gave it (their code's issue 4): learning rate 5e-4 x batch / 512, which is
    # Recipe's default, and 128, 64 or 32 images on each of two GPUs.
    "cifar10/swin_tiny": (
        "Table 1, Swin-T: S = 1, window 2 (D10)", dict(model="swin_tiny_cifar", batch_size=256),
    ),
    "cifar10/swin_small": (
        "Table 1, Swin-S: S = 1, window 2 (D10)", dict(model="swin_small_cifar", batch_size=128),
    ),
    "cifar10/swin_base": (
        "Table 1, Swin-B: S = 1, window 2 (D10)", dict(model="swin_base_cifar", batch_size=64),
    ),
    "cifar10/wrn28_10": (
        "Table 1, WRN28-10, in the transformers' recipe",
        dict(model="wrn28_10_cifar", drop_path_rate=0.0),
    ),
    "tiny_imagenet/nest_tiny": (
        "NesT-T at 64x64 (S = 2, depth 4, n = 16: our choice, D9)", dict(model="nest_tiny_64"),
    ),
    "imagenet/nest_tiny": (
        "Table 2, NesT-T", dict(model="nest_tiny_imagenet", drop_path_rate=0.2),
    ),
    "imagenet/nest_small": (
        "Table 2, NesT-S", dict(model="nest_small_imagenet", drop_path_rate=0.3),
    ),
    "imagenet/nest_base": (
        "Table 2, NesT-B", dict(model="nest_base_imagenet", drop_path_rate=0.5),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row of Table 1: its CIFAR-10 recipe, and its narrow relative on the digits, if they run."""

    recipe: str | None = None
    quick: str | None = None


TABLE1: dict[str, Row] = {
    "Pyramid-164-48": Row(),
    "WRN28-10": Row("cifar10/wrn28_10", "digits/wrn_narrow"),
    "DeiT-T": Row("cifar10/deit_tiny", "digits/deit_narrow"),
    "DeiT-S": Row("cifar10/deit_small"),
    "DeiT-B": Row("cifar10/deit_base"),
    "PVT-T": Row(),
    "PVT-S": Row(),
    "PVT-B": Row(),
    "CCT-7/3x1": Row(),
    "Swin-T": Row("cifar10/swin_tiny", "digits/swin_narrow"),
    "Swin-S": Row("cifar10/swin_small"),
    "Swin-B": Row("cifar10/swin_base"),
    "NesT-T": Row("cifar10/nest_tiny", "digits/nest_narrow"),
    "NesT-S": Row("cifar10/nest_small"),
    "NesT-B": Row("cifar10/nest_base"),
}


def plan_table1(budget: str, dataset: str, seeds: Iterable[int]) -> dict[str, list[Recipe]]:
    """The recipes of Table 1's rows that run at a budget: {row: one a seed}.

    quick and smoke train the narrow relatives on the digits (smoke with the first seed alone), gpu
    and paper the rows themselves.

    Raises:
        ValueError: an unknown budget, or a data set that the budget does not train on.
    """
    if budget not in BUDGETS:
        raise ValueError(f"no budget {budget!r}; valid: {', '.join(BUDGETS)}")
    fits = "digits" if budget in ("smoke", "quick") else "cifar10"
    if dataset != fits:
        raise ValueError(
            f"budget {budget} trains on {fits}, not on {dataset!r}; digits go with smoke and "
            "quick, cifar10 with gpu and paper"
        )
    seeds = list(seeds)[:1] if budget == "smoke" else list(seeds)
    names = {
        row: entry.quick if fits == "digits" else entry.recipe for row, entry in TABLE1.items()
    }
    return {
        row: [get_recipe(name, seed=seed).at_budget(budget) for seed in seeds]
        for row, name in names.items() if name
    }  # fmt: skip


def get_recipe(name: str, **changes: Any) -> Recipe:
    """A named recipe, with fields changed: `get_recipe("cifar10/nest_tiny", seed=1)`.

    Raises:
        ValueError: no such name; the message lists near ones.
    """
    if name not in NAMED:
        near = difflib.get_close_matches(name, NAMED, n=3, cutoff=0.4) or list(NAMED)
        raise ValueError(f"no recipe {name!r}; did you mean {', '.join(near)}? (`nest recipes`)")
    recipe = Recipe(name=name, **{**DEFAULTS[name.split("/")[0]], **NAMED[name][1]})
    return replace(recipe, **changes) if changes else recipe


def describe(name: str) -> str:
    """One line on a named recipe."""
    return NAMED[name][0]
