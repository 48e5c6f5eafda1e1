"""Self-attention inside blocks: MSA of equation 1 for all blocks at once (equation 2)."""

import torch.nn.functional as F
from torch import Tensor, nn

ATTENTIONS = ("multi_head", "multi_query")


class BlockAttention(nn.Module):
    """Attention among the N patches of each block; blocks do not see one another.

    `multi_head` is the textbook form. In `multi_query` all heads share one key and one value head,
    as the published CIFAR models do (models/nest_net.py, "local_multi_query"); the paper does not
    say so.

    Args:
        dim: width C, divisible by num_heads.
        num_heads: query heads.
        attention: one of ATTENTIONS.

    Raises:
        ValueError: unknown attention, or heads that do not divide the width.
    """

    def __init__(self, dim: int, num_heads: int, attention: str = "multi_head"):
        super().__init__()
        if attention not in ATTENTIONS:
            raise ValueError(f"attention {attention!r} is not one of {', '.join(ATTENTIONS)}")
        if dim % num_heads:
            raise ValueError(
                f"width {dim} does not divide into {num_heads} heads; "
                f"heads that fit: {[h for h in range(1, dim + 1) if dim % h == 0]}"
            )
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.num_kv_heads = num_heads if attention == "multi_head" else 1
        self.qkv = nn.Linear(dim, dim + 2 * self.num_kv_heads * self.head_dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, C) -> (B, T, N, C)."""
        B, T, N, C = x.shape
        q, k, v = self.split_heads(self.qkv(x.reshape(B * T, N, C)))
        out = F.scaled_dot_product_attention(q, k, v)
        return self.proj(out.transpose(1, 2).reshape(B, T, N, C))

    def split_heads(self, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B*T, N, C + 2 * key heads * D) -> queries, keys and values, views of four dimensions.

        Four, with the blocks folded into the batch: the fused kernels refuse five. Multi-head gives
        (B*T, heads, N, D) three times; multi-query gives queries (B*T, 1, N * heads, D), keys and
        values (B*T, 1, N, D).
        """
        BT, N, _ = qkv.shape
        if self.num_kv_heads == self.num_heads:
            qkv = qkv.reshape(BT, N, 3, self.num_heads, self.head_dim)
            return qkv.permute(2, 0, 3, 1, 4).unbind(0)
        # With one key and value for all heads, a head is only another query: N * heads queries
        # attend to N keys, and neither side needs a transposed copy.
        q, k, v = qkv.split([self.num_heads * self.head_dim, self.head_dim, self.head_dim], dim=-1)
        return q.reshape(BT, 1, N * self.num_heads, self.head_dim), k.unsqueeze(1), v.unsqueeze(1)
