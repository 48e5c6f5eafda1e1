"""Swin (arXiv 2103.14030): timm's, on CIFAR one pixel per word ("Swin and NesT use S=1", Table 1).

On CIFAR the window is 2, as the paper's authors said later (their code's issue 3; D10): Swin's own
7 fits none of the 32, 16, 8 and 4 patch wide maps, and timm would pad them. On ImageNet patches
(4 pixels) and window (7) are Swin's own. timm's fused window attention stays off, its default (it
calls that path untested); the bench takes whichever is faster.
"""

from collections.abc import Sequence

from timm.models.swin_transformer import SwinTransformer

from nestbook.peers.sizes import check_heads, check_stages, near_multiples
from nestlib.arguments import DropRate, Layers, Pixels, Width, checked

LIBRARY = "timm"
_CIFAR = {"patch_size": 1, "window_size": 2}
_IMAGENET = {"patch_size": 4, "window_size": 7}
_TINY = {"embed_dim": 96, "depths": (2, 2, 6, 2), "num_heads": (3, 6, 12, 24)}
_SMALL = {"embed_dim": 96, "depths": (2, 2, 18, 2), "num_heads": (3, 6, 12, 24)}
_BASE = {"embed_dim": 128, "depths": (2, 2, 18, 2), "num_heads": (4, 8, 16, 32)}
VARIANTS = {
    "swin_tiny_cifar": {**_CIFAR, **_TINY},
    "swin_small_cifar": {**_CIFAR, **_SMALL},
    "swin_base_cifar": {**_CIFAR, **_BASE},
    "swin_tiny_imagenet": {**_IMAGENET, **_TINY},
    "swin_small_imagenet": {**_IMAGENET, **_SMALL},
    "swin_base_imagenet": {**_IMAGENET, **_BASE},
}


@checked
def build(
    *, num_classes: int, img_size: Pixels, drop_path_rate: DropRate, patch_size: Pixels,
    window_size: Pixels, embed_dim: Width, depths: Sequence[Layers], num_heads: Sequence[Width],
) -> SwinTransformer:  # fmt: skip
    """Build a Swin that maps images (B, 3, img_size, img_size) to logits (B, num_classes).

    Options: patch_size (pixels), window_size (patches), embed_dim of stage 0 (doubles every stage),
    depths (layers) and num_heads of every stage.

    Raises:
        ValueError: windows do not tile every stage's map, or heads do not divide its width.
    """
    check_stages(depths=depths, num_heads=num_heads)
    _check_map(img_size, patch_size, window_size, len(depths))
    check_heads([embed_dim * 2**stage for stage in range(len(depths))], num_heads)
    return SwinTransformer(
        img_size=img_size, patch_size=patch_size, num_classes=num_classes, embed_dim=embed_dim,
        depths=tuple(depths), num_heads=tuple(num_heads), window_size=window_size,
        drop_path_rate=drop_path_rate,
    )  # fmt: skip


def _check_map(img_size: int, patch_size: int, window_size: int, num_stages: int) -> None:
    """Refuse sizes that timm would pad: padded windows cost time and are not part of the model."""
    coarsest = patch_size * 2 ** (num_stages - 1)  # pixels per word of the last stage
    edges = [img_size // (patch_size * 2**stage) for stage in range(num_stages)]
    # timm takes a map no larger than the window as one window.
    if not img_size % coarsest and all(e <= window_size or not e % window_size for e in edges):
        return
    raise ValueError(
        f"img_size {img_size} with patch_size {patch_size} and {num_stages} stages gives maps that "
        f"windows of {window_size} do not tile; "
        f"img_size {near_multiples(img_size, coarsest * window_size)} does"
    )
