"""The book's own recipes: narrow models of about 0.3 M parameters, minutes each on a CPU, by name.

NesT's stand first, what it is compared with likewise below. Plain digits and Tiny ImageNet have the
defaults of nestlib.recipes.named; recipes of small/ bring all of their fields.
"""

from dataclasses import replace
from typing import Any

from nestlib.data.augmentation import Augmentation
from nestlib.recipes.named import NARROW_DECODER, NEST3_TINY, NEST_NARROW

# The published code's convnet recipe for CIFAR (configs/cifar_cnn.py): crops and flips alone. Table
# A2's "standard" teacher, 80.7 on CIFAR-100, is Table 1's Pyramid-164-48 (D22).
CROPS_AND_FLIPS = replace(Augmentation.none(), crop_padding=2, flip=0.5)

# All transformers' augmentation; on digits all of it but the flip.
STRONG = Augmentation()
STRONG_DIGITS = replace(STRONG, flip=0.0)

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
                f"{SMALL_IMAGES_SEEN} images are not a whole number of epochs of {subset}; take a "
                "divisor, such as 1,000, 10,000 or 50,000"
            )
    rows = next(rows for rows in range(min(SMALL_ROWS, epochs), 0, -1) if epochs % rows == 0)
    return dict(
        train_subset=subset, epochs=epochs, warmup_epochs=SMALL_WARMUP * epochs,
        evaluate_every=epochs // rows,
    )  # fmt: skip


