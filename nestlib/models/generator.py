"""NesT as a decoder (arXiv 2105.12723, section 3.1): figure 1 upside down, as Table A4 sets it.

    (b, nd) -> (b, 1, n, d)                      embed(noise)
    for i in range(num_hierarchy):               for level in reversed(range(num_hierarchies)):
        y = Stack([T_i(x[0] + PE_i[0]), ...])        y = hierarchies[level](x + pos_embeds[level])
        if i < num_hierarchy - 1:
            x = DeAggregate(y, i)                    x = deaggregations[level - 1](y, grids[level])
    (b, #blocks, n, d') -> image                 head(norm(unblock(y)))

Shapes: B batch, T blocks, N = block_size**2 positions in a block (the paper's n), C width (d).
`level` 0 is the image side, so Table A4's hierarchy k is level k - 1 and lists stand in the order
of its columns; what runs first is the last level, "forward direction is 4 to 1".

There is no published code of it. What the paper leaves open, and what is done here:

- The noise's distribution: standard normal, as in TransGAN and in HiT-GAN's public code, by the
  same group.
- How noise becomes 1 x n x d. "The input is a reshaped noise vector", (b, nd) -> (b, 1, n, d), can
  mean n x d noise values and no weights before the first layer; but the comparison is to be "fair
  in terms of model capacity", and TransGAN, like HiT-GAN, maps 256 noise values to n x d by a
  linear layer, a fifth of its weights. The default is that layer: the two then differ by one
  LayerNorm's weights. `latent_dim=None` is the other reading.
- Position embeddings: as in figure 1, one vector a block and position added at the input of every
  hierarchy (TransGAN does the same, one per pixel).
- Output activation: none, the Conv1x1 is the last thing Table A4 names; TransGAN's public 64x64
  file and HiT-GAN have none either. Pixels are meant for -1..1; who stores them clips them.
- The transformer layer: figure 1's, with GELU and multi-head attention as published for ImageNet.
- Initialisation: as the classifier's, truncated normal.
- Table A4 is of 64x64. At 32x32 and 16x16 n stays 8x8 and the hierarchies on the image side go.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from nestlib.arguments import Layers, Pixels, Ratio, UnknownOption, Width, checked
from nestlib.models.blocks import block_grids, fit_block_size, unblock
from nestlib.models.deaggregation import BlockDeAggregation
from nestlib.models.hub_mixin import HubMixin
from nestlib.models.nest import (
    build_hierarchy,
    check_hierarchies,
    init_weights,
    trunc_normal_,
)


class NesTDecoder(nn.Module, HubMixin):
    """From noise to images through nested transformers, one block de-aggregated to four.

    Args:
        img_size: edge of the square images in pixels.
        embed_dims, num_heads, depths: one entry per hierarchy, image side first.
        latent_dim: length of the noise vector. None: as many values as the top hierarchy takes,
            n x d, which are only reshaped.
        unsampling: one of `deaggregation.UNSAMPLINGS`.

    Raises:
        ValueError: an image that does not divide into blocks, lists of unequal length, unknown
            options, heads that do not divide the width, widths that do not fit the un-sampling.
    """

    @checked
    def __init__(
        self,
        img_size: Pixels = 64,
        embed_dims: Sequence[Width] = (16, 64, 256, 1024),
        num_heads: Sequence[Width] = (4, 4, 4, 4),
        depths: Sequence[Layers] = (2, 3, 3, 5),
        *,
        latent_dim: Width | None = 256,
        unsampling: str = "PS",
        attention: str = "multi_head",
        mlp_ratio: Ratio = 4.0,
    ):
        super().__init__()
        check_hierarchies(embed_dims, num_heads, depths)
        levels, edges = len(depths), (img_size, img_size)
        self.img_size, self.num_hierarchies = img_size, levels
        self.block_size = fit_block_size(edges, 1, levels)
        self.grids = block_grids(edges, 1, self.block_size, levels)
        top_values = self.block_size**2 * embed_dims[-1]
        self.latent_dim = latent_dim or top_values

        self.embed = nn.Linear(latent_dim, top_values) if latent_dim else nn.Identity()
        self.pos_embeds = nn.ParameterList(
            torch.zeros(1, T, self.block_size**2, dim)
            for T, dim in zip(self.num_blocks, embed_dims)
        )
        self.hierarchies = nn.ModuleList(
            build_hierarchy(dim, heads, attention, mlp_ratio, "gelu", [0.0] * depth)
            for dim, heads, depth in zip(embed_dims, num_heads, depths)
        )
        self.deaggregations = nn.ModuleList(
            BlockDeAggregation(dim, out_dim, unsampling) for out_dim, dim in pairwise(embed_dims)
        )
        self.norm = nn.LayerNorm(embed_dims[0], eps=1e-6)
        self.head = nn.Conv2d(embed_dims[0], 3, kernel_size=1)
        self.apply(init_weights)
        for pos in self.pos_embeds:
            trunc_normal_(pos)

    @property
    def num_blocks(self) -> list[int]:
        """T of every hierarchy, level 0 first: 4^(T_d - 1), ..., 4, 1."""
        return [down * across for down, across in self.grids]

    def forward(self, noise: Tensor) -> Tensor:
        """Noise (B, latent_dim) -> images (B, 3, H, W), meant for -1..1 but not bounded."""
        y = self.features(noise)[0]  # (B, T, N, C)
        y = unblock(self.norm(y), self.grids[0]).permute(0, 3, 1, 2)  # (B, C, H, W)
        return self.head(y)

    def features(self, noise: Tensor) -> dict[int, Tensor]:
        """Every hierarchy's output in blocks, {level: (B, T, N, C)}, in the order they run."""
        x = self.embed(noise).reshape(noise.shape[0], 1, self.block_size**2, -1)  # (B, 1, N, C)
        outputs = {}
        for level in reversed(range(self.num_hierarchies)):
            y = self.hierarchies[level](x + self.pos_embeds[level])
            outputs[level] = y
            if level > 0:
                x = self.deaggregations[level - 1](y, self.grids[level])  # (B, 4 T, N, C')
        return outputs


