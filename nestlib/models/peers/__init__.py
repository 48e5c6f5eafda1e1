"""The other rows of the paper's tables: `PEERS["deit_tiny_cifar"](num_classes=10, img_size=32)`.

Each file beside this one holds one architecture (convnets.py: those of Table 2): `VARIANTS` (name
-> sizes), `build`, and `LIBRARY` (whose code it is). A peer maps images (B, 3, H, W) to logits
(B, num_classes). Figure 7's generators (transgan.py, sagan.py) map noise to images and stand in
`nestlib.models.GENERATORS`.
"""

from collections.abc import Callable
from types import ModuleType

from torch import nn

from nestlib.models.peers import (
    acol,
    adl,
    cct,
    convnets,
    pvt,
    pyramidnet,
    swin,
    vit,
    wide_resnet,
)

__all__ = ["LIBRARIES", "LOCALIZERS", "PEERS"]


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
            raise TypeError(f"{name} has no option {unknown}; it takes {list(variant)}")
        sizes = {**variant, **overrides}
        return architecture.build(
            num_classes=num_classes, img_size=img_size, drop_path_rate=drop_path_rate, **sizes
        )

    build.__name__ = name
    build.__doc__ = f"{architecture.build.__doc__}\n\n    Here by default: {variant}."
    return build


_ARCHITECTURES = {
    name: architecture
    for architecture in (pyramidnet, wide_resnet, vit, pvt, cct, swin, convnets)
    for name in architecture.VARIANTS
}
PEERS: dict[str, Callable[..., nn.Module]] = {
    name: _builder(name, architecture) for name, architecture in _ARCHITECTURES.items()
}
LIBRARIES = {name: architecture.LIBRARY for name, architecture in _ARCHITECTURES.items()}
# Rivals in weakly supervised localization, in no table of the paper: peers with `class_maps` too.
_LOCALIZERS = {name: architecture for architecture in (adl, acol) for name in architecture.VARIANTS}
LOCALIZERS: dict[str, Callable[..., nn.Module]] = {
    name: _builder(name, architecture) for name, architecture in _LOCALIZERS.items()
}
LIBRARIES |= {name: architecture.LIBRARY for name, architecture in _LOCALIZERS.items()}
