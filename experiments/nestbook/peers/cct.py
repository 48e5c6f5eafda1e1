"""CCT (arXiv 2104.05704) on CIFAR: vit-pytorch's, as the authors' cct_7_3x1_32 sets it.

A tenth of the attention weights is dropped, no other values (SHI-Labs/Compact-Transformers,
src/cct.py). `Attention` replaces vit-pytorch's, which multiplies unfused; the function is the same.
"""

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestbook.peers.sizes import check_multiple
from nestlib.arguments import DropRate, Layers, Pixels, Range, Ratio, Share, Width, checked

LIBRARY = "vit-pytorch, attention fused here"
MAX_NUMBERS = 2e8  # weights and pixels' values, which are made on the CPU even to look at sizes
VARIANTS = {
    "cct7_3x1_cifar":
        {"kernel_size": 3, "num_convs": 1, "depth": 7, "embed_dim": 256, "num_heads": 4,
         "mlp_ratio": 2, "attn_drop_rate": 0.1},
}  # fmt: skip


class Attention(nn.Module):
    """vit-pytorch's attention over its own layers; `fused_attn = False` multiplies step by step."""

    def __init__(self, stock: nn.Module):
        super().__init__()
        self.num_heads, self.fused_attn = stock.heads, True
        self.qkv, self.attn_drop = stock.qkv, stock.attn_drop
        self.proj, self.proj_drop = stock.proj, stock.proj_drop

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(x).unflatten(2, (3, self.num_heads, -1))  # (B, N, 3, heads, head dim)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, head dim)
        if self.fused_attn:
            dropout = self.attn_drop.p if self.training else 0.0
            x = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        else:
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
            x = self.attn_drop(scores.softmax(-1)) @ v
        return self.proj_drop(self.proj(x.transpose(1, 2).flatten(2)))


@checked
def build(
    *, num_classes: int, img_size: Pixels, drop_path_rate: DropRate,
    kernel_size: Annotated[int, Range(1, 31)], num_convs: Annotated[int, Range(1, 10)],
    depth: Layers, embed_dim: Width, num_heads: Width, mlp_ratio: Ratio, attn_drop_rate: Share,
) -> nn.Module:  # fmt: skip
    """Build a CCT that maps images (B, 3, img_size, img_size) to logits (B, num_classes).

    Options: kernel_size (pixels) and num_convs of the tokenizer, depth (layers), embed_dim,
    num_heads, mlp_ratio, attn_drop_rate (dropout of attention weights).

    Raises:
        ValueError: embed_dim is no multiple of num_heads, an even kernel_size, or more numbers
            than fit here while the model is only looked at.
    """
    from vit_pytorch.cct import CCT  # taken where a CCT is built: other models do without it

    check_multiple("embed_dim", embed_dim, "num_heads", num_heads)
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size {kernel_size} has no middle pixel; use {kernel_size + 1}")
    numbers = img_size**2 * embed_dim + depth * embed_dim**2 * (4 + 2 * mlp_ratio)
    if numbers > MAX_NUMBERS:
        raise ValueError(
            f"img_size {img_size}, embed_dim {embed_dim} and depth {depth} take {numbers:.1e} "
            f"numbers, must be at most {MAX_NUMBERS:.0e}; use smaller ones"
        )
    with torch.device("cpu"):  # vit-pytorch reads numbers off tensors, of which "meta" has none
        model = CCT(
            img_size=img_size, num_classes=num_classes, embedding_dim=embed_dim, num_layers=depth,
            num_heads=num_heads, mlp_ratio=mlp_ratio, n_conv_layers=num_convs,
            kernel_size=kernel_size, stride=max(1, kernel_size // 2 - 1), padding=kernel_size // 2,
            dropout_rate=0.0, attention_dropout=attn_drop_rate,
            stochastic_depth_rate=drop_path_rate, positional_embedding="learnable",
        )  # fmt: skip
    for layer in model.classifier.blocks:
        layer.self_attn = Attention(layer.self_attn)
    return model.to(torch.get_default_device())
