"""Recipes of the models that the paper compares NesT with, by name.

They stand beside NesT's own in `nest recipes`, written as differences from the same defaults
(nestlib.recipes.named).
"""

from dataclasses import replace
from typing import Any

from nestlib.data.augmentation import Augmentation
from nestlib.recipes.generators import NARROW
from nestlib.recipes.named import CROPS_AND_FLIPS, LONE_DIGITS, MINUTES


def _with(model: dict[str, Any], **options: Any) -> dict[str, Any]:
    """A model with other options beside its own."""
    return {**model, "model_options": {**model["model_options"], **options}}


# Narrow relatives, about 0.3 M parameters each.
DEIT = dict(
    model="deit_tiny_cifar", model_options=dict(patch_size=4, embed_dim=64, depth=6, num_heads=2)
)
DEIT_64 = _with(DEIT, patch_size=8)
SWIN = dict(
    model="swin_tiny_cifar",
    model_options=dict(
        patch_size=2, embed_dim=24, depths=[2, 2, 2], num_heads=[1, 2, 4], window_size=4
    ),
)
PVT = dict(
    model="pvt_tiny_cifar",
    model_options=dict(
        patch_size=2, embed_dims=[24, 32, 64, 96], depths=[1, 1, 2, 1], num_heads=[1, 1, 2, 3],
        sr_ratios=[4, 2, 1, 1],
    ),
)  # fmt: skip
CCT = dict(
    model="cct7_3x1_cifar", model_options=dict(num_convs=2, depth=5, embed_dim=80, num_heads=2)
)
WRN = dict(model="wrn28_10_cifar", model_options=dict(depth=10, width=2))
PYRAMID = dict(model="pyramid164_48_cifar", model_options=dict(depth=11, alpha=30))
# Of 64x64 images: 10 layers, stride 8. ADL and ACoL stand on the same network.
RESNET_OPTIONS = dict(architecture="resnet10t", channels=[32, 64, 128, 256])
DIGITS_RESNET_OPTIONS = dict(architecture="resnet10t", channels=[16, 32, 64, 128])

# All transformers' augmentation; on digits all of it but the flip.
STRONG = Augmentation()
STRONG_DIGITS = replace(STRONG, flip=0.0)

CIFAR_CONVNET = dict(
    optimizer="sgd", lr_per_256=0.2, weight_decay=5e-4, epochs=200, batch_size=128,
    drop_path_rate=0.0, augmentation=CROPS_AND_FLIPS,
)  # fmt: skip

# The same at budget small, but for its schedule and its batch.
SMALL_CONVNET = dict(optimizer="sgd", lr_per_256=0.2, weight_decay=5e-4, clip_grad_norm=None)

# DeiT's and Swin's own augmentation of ImageNet has no colour jitter beside RandAugment.
NO_JITTER = Augmentation(crop_padding=0)
DEIT_IMAGENET = dict(warmup_epochs=5, augmentation=NO_JITTER)
SWIN_IMAGENET = dict(clip_grad_norm=5.0, augmentation=NO_JITTER)

