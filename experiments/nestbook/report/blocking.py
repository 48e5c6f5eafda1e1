"""Blocking and aggregation step by step, on an image's own pixels, by the code that models run."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from nestbook.report.pictures import Picture, drawing_style
from nestlib.models.aggregation import BlockAggregation
from nestlib.models.blocks import block, block_grids, unblock

DESIGN = "maxpool3x3"  # an aggregation without weights, so that it can be seen on pixels


def draw_blocking(image: np.ndarray, num_hierarchies: int = 3) -> Picture:
    """One row per hierarchy: the plane, its blocks, and the sequences that attention sees.

    Every pixel is a patch (S = 1) and keeps its colour as its three channels: no embedding, no
    transformer. Between rows stands a max-pool of 3x3 and stride 2 alone.

    Args:
        image: (H, W, 3) uint8.

    Raises:
        ValueError: an image that does not divide into blocks.
    """
    height, width = image.shape[:2]
    edge = min(height, width) // 2 ** (num_hierarchies - 1)
    grids = block_grids((height, width), 1, edge, num_hierarchies)
    aggregate = BlockAggregation(3, 3, design=DESIGN)
    x, steps = block(torch.from_numpy(image)[None].float(), edge), []
    with drawing_style():
        figure = Figure(figsize=(7.2, 2.45 * num_hierarchies), layout="constrained")
        rows = figure.subplots(num_hierarchies, 3, width_ratios=(1, 1.1, 1.6), squeeze=False)
    for level, grid in enumerate(grids):
        steps.append(f"level {level}: T = {x.shape[1]}, N = {x.shape[2]}")
        with drawing_style():
            _draw_level(rows[level], x, grid, level)
        if level < num_hierarchies - 1:
            x = aggregate(x, grid)
    text = f"An image blocked and aggregated, {num_hierarchies} hierarchies. {'; '.join(steps)}."
    return Picture(figure, "figure1_steps", text, {})


def _draw_level(row: list[Axes], x: Tensor, grid: tuple[int, int], level: int) -> None:
    """x: (1, T, N, 3)."""
    _, T, N, _ = x.shape
    edge = round(N**0.5)
    plane = unblock(x, grid)[0]
    axes = row[0]
    _show(axes, plane)
    for line in range(0, plane.shape[1] + 1, edge):
        axes.axvline(line - 0.5, color="white", linewidth=0.8)
    for line in range(0, plane.shape[0] + 1, edge):
        axes.axhline(line - 0.5, color="white", linewidth=0.8)
    how = "the image" if level == 0 else "aggregated"
    axes.set_title(f"Level {level}: {how}\nplane of {plane.shape[0]}x{plane.shape[1]} patches")
    _show(row[1], _apart(x[0].reshape(T, edge, edge, 3), grid))
    row[1].set_title(f"blocked\n{T} block{'s' * (T > 1)} of {edge}x{edge} patches")
    _show(row[2], x[0])
    row[2].set_aspect("auto")
    row[2].set_title(f"as attention gets it: T = {T} row{'s' * (T > 1)}\nof N = {N} patches")


def _apart(tiles: Tensor, grid: tuple[int, int]) -> Tensor:
    """Blocks (T, edge, edge, 3) on white, with air between them."""
    edge = tiles.shape[1]
    gap = max(2, edge // 6)
    down, across = grid
    sheet = torch.full((down * (edge + gap) - gap, across * (edge + gap) - gap, 3), 255.0)
    for number, tile in enumerate(tiles):
        top, left = (place * (edge + gap) for place in divmod(number, across))
        sheet[top : top + edge, left : left + edge] = tile
    return sheet


def _show(axes: Axes, pixels: Tensor) -> None:
    axes.imshow(pixels.round().to(torch.uint8).numpy(), interpolation="nearest")
    axes.axis("off")
