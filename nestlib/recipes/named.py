"""What to run, by name: a row of a table is a named recipe, written as differences from a default.

    nest recipes                      lists the names
    nest train cifar10/nest_tiny      carries one out

Beside each name `nest recipes` shows what it should reach, as the paper reports it, and what it
reached here in how many hours, by its records.
"""

from dataclasses import replace
from typing import Any

from nestlib.choices import choose
from nestlib.data.augmentation import Augmentation
from nestlib.extensions import extended
from nestlib.recipes.generators import GAN_DEFAULTS, NAMED_GANS
from nestlib.recipes.recipe import GanRecipe, Recipe, fill_in

# The published code's convnet recipe for CIFAR (configs/cifar_cnn.py): crops and flips alone. Table
# A2's "standard" teacher, 80.7 on CIFAR-100, is Table 1's Pyramid-164-48 (D22).
CROPS_AND_FLIPS = replace(Augmentation.none(), crop_padding=2, flip=0.5)

# Budget small: every run sees so many images, whatever it is trained on.
SMALL_SUBSET, SMALL_IMAGES_SEEN, SMALL_WARMUP, SMALL_ROWS = 10_000, 300_000, 0.05, 6


def small_schedule(subset: int = SMALL_SUBSET, epochs: int | None = None) -> dict[str, Any]:
    """The fields of a small run on a subset of CIFAR-10: all see equally many images, warm up for
    the same share of them and are evaluated at the end and at most five times before.

    Args:
        epochs: default what SMALL_IMAGES_SEEN gives.

    Raises:
        ValueError: a subset that SMALL_IMAGES_SEEN is no multiple of.
    """
    if epochs is None:
        epochs, rest = divmod(SMALL_IMAGES_SEEN, subset)
        if rest:
            raise ValueError(
                f"{SMALL_IMAGES_SEEN} images are no whole number of epochs of {subset}; take a "
                "divisor, such as 1,000, 10,000 or 50,000"
            )
    rows = next(rows for rows in range(min(SMALL_ROWS, epochs), 0, -1) if epochs % rows == 0)
    return dict(
        train_subset=subset, epochs=epochs, warmup_epochs=SMALL_WARMUP * epochs,
        evaluate_every=epochs // rows,
    )  # fmt: skip


# What every recipe of a data set shares; the rest are Recipe's own defaults (published CIFAR NesT).
DEFAULTS: dict[str, dict[str, Any]] = {
    # Half a minute a run. Digits are not flipped, a short run has no use for regularisation, and
    # plain canvases let it learn in that time.
    "digits": dict(
        dataset="digits", dataset_options=dict(canvas="plain", num_images=1024),
        augmentation=Augmentation.none(), epochs=5, warmup_epochs=1, batch_size=16,
        lr_per_256=8e-3, drop_path_rate=0.0, budget="quick",
    ),
    "small": dict(
        dataset="cifar10", precision="bf16", augmentation=CROPS_AND_FLIPS, batch_size=125,
        lr_per_256=4e-3, clip_grad_norm=1.0, drop_path_rate=0.0, budget="small", **small_schedule(),
    ),
    "cifar10": dict(dataset="cifar10", precision="bf16"),
    "cifar100": dict(dataset="cifar100", precision="bf16"),
    "tiny_imagenet": dict(
        dataset="tiny_imagenet", image_size=64, batch_size=256, precision="bf16",
    ),
    "imagenet": dict(
        dataset="imagenet", image_size=224, batch_size=1024, warmup_epochs=20, precision="bf16",
        augmentation=Augmentation(crop_padding=0, color_jitter=0.3), budget="paper",
    ),
}  # fmt: skip

S2_DEPTH3 = dict(num_hierarchies=3, patch_size=2)
NEST3_TINY = dict(model="nest_tiny_cifar", model_options=S2_DEPTH3)

# Narrow NesTs, about 0.3 M parameters each: d = 48, at 32x32 and at 64x64.
NEST_NARROW = dict(model="nest_tiny_cifar", model_options=dict(embed_dim=48, **S2_DEPTH3))
NEST_NARROW_64, NEST_NARROW_64_DEPTH2 = (
    dict(
        model="nest_tiny_64",
        model_options=dict(embed_dim=48, num_hierarchies=depth, patch_size=4),
    )
    for depth in (3, 2)
)

# Models of minutes on a CPU, to try the evaluation of trained weights on real images.
MINUTES = dict(
    augmentation=replace(CROPS_AND_FLIPS, crop_padding=4), epochs=2, warmup_epochs=0.2,
    batch_size=128, lr_per_256=4e-3, drop_path_rate=0.0, precision="fp32", budget="quick",
)  # fmt: skip

