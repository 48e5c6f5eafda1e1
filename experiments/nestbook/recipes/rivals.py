"""Recipes of the models that the paper compares NesT with, by name.

They stand beside NesT's own in `nest recipes`, written as differences from the same defaults
(nestlib.recipes.named). Narrow relatives of theirs stand in nestbook.recipes.narrow.
"""

from dataclasses import replace
from typing import Any

from nestbook.recipes.narrow import CROPS_AND_FLIPS, STRONG
from nestlib.data.augmentation import Augmentation

CIFAR_CONVNET = dict(
    optimizer="sgd", lr_per_256=0.2, weight_decay=5e-4, epochs=200, batch_size=128,
    drop_path_rate=0.0, augmentation=CROPS_AND_FLIPS,
)  # fmt: skip

# DeiT's and Swin's own augmentation of ImageNet has no colour jitter beside RandAugment.
NO_JITTER = Augmentation(crop_padding=0)
DEIT_IMAGENET = dict(warmup_epochs=5, augmentation=NO_JITTER)
SWIN_IMAGENET = dict(clip_grad_norm=5.0, augmentation=NO_JITTER)

# name: (what it is, its differences).
RIVALS: dict[str, tuple[str, dict[str, Any]]] = {
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
    f"{dataset}/{name}": (text, dict(generator=generator))
    for dataset in ("tiny_imagenet", "imagenet")
    for name, text, generator in (
        ("gan_transgan", "figure 7, TransGAN at 64x64", "transgan"),
        ("gan_convnet", "figure 7, SAGAN's convnet without attention", "sagan_convnet"),
    )
}  # fmt: skip
