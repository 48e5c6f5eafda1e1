"""The other rows of the paper's tables: `PEERS["deit_tiny_cifar"](num_classes=10, img_size=32)`.

A file beside this one holds one architecture, or related ones: `VARIANTS` (name -> sizes), `build`,
and `LIBRARY` (whose code it is). A peer maps images (B, 3, H, W) to logits
(B, num_classes). Figure 7's generators (transgan.py, sagan.py) map noise to images and stand in
`GENERATORS`.
"""

from collections.abc import Callable
from types import ModuleType

from torch import nn

from nestbook.peers import (
    acol,
    adl,
    cct,
    cifar_resnets,
    convnets,
    pvt,
    sagan,
    swin,
    transgan,
    vit,
)
from nestlib.arguments import UnknownOption
from nestlib.models import PUBLISHED as PUBLISHED_NESTS

__all__ = ["GENERATORS", "LOCALIZERS", "PEERS", "PUBLISHED", "library_of"]


# Where Table 2's input is not 224 pixels wide.
IMAGENET_SIZES = {
    "efficientnet_b3_imagenet": 300, "efficientnet_b5_imagenet": 456, "vit_base_16_imagenet": 384,
}  # fmt: skip


def _builder(name: str, architecture: ModuleType) -> Callable[..., nn.Module]:
    """Bind one variant's sizes to its architecture's `build`."""
    variant = architecture.VARIANTS[name]
    native = 32 if name.endswith("_cifar") else IMAGENET_SIZES.get(name, 224)

    def build(
        *, num_classes: int = 1000, img_size: int = native, drop_path_rate: float = 0.0, **overrides
    ) -> nn.Module:
        unknown = [option for option in overrides if option not in variant]
        if unknown:
            raise UnknownOption(f"{name} has no option {unknown}; it takes {list(variant)}")
        sizes = {**variant, **overrides}
        return architecture.build(
            num_classes=num_classes, img_size=img_size, drop_path_rate=drop_path_rate, **sizes
        )

    build.__name__ = name
    build.__doc__ = f"{architecture.build.__doc__}\n\n    Here by default: {variant}."
    return build


def _builders(*architectures: ModuleType) -> dict[str, Callable[..., nn.Module]]:
    return {
        name: _builder(name, architecture)
        for architecture in architectures
        for name in architecture.VARIANTS
    }


_ARCHITECTURES = (cifar_resnets, vit, pvt, cct, swin, convnets)
_LOCALIZERS = (adl, acol)
PEERS: dict[str, Callable[..., nn.Module]] = _builders(*_ARCHITECTURES)
# Rivals in weakly supervised localization, in no table of the paper.
LOCALIZERS: dict[str, Callable[..., nn.Module]] = _builders(*_LOCALIZERS)
_LIBRARIES = {
    name: architecture.LIBRARY
    for architecture in (*_ARCHITECTURES, *_LOCALIZERS)
    for name in architecture.VARIANTS
}

# Figure 7's rivals: noise (B, latent_dim) in, images (B, 3, H, W) out.
GENERATORS: dict[str, Callable[..., nn.Module]] = {
    "transgan": transgan.build,
    "sagan_convnet": sagan.build,
}

# Published ImageNet weights of Table 2's rows, by timm's name: the nearest to the ones whose
# accuracy the table prints.
PUBLISHED_RIVALS = {
    "resnet50_imagenet": "resnet50.tv_in1k",
    "regnety_4g_imagenet": "regnety_040.pycls_in1k",  # 79.2; printed 80.0 is DeiT's retraining
    "regnety_16g_imagenet": "regnety_160.deit_in1k",
    "efficientnet_b3_imagenet": "tf_efficientnet_b3.aa_in1k",
    "efficientnet_b5_imagenet": "tf_efficientnet_b5.aa_in1k",
    # Other weights: 81.1. Printed 77.9 is of ViT's first training on ImageNet-1k, never released.
    "vit_base_16_imagenet": "vit_base_patch16_384.augreg_in1k",
    "deit_small_imagenet": "deit_small_patch16_224.fb_in1k",
    "deit_base_imagenet": "deit_base_patch16_224.fb_in1k",
    "swin_tiny_imagenet": "swin_tiny_patch4_window7_224.ms_in1k",
    "swin_small_imagenet": "swin_small_patch4_window7_224.ms_in1k",
    "swin_base_imagenet": "swin_base_patch4_window7_224.ms_in1k",
}
PUBLISHED = PUBLISHED_NESTS | PUBLISHED_RIVALS


def library_of(name: str) -> str:
    """Whose code a model of `nestlib.list_models()` is."""
    return _LIBRARIES.get(name, "nestlib")
