"""Who hears whom: does a block aggregation pass information between blocks that do not merge?"""

import torch

from nestlib.models.aggregation import BlockAggregation

BLOCK, GRID, DIM = 4, (4, 4), 8  # patches of a block's edge, blocks, channels


def reached_groups(design: str, plane: str, *, padding: str = "same") -> torch.Tensor:
    """Which merging groups of 2x2 blocks hear which, by gradients, for random weights and patches.

    Returns:
        (4, 4) bool: row i is the group listening, column j the group heard, both in reading order.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        aggregation = BlockAggregation(DIM, DIM, padding, design, plane)
        x = torch.randn(1, GRID[0] * GRID[1], BLOCK**2, DIM, requires_grad=True)
    y = aggregation(x, GRID)  # (1, 4, N, C): one block a group
    rows = []
    for group in range(y.shape[1]):
        # Powers, as a LayerNorm's outputs have a constant sum and sum of squares.
        (gradient,) = torch.autograd.grad(y[:, group].pow(3).sum(), x, retain_graph=True)
        heard = gradient.abs().sum((0, 2, 3)).reshape(2, 2, 2, 2) > 0  # down, in it, across, in it
        rows.append(heard.any(3).any(1).flatten())
    return torch.stack(rows)


def crosses(design: str, plane: str) -> bool:
    """Does any merging group hear another?"""
    return bool((reached_groups(design, plane) & ~torch.eye(4, dtype=torch.bool)).any())
