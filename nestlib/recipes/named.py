"""What to run, by name: a row of a table is a named recipe, written as differences from a default.

    nest recipes                      lists the names
    nest train cifar10/nest_tiny      carries one out

What a recipe should reach is the paper's figure (nestlib.paper) and, once it ran, its record's.
"""

import difflib
from dataclasses import dataclass, replace
from typing import Any

from nestlib.recipes.augmentation import Augmentation
from nestlib.recipes.generators import GAN_DEFAULTS, NAMED_GANS
from nestlib.recipes.recipe import GanRecipe, Recipe

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

NARROW_RESNET = dict(architecture="resnet10t", channels=[32, 64, 128, 256])
DIGITS_RESNET = dict(architecture="resnet10t", channels=[16, 32, 64, 128])
S2_DEPTH3 = {"num_hierarchies": 3, "patch_size": 2}

# All transformers' augmentation; on digits all of it but the flip.
STRONG = Augmentation()
STRONG_DIGITS = replace(STRONG, flip=0.0)
CIFAR_CONVNET = dict(
    optimizer="sgd", lr_per_256=0.2, weight_decay=5e-4, epochs=200, batch_size=128,
    drop_path_rate=0.0, augmentation=CROPS_AND_FLIPS,
)  # fmt: skip

# The same at budget small, but for its schedule and its batch.
SMALL_CONVNET = dict(optimizer="sgd", lr_per_256=0.2, weight_decay=5e-4, clip_grad_norm=None)

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

