"""ViT (arXiv 2010.11929) and DeiT (2012.12877): timm's plain ViT with a class token.

On CIFAR patches are 2x2 pixels ("DeiT uses S=2", Table 1), on ImageNet 16x16 as published. DeiT has
no distillation token, as there is no teacher; so it is ViT, trained in another way.
"""

from functools import partial

from timm.models.vision_transformer import VisionTransformer
from torch import nn

from nestbook.peers.sizes import check_multiple
from nestlib.arguments import DropRate, Layers, Pixels, Width, checked

LIBRARY = "timm"
_SMALL = {"depth": 12, "embed_dim": 384, "num_heads": 6}
_BASE = {"depth": 12, "embed_dim": 768, "num_heads": 12}
VARIANTS = {
    "deit_tiny_cifar": {"patch_size": 2, "depth": 12, "embed_dim": 192, "num_heads": 3},
    "deit_small_cifar": {"patch_size": 2, **_SMALL},
    "deit_base_cifar": {"patch_size": 2, **_BASE},
    "vit_base_16_imagenet": {"patch_size": 16, **_BASE},
    "deit_small_imagenet": {"patch_size": 16, **_SMALL},
    "deit_base_imagenet": {"patch_size": 16, **_BASE},
}


@checked
def build(
    *, num_classes: int, img_size: Pixels, drop_path_rate: DropRate, patch_size: Pixels,
    depth: Layers, embed_dim: Width, num_heads: Width,
) -> VisionTransformer:  # fmt: skip
    """Build a ViT that maps images (B, 3, img_size, img_size) to logits (B, num_classes).

    Options: patch_size (pixels), depth (layers), embed_dim, num_heads.

    Raises:
        ValueError: img_size is no multiple of patch_size, or embed_dim none of num_heads.
    """
    check_multiple("img_size", img_size, "patch_size", patch_size)
    check_multiple("embed_dim", embed_dim, "num_heads", num_heads)
    return VisionTransformer(
        img_size=img_size, patch_size=patch_size, num_classes=num_classes, embed_dim=embed_dim,
        depth=depth, num_heads=num_heads, global_pool="token", qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6), drop_path_rate=drop_path_rate,
    )  # fmt: skip
