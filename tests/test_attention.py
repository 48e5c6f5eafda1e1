"""Attention within blocks against the textbook, and the ways to compute it against one another."""

import math

import pytest
import torch

from nestbook.profiles.choices import (
    ATTENTIONS,
    Product,
    Shape,
    attend_textbook,
    attention_choices,
    product_choices,
)
from nestlib.models.attention import BlockAttention, attend_fused, attend_plain, plain_is_faster

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
@pytest.mark.parametrize("patches", [4, 16, 49, 196])
def test_every_way_gives_one_result_and_its_gradients(form, patches):
    torch.manual_seed(0)
    attn = BlockAttention(24, 3, form)
    qkv = torch.randn(8, patches, attn.qkv.out_features, requires_grad=True)
    results = {}
    for name, choice in ATTENTIONS.items():
        out = choice(*attn.split_heads(qkv))
        results[name] = out, *torch.autograd.grad(out.square().sum(), qkv)
    for name, result in results.items():
        for mine, other in zip(result, results["textbook"]):
            torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("patches", [16, 196])
def test_plain_attention_in_bf16_errs_no_more_than_the_textbooks(form, patches):
    """Against fp32 of the same numbers; outputs and gradients, mean absolute error."""
    torch.manual_seed(0)
    attn = BlockAttention(96, 3, form)
    qkv = torch.randn(16, patches, attn.qkv.out_features).bfloat16().requires_grad_()
    gradient = torch.randn(16, patches, 96).bfloat16()

    def run(choice, qkv):
        out = choice(*attn.split_heads(qkv)).transpose(1, 2).reshape(gradient.shape)
        return out, *torch.autograd.grad(out, qkv, gradient.to(out.dtype))

    exact = run(attend_textbook, qkv.detach().float().requires_grad_())
    plain, textbook = (run(choice, qkv) for choice in (attend_plain, attend_textbook))
    for right, mine, other in zip(exact, plain, textbook):
        errors = [(x.float() - right).abs().mean().item() for x in (mine, other)]
        assert errors[0] <= 1.1 * errors[1]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
def test_plain_attention_stands_large_scores(scale):
    """Scores of thousands: a softmax that did not take the largest away would overflow."""
    torch.manual_seed(0)
    for patches in (16, 64):
        q, k, v = (scale * torch.randn(2, 3, patches, 8) for _ in range(3))
        out = attend_plain(q, k, v)
        torch.testing.assert_close(out, attend_fused(q, k, v), rtol=1e-4, atol=1e-4 * scale)


def test_the_rule_goes_by_device_precision_and_length():
    def takes_plain(patches, dtype=torch.float32, device="cpu", heads=1):
        return plain_is_faster(torch.empty(1, heads, patches, 32, dtype=dtype, device=device))

    assert [takes_plain(n) for n in (4, 16, 49, 64, 196)] == [True, True, True, False, False]
    assert not any(takes_plain(n, heads=3) for n in (4, 16, 49, 196))  # keys of their own
    assert all(takes_plain(n, torch.bfloat16, heads=h) for n in (4, 16, 49, 196) for h in (1, 3))
    assert not any(takes_plain(n, torch.bfloat16, "meta") for n in (4, 196))  # not the CPU


@pytest.mark.parametrize(("form", "copied"), [("multi_head", 0), ("multi_query", 1)])
def test_split_heads_gives_views_of_four_dimensions(form, copied):
    """Multi-query's queries alone are copied: a slice of each row cannot be cut into heads."""
    attn = BlockAttention(24, 3, form)
    qkv = torch.randn(8, 16, attn.qkv.out_features)
    parts = attn.split_heads(qkv)
    own = [p for p in parts if p.untyped_storage().data_ptr() != qkv.untyped_storage().data_ptr()]
    assert all(part.ndim == 4 for part in parts) and len(own) == copied


def test_choices_are_timed_on_every_shape():
    shapes = [Shape(20, 49, 2, 8, True), Shape(5, 16, 4, 8, False)]
    measured = attention_choices(
        shapes, device=torch.device("cpu"), rounds=2, seconds_per_round=0.0, progress=False
    )
    assert [(r["blocks"], r["patches"], r["rule"]) for r in measured["rows"]] == [
        (20, 49, "plain"), (5, 16, "fused")
    ]  # fmt: skip
    for row in measured["rows"]:
        assert row["seconds"].keys() == ATTENTIONS.keys()
        assert all(
            len(times) == 2 and min(times) > 0
            for modes in row["seconds"].values() for times in modes.values()
        )  # fmt: skip
    with pytest.raises(ValueError, match="no precision 'fp8'"):
        attention_choices([], device=torch.device("cpu"), precision="fp8")


def test_products_are_timed_both_ways():
    products = [Product("a", 2, 9, 8, 24)]
    measured = product_choices(
        products, device=torch.device("cpu"), precision="bf16", rounds=3, seconds_per_round=0.0,
        progress=False,
    )  # fmt: skip
    (row,) = measured["rows"]
    assert row["gflop"] == pytest.approx(2 * 2 * 9 * 8 * 24 / 1e9) and row["layer"] == "a"
    assert row["rule"] in row["seconds"] and row["seconds"].keys() == {"linear", "convolution"}
    assert all(len(times) == 3 for modes in row["seconds"].values() for times in modes.values())