# What every recipe of small/ shares. A rate of its own is the best of three by the records of
# `nest sweep learning_rates --budget small`.
SMALL = dict(
    dataset="cifar10", precision="bf16", augmentation=CROPS_AND_FLIPS, batch_size=125,
    lr_per_256=4e-3, clip_grad_norm=1.0, drop_path_rate=0.0, budget="small", **small_schedule(),
)  # fmt: skip
SMALL_CONVNET = SMALL | dict(
    optimizer="sgd", lr_per_256=0.2, weight_decay=5e-4, clip_grad_norm=None
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


def _with(model: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A model with other options beside its own."""
    return {**model, "model_options": {**model.get("model_options", {}), **options}}


# Models at 32x32.
DEIT = _with(dict(model="deit_tiny_cifar"), patch_size=4, embed_dim=64, depth=6, num_heads=2)
SWIN = _with(
    dict(model="swin_tiny_cifar"),
    patch_size=2, embed_dim=24, depths=[2, 2, 2], num_heads=[1, 2, 4], window_size=4,
)  # fmt: skip
PVT = _with(
    dict(model="pvt_tiny_cifar"),
    patch_size=2, embed_dims=[24, 32, 64, 96], depths=[1, 1, 2, 1], num_heads=[1, 1, 2, 3],
    sr_ratios=[4, 2, 1, 1],
)  # fmt: skip
CCT = _with(dict(model="cct7_3x1_cifar"), num_convs=2, depth=5, embed_dim=80, num_heads=2)
WRN = _with(dict(model="wrn28_10_cifar"), depth=10, width=2)
PYRAMID = _with(dict(model="pyramid164_48_cifar"), depth=11, alpha=30)

# Models at 64x64. NesT's S = 4 gives 16 leaf blocks of 16 pixels at depth 3; at depth 2 its last
# map has 8x8 places, as those of its rivals have. ADL and ACoL stand on the ResNet.
NEST_64 = _with(dict(model="nest_tiny_64"), embed_dim=48, num_hierarchies=3, patch_size=4)
NEST_64_DEPTH2 = _with(NEST_64, num_hierarchies=2)
DEIT_64 = _with(DEIT, patch_size=8)
RESNET = dict(architecture="resnet10t", channels=[32, 64, 128, 256])
DIGITS_RESNET = dict(architecture="resnet10t", channels=[16, 32, 64, 128])

# name: (what it is, its differences).
NARROW_RECIPES: dict[str, tuple[str, dict[str, Any]]] = {
    "digits/deit_narrow": ("narrow DeiT (d = 64, S = 4, 6 layers) on the embedded digits", DEIT),
    "digits/swin_narrow": (
        "narrow Swin (d = 24, S = 2, 3 stages of 2) on the embedded digits", SWIN,
    ),
    "digits/wrn_narrow": ("WRN10-2 on the embedded digits", WRN),
    "digits/pyramid_narrow": ("Pyramid-11-30 on the embedded digits", PYRAMID),
    "digits/pyramid_narrow_strong": (
        "Pyramid-11-30 on the embedded digits with strong augmentation, to teach",
        dict(PYRAMID, augmentation=STRONG_DIGITS, epochs=10),
    ),
    "digits/pvt_narrow": (
        "narrow PVT (d = 24 to 96, S = 2, 4 stages) on the embedded digits", PVT,
    ),
    "digits/cct_narrow": (
        "narrow CCT (d = 80, 2 convolutions, 5 layers) on the embedded digits", CCT,
    ),
    # 0.34 to 0.38 M parameters each.
    "small/nest_narrow": (
        "ours: narrow NesT (d = 48, S = 2, depth 3) on 10,000 images of CIFAR-10, a CPU",
        SMALL | NEST_NARROW,
    ),
    "small/deit_narrow": (
        "ours: narrow DeiT (d = 64, S = 4, 7 layers) on 10,000 "
        "images of CIFAR-10, a CPU", SMALL | _with(DEIT, depth=7),
    ),
    "small/swin_narrow": (
        "ours: narrow Swin (d = 24, S = 2, stages of 2, 4, 2) on 10,000 images of CIFAR-10, a CPU",
        SMALL | _with(SWIN, depths=[2, 4, 2]),
    ),
    "small/pvt_narrow": (
        "ours: narrow PVT (d = 24 to 96, S = 2, 4 stages) on 10,000 images of CIFAR-10, a CPU",
        SMALL | _with(PVT, depths=[1, 1, 3, 1]) | dict(lr_per_256=2e-3),
    ),
    "small/cct_narrow": (
        "ours: narrow CCT (d = 80, 2 convolutions, 6 layers) on 10,000 images of CIFAR-10, a CPU",
        SMALL | _with(CCT, depth=6) | dict(lr_per_256=8e-3),
    ),
    "small/wrn_narrow": (
        "ours: WRN28-1, by SGD, on 10,000 images of CIFAR-10, a CPU",
        SMALL_CONVNET | _with(WRN, depth=28, width=1) | dict(lr_per_256=0.4),
    ),
    "small/pyramid_narrow": (
        "ours: Pyramid-11-96, by SGD, on 10,000 images of CIFAR-10, a CPU",
        SMALL_CONVNET | _with(PYRAMID, alpha=96) | dict(lr_per_256=0.4),
    ),
    "cifar10/nest_narrow": (
        "ours: narrow NesT (d = 48, S = 2, depth 3), 10 epochs, only flips and crops; a CPU",
        NEST_NARROW | MINUTES | dict(augmentation=CROPS_AND_FLIPS, epochs=10, warmup_epochs=1),
    ),
    "cifar10/nest_flagship": (
        "ours: section 4.1's NesT3-T for 30 of its 300 epochs, a day of a CPU's core",
        NEST3_TINY | dict(epochs=30, evaluate_every=5, budget="small"),
    ),
    "digits/nest_planted": (
        "ours: narrow NesT (d = 48, S = 4, depth 3) on lone digits of 64x64 canvases, a CPU",
        NEST_64 | LONE_DIGITS,
    ),
    "digits/nest_planted_depth2": (
        "ours: narrow NesT of depth 2 (last map 8x8) on lone digits of 64x64 canvases, a CPU",
        NEST_64_DEPTH2 | LONE_DIGITS,
    ),
    "digits/deit_planted": (
        "ours: narrow DeiT (d = 64, S = 8, 6 layers) on lone "
        "digits of 64x64 canvases, a CPU",        DEIT_64 | LONE_DIGITS,
    ),
    "digits/resnet_planted": (
        "ours: narrow ResNet (10 layers, stride 8) on lone digits of 64x64 canvases, a CPU",
        dict(LONE_DIGITS, model="resnet50_wsol", model_options=DIGITS_RESNET),
    ),
    "digits/adl_planted": (
        "ours: ADL "
        "on the "
        "narrow "
        "ResNet, on "
        "lone "
        "digits of "
        "64x64 "
        "canvases, "
        "a CPU",        dict(LONE_DIGITS, model="resnet50_adl", model_options=DIGITS_RESNET),
    ),
    "digits/acol_planted": (
        "ours: ACoL on the narrow ResNet, on lone digits of 64x64 canvases, a CPU",
        dict(LONE_DIGITS, model="resnet50_acol", model_options=dict(DIGITS_RESNET, hidden=64)),
    ),
    "tiny_imagenet/nest_narrow": (
        "ours: narrow NesT (d = 48, S = 4, depth 3) on Tiny ImageNet-100, 2 epochs, a CPU",
        NEST_64 | MINUTES,
    ),
    "tiny_imagenet/nest_narrow_depth2": (
        "ours: narrow NesT of depth 2 (last map 8x8) on Tiny ImageNet-100, 2 epochs, a CPU",
        NEST_64_DEPTH2 | MINUTES,
    ),
    "tiny_imagenet/deit_narrow": (
        "ours: narrow DeiT (d = 64, S = 8, 6 layers) on Tiny "
        "ImageNet-100, 2 epochs, a CPU",        DEIT_64 | MINUTES,
    ),
    "tiny_imagenet/resnet_narrow": (
        "ours: narrow ResNet (10 layers, stride 8) on Tiny ImageNet-100, 2 epochs, a CPU",
        dict(MINUTES, model="resnet50_wsol", model_options=RESNET),
    ),
    "tiny_imagenet/adl_narrow": (
        "ours: ADL on the "
        "narrow ResNet, on "
        "Tiny ImageNet-100, 2 "
        "epochs, a CPU",        dict(MINUTES, model="resnet50_adl", model_options=RESNET),
    ),
    "tiny_imagenet/acol_narrow": (
        "ours: ACoL on the narrow ResNet, on Tiny ImageNet-100, 2 epochs, a CPU",
        dict(MINUTES, model="resnet50_acol", model_options=dict(RESNET, hidden=128)),
    ),
    # Generators beside the narrow NesT decoders of nestlib.recipes.named.
    "digits/gan_transgan_narrow": (
        "narrow TransGAN (d = 128 to 8, 3 stages) on the embedded digits",
        dict(generator="transgan", generator_options=NARROW_DECODER),
    ),
    "digits/gan_convnet_narrow": (
        "narrow SAGAN convnet (128 to 32 channels) on the embedded digits",
        dict(generator="sagan_convnet", generator_options=dict(base_channels=8, latent_dim=64)),
    ),
}  # fmt: skip
