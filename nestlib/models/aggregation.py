"""Block aggregation (paper section 2.2): four neighbouring blocks become one."""

import torch.nn.functional as F
from torch import Tensor, nn

from nestlib.models.blocks import Grid, block, unblock

PADDINGS = ("same", "symmetric")


class BlockAggregation(nn.Module):
    """Conv3x3, LayerNorm and MaxPool3x3 with stride 2, on the image plane.

    The windows reach over block edges: this is the only place where blocks exchange information.

    Args:
        dim, out_dim: widths of this hierarchy and of the next.
        padding: how the pool pads. "same" as the published code: one row and column on the right
            and the bottom (planes are even here). "symmetric" as timm's nest_* models: one on every
            side, so the last row and column fall out of step.

    Raises:
        ValueError: unknown padding.
    """

    def __init__(self, dim: int, out_dim: int, padding: str = "same"):
        super().__init__()
        if padding not in PADDINGS:
            raise ValueError(f"padding {padding!r} is not one of {', '.join(PADDINGS)}")
        self.padding = padding
        self.conv = nn.Conv2d(dim, out_dim, kernel_size=3, padding=1)
        self.norm = nn.LayerNorm(out_dim, eps=1e-6)

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, T, N, C) on `grid` -> (B, T / 4, N, C')."""
        block_size = round(x.shape[2] ** 0.5)
        x = unblock(x, grid).permute(0, 3, 1, 2)  # (B, C, H, W), channels last in memory
        x = self.norm(self.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if self.padding == "same":  # on an even plane ceil_mode is SAME without a padded copy
            x = F.max_pool2d(x, kernel_size=3, stride=2, ceil_mode=True)
        else:
            x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        return block(x.permute(0, 2, 3, 1), block_size)
