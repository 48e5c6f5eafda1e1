"""The discriminator of StyleGAN2's residual kind (arXiv 1912.04958, figure 7c and table 6).

The paper names "the same discriminator architecture as [29]" with the R1 penalty, and no more. Its
group's next work, HiT-GAN, published one with the same optimiser and learning rate
(google-research/hit-gan, models/discriminators.py, commit 5d9be72). The layout and the defaults
here are that one's: Conv3x3 to the first width, residual blocks that halve the plane down to 4x4,
blurred by [1, 3, 3, 1] before sub-sampling, the sum of both branches over sqrt(2), LeakyReLU 0.2,
weights drawn by Glorot's rule. As there, two parts of StyleGAN2's own are left out: the equalised
learning rate, with which a rate of 1e-4 is slow (StyleGAN2 has 2e-3), and the standard deviation
over the minibatch as one more channel.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nestlib.arguments import Count, Pixels, Width, checked

SLOPE = 0.2  # of LeakyReLU
EDGE = 4  # of the last plane, in pixels


class Downsample(nn.Module):
    """Half the edges: blurred by [1, 3, 3, 1] / 8 along each and sub-sampled."""

    def __init__(self):
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", taps.outer(taps)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H / 2, W / 2)."""
        C = x.shape[1]
        kernel = self.kernel.to(x.dtype).expand(C, 1, -1, -1)
        return F.conv2d(x, kernel, stride=2, padding=1, groups=C)


class DownBlock(nn.Module):
    """Conv3x3, Conv3x3 on half the plane; beside it Conv1x1 without bias; their sum / sqrt(2)."""

    def __init__(self, dim: int, out_dim: int):
        super().__init__()
        self.down = Downsample()
        self.conv1 = nn.Conv2d(dim, dim, kernel_size=3, padding=1)
        self.conv2 = nn.Conv2d(dim, out_dim, kernel_size=3, padding=1)
        self.shortcut = nn.Conv2d(dim, out_dim, kernel_size=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / 2, W / 2)."""
        y = self.down(F.leaky_relu(self.conv1(x), SLOPE))
        y = F.leaky_relu(self.conv2(y), SLOPE)
        return (y + self.shortcut(self.down(x))) / math.sqrt(2)


class Discriminator(nn.Module):
    """Scores images: (B, 3, img_size, img_size) in -1..1 -> (B,), above 0 for real.

    Args:
        img_size: edge in pixels, a power of two from 8.
        channel_base: a plane of edge r has channel_base / r channels, at most max_channels. The
            defaults give 256 at 64 pixels and 512 below, as StyleGAN2 and HiT-GAN have them.

    Raises:
        ValueError: an edge that does not halve down to 4, or no channels at the widest plane.
    """

    @checked
    def __init__(
        self, img_size: Pixels = 64, *, channel_base: Count = 16384, max_channels: Width = 512
    ):
        super().__init__()
        halvings = max(1, round(math.log2(img_size / EDGE)))
        if img_size != EDGE * 2**halvings:
            raise ValueError(
                f"img_size {img_size} does not halve down to {EDGE}; nearest: {EDGE * 2**halvings}"
            )
        if channel_base < img_size:
            raise ValueError(f"channel_base {channel_base} must be at least img_size {img_size}")
        edges = [img_size // 2**i for i in range(halvings + 1)]
        dims = [min(channel_base // edge, max_channels) for edge in edges]
        self.img_size = img_size
        self.stem = nn.Conv2d(3, dims[0], kernel_size=3, padding=1)
        self.blocks = nn.Sequential(*(DownBlock(*pair) for pair in pairwise(dims)))
        self.conv = nn.Conv2d(dims[-1], dims[-1], kernel_size=3, padding=1)
        self.fc, self.head = nn.Linear(EDGE**2 * dims[-1], dims[-1]), nn.Linear(dims[-1], 1)
        self.apply(_init_weights)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, img_size, img_size) -> scores (B,)."""
        x = self.blocks(F.leaky_relu(self.stem(images), SLOPE))  # (B, C, 4, 4)
        x = F.leaky_relu(self.conv(x), SLOPE).flatten(1)
        return self.head(F.leaky_relu(self.fc(x), SLOPE)).squeeze(1)


def _init_weights(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
