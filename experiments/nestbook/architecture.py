"""Facts read off a built NesT: its shapes, and which patches reach which block.

Shapes are traced by hooks in a real forward pass; who hears whom by gradients of untrained models.
"""

from functools import cache

import torch
from torch import nn

from nestlib.models import create_model
from nestlib.models.aggregation import BlockAggregation
from nestlib.models.blocks import unblock
from nestlib.models.nest import NesT
from nestlib.processor import one_thread

Shape = tuple[int, ...]
BLOCK, GRID, DIM = 4, (4, 4), 8  # patches of a block's edge, blocks, channels
_DRAWS = 4  # of weights and patches: a max-pool passes on the gradient of its largest value alone
_NARROW = {"embed_dim": 8, "num_heads": 1}


def trace_shapes(model: NesT) -> dict[str, tuple[Shape, Shape]]:
    """{module's name: (shape in, shape out)} of one image of `model.img_size`, in order of calls.

    Traced are the children that figure 1 names, the modules of each list one by one, and each
    aggregation's convolution, which sees the plane. Shapes keep their batch axis of 1.
    """
    shapes: dict[str, tuple[Shape, Shape]] = {}

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
            shapes[name] = tuple(inputs[0].shape), tuple(output.shape)

        return hook

    wanted = {"patch_embed", "norm", "head"}
    for level in range(model.num_hierarchies):
        wanted |= {f"hierarchies.{level}", f"aggregations.{level}", f"aggregations.{level}.conv"}
    handles = [
        module.register_forward_hook(note(name))
        for name, module in model.named_modules() if name in wanted
    ]  # fmt: skip
    device = next(model.parameters()).device
    try:
        with torch.no_grad():
            model(torch.zeros(1, 3, *model.img_size, device=device))
    finally:
        for handle in handles:
            handle.remove()
    return shapes


@one_thread()
def heard_patches(design: str, plane: str) -> torch.Tensor:
    """Which patches each merged block hears through one aggregation.

    Returns:
        (4, 16, 16) bool, the four merged blocks in reading order, and the plane of patches.
    """
    heard = torch.zeros(4, GRID[0] * BLOCK, GRID[1] * BLOCK, dtype=torch.bool)
    for draw in range(_DRAWS):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(draw)
            aggregation = BlockAggregation(DIM, DIM, design=design, plane=plane)
            x = torch.randn(1, GRID[0] * GRID[1], BLOCK**2, DIM, requires_grad=True)
        y = aggregation(x, GRID)  # (1, 4, N, C)
        for merged in range(4):
            # Powers, as a LayerNorm's outputs have a constant sum and sum of squares.
            (gradient,) = torch.autograd.grad(y[:, merged].pow(3).sum(), x, retain_graph=True)
            heard[merged] |= unblock(gradient.abs(), GRID).sum((0, 3)) > 0
    return heard


def count_heard(design: str, plane: str) -> torch.Tensor:
    """How many patches of each merging group of 2x2 blocks each group's merged block hears.

    Returns:
        (4, 4) int64: row i is the group listening, column j the group heard, both in reading order.
    """
    heard = heard_patches(design, plane)
    edge = 2 * BLOCK
    return heard.reshape(4, 2, edge, 2, edge).sum((2, 4)).flatten(1)


def crosses(design: str, plane: str) -> bool:
    """Whether any merging group hears another."""
    heard = count_heard(design, plane)
    return bool(heard.sum() > heard.trace())


@cache
@one_thread()
def heard_pixels(plane: str, *, model: str = "nest_tiny_cifar") -> tuple[torch.Tensor, ...]:
    """Which pixels of the image reach each block of each hierarchy, in a narrow, untrained model.

    In fp64, so that what is heard faintly is not zero.

    Args:
        plane: on which all aggregations run, "image" or "block".
        model: whose blocks and layers it has, one of CIFAR's.

    Returns:
        one (T, H, W) bool per level, the image side first.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nest = create_model(model, aggregation_plane=plane, **_NARROW).double().eval()
        images = torch.randn(1, 3, *nest.img_size, dtype=torch.float64, requires_grad=True)
    _, maps = nest.forward_with_features(images)
    levels = []
    for y in maps["outputs"]:  # (1, T, N, C)
        rows = []
        for block in range(y.shape[1]):
            target = y[:, block].pow(3).sum()
            (gradient,) = torch.autograd.grad(target, images, retain_graph=True)
            rows.append(gradient[0].abs().sum(0) > 0)
        levels.append(torch.stack(rows))
    return tuple(levels)