# DeiT's and Swin's own augmentation of ImageNet has no colour jitter beside RandAugment.
NO_JITTER = Augmentation(crop_padding=0)
DEIT_IMAGENET = dict(warmup_epochs=5, augmentation=NO_JITTER)
SWIN_IMAGENET = dict(clip_grad_norm=5.0, augmentation=NO_JITTER)

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
    "digits/pyramid_narrow": (
        "Pyramid-11-30 on the embedded digits",
        dict(model="pyramid164_48_cifar", model_options=dict(depth=11, alpha=30)),
    ),
    "digits/pyramid_narrow_strong": (
        "Pyramid-11-30 on the embedded digits with strong augmentation, to teach",
        dict(model="pyramid164_48_cifar", model_options=dict(depth=11, alpha=30),
             augmentation=STRONG_DIGITS, epochs=10),
    ),
    "digits/pvt_narrow": (
        "narrow PVT (d = 24 to 96, S = 2, 4 stages) on the embedded digits",
        dict(model="pvt_tiny_cifar",
             model_options=dict(patch_size=2, embed_dims=[24, 32, 64, 96], depths=[1, 1, 2, 1],
                                num_heads=[1, 1, 2, 3], sr_ratios=[4, 2, 1, 1])),
    ),
    "digits/cct_narrow": (
        "narrow CCT (d = 80, 2 convolutions, 5 layers) on the embedded digits",
        dict(model="cct7_3x1_cifar",
             model_options=dict(num_convs=2, depth=5, embed_dim=80, num_heads=2)),
    ),
    # Budget small: 0.34 to 0.38 M parameters each. A rate of their own is the best of three by the
    # records of `nest sweep learning_rates --budget small`.
    "small/nest_narrow": (
        "ours: narrow NesT (d = 48, S = 2, depth 3) on 10,000 images of CIFAR-10, a CPU",
        dict(model="nest_tiny_cifar", model_options=dict(embed_dim=48, **S2_DEPTH3)),
    ),
    "small/deit_narrow": (
        "ours: narrow DeiT (d = 64, S = 4, 7 layers), likewise",
        dict(model="deit_tiny_cifar",
             model_options=dict(patch_size=4, embed_dim=64, depth=7, num_heads=2)),
    ),
    "small/swin_narrow": (
        "ours: narrow Swin (d = 24, S = 2, stages of 2, 4 and 2), likewise",
        dict(model="swin_tiny_cifar", lr_per_256=2e-3,
             model_options=dict(patch_size=2, embed_dim=24, depths=[2, 4, 2], num_heads=[1, 2, 4],
                                window_size=4)),
    ),
    "small/pvt_narrow": (
        "ours: narrow PVT (d = 24 to 96, S = 2, 4 stages), likewise",
        dict(model="pvt_tiny_cifar",
             model_options=dict(patch_size=2, embed_dims=[24, 32, 64, 96], depths=[1, 1, 3, 1],
                                num_heads=[1, 1, 2, 3], sr_ratios=[4, 2, 1, 1])),
    ),
    "small/cct_narrow": (
        "ours: narrow CCT (d = 80, 2 convolutions, 6 layers), likewise",
        dict(model="cct7_3x1_cifar",
             model_options=dict(num_convs=2, depth=6, embed_dim=80, num_heads=2)),
    ),
    "small/wrn_narrow": (
        "ours: WRN28-1, by SGD, likewise",
        dict(model="wrn28_10_cifar", model_options=dict(depth=28, width=1), **SMALL_CONVNET),
    ),
    "small/pyramid_narrow": (
        "ours: Pyramid-11-96, by SGD, likewise",
        dict(model="pyramid164_48_cifar", model_options=dict(depth=11, alpha=96),
             **SMALL_CONVNET),
    ),
    # S = 4 gives 16 leaf blocks of 16 pixels.
    "digits/nest_planted": (
        "ours: narrow NesT (d = 48, S = 4, depth 3) on lone digits of 64x64 canvases, a CPU",
        dict(model="nest_tiny_64",
             model_options=dict(embed_dim=48, num_hierarchies=3, patch_size=4), **LONE_DIGITS),
    ),
    "digits/nest_planted_depth2": (
        "ours: that NesT at depth 2, whose last map has 8x8 places as its rivals' below",
        dict(model="nest_tiny_64",
             model_options=dict(embed_dim=48, num_hierarchies=2, patch_size=4), **LONE_DIGITS),
    ),
    "digits/deit_planted": (
        "ours: narrow DeiT (d = 64, S = 8, 6 layers), likewise",
        dict(model="deit_tiny_cifar",
             model_options=dict(patch_size=8, embed_dim=64, depth=6, num_heads=2), **LONE_DIGITS),
    ),
    "digits/resnet_planted": (
        "ours: narrow ResNet (10 layers, stride 8), likewise",
        dict(model="resnet50_wsol", model_options=DIGITS_RESNET, **LONE_DIGITS),
    ),
    "digits/adl_planted": (
        "ours: ADL on that ResNet, likewise",
        dict(model="resnet50_adl", model_options=DIGITS_RESNET, **LONE_DIGITS),
    ),
    "digits/acol_planted": (
        "ours: ACoL on that ResNet, its classifiers 64 wide, likewise",
        dict(model="resnet50_acol", model_options=dict(**DIGITS_RESNET, hidden=64), **LONE_DIGITS),
    ),
    "cifar10/nest_narrow": (
        "ours: narrow NesT (d = 48, S = 2, depth 3), 10 epochs, flips and crops alone; a CPU, 1 h",
        dict(
            model="nest_tiny_cifar", model_options=dict(embed_dim=48, **S2_DEPTH3),
            augmentation=CROPS_AND_FLIPS,
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
    "cifar10/nest_flagship": (
        "ours: that NesT3-T for 30 of its 300 epochs, a day of a CPU's core",
        dict(model="nest_tiny_cifar", model_options=S2_DEPTH3, epochs=30, evaluate_every=5,
             budget="small"),
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
    # Stochastic depth and clipping as in PVT's own configurations (whai362/PVT); what the paper
    # calls B is its authors' Large.
    "cifar10/pvt_tiny": ("Table 1, PVT-T: S = 1 (D24)", dict(model="pvt_tiny_cifar")),
    "cifar10/pvt_small": ("Table 1, PVT-S: S = 1 (D24)", dict(model="pvt_small_cifar")),
    "cifar10/pvt_base": (
        "Table 1, PVT-B: S = 1 (D24)",
        dict(model="pvt_base_cifar", drop_path_rate=0.3, clip_grad_norm=1.0),
    ),
    # Its authors' 300-epoch recipe (SHI-Labs/Compact-Transformers, cct_7-3x1_cifar10_300epochs).
    "cifar10/cct7_3x1": (
        "Table 1, CCT-7/3x1, by its own recipe (D25)",
        dict(model="cct7_3x1_cifar", lr_per_256=1.1e-3, batch_size=128, weight_decay=0.06,
             warmup_epochs=10, augmentation=Augmentation(erase_prob=0.0)),
    ),
    "cifar10/pyramid164_48": (
        "Table 1, Pyramid-164-48, by the published convnet recipe",
        dict(model="pyramid164_48_cifar", **CIFAR_CONVNET),
    ),
    # Table A2's teachers beside Table 1's Pyramid-164-48, whose 80.7 % is the "standard" one's.
    "cifar100/pyramid164_48_strong": (
        "Table A2, teacher PN-164-48 with strong augmentation",
        dict(model="pyramid164_48_cifar", **CIFAR_CONVNET | dict(augmentation=STRONG)),
    ),
    "cifar100/pyramid164_270": (
        "Table A2, teacher PN-164-270 with standard augmentation",
        dict(model="pyramid164_48_cifar", model_options=dict(alpha=270), **CIFAR_CONVNET),
    ),
    "cifar100/pyramid164_270_strong": (
        "Table A2, teacher PN-164-270 with strong augmentation",
        dict(model="pyramid164_48_cifar", model_options=dict(alpha=270),
             **CIFAR_CONVNET | dict(augmentation=STRONG)),
    ),
    "cifar10/wrn28_10": (
        "Table 1, WRN28-10, by the published convnet recipe",
        dict(model="wrn28_10_cifar", **CIFAR_CONVNET),
    ),
    "tiny_imagenet/nest_narrow": (
        "ours: narrow NesT (d = 48, S = 4, depth 3) on Tiny ImageNet-100, 2 epochs, a CPU",
        dict(model="nest_tiny_64",
             model_options=dict(embed_dim=48, num_hierarchies=3, patch_size=4), **MINUTES),
    ),
    "tiny_imagenet/nest_narrow_depth2": (
        "ours: narrow NesT of depth 2, whose last map has 8x8 places as figure 8's rivals have",
        dict(model="nest_tiny_64",
             model_options=dict(embed_dim=48, num_hierarchies=2, patch_size=4), **MINUTES),
    ),
    "tiny_imagenet/deit_narrow": (
        "ours: narrow DeiT (d = 64, S = 8, 6 layers), likewise",
        dict(model="deit_tiny_cifar",
             model_options=dict(patch_size=8, embed_dim=64, depth=6, num_heads=2), **MINUTES),
    ),
    "tiny_imagenet/resnet_narrow": (
        "ours: narrow ResNet (10 layers, stride 8: 8x8 places), likewise",
        dict(model="resnet50_wsol", model_options=NARROW_RESNET, **MINUTES),
    ),
    "tiny_imagenet/adl_narrow": (
        "ours: ADL on that ResNet, likewise",
        dict(model="resnet50_adl", model_options=NARROW_RESNET, **MINUTES),
    ),
    "tiny_imagenet/acol_narrow": (
        "ours: ACoL on that ResNet, its classifiers 128 wide, likewise",
        dict(model="resnet50_acol", model_options=dict(**NARROW_RESNET, hidden=128),
             **MINUTES),
    ),
    # Figure 8's rivals at 64x64. The ResNets train by the recipe of NesT beside them, since neither
    # ADL's nor ACoL's is of 64-pixel images; DeiT's patches give as many tokens as NesT's map.
    "tiny_imagenet/nest_small": ("NesT-S at 64x64, likewise (D9)", dict(model="nest_small_64")),
    "tiny_imagenet/resnet50": (
        "Figure 8, ResNet-50 at 64x64, stride 8", dict(model="resnet50_wsol", drop_path_rate=0.0),
    ),
    "tiny_imagenet/adl": (
        "Figure 8, ADL on that ResNet-50", dict(model="resnet50_adl", drop_path_rate=0.0),
    ),
    "tiny_imagenet/acol": (
        "Figure 8, ACoL on that ResNet-50", dict(model="resnet50_acol", drop_path_rate=0.0),
    ),
    "tiny_imagenet/deit_small": (
        "Figure 8, DeiT-S at 64x64: S = 4",
        dict(model="deit_small_cifar", model_options=dict(patch_size=4)),
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
    # configs/resnet50_imagenet.py of the published code.
    "imagenet/resnet50": (
        "Table 2, ResNet-50, 90 epochs by the published recipe",
        dict(model="resnet50_imagenet", optimizer="sgd", lr_per_256=0.1, weight_decay=1e-4,
             epochs=90, warmup_epochs=5, batch_size=256, drop_path_rate=0.0,
             augmentation=replace(Augmentation.none(), flip=0.5)),
    ),
    "imagenet/regnety_4g": (
        "Table 2, RegNetY-4G, by DeiT's recipe", dict(model="regnety_4g_imagenet", **DEIT_IMAGENET),
    ),
    "imagenet/regnety_16g": (
        "Table 2, RegNetY-16G, by DeiT's recipe",
        dict(model="regnety_16g_imagenet", **DEIT_IMAGENET),
    ),
    "imagenet/efficientnet_b3": (
        "Table 2, EffNet-B3 at 300, by DeiT's recipe (D22)",
        dict(model="efficientnet_b3_imagenet", image_size=300, **DEIT_IMAGENET),
    ),
    "imagenet/efficientnet_b5": (
        "Table 2, EffNet-B5 at 456, by DeiT's recipe (D22)",
        dict(model="efficientnet_b5_imagenet", image_size=456, **DEIT_IMAGENET),
    ),
    "imagenet/vit_base_16": (
        "Table 2, ViT-B/16 at 384, by DeiT's recipe (D22)",
        dict(model="vit_base_16_imagenet", image_size=384, **DEIT_IMAGENET),
    ),
    "imagenet/deit_small": ("Table 2, DeiT-S", dict(model="deit_small_imagenet", **DEIT_IMAGENET)),
    "imagenet/deit_base": ("Table 2, DeiT-B", dict(model="deit_base_imagenet", **DEIT_IMAGENET)),
    "imagenet/swin_tiny": (
        "Table 2, Swin-T", dict(model="swin_tiny_imagenet", drop_path_rate=0.2, **SWIN_IMAGENET),
    ),
    "imagenet/swin_small": (
        "Table 2, Swin-S", dict(model="swin_small_imagenet", drop_path_rate=0.3, **SWIN_IMAGENET),
    ),
    "imagenet/swin_base": (
        "Table 2, Swin-B", dict(model="swin_base_imagenet", drop_path_rate=0.5, **SWIN_IMAGENET),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row of a table: its recipe, and its narrow relative if it has one: digits/<it> at budget
    quick, small/<it> at small."""

    recipe: str
    narrow: str | None = None

    @property
    def quick(self) -> str | None:
        return self.narrow and f"digits/{self.narrow}"

    @property
    def small(self) -> str | None:
        return self.narrow and f"small/{self.narrow}"

    def on(self, dataset: str) -> str:
        """The recipe's name on a data set: cifar10/nest_tiny, on cifar100: cifar100/nest_tiny."""
        return f"{dataset}/{self.recipe.split('/')[1]}"


# One narrow relative an architecture; the larger sizes of a family have none.
TABLE1: dict[str, Row] = {
    "Pyramid-164-48": Row("cifar10/pyramid164_48", "pyramid_narrow"),
    "WRN28-10": Row("cifar10/wrn28_10", "wrn_narrow"),
    "DeiT-T": Row("cifar10/deit_tiny", "deit_narrow"),
    "DeiT-S": Row("cifar10/deit_small"),
    "DeiT-B": Row("cifar10/deit_base"),
    "PVT-T": Row("cifar10/pvt_tiny", "pvt_narrow"),
    "PVT-S": Row("cifar10/pvt_small"),
    "PVT-B": Row("cifar10/pvt_base"),
    "CCT-7/3x1": Row("cifar10/cct7_3x1", "cct_narrow"),
    "Swin-T": Row("cifar10/swin_tiny", "swin_narrow"),
    "Swin-S": Row("cifar10/swin_small"),
    "Swin-B": Row("cifar10/swin_base"),
    "NesT-T": Row("cifar10/nest_tiny", "nest_narrow"),
    "NesT-S": Row("cifar10/nest_small"),
    "NesT-B": Row("cifar10/nest_base"),
}
TABLE2: dict[str, Row] = {
    "ResNet-50": Row("imagenet/resnet50"),
    "RegNetY-4G": Row("imagenet/regnety_4g"),
    "RegNetY-16G": Row("imagenet/regnety_16g"),
    "EffNet-B3": Row("imagenet/efficientnet_b3"),
    "EffNet-B5": Row("imagenet/efficientnet_b5"),
    "ViT-B/16": Row("imagenet/vit_base_16"),
    "DeiT-S": Row("imagenet/deit_small"),
    "DeiT-B": Row("imagenet/deit_base"),
    "Swin-T": Row("imagenet/swin_tiny"),
    "Swin-S": Row("imagenet/swin_small"),
    "Swin-B": Row("imagenet/swin_base"),
    "NesT-T": Row("imagenet/nest_tiny"),
    "NesT-S": Row("imagenet/nest_small"),
    "NesT-B": Row("imagenet/nest_base"),
}


TABLES = {"table1": TABLE1, "table2": TABLE2}

# Table 1's rows on CIFAR-100: the same recipes but for the data, and one rate of CCT's authors.
_CIFAR100 = {"CCT-7/3x1": {"lr_per_256": 1.2e-3}}
NAMED |= {
    row.on("cifar100"): (
        f"{NAMED[row.recipe][0]}; CIFAR-100", NAMED[row.recipe][1] | _CIFAR100.get(name, {})
    )
    for name, row in TABLE1.items()
}  # fmt: skip


NAMED |= NAMED_GANS


def get_recipe(name: str, **changes: Any) -> Recipe | GanRecipe:
    """A named recipe, with fields changed: `get_recipe("cifar10/nest_tiny", seed=1)`.

    Raises:
        ValueError: no such name; the message lists near ones.
    """
    if name not in NAMED:
        near = difflib.get_close_matches(name, NAMED, n=3, cutoff=0.4) or list(NAMED)
        raise ValueError(f"no recipe {name!r}; did you mean {', '.join(near)}? (`nest recipes`)")
    kind, defaults = (GanRecipe, GAN_DEFAULTS) if name in NAMED_GANS else (Recipe, DEFAULTS)
    return kind(**{"name": name, **defaults[name.split("/")[0]], **NAMED[name][1], **changes})


def describe(name: str) -> str:
    """One line on a named recipe."""
    return NAMED[name][0]
