"""Block aggregation (paper section 2.2): four neighbouring blocks become one.

The paper's own is Conv3x3, LayerNorm, MaxPool3x3 of stride 2 on the image plane. Every other design
that figures 5 and A1 compare it with is a row of AGGREGATIONS: a few steps that halve a plane. Each
can be taken on the image plane, where windows reach over to blocks that are not merged with this
one, or on the block plane, where each 2x2 blocks that merge are a plane of their own (figure 2).
"""

from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nestlib.choices import check_choice
from nestlib.models.blocks import Grid, block, edge_of, unblock

for _name in ("block", "edge_of", "unblock"):
    torch.fx.wrap(_name)

PADDINGS = ("same", "symmetric")
PLANES = ("image", "block")


class Step(NamedTuple):
    """One step over a plane.

    kind: "conv", "linear" (a 1x1 convolution without bias), "norm" (over channels), "max" or
        "average" (pools), "merge" (each 2x2 patches' channels side by side) or "sample" (every
        second patch of every second row).
    edge: of its window, in patches.
    """

    kind: str
    edge: int = 1
    stride: int = 1


class Design(NamedTuple):
    """A way to halve the plane.

    steps: in order; exactly one halves. A design without a convolution gets a 1x1 one behind it
        where the next hierarchy is wider ("followed by Conv1x1 to change hidden dimensions").
    figure: where the paper names it; "" is a combination that the text leaves to figure A1's axes.
    """

    steps: tuple[Step, ...]
    figure: str = ""

    @property
    def crosses(self) -> bool:
        """Whether blocks that are not merged exchange information on the image plane.

        They do where some window is wider than its stride. Elsewhere both planes give one function.
        """
        return any(step.edge > step.stride for step in self.steps)


_conv = partial(Step, "conv")


_NORM, _MAX2, _MAX3 = Step("norm"), Step("max", 2, 2), Step("max", 3, 2)
_AVERAGE3, _SAMPLE = Step("average", 3, 2), Step("sample", 1, 2)
_MERGE, _LINEAR = Step("merge", 2, 2), Step("linear")

DEFAULT = "conv3x3_ln_maxpool3x3"
AGGREGATIONS: dict[str, Design] = {
    DEFAULT: Design((_conv(3), _NORM, _MAX3), "5, A1"),
    "conv3x3_stride2": Design((_conv(3, 2),), "5, A1"),
    "avgpool3x3": Design((_AVERAGE3,), "5, A1"),
    # Swin's PatchMerging. Figure 5's fourth design is not named in the text; we read it as this.
    "patch_merge": Design((_MERGE, _NORM, _LINEAR), "A1"),
    # HaloNet's: the hierarchy's last attention asks at every second patch of every second row, with
    # keys and values from all, and its skip connection takes the same patches. All else in a layer
    # is done patch by patch, so to drop the other patches behind the layer is the same function.
    "query_sampling2x2": Design((_SAMPLE,), "A1"),
    "maxpool3x3": Design((_MAX3,), "A1"),
    "maxpool2x2": Design((_MAX2,)),
    "maxpool3x3_conv3x3_ln": Design((_MAX3, _conv(3), _NORM), "A1"),
    "conv3x3_maxpool3x3": Design((_conv(3), _MAX3)),
    "conv1x1_ln_maxpool3x3": Design((_conv(1), _NORM, _MAX3)),
    "conv5x5_ln_maxpool3x3": Design((_conv(5), _NORM, _MAX3)),
    "conv1x1_ln_maxpool2x2": Design((_conv(1), _NORM, _MAX2)),
    "conv3x3_ln_maxpool2x2": Design((_conv(3), _NORM, _MAX2)),
    "conv3x3_ln_avgpool3x3": Design((_conv(3), _NORM, _AVERAGE3)),
    "conv3x3_stride2_ln": Design((_conv(3, 2), _NORM)),
}


class BlockAggregation(nn.Module):
    """Merge four blocks into one by the steps of a design; by default the paper's own.

    On the image plane of a design whose windows reach over block edges, this is the only place
    where blocks exchange information.

    Args:
        dim, out_dim: widths of this hierarchy and of the next.
        padding: how windows of three and stride 2 meet the plane's edge. "same" as the published
            code: one row and column on the right and the bottom (planes are even here).
            "symmetric" as timm's nest_* models: one on every side, so the last row and column fall
            out of step. A mean counts the padding as zeros, as flax's does.
        design: one of AGGREGATIONS.
        plane: "image", or "block": each 2x2 blocks that merge alone.

    Raises:
        ValueError: unknown padding, design or plane.
    """

    def __init__(
        self, dim: int, out_dim: int, padding: str = "same", design: str = DEFAULT,
        plane: str = "image",
    ):  # fmt: skip
        super().__init__()
        check_choice("aggregation_padding", padding, PADDINGS)
        check_choice("aggregation", design, AGGREGATIONS)
        check_choice("aggregation_plane", plane, PLANES)
        self.padding, self.plane, self.steps = padding, plane, AGGREGATIONS[design].steps
        if dim != out_dim and not any(step.kind in ("conv", "linear") for step in self.steps):
            self.steps = (*self.steps, _conv(1))
        for step in self.steps:  # none has two of a kind
            if step.kind in ("conv", "linear"):
                inside = step.edge // 2 if step.stride == 1 or padding == "symmetric" else 0
                bias = step.kind == "conv"
                self.conv = nn.Conv2d(dim, out_dim, step.edge, step.stride, inside, bias=bias)
                dim = out_dim
            elif step.kind == "norm":
                self.norm = nn.LayerNorm(dim, eps=1e-6)
            elif step.kind == "merge":
                dim *= 4

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, T, N, C) on `grid` -> (B, T / 4, N, C')."""
        block_size = edge_of(x.shape[2])
        x = unblock(x, grid)  # (B, H, W, C)
        if self.plane == "image":
            return block(self._halve(x), block_size)
        groups = block(x, 2 * block_size)  # (B, T / 4, 4 N, C)
        B, T = groups.shape[:2]
        x = self._halve(groups.reshape(B * T, 2 * block_size, 2 * block_size, -1))
        return x.reshape(B, T, block_size * block_size, -1)

    def _halve(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H / 2, W / 2, C')."""
        x = x.permute(0, 3, 1, 2)  # (B, C, H, W), channels last in memory
        for step in self.steps:
            x = self._take(step, x)
        return x.permute(0, 2, 3, 1)

    def _take(self, step: Step, x: Tensor) -> Tensor:
        """One step: (B, C, H, W) -> (B, C', H or H / 2, W or W / 2)."""
        if step.kind == "norm":
            return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if step.kind == "merge":
            B, C, H, W = x.shape
            x = x.permute(0, 2, 3, 1).reshape(B, H // 2, 2, W // 2, 2, C)
            # Swin's order of the four: down the first column, then the second.
            return x.permute(0, 1, 3, 4, 2, 5).flatten(3).permute(0, 3, 1, 2)
        if step.kind == "sample":
            return x[:, :, ::2, ::2]
        if step.kind == "max":
            if step.edge == 2 or self.padding == "symmetric":
                return F.max_pool2d(x, step.edge, stride=2, padding=step.edge // 3)
            return F.max_pool2d(x, step.edge, stride=2, ceil_mode=True)  # SAME, no padded copy
        if step.stride == 2 and self.padding == "same":
            x = F.pad(x, (0, 1, 0, 1))
        if step.kind in ("conv", "linear"):
            return self.conv(x)
        return F.avg_pool2d(x, step.edge, stride=2, padding=int(self.padding == "symmetric"))
