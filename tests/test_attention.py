"""Attention within blocks against the textbook, and the ways to compute it against one another."""

import math

import pytest
import torch

from nestlib.measure.attention import CHOICES, attention_choices, fastest
from nestlib.models.attention import BlockAttention
from nestlib.models.nest import NesT

FORMS = ("multi_head", "multi_query")


def textbook(attn: BlockAttention, x: torch.Tensor) -> torch.Tensor:
    """Head by head, block by block, query by query: equation 1's MSA with nothing fused."""
    B, T, N, C = x.shape
    width, out = attn.head_dim, torch.zeros_like(x)
    qkv = x @ attn.qkv.weight.T + attn.qkv.bias
    for b in range(B):
        for t in range(T):
            for head in range(attn.num_heads):
                key = head if attn.num_kv_heads > 1 else 0
                q = qkv[b, t, :, head * width : (head + 1) * width]
                k = qkv[b, t, :, C + key * width : C + (key + 1) * width]
                first = C + attn.num_kv_heads * width
                v = qkv[b, t, :, first + key * width : first + (key + 1) * width]
                for n in range(N):
                    weights = torch.exp(k @ q[n] / math.sqrt(width))
                    out[b, t, n, head * width : (head + 1) * width] = weights / weights.sum() @ v
    return out @ attn.proj.weight.T + attn.proj.bias


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("num_heads", "patches"), [(1, 4), (3, 16), (2, 49)])
def test_attention_is_the_textbooks(form, num_heads, patches):
    torch.manual_seed(0)
    attn = BlockAttention(12, num_heads, form).double()
    x = torch.randn(2, 4, patches, 12, dtype=torch.float64)
    torch.testing.assert_close(attn(x), textbook(attn, x), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_every_way_gives_the_rules_outputs_and_gradients(form):
    torch.manual_seed(0)
    attn = BlockAttention(24, 3, form)
    qkv = torch.randn(8, 16, attn.qkv.out_features, requires_grad=True)
    results = {}
    for name, choice in CHOICES.items():
        out = choice(*attn.split_heads(qkv))
        results[name] = out, *torch.autograd.grad(out.square().sum(), qkv)
    for name, result in results.items():
        for mine, rule in zip(result, results["fused"]):
            torch.testing.assert_close(mine, rule, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(("form", "copied"), [("multi_head", 0), ("multi_query", 1)])
def test_split_heads_gives_views_of_four_dimensions(form, copied):
    """Multi-query's queries alone are copied: a slice of each row cannot be cut into heads."""
    attn = BlockAttention(24, 3, form)
    qkv = torch.randn(8, 16, attn.qkv.out_features)
    parts = attn.split_heads(qkv)
    own = [p for p in parts if p.untyped_storage().data_ptr() != qkv.untyped_storage().data_ptr()]
    assert all(part.ndim == 4 for part in parts) and len(own) == copied


def test_choices_are_timed_at_every_hierarchy():
    model = NesT(16, 1, (8, 16), (2, 4), (1, 1), num_classes=3, attention="multi_query")
    measured = attention_choices(
        {"small": model}, {"small": 5}, device=torch.device("cpu"), rounds=2,
        seconds_per_round=0.0, progress=False,
    )  # fmt: skip
    shapes = [(r["level"], r["blocks"], r["patches"], r["heads"]) for r in measured["rows"]]
    assert shapes == [(0, 20, 64, 2), (1, 5, 64, 4)] and measured["rows"][0]["multi_query"]
    for row in measured["rows"]:
        assert row["seconds"].keys() == CHOICES.keys()
        assert all(
            len(times) == 2 and min(times) > 0
            for modes in row["seconds"].values() for times in modes.values()
        )  # fmt: skip
    slow = {"fused": {"train": [3, 3, 1]}, "plain": {"train": [2, 2, 9]}}
    assert fastest({"seconds": slow}, "train") == "plain"  # by medians
    with pytest.raises(ValueError, match="'fp8' is unknown"):
        attention_choices({}, {}, device=torch.device("cpu"), precision="fp8")
