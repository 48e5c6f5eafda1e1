"""The convnet generator of SAGAN (arXiv 1805.08318) without its attention, for one class.

Residual blocks that double the plane by nearest neighbour, from 4x4 up, with batch norm and
spectral norm: `generator` of brain-research/self-attention-gan, generator.py (commit 7a8590e),
which is its model with attention left out. As there: widths 16, 16, 8, 4, 2, ... times
base_channels = 64, noise of 128 values, weights drawn by Glorot's rule, tanh at the end. Its batch
norm is class-conditional, which is plain batch norm for one class. It makes 128x128; at 64x64 and
below the blocks at the image's side go.
"""

import math
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from nestlib.arguments import Pixels, Width, checked

EDGE = 4  # of the first plane, in pixels


def normalized(layer: nn.Conv2d | nn.Linear) -> nn.Module:
    """The layer with Glorot's weights and spectral norm."""
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)
    return spectral_norm(layer)


class UpBlock(nn.Module):
    """Norm, ReLU, twice the plane, Conv3x3, norm, ReLU, Conv3x3; beside it Conv1x1 on the input."""

    def __init__(self, dim: int, out_dim: int):
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(dim), nn.BatchNorm2d(out_dim)
        self.conv1 = normalized(nn.Conv2d(dim, out_dim, kernel_size=3, padding=1))
        self.conv2 = normalized(nn.Conv2d(out_dim, out_dim, kernel_size=3, padding=1))
        self.shortcut = normalized(nn.Conv2d(dim, out_dim, kernel_size=1))

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C', 2 H, 2 W)
        y = self.conv1(F.interpolate(F.relu(self.norm1(x)), scale_factor=2, mode="nearest"))
        y = self.conv2(F.relu(self.norm2(y)))
        # A Conv1x1 and nearest neighbour commute; on the small plane it costs a quarter.
        return y + F.interpolate(self.shortcut(x), scale_factor=2, mode="nearest")


class ConvnetGenerator(nn.Module):
    """Noise (B, latent_dim) -> images (B, 3, H, W) in -1..1."""

    def __init__(self, img_size: int, latent_dim: int, base_channels: int):
        super().__init__()
        self.img_size, self.latent_dim = img_size, latent_dim
        doublings = round(math.log2(img_size // EDGE))
        dims = [16 * base_channels, *(16 * base_channels // 2**i for i in range(doublings))]
        self.embed = normalized(nn.Linear(latent_dim, EDGE**2 * dims[0]))
        self.blocks = nn.Sequential(*(UpBlock(*pair) for pair in pairwise(dims)))
        self.norm = nn.BatchNorm2d(dims[-1])
        self.head = normalized(nn.Conv2d(dims[-1], 3, kernel_size=3, padding=1))

    def forward(self, noise: Tensor) -> Tensor:
        x = self.embed(noise).unflatten(1, (-1, EDGE, EDGE))  # (B, C, 4, 4)
        x = self.blocks(x)
        return self.head(F.relu(self.norm(x))).tanh()


@checked
def build(
    *, img_size: Pixels = 64, latent_dim: Width = 128, base_channels: Width = 64
) -> ConvnetGenerator:
    """Build the convnet generator.

    Raises:
        ValueError: an image size that is no power of two from 8 to 128, or no base_channels.
    """
    sizes = [EDGE * 2**i for i in range(1, 6)]
    if img_size not in sizes:
        raise ValueError(f"img_size {img_size}: choose {', '.join(map(str, sizes))}")
    return ConvnetGenerator(img_size, latent_dim, base_channels)
