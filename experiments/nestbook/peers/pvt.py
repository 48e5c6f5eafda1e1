"""PVT, the first version (arXiv 2102.12122), on CIFAR: transformers', with one pixel per word
(D24).

What NesT's paper calls PVT-B its authors call Large. Two parts of transformers' model are replaced
here, parameter names kept: its position embeddings fit patches of 4 pixels alone, where the model
computes the same as this one, and its attention multiplies unfused.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestbook.peers.sizes import check_heads, check_stages, near_multiples
from nestlib.arguments import DropRate, Layers, Pixels, Ratio, Width, checked

LIBRARY = "transformers, attention fused here"
_PYRAMID = {
    "patch_size": 1, "embed_dims": (64, 128, 320, 512), "num_heads": (1, 2, 5, 8),
    "mlp_ratios": (8, 8, 4, 4), "sr_ratios": (8, 4, 2, 1),
}  # fmt: skip
VARIANTS = {
    "pvt_tiny_cifar": {**_PYRAMID, "depths": (2, 2, 2, 2)},
    "pvt_small_cifar": {**_PYRAMID, "depths": (3, 4, 6, 3)},
    "pvt_base_cifar": {**_PYRAMID, "depths": (3, 8, 27, 3)},
}


class PatchEmbeddings(nn.Module):
    """Patches of a stage's map to words, with one position embedding per word (and class token)."""

    def __init__(self, stock: nn.Module, edge: int):
        super().__init__()
        self.projection, self.layer_norm = stock.projection, stock.layer_norm
        self.cls_token = stock.cls_token  # None but in the last stage
        num_words = edge**2 + (self.cls_token is not None)
        self.position_embeddings = nn.Parameter(
            torch.empty(1, num_words, self.layer_norm.normalized_shape[0])
        )
        nn.init.trunc_normal_(self.position_embeddings, std=0.02)

    def forward(self, images: Tensor) -> tuple[Tensor, int, int]:
        x = self.projection(images)  # (B, C, H, W)
        height, width = x.shape[2:]
        x = self.layer_norm(x.flatten(2).transpose(1, 2))  # (B, N, C)
        if self.cls_token is not None:
            x = torch.cat((self.cls_token.expand(x.shape[0], -1, -1), x), dim=1)
        return x + self.position_embeddings, height, width


class Attention(nn.Module):
    """transformers' attention over its own layers; `fused_attn = False` multiplies step by step.

    Keys and values are words of the map made `sr_ratio` times smaller along each side.
    """

    def __init__(self, stock: nn.Module):
        super().__init__()
        self.num_heads, self.fused_attn = stock.num_attention_heads, True
        self.query, self.key, self.value = stock.query, stock.key, stock.value
        self.sr_ratio = stock.sequences_reduction_ratio
        if self.sr_ratio > 1:
            self.sequence_reduction, self.layer_norm = stock.sequence_reduction, stock.layer_norm

    def forward(
        self, x: Tensor, height: int, width: int, output_attentions: bool = False
    ) -> tuple[Tensor]:
        words = x
        if self.sr_ratio > 1:
            words = x.transpose(1, 2).unflatten(2, (height, width))  # (B, C, H, W)
            words = self.layer_norm(self.sequence_reduction(words).flatten(2).transpose(1, 2))
        q, k, v = (
            y.unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (B, heads, N, head dim)
            for y in (self.query(x), self.key(words), self.value(words))
        )
        if self.fused_attn:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1) @ v
        return (x.transpose(1, 2).flatten(2),)


class PVT(nn.Module):
    """transformers' PvtForImageClassification with the two parts above, giving logits alone."""

    def __init__(self, stock: nn.Module, edges: Sequence[int]):
        super().__init__()
        self.pvt, self.classifier = stock.pvt, stock.classifier
        encoder = self.pvt.encoder
        for stage, edge in enumerate(edges):
            encoder.patch_embeddings[stage] = PatchEmbeddings(encoder.patch_embeddings[stage], edge)
            for layer in encoder.block[stage]:
                layer.attention.self = Attention(layer.attention.self)

    def forward(self, images: Tensor) -> Tensor:
        words = self.pvt(images, return_dict=False)[0]  # (B, 1 + N, C)
        return self.classifier(words[:, 0])

    def no_weight_decay(self) -> set[str]:
        """The class token, as in the authors' code, which decays position embeddings."""
        return {name for name, _ in self.named_parameters() if name.endswith("cls_token")}


@checked
def build(
    *, num_classes: int, img_size: Pixels, drop_path_rate: DropRate, patch_size: Pixels,
    embed_dims: Sequence[Width], num_heads: Sequence[Width], mlp_ratios: Sequence[Ratio],
    sr_ratios: Sequence[Pixels], depths: Sequence[Layers],
) -> PVT:  # fmt: skip
    """Build a PVT that maps images (B, 3, img_size, img_size) to logits (B, num_classes).

    Options: patch_size (pixels); of every stage embed_dims, num_heads, mlp_ratios, sr_ratios (how
    many times narrower keys' and values' map is) and depths (layers).

    Raises:
        ValueError: lists of unequal length, maps that do not divide, heads that do not.
    """
    from transformers import PvtConfig, PvtForImageClassification  # its import takes seconds

    check_stages(
        embed_dims=embed_dims, num_heads=num_heads, mlp_ratios=mlp_ratios, sr_ratios=sr_ratios,
        depths=depths,
    )  # fmt: skip
    check_heads(embed_dims, num_heads)
    patches = [patch_size * 2**stage for stage in range(len(depths))]  # pixels per word
    step = math.lcm(*(patch * ratio for patch, ratio in zip(patches, sr_ratios)))
    if img_size % step:
        raise ValueError(
            f"img_size {img_size} with patch_size {patch_size} gives maps that do not divide by "
            f"sr_ratios {tuple(sr_ratios)}; img_size {near_multiples(img_size, step)} does"
        )
    strides = [patch_size] + [2] * (len(depths) - 1)
    config = PvtConfig(
        image_size=img_size, num_encoder_blocks=len(depths), depths=list(depths),
        sequence_reduction_ratios=list(sr_ratios), hidden_sizes=list(embed_dims),
        patch_sizes=strides, strides=strides, num_attention_heads=list(num_heads),
        mlp_ratios=list(mlp_ratios), drop_path_rate=drop_path_rate, num_labels=num_classes,
    )  # fmt: skip
    return PVT(PvtForImageClassification(config), [img_size // patch for patch in patches])