# For the planted truth and for boxes: lone digits from small to those of a quadrant, so that a
# canvas of four is made of what the model knows.
LONE_DIGITS = dict(
    image_size=64,
    dataset_options=dict(canvas="plain", num_images=4096, digit_edges=[0.18, 0.43]),
    lr_per_256=4e-3, clip_grad_norm=1.0, warmup_epochs=2, epochs=16,
)  # fmt: skip

# name: (what it is, its differences).
NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "digits/nest_narrow": (
        "narrow NesT (d = 48, S = 2, depth 3) on the embedded digits", NEST_NARROW,
    ),
    # Budget small: 0.34 to 0.38 M parameters each. A rate of their own is the best of three by the
    # records of `nest sweep learning_rates --budget small`.
    "small/nest_narrow": (
        "ours: narrow NesT (d = 48, S = 2, depth 3) on 10,000 images of CIFAR-10, a CPU",
        NEST_NARROW,
    ),
    # S = 4 gives 16 leaf blocks of 16 pixels.
    "digits/nest_planted": (
        "ours: narrow NesT (d = 48, S = 4, depth 3) on lone digits of 64x64 canvases, a CPU",
        NEST_NARROW_64 | LONE_DIGITS,
    ),
    "digits/nest_planted_depth2": (
        "ours: that NesT at depth 2, whose last map has 8x8 places as its rivals' below",
        NEST_NARROW_64_DEPTH2 | LONE_DIGITS,
    ),
    "cifar10/nest_narrow": (
        "ours: narrow NesT (d = 48, S = 2, depth 3), 10 epochs, flips and crops alone; a CPU",
        NEST_NARROW | MINUTES | dict(augmentation=CROPS_AND_FLIPS, epochs=10, warmup_epochs=1),
    ),
    # NesT's batches are the published ones of a device (D17).
    "cifar10/nest_tiny": ("Table 1, NesT-T: S = 1, depth 4", dict(model="nest_tiny_cifar")),
    "cifar10/nest_small": ("Table 1, NesT-S", dict(model="nest_small_cifar", batch_size=64)),
    "cifar10/nest_base": ("Table 1, NesT-B", dict(model="nest_base_cifar", batch_size=32)),
    "cifar10/nest_tiny_s2_depth3": ("section 4.1's NesT3-T with S = 2", NEST3_TINY),
    "cifar10/nest_flagship": (
        "ours: that NesT3-T for 30 of its 300 epochs, a day of a CPU's core",
        NEST3_TINY | dict(epochs=30, evaluate_every=5, budget="small"),
    ),
    "tiny_imagenet/nest_narrow": (
        "ours: narrow NesT (d = 48, S = 4, depth 3) on Tiny ImageNet-100, 2 epochs, a CPU",
        NEST_NARROW_64 | MINUTES,
    ),
    "tiny_imagenet/nest_narrow_depth2": (
        "ours: narrow NesT of depth 2, whose last map has 8x8 places as figure 8's rivals have",
        NEST_NARROW_64_DEPTH2 | MINUTES,
    ),
    "tiny_imagenet/nest_small": ("NesT-S at 64x64, likewise (D9)", dict(model="nest_small_64")),
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
NAMED |= {
    f"cifar100/nest_{size}": (f"{text}; CIFAR-100", fields)
    for size in ("tiny", "small", "base")
    for text, fields in [NAMED[f"cifar10/nest_{size}"]]
}
NAMED |= NAMED_GANS


def list_recipes() -> dict[str, tuple[str, dict[str, Any]]]:
    """All named recipes: what each is, and its differences from the defaults of its data set.

    NesT's, then those of nestlib.extensions.
    """
    return extended(NAMED, "recipes")


def get_recipe(name: str, **changes: Any) -> Recipe | GanRecipe:
    """A named recipe, with fields changed: `get_recipe("cifar10/nest_tiny", seed=1)`.

    Raises:
        ValueError: no such name; the message lists near ones.
    """
    kind, fields = _fields(name)
    return kind(**{**fields, **changes})


def plain_fields(name: str) -> dict[str, Any]:
    """`to_dict(get_recipe(name))`, without the recipe's checks, which take torch."""
    return fill_in(*_fields(name))


def _fields(name: str) -> tuple[type[Recipe | GanRecipe], dict[str, Any]]:
    _, fields = choose("recipe", name, list_recipes(), "`nest recipes` lists all")
    kind, defaults = (GanRecipe, GAN_DEFAULTS) if "generator" in fields else (Recipe, DEFAULTS)
    return kind, {"name": name, **defaults[name.split("/")[0]], **fields}
