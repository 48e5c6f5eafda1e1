"""From the image plane to blocks and back (paper section 2.1), and which image sizes fit.

B batch, T blocks, N patches in one block (the paper's n), C channels, H and W in patches.

What reads sizes is kept whole where torch.fx traces a model: modules that call it say
`torch.fx.wrap`. TorchScript compiles those functions, so they are written in what it understands.
"""

import math

import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]  # blocks down, blocks across


def block(x: Tensor, block_size: int) -> Tensor:
    """Cut a plane (B, H, W, C) into blocks (B, T, N, C), both in row-major order.

    Raises:
        ValueError: H or W is no multiple of block_size.
    """
    B, H, W, C = x.shape
    if H % block_size or W % block_size:
        raise ValueError(
            f"a plane of {H}x{W} patches does not divide into blocks of {block_size}x{block_size}; "
            f"both edges must be multiples of {block_size}"
        )
    x = x.reshape(B, H // block_size, block_size, W // block_size, block_size, C)
    return x.transpose(2, 3).reshape(B, -1, block_size * block_size, C)  # (B, T, N, C)


def unblock(x: Tensor, grid: Grid) -> Tensor:
    """Lay blocks (B, T, N, C) out on the plane (B, H, W, C); the inverse of `block`.

    Raises:
        ValueError: T is not the number of blocks in `grid`, or N is no square.
    """
    B, T, N, C = x.shape
    block_size = edge_of(N)
    if T != grid[0] * grid[1] or N != block_size**2:
        raise ValueError(
            f"{T} blocks of {N} patches do not fill a grid of {grid[0]}x{grid[1]} square blocks"
        )
    x = x.reshape(B, *grid, block_size, block_size, C)
    return x.transpose(2, 3).reshape(B, grid[0] * block_size, grid[1] * block_size, C)


def edge_of(patches: int) -> int:
    """The edge of a square block of `patches`, which is a tensor under torch.jit.trace."""
    return int(int(patches) ** 0.5 + 0.5)


def as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    """`224` and `(224, 224)` are the same image size (height, width)."""
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def fit_block_size(img_size: tuple[int, int], patch_size: int, num_hierarchies: int) -> int:
    """Block edge in patches at which the top hierarchy has one block along the shorter image side.

    Raises:
        ValueError: no block edge divides this image; the message names sizes that fit.
    """
    unit = patch_size * 2 ** (num_hierarchies - 1)  # pixels that become one patch at the top
    short, long = sorted(img_size)
    if short % unit == 0 < short and long % short == 0:
        return short // unit
    near_short = max(unit, round(short / unit) * unit)
    near = [near_short, max(1, round(long / near_short)) * near_short]
    if img_size[0] > img_size[1]:
        near.reverse()
    message = (
        f"images of {img_size[0]}x{img_size[1]} pixels do not divide into blocks at patch_size "
        f"{patch_size} and {num_hierarchies} hierarchies: the shorter side must be a multiple of "
        f"{unit} and the longer one a multiple of the shorter (nearest: {near[0]}x{near[1]})"
    )
    if img_size[0] % unit == img_size[1] % unit == 0 < short:
        common = math.gcd(*img_size) // unit
        edges = [edge for edge in range(1, common + 1) if common % edge == 0]
        message += f", or give one of these as block_size: {edges}"
    raise ValueError(message)


def block_grids(
    img_size: tuple[int, int], patch_size: int, block_size: int, num_hierarchies: int
) -> list[Grid]:
    """Blocks (down, across) of every hierarchy, level 0 (image side) first.

    Raises:
        ValueError: the image does not divide; the message names the nearest sizes that do.
    """
    unit = patch_size * block_size << (num_hierarchies - 1)  # pixel edge of one top block
    H, W = img_size
    if H % unit or W % unit or not H or not W:
        raise ValueError(
            f"images of {H}x{W} pixels do not divide into blocks: with patch_size {patch_size}, "
            f"block_size {block_size} and {num_hierarchies} hierarchies each side must be a "
            f"multiple of {unit} (nearest: {nearest_multiple(H, unit)}x{nearest_multiple(W, unit)})"
        )
    edges = [patch_size * block_size << level for level in range(num_hierarchies)]
    return [(H // edge, W // edge) for edge in edges]


def nearest_multiple(side: int, unit: int) -> int:
    """The positive multiple of `unit` that is nearest to `side`."""
    return max(unit, (int(side) + unit // 2) // unit * unit)


def fit_pos_embed(pos_embed: Tensor, own: Grid, grid: Grid, block_size: int) -> Tensor:
    """Position embeddings (1, T, N, C) made for the grid `own`, for another `grid`.

    Those that all blocks share, and those of the grid itself, stay as they are.
    """
    if pos_embed.shape[1] == 1 or (own[0] == grid[0] and own[1] == grid[1]):
        return pos_embed
    return resize_pos_embed(pos_embed, own, grid, block_size)


def resize_pos_embed(pos_embed: Tensor, old: Grid, new: Grid, block_size: int) -> Tensor:
    """Resize position embeddings (1, T, N, C) to another block grid and block edge.

    Inside each block first, then from block to block at equal places, so that a vector keeps its
    place in its block. The first step alone is what the published code does for larger inputs
    (libml/utils.py, bilinear with corners aligned). A shared embedding has T = 1 and old = (1, 1).

    Returns:
        (1, new[0] * new[1], block_size**2, C)
    """
    _, T, N, C = pos_embed.shape
    edge = edge_of(N)
    x = pos_embed.float().reshape(T, edge, edge, C).permute(0, 3, 1, 2)  # (T, C, edge, edge)
    x = _interpolate(x, (block_size, block_size))
    x = x.reshape(old[0], old[1], C, -1).permute(3, 2, 0, 1)  # (N, C, down, across)
    x = _interpolate(x, new)
    return x.permute(2, 3, 0, 1).reshape(1, new[0] * new[1], -1, C).to(pos_embed.dtype)


def _interpolate(x: Tensor, size: Grid) -> Tensor:
    if x.shape[-2] == size[0] and x.shape[-1] == size[1]:
        return x
    if size[0] == 1:  # one place stands for all: their mean, where aligned corners take the first
        x = x.mean(-2, keepdim=True)
    if size[1] == 1:
        x = x.mean(-1, keepdim=True)
    return F.interpolate(x, [size[0], size[1]], mode="bilinear", align_corners=True)
