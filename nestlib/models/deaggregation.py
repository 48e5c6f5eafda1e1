"""Block de-aggregation (paper section 3.1, appendix A.4): one block becomes four."""

from torch import Tensor, nn

from nestlib.choices import check_choice
from nestlib.models.blocks import Grid, block, edge_of, unblock

# Figure 7 (middle) compares combinations of pixel shuffle (PS), nearest neighbour (NN) and Conv3x3
# (C3). A name lists the steps in their order, as figure A1's names of block aggregation do.
UNSAMPLINGS = ("PS", "PS-C3", "C3-PS", "NN", "NN-C3", "C3-NN")


class BlockDeAggregation(nn.Module):
    """Double the image plane's edges by un-sampling, and cut it into four times as many blocks.

    Only C3 reaches over block edges: by PS or NN alone no block hears of its neighbours.

    The paper gives the widths (each a quarter of the one before) and that PS alone leads to them;
    it does not say how the others do. Here C3, where there is one, maps the width as well, and NN
    alone takes a Conv1x1 for that, as figure 5's average pooling does. The Conv1x1 comes first: on
    the small plane it is the same function at a quarter of the cost.

    Args:
        dim, out_dim: widths of this hierarchy and of the next.
        unsampling: one of UNSAMPLINGS.

    Raises:
        ValueError: unknown un-sampling, or widths that pixel shuffle cannot give.
    """

    def __init__(self, dim: int, out_dim: int, unsampling: str = "PS"):
        super().__init__()
        check_choice("unsampling", unsampling, UNSAMPLINGS)
        fits = {"PS": dim == 4 * out_dim, "PS-C3": dim % 4 == 0}
        if not fits.get(unsampling, True):
            raise ValueError(
                f"pixel shuffle makes width {dim} a quarter of it, not {out_dim}; give widths that "
                "fall by four or unsampling 'C3-PS', whose convolution maps any width"
            )
        self.unsampling = unsampling
        nearest, shuffle = nn.Upsample(scale_factor=2, mode="nearest"), nn.PixelShuffle(2)
        self.layers = nn.Sequential(*{
            "PS": lambda: [shuffle],
            "PS-C3": lambda: [shuffle, conv3x3(dim // 4, out_dim)],
            "C3-PS": lambda: [conv3x3(dim, 4 * out_dim), shuffle],
            "NN": lambda: [nn.Conv2d(dim, out_dim, kernel_size=1), nearest],
            "NN-C3": lambda: [nearest, conv3x3(dim, out_dim)],
            "C3-NN": lambda: [conv3x3(dim, out_dim), nearest],
        }[unsampling]())  # fmt: skip

    def forward(self, x: Tensor, grid: Grid) -> Tensor:
        """(B, T, N, C) on `grid` -> (B, 4 T, N, C')."""
        block_size = edge_of(x.shape[2])
        x = unblock(x, grid).permute(0, 3, 1, 2)  # (B, C, H, W), channels last in memory
        x = self.layers(x)  # (B, C', 2 H, 2 W)
        return block(x.permute(0, 2, 3, 1), block_size)


def conv3x3(dim: int, out_dim: int) -> nn.Conv2d:
    return nn.Conv2d(dim, out_dim, kernel_size=3, padding=1)
