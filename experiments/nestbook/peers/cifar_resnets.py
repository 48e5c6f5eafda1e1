"""PyramidNet (arXiv 1610.02915) and Wide ResNet (1605.07146) on CIFAR: pytorchcv's.

A PyramidNet's channels grow by the same step at every unit, from 16 to 16 + alpha; a bottleneck
gives out four times as many. The paper's Pyramid-164-48 is depth 164, alpha 48; Table A2's larger
teacher is the same with alpha 270.
"""

from typing import Annotated

from torch import nn

from nestlib.arguments import DropRate, Pixels, Range, Width, checked

LIBRARY = "pytorchcv"
VARIANTS = {
    "pyramid164_48_cifar": {"depth": 164, "alpha": 48},
    "wrn28_10_cifar": {"depth": 28, "width": 10},
}


@checked
def build(
    *, num_classes: int, img_size: Pixels, drop_path_rate: DropRate,
    depth: Annotated[int, Range(1, 1202)], alpha: Width = 0, width: Width = 0,
) -> nn.Module:  # fmt: skip
    """Build a ResNet that maps images (B, 3, img_size, img_size) to logits (B, num_classes).

    Options: depth (layers: 9n + 2 of a PyramidNet, 6n + 4 of a WRN); alpha (of a PyramidNet:
    channels added from the first unit to the last) or width (of a WRN: multiple of 16, 32 and 64
    channels).

    Raises:
        ValueError: another depth, img_size is no multiple of 4, or drop_path_rate is not 0.
    """
    # Taken where one is built: other models do without the library.
    from pytorchcv.models.pyramidnet_cifar import CIFARPyramidNet
    from pytorchcv.models.wrn_cifar import CIFARWRN

    if img_size % 4:
        raise ValueError(
            f"img_size {img_size} does not halve twice; use a multiple of 4: "
            f"{img_size - img_size % 4 + 4} is the next"
        )
    if drop_path_rate:
        raise ValueError(
            f"drop_path_rate {drop_path_rate}: pytorchcv's ResNets have no stochastic depth; "
            "use 0.0"
        )
    sizes = {"init_block_channels": 16, "in_size": (img_size, img_size), "num_classes": num_classes}
    if alpha:
        model = CIFARPyramidNet(_pyramid_channels(depth, alpha), bottleneck=True, **sizes)
    else:
        model = CIFARWRN(_wide_channels(depth, width), **sizes)
    # pytorchcv pools 8x8 whatever the map; the same at 32x32, and right at other sizes too.
    model.features.final_pool = nn.AdaptiveAvgPool2d(1)
    return model


def _pyramid_channels(depth: int, alpha: int) -> list[list[int]]:
    if depth < 11 or (depth - 2) % 9:
        raise ValueError(f"depth {depth} is not 9n + 2; use 11, 20, 29, 110, 164 or 200")
    units = (depth - 2) // 9  # in each of three stages, three layers a unit
    widths = [4 * round(16 + alpha * unit / (3 * units)) for unit in range(1, 3 * units + 1)]
    return [widths[first : first + units] for first in range(0, 3 * units, units)]


def _wide_channels(depth: int, width: int) -> list[list[int]]:
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth {depth} is not 6n + 4; use 10, 16, 22, 28, 34 or 40")
    units = (depth - 4) // 6
    return [[channels * width] * units for channels in (16, 32, 64)]