# name: (what it is, its differences).
RIVALS: dict[str, tuple[str, dict[str, Any]]] = {
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
    # Budget small: 0.34 to 0.38 M parameters each. A rate of their own is the best of three by the
    # records of `nest sweep learning_rates --budget small`.
    "small/deit_narrow": (
        "ours: narrow DeiT (d = 64, S = 4, 7 layers), likewise", _with(DEIT, depth=7),
    ),
    "small/swin_narrow": (
        "ours: narrow Swin (d = 24, S = 2, stages of 2, 4 and 2), likewise",
        dict(_with(SWIN, depths=[2, 4, 2]), lr_per_256=2e-3),
    ),
    "small/pvt_narrow": (
        "ours: narrow PVT (d = 24 to 96, S = 2, 4 stages), likewise",
        _with(PVT, depths=[1, 1, 3, 1]),
    ),
    "small/cct_narrow": (
        "ours: narrow CCT (d = 80, 2 convolutions, 6 layers), likewise", _with(CCT, depth=6),
    ),
    "small/wrn_narrow": (
        "ours: WRN28-1, by SGD, likewise", _with(WRN, depth=28, width=1) | SMALL_CONVNET,
    ),
    "small/pyramid_narrow": (
        "ours: Pyramid-11-96, by SGD, likewise", _with(PYRAMID, alpha=96) | SMALL_CONVNET,
    ),
    "digits/deit_planted": (
        "ours: narrow DeiT (d = 64, S = 8, 6 layers), likewise", DEIT_64 | LONE_DIGITS,
    ),
    "digits/resnet_planted": (
        "ours: narrow ResNet (10 layers, stride 8), likewise",
        dict(model="resnet50_wsol", model_options=DIGITS_RESNET_OPTIONS, **LONE_DIGITS),
    ),
    "digits/adl_planted": (
        "ours: ADL on that ResNet, likewise",
        dict(model="resnet50_adl", model_options=DIGITS_RESNET_OPTIONS, **LONE_DIGITS),
    ),
    "digits/acol_planted": (
        "ours: ACoL on that ResNet, its classifiers 64 wide, likewise",
        dict(model="resnet50_acol", model_options=dict(DIGITS_RESNET_OPTIONS, hidden=64),
             **LONE_DIGITS),
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
    "tiny_imagenet/deit_narrow": (
        "ours: narrow DeiT (d = 64, S = 8, 6 layers), likewise", DEIT_64 | MINUTES,
    ),
    "tiny_imagenet/resnet_narrow": (
        "ours: narrow ResNet (10 layers, stride 8: 8x8 places), likewise",
        dict(model="resnet50_wsol", model_options=RESNET_OPTIONS, **MINUTES),
    ),
    "tiny_imagenet/adl_narrow": (
        "ours: ADL on that ResNet, likewise",
        dict(model="resnet50_adl", model_options=RESNET_OPTIONS, **MINUTES),
    ),
    "tiny_imagenet/acol_narrow": (
        "ours: ACoL on that ResNet, its classifiers 128 wide, likewise",
        dict(model="resnet50_acol", model_options=dict(RESNET_OPTIONS, hidden=128), **MINUTES),
    ),
    # Figure 8's rivals at 64x64. The ResNets train by the recipe of NesT beside them, since neither
    # ADL's nor ACoL's is of 64-pixel images; DeiT's patches give as many tokens as NesT's map.
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

# Table 1's rows on CIFAR-100: the same recipes but for the data, and one rate of CCT's authors.
_CIFAR100 = {"cct7_3x1": {"lr_per_256": 1.2e-3}}
RIVALS |= {
    name.replace("cifar10/", "cifar100/"): (
        f"{text}; CIFAR-100", fields | _CIFAR100.get(name.split("/")[1], {})
    )
    for name, (text, fields) in RIVALS.items() if name.startswith("cifar10/")
}  # fmt: skip

# Generators: figure 7's lines beside NesT's.
RIVALS |= {
    "digits/gan_transgan_narrow": (
        "narrow TransGAN (d = 128 to 8, 3 stages) on the embedded digits",
        dict(generator="transgan", generator_options=NARROW),
    ),
    "digits/gan_convnet_narrow": (
        "narrow SAGAN convnet (128 to 32 channels) on the embedded digits",
        dict(generator="sagan_convnet", generator_options=dict(base_channels=8, latent_dim=64)),
    ),
}  # fmt: skip
RIVALS |= {
    f"{dataset}/{name}": (text, dict(generator=generator))
    for dataset in ("tiny_imagenet", "imagenet")
    for name, text, generator in (
        ("gan_transgan", "figure 7, TransGAN at 64x64", "transgan"),
        ("gan_convnet", "figure 7, SAGAN's convnet without attention", "sagan_convnet"),
    )
}  # fmt: skip
