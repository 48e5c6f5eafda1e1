"""Recipes by name: each row of a table is one, written as differences from a default.

    nest recipes                      lists the names
    nest train cifar10/nest_tiny      carries one out
    nest train digits/gan_nest_narrow

Beside each name `nest recipes` shows what it should reach, as the paper reports it, and what it
reached here in how many hours, by its records.
"""

from typing import Any

from nestlib.choices import choose
from nestlib.data.augmentation import Augmentation
from nestlib.extensions import extended
from nestlib.recipes.recipe import GanRecipe, Recipe, fill_in

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

# 0.3 M parameters: d = 48.
NEST_NARROW = dict(model="nest_tiny_cifar", model_options=dict(embed_dim=48, **S2_DEPTH3))

# name: (what it is, its differences).
NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "digits/nest_narrow": (
        "narrow NesT (d = 48, S = 2, depth 3) on the embedded digits", NEST_NARROW,
    ),
    # NesT's batches are the published ones of a device (D17).
    "cifar10/nest_tiny": ("Table 1, NesT-T: S = 1, depth 4", dict(model="nest_tiny_cifar")),
    "cifar10/nest_small": ("Table 1, NesT-S", dict(model="nest_small_cifar", batch_size=64)),
    "cifar10/nest_base": ("Table 1, NesT-B", dict(model="nest_base_cifar", batch_size=32)),
    "cifar10/nest_tiny_s2_depth3": ("section 4.1's NesT3-T with S = 2", NEST3_TINY),
    "tiny_imagenet/nest_small": (
        "NesT-S at 64x64 (S = 2, depth 4, n = 16: our choice, D9)", dict(model="nest_small_64"),
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
NAMED |= {
    f"cifar100/nest_{size}": (f"{text}; CIFAR-100", fields)
    for size in ("tiny", "small", "base")
    for text, fields in [NAMED[f"cifar10/nest_{size}"]]
}

# Generators: NesT's decoders of figure 7, and narrow ones on the digits. Settings are those of
# appendix A.4, GanRecipe's own defaults; what it leaves open is said in nestlib.models.generator
# and nestlib.training.gan. The paper trains on ImageNet, "all images are resized to 64x64" (section
# 4.5), for how many steps is not said. One GPU takes Tiny ImageNet-100, whose 30,000 images would
# be learnt by heart without differentiable augmentation.
GAN_DEFAULTS: dict[str, dict[str, Any]] = {
    # Minutes a run on a CPU: narrow networks, large digits, and a rate and a penalty for batches of
    # 16 (R1's gamma is of the order of the pixels over the batch: StyleGAN2-ADA, appendix C).
    "digits": dict(
        dataset="digits", dataset_options=dict(canvas="plain", digit_edges=[0.7, 0.9]),
        discriminator_options=dict(channel_base=512, max_channels=128), image_size=32, steps=2000,
        steps_per_row=100, batch_size=16, lr=1e-3, r1_gamma=1.0, ema_decay=0.99, flip=False,
        num_samples=256, budget="quick",
    ),
    "tiny_imagenet": dict(
        dataset="tiny_imagenet", precision="bf16", diff_augment="color,translation,cutout",
    ),
    "imagenet": dict(
        dataset="imagenet", dataset_options=dict(squeeze=True), precision="bf16", budget="paper",
    ),
}  # fmt: skip

# NesT's un-samplings (figure 7, middle), by the names of nestlib.models.deaggregation.
UNSAMPLINGS = {
    name: "gan_nest" if name == "PS" else f"gan_nest_{name.lower().replace('-', '_')}"
    for name in ("PS", "PS-C3", "C3-PS", "NN", "NN-C3", "C3-NN")
}

# Layers of each hierarchy, image side first.
NARROW_DECODER = dict(embed_dim=128, depths=[1, 2, 3], latent_dim=64)

NAMED |= {
    "digits/gan_nest_narrow": (
        "narrow NesT decoder (d = 128 to 8, 3 hierarchies) on the embedded digits",
        dict(generator="nest_decoder", generator_options=NARROW_DECODER),
    ),
    "digits/gan_nest_reshaped_narrow": (
        "narrow NesT decoder on the embedded digits, its noise reshaped without a projection",
        dict(generator="nest_decoder", generator_options=dict(NARROW_DECODER, latent_dim=None)),
    ),
}  # fmt: skip
NAMED |= {
    f"{dataset}/{name}": (text, dict(generator="nest_decoder", generator_options=options))
    for dataset in ("tiny_imagenet", "imagenet")
    for name, text, options in (
        ("gan_nest", "figure 7, NesT decoder by Table A4, pixel shuffle", {}),
        ("gan_nest_reshaped",
         "figure 7, NesT decoder whose n x d noise values are reshaped without a projection",
         dict(latent_dim=None)),
    )
}  # fmt: skip
NAMED |= {
    f"{dataset}/{name}{suffix}": (
        f"figure 7, {'narrow ' if suffix else ''}NesT decoder by un-sampling {unsampling}",
        dict(generator="nest_decoder", generator_options=dict(**width, unsampling=unsampling)),
    )
    for unsampling, name in UNSAMPLINGS.items() if unsampling != "PS"
    for dataset, suffix, width in (
        ("digits", "_narrow", NARROW_DECODER), ("tiny_imagenet", "", {}), ("imagenet", "", {}),
    )
}  # fmt: skip


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
    return kind, {"name": name, **defaults.get(name.split("/")[0], {}), **fields}