# Table A4's columns: hierarchy 1, the image side, first. d falls by four a hierarchy.
TABLE_A4_DEPTHS = (2, 3, 3, 5)
TABLE_A4_EDGE = 8  # n = 8 x 8 at every hierarchy


@checked
def build_nest_decoder(
    *, img_size: Pixels = 64, embed_dim: Width = 1024, num_heads: Width = 4,
    depths: Sequence[Layers] | None = None, **options,
) -> NesTDecoder:  # fmt: skip
    """Build Table A4's decoder, or a narrower or smaller one of its kind.

    Args:
        img_size: 64, or 32 or 16 with one and two hierarchies fewer on the image side.
        embed_dim: d, the width of the top hierarchy.
        num_heads: h, of every hierarchy.
        depths: layers of each hierarchy, image side first; default: Table A4's.

    Raises:
        ValueError: another image size, or a width that does not fall by four that often.
    """
    if "embed_dims" in options:
        raise UnknownOption(
            "nest_decoder has no option ['embed_dims']; it takes embed_dim, of which the widths "
            "follow; for others call NesTDecoder itself"
        )
    sizes = [TABLE_A4_EDGE * 2**level for level in range(len(TABLE_A4_DEPTHS))]
    if img_size not in sizes:
        raise ValueError(
            f"img_size {img_size}: blocks of {TABLE_A4_EDGE}x{TABLE_A4_EDGE} make images of "
            f"{', '.join(map(str, sizes[1:]))} pixels; for others call NesTDecoder itself"
        )
    levels = sizes.index(img_size) + 1
    if embed_dim % 4 ** (levels - 1):
        raise ValueError(
            f"embed_dim {embed_dim} does not fall by four {levels - 1} times; give a multiple of "
            f"{4 ** (levels - 1)}"
        )
    return NesTDecoder(
        img_size, [embed_dim // 4 ** (levels - 1 - level) for level in range(levels)],
        [num_heads] * levels, TABLE_A4_DEPTHS[-levels:] if depths is None else depths, **options,
    )  # fmt: skip
