"""Wide ResNet (arXiv 1605.07146) on CIFAR: pytorchcv's, whose WRN28-10 is a row of Table 1."""

from torch import nn

LIBRARY = "pytorchcv"
VARIANTS = {"wrn28_10_cifar": {"depth": 28, "width": 10}}


def build(
    *, num_classes: int, img_size: int, drop_path_rate: float, depth: int, width: int
) -> nn.Module:
    """Build a WRN that maps images (B, 3, img_size, img_size) to logits (B, num_classes).

    Options: depth (layers, 6n + 4), width (multiple of 16, 32 and 64 channels).

    Raises:
        ImportError: pytorchcv is missing.
        ValueError: depth is not 6n + 4, img_size is no multiple of 4, or drop_path_rate is not 0.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth {depth} is not 6n + 4; use 10, 16, 22, 28, 34 or 40")
    if img_size % 4:
        raise ValueError(
            f"img_size {img_size} does not halve twice; use a multiple of 4: "
            f"{img_size - img_size % 4 + 4} is the next"
        )
    if drop_path_rate:
        raise ValueError(f"drop_path_rate {drop_path_rate}: a WRN has no stochastic depth; use 0.0")
    try:  # imported here because no other model needs it
        from pytorchcv.models.wrn_cifar import CIFARWRN
    except ImportError as error:
        raise ImportError("Wide ResNet needs pytorchcv: pip install 'pytorchcv>=0.0.74'") from error
    units = (depth - 4) // 6
    model = CIFARWRN(
        channels=[[channels * width] * units for channels in (16, 32, 64)],
        init_block_channels=16,
        in_size=(img_size, img_size),
        num_classes=num_classes,
    )
    # pytorchcv pools 8x8 whatever the map; the same at 32x32, and right at other sizes too.
    model.features.final_pool = nn.AdaptiveAvgPool2d(1)
    return model
