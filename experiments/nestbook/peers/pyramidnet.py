"""PyramidNet (arXiv 1610.02915) on CIFAR: pytorchcv's with bottlenecks, a convnet row of Table 1.

Channels grow by the same step at every unit, from 16 to 16 + alpha; a bottleneck gives out four
times as many. The paper's Pyramid-164-48 is depth 164, alpha 48; Table A2's larger teacher is the
same with alpha 270.
"""

from torch import nn

LIBRARY = "pytorchcv"
VARIANTS = {"pyramid164_48_cifar": {"depth": 164, "alpha": 48}}


def build(
    *, num_classes: int, img_size: int, drop_path_rate: float, depth: int, alpha: int
) -> nn.Module:
    """Build a PyramidNet that maps images (B, 3, img_size, img_size) to logits (B, num_classes).

    Options: depth (layers, 9n + 2), alpha (channels added from the first unit to the last).

    Raises:
        ImportError: pytorchcv is missing.
        ValueError: depth is not 9n + 2, img_size is no multiple of 4, or drop_path_rate is not 0.
    """
    if depth < 11 or (depth - 2) % 9:
        raise ValueError(f"depth {depth} is not 9n + 2; use 11, 20, 29, 110, 164 or 200")
    if img_size % 4:
        raise ValueError(
            f"img_size {img_size} does not halve twice; use a multiple of 4: "
            f"{img_size - img_size % 4 + 4} is the next"
        )
    if drop_path_rate:
        raise ValueError(
            f"drop_path_rate {drop_path_rate}: pytorchcv's PyramidNet has no stochastic depth; "
            "use 0.0"
        )
    try:  # imported here because no other model needs it
        from pytorchcv.models.pyramidnet_cifar import CIFARPyramidNet
    except ImportError as error:
        raise ImportError("PyramidNet needs pytorchcv: pip install 'pytorchcv>=0.0.74'") from error
    units = (depth - 2) // 9  # in each of three stages, three layers a unit
    widths = [4 * round(16 + alpha * unit / (3 * units)) for unit in range(1, 3 * units + 1)]
    model = CIFARPyramidNet(
        channels=[widths[first : first + units] for first in range(0, 3 * units, units)],
        init_block_channels=16,
        bottleneck=True,
        in_size=(img_size, img_size),
        num_classes=num_classes,
    )
    # pytorchcv pools 8x8 whatever the map; the same at 32x32, and right at other sizes too.
    model.features.final_pool = nn.AdaptiveAvgPool2d(1)
    return model
