"""A linear layer computed as a convolution is the linear layer: values, gradients, graphs."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nestlib import processor
from nestlib.models import create_model, linear
from nestlib.models.linear import Linear, is_convolved


@pytest.fixture(params=[True, False], ids=["convolution", "linear"])
def convolved(request, monkeypatch):
    """As on a processor where convolutions are faster, and as on one where they are not."""
    monkeypatch.setattr(linear, "prefers_convolutions", lambda: request.param)
    return request.param


def layer_and_input(shape=(3, 4, 5, 24), dtype=torch.float32):
    torch.manual_seed(0)
    return Linear(24, 36).to(dtype), torch.randn(*shape, dtype=dtype, requires_grad=True)


@pytest.mark.parametrize("shape", [(3, 4, 5, 24), (3, 7, 24), (3, 24), (0, 4, 5, 24), (3, 0, 24)])
def test_values_and_gradients_are_torchs(convolved, shape):
    layer, x = layer_and_input(shape)
    assert is_convolved(x) == (convolved and x.ndim > 2 and len(x.flatten()) > 0)
    out, expected = layer(x), F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(out, expected)
    leaves, gradient = (x, layer.weight, layer.bias), torch.randn_like(out)
    for mine, theirs in zip(*(torch.autograd.grad(o, leaves, gradient) for o in (out, expected))):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_an_input_of_any_layout_is_taken(convolved):
    layer, x = layer_and_input((24, 5, 4, 3))
    moved = x.permute(3, 1, 2, 0)  # (3, 5, 4, 24)
    torch.testing.assert_close(layer(moved), F.linear(moved, layer.weight, layer.bias))


def test_bf16_errs_no_more_than_torchs(convolved):
    layer, x = layer_and_input((8, 64, 24))
    exact = F.linear(x, layer.weight, layer.bias)
    with torch.autocast("cpu", torch.bfloat16):
        mine, theirs = layer(x), F.linear(x, layer.weight, layer.bias)
    assert mine.dtype == torch.bfloat16
    errors = [(out.float() - exact).abs().mean().item() for out in (mine, theirs)]
    assert errors[0] <= 1.05 * errors[1]


def test_gradients_can_be_differentiated(convolved):
    layer, x = layer_and_input()
    seconds = []
    for compute in (layer, lambda x: F.linear(x, layer.weight, layer.bias)):
        (first,) = torch.autograd.grad(compute(x).square().sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), (x, layer.weight)))
    for mine, theirs in zip(*seconds):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_weights_have_torchs_names_and_shapes():
    mine, theirs = Linear(24, 36), nn.Linear(24, 36)
    assert {n: p.shape for n, p in mine.state_dict().items()} == {
        n: p.shape for n, p in theirs.state_dict().items()
    }
    mine.load_state_dict(theirs.state_dict())


def test_float64_and_meta_are_torchs_own(monkeypatch):
    monkeypatch.setattr(linear, "prefers_convolutions", lambda: True)
    assert not is_convolved(torch.zeros(1, 2, 24, dtype=torch.float64))
    assert not is_convolved(torch.zeros(1, 2, 24, device="meta"))


def test_exported_graphs_hold_linears_and_fused_attention(monkeypatch):
    """A graph is for any device, so it shall not hold what is fast on this processor."""
    monkeypatch.setattr(linear, "prefers_convolutions", lambda: True)
    model = create_model(
        "nest_tiny_cifar", num_classes=3, embed_dim=12, num_hierarchies=2, patch_size=4
    ).eval()
    images = torch.randn(2, 3, 32, 32)
    exported = torch.export.export(model, (images,))
    operators = [str(n.target) for n in exported.graph.nodes if n.op == "call_function"]
    counts = {
        name: sum(name in operator for operator in operators)
        for name in ("linear", "conv2d", "scaled_dot_product_attention", "bmm")
    }
    layers = sum(map(len, model.hierarchies))
    assert counts == {  # the patches' embedding and the head; the aggregation
        "linear": 4 * layers + 2, "conv2d": 1, "scaled_dot_product_attention": layers, "bmm": 0,
    }  # fmt: skip
    torch.testing.assert_close(exported.module()(images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "expected"), [("AMD EPYC", True), ("Intel(R) Xeon(R)", False), ("", False)]
)
def test_the_way_is_chosen_by_the_maker(monkeypatch, name, expected):
    monkeypatch.setattr(processor, "_capabilities", lambda: {"cpu_name": name} if name else {})
    assert processor.prefers_convolutions.__wrapped__() is expected
