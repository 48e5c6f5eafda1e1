"""Self-attention inside blocks: MSA of equation 1 for all blocks at once (equation 2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nestlib.choices import check_choice
from nestlib.models.linear import Linear

ATTENTIONS = ("multi_head", "multi_query")

# Patches of a block up to which torch's CPU kernels for a softmax over the last dimension are slow
# (findings/cpu_bf16_softmax_of_short_rows.sh).
SHORT = 32
# Patches up to which plain attention is faster than fused on a CPU in fp32 where heads share keys.
PLAIN_FP32 = 49


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
        check_choice("attention", attention, ATTENTIONS)
        if num_heads < 1 or dim % num_heads:
            raise ValueError(
                f"width {dim} does not divide into {num_heads} heads; "
                f"heads that fit: {[h for h in range(1, dim + 1) if dim % h == 0]}"
            )
        self.num_heads, self.head_dim = num_heads, dim // num_heads
        self.num_kv_heads = num_heads if attention == "multi_head" else 1
        self.qkv = Linear(dim, dim + 2 * self.num_kv_heads * self.head_dim)
        self.proj = Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, C) -> (B, T, N, C)."""
        B, T, N, C = x.shape
        q, k, v = self.split_heads(self.qkv(x).reshape(B * T, N, -1))
        out = attend(q, k, v)
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


@torch.fx.wrap  # a traced graph chooses when it runs
def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(D)) v by the way that is fastest on the device: (B, H, M, D).

    q (B, H, M, D), k and v (B, H, N, D).
    """
    if torch.jit.is_scripting():
        out = attend_fused(q, k, v)
    else:
        out = attend_plain(q, k, v) if plain_is_faster(k) else attend_fused(q, k, v)
    return out


def plain_is_faster(k: Tensor) -> bool:
    """Whether plain attention is faster than fused for keys (B, H, N, D).

    By device, precision and length, from `nest profile attention` (page "Speed").
    On a CPU torch's fused kernel has a slow backward pass in bf16. In fp32 it is the faster one,
    but for short blocks with one key for all heads (multi-query), where plain attention copies
    next to nothing. Gradients change the choice for next to no shape, so the rule does not ask.
    An exported graph is for any device, so it keeps the fused operator.
    """
    if k.device.type != "cpu" or torch.compiler.is_exporting():
        return False
    return k.dtype == torch.bfloat16 or (k.shape[1] == 1 and k.shape[-2] <= PLAIN_FP32)


def attend_fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """torch's fused attention: q (B, H, M, D), k and v (B, H, N, D) -> (B, H, M, D)."""
    return F.scaled_dot_product_attention(q, k, v)


def attend_plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same, (B, H, M, D), by two matrix products with a softmax between; the first scales.

    Short blocks get their scores keys first, and their softmax in fp32: over the last dimension, or
    in bf16, it would take several times as long there.
    """
    out_shape, scale = q.shape, q.shape[-1] ** -0.5
    q, k, v = (x.reshape(-1, *x.shape[-2:]) for x in (q, k, v))
    none = q.new_empty(1, 1, 1)  # what beta = 0 leaves out
    if k.shape[1] > SHORT:
        scores = torch.baddbmm(none, q, k.mT, beta=0, alpha=scale)  # (B * H, M, N)
        return torch.bmm(scores.softmax(-1), v).view(out_shape)
    scores = torch.baddbmm(none, k, q.mT, beta=0, alpha=scale)  # (B * H, N, M)
    wide = torch.promote_types(q.dtype, torch.float32)
    weights = scores.softmax(1, dtype=wide).to(q.dtype)
    return torch.bmm(weights.mT, v).view(out_shape)
