"""TransGAN's generator (arXiv 2102.07074): transformers over the whole image, from 8x8 up.

TransGAN gives no weights at 64x64, but a layout: models/Celeba64_TransGAN.py of VITA-Group/TransGAN
(commit ed9e806) has widths 1024, 256, 64, 16 and 5, 3, 3, 2 layers, the very ones of Table A4. So
this is Table A4 with one block a hierarchy, and the two differ in the reach of attention alone, but
for the linear layer at the noise and NesT's last LayerNorm. At 32x32 it has 5, 4 and 2 layers
(exps/cifar_train.py).

Taken from there: position embeddings of every stage, pixel shuffle, Conv1x1 to pixels without
norm or activation, noise of 256 values. Otherwise here: queries, keys and values have a bias, and
weights start as NesT's do. Its attention is global at every stage; later files of that repository,
for 256 pixels, cut large planes into windows.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nestlib.arguments import Layers, Pixels, Width, checked
from nestlib.models.nest import TransformerLayer, init_weights, trunc_normal_

DEPTHS = {16: (4, 5), 32: (2, 4, 5), 64: (2, 3, 3, 5)}  # image side first
EDGE = 8  # of the first plane, in pixels


class TransGAN(nn.Module):
    """Noise (B, latent_dim) -> images (B, 3, H, W), meant for -1..1 but not bounded."""

    def __init__(self, latent_dim: int, embed_dims: Sequence[int], num_heads: int, depths):
        super().__init__()
        self.latent_dim, levels = latent_dim, len(depths)
        self.edges = [EDGE * 2 ** (levels - 1 - level) for level in range(levels)]
        self.img_size = self.edges[0]
        self.embed = nn.Linear(latent_dim, EDGE**2 * embed_dims[-1])
        self.pos_embeds, self.stages = nn.ParameterList(), nn.ModuleList()
        for dim, depth, edge in zip(embed_dims, depths, self.edges):
            self.pos_embeds.append(torch.zeros(1, 1, edge**2, dim))
            layers = [
                TransformerLayer(dim, num_heads, "multi_head", 4.0, "gelu", drop_path_rate=0.0)
                for _ in range(depth)
            ]
            self.stages.append(nn.Sequential(*layers))
        self.head = nn.Conv2d(embed_dims[0], 3, kernel_size=1)
        self.apply(init_weights)
        for pos in self.pos_embeds:
            trunc_normal_(pos)

    def forward(self, noise: Tensor) -> Tensor:
        x = self.embed(noise).reshape(noise.shape[0], 1, EDGE**2, -1)  # (B, 1, N, C): one block
        for level in reversed(range(len(self.stages))):
            x = self.stages[level](x + self.pos_embeds[level])
            x = x.squeeze(1).transpose(1, 2).unflatten(2, (self.edges[level], -1))  # (B, C, H, W)
            if level > 0:
                x = F.pixel_shuffle(x, 2).flatten(2).transpose(1, 2).unsqueeze(1)
        return self.head(x)


@checked
def build(
    *, img_size: Pixels = 64, latent_dim: Width = 256, embed_dim: Width = 1024,
    num_heads: Width = 4, depths: Sequence[Layers] | None = None,
) -> TransGAN:  # fmt: skip
    """Build TransGAN's generator.

    Args:
        img_size: 64, 32 or 16 pixels.
        embed_dim: width of the first stage; it falls by four a stage.
        depths: layers of each stage, image side first; default: TransGAN's own.

    Raises:
        ValueError: another image size, depths of another number of stages, or a width that does
            not fall by four that often.
    """
    if img_size not in DEPTHS:
        raise ValueError(f"img_size {img_size}: choose {', '.join(map(str, DEPTHS))}")
    levels = round(math.log2(img_size // EDGE)) + 1
    depths = DEPTHS[img_size] if depths is None else depths
    if len(depths) != levels:
        raise ValueError(f"depths {list(depths)}: {img_size} pixels take {levels} stages")
    if embed_dim % 4 ** (levels - 1):
        raise ValueError(
            f"embed_dim {embed_dim} does not fall by four {levels - 1} times; give a multiple of "
            f"{4 ** (levels - 1)}"
        )
    dims = [embed_dim // 4 ** (levels - 1 - level) for level in range(levels)]
    return TransGAN(latent_dim, dims, num_heads, depths)
