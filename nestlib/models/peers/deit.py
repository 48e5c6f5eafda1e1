"""DeiT (arXiv 2012.12877) on CIFAR: timm's plain ViT with a class token, as in Table 1.

Patches are 2x2 pixels ("DeiT uses S=2"). There is no distillation token, as there is no teacher.
"""

from functools import partial

from timm.models.vision_transformer import VisionTransformer
from torch import nn

_CIFAR = {"patch_size": 2, "depth": 12}
VARIANTS = {
    "deit_tiny_cifar": {**_CIFAR, "embed_dim": 192, "num_heads": 3},
    "deit_small_cifar": {**_CIFAR, "embed_dim": 384, "num_heads": 6},
    "deit_base_cifar": {**_CIFAR, "embed_dim": 768, "num_heads": 12},
}


def build(
    *, num_classes: int, img_size: int, drop_path_rate: float, patch_size: int, depth: int,
    embed_dim: int, num_heads: int,
) -> VisionTransformer:  # fmt: skip
    """Build a DeiT that maps images (B, 3, img_size, img_size) to logits (B, num_classes).

    Options: patch_size (pixels), depth (layers), embed_dim, num_heads.

    Raises:
        ValueError: img_size is no multiple of patch_size, or embed_dim none of num_heads.
    """
    if img_size % patch_size:
        raise ValueError(
            f"img_size {img_size} is no multiple of patch_size {patch_size}; "
            f"use {_near(img_size, patch_size)} or another patch_size"
        )
    if embed_dim % num_heads:
        raise ValueError(
            f"embed_dim {embed_dim} is no multiple of num_heads {num_heads}; "
            f"use {_near(embed_dim, num_heads)} or another num_heads"
        )
    return VisionTransformer(
        img_size=img_size, patch_size=patch_size, num_classes=num_classes, embed_dim=embed_dim,
        depth=depth, num_heads=num_heads, global_pool="token", qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6), drop_path_rate=drop_path_rate,
    )  # fmt: skip


def _near(size: int, factor: int) -> str:
    """Name the positive multiples of `factor` around `size`."""
    below = size - size % factor
    return " or ".join(str(value) for value in (below, below + factor) if value)
