"""Time ways to compute one thing in turn, on NesT's shapes, to choose the rule of nestlib.

Attention within blocks computes softmax(q k^T / sqrt(D)) v of `BlockAttention.split_heads`. NesT's
blocks are short (4 to 196 patches), where a fused kernel's tiles may be mostly empty and copies
weigh much. A CPU computes a linear layer in two ways (nestlib.models.linear).

Shapes: BT blocks of all images, N patches of a block, D width of a head.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from nestbook.benchmarks.rates import check_settings, describe_settings, take_turns, time_step
from nestlib.models.attention import (
    BlockAttention,
    attend_fused,
    attend_plain,
    plain_is_faster,
)  # fmt: skip
from nestlib.models.linear import Linear, convolve, is_convolved


@dataclass(frozen=True)
class _Trial:
    """One thing to compute: its part of the row, ways to do it, and what a backward pass needs."""

    row: dict[str, Any]
    ways: Mapping[str, Callable[[], Tensor]]
    inputs: Sequence[Tensor]
    gradient: Tensor

    def forward(self, way: Callable[[], Tensor]) -> None:
        with torch.no_grad():
            way()

    def train(self, way: Callable[[], Tensor]) -> None:
        torch.autograd.grad(way(), self.inputs, self.gradient)

    def time(self, rounds: int, seconds_per_round: float) -> dict[str, dict[str, list[float]]]:
        """{way: {"forward" or "train": [seconds of one step in each round]}}"""
        modes, device = {"forward": self.forward, "train": self.train}, self.gradient.device
        steps = {
            (name, mode): partial(time_step, partial(run, way), device, seconds_per_round)
            for name, way in self.ways.items()
            for mode, run in modes.items()
        }
        seconds = take_turns(steps, rounds)
        return {name: {mode: seconds[name, mode] for mode in modes} for name in self.ways}


def _time_trials(
    title: str, prepare: Callable[[Any, torch.device, torch.dtype], _Trial], things: Iterable, *,
    device: torch.device, precision: str = "fp32", rounds: int = 5, seconds_per_round: float,
    progress: bool = True,
) -> dict:  # fmt: skip
    check_settings(precision, rounds)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rows = []
    for thing in tqdm(list(things), title, disable=not progress):
        trial = prepare(thing, device, dtype)
        rows.append({**trial.row, "seconds": trial.time(rounds, seconds_per_round)})
    settings = describe_settings(device, precision, rounds, seconds_per_round=seconds_per_round)
    return {"settings": settings, "rows": rows}


# Attention


def attend_textbook(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Two matrix products with a softmax between, as timm and most others write it."""
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v


ATTENTIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "fused": attend_fused,
    "plain": attend_plain,
    "textbook": attend_textbook,
}


@dataclass(frozen=True)
class Shape:
    """One hierarchy's attention: blocks (BT), patches (N), heads, head_dim (D), and whose keys."""

    blocks: int
    patches: int
    heads: int
    head_dim: int
    multi_query: bool


def attention_choices(
    shapes: Iterable[Shape], *, seconds_per_round: float = 0.1, **how: Any
) -> dict:  # fmt: skip
    """Time every way to attend on every shape, in turn.

    Args:
        how: device, precision ("fp32" or "bf16"), rounds and progress.

    Returns:
        JSON-ready {"settings": {...}, "rows": [...]}; a row holds a Shape's fields, rule (the
        way that `attend` takes there), and seconds: {way: {"forward": [a round's seconds,
        ...], "train": [...]}}, train with the backward pass to the linear map's output.

    Raises:
        ValueError: unknown precision, or fewer than one round.
    """
    return _time_trials(
        "attention", _prepare_attention, shapes, seconds_per_round=seconds_per_round, **how
    )


def _prepare_attention(shape: Shape, device: torch.device, dtype: torch.dtype) -> _Trial:
    width = shape.heads * shape.head_dim
    attn = BlockAttention(width, shape.heads, "multi_query" if shape.multi_query else "multi_head")
    size = (shape.blocks, shape.patches, attn.qkv.out_features)
    qkv = torch.randn(size, device=device, dtype=dtype, requires_grad=True)
    gradient = torch.randn(shape.blocks, shape.patches, width, device=device, dtype=dtype)

    def attend(way: Callable) -> Tensor:
        return way(*attn.split_heads(qkv)).transpose(1, 2).reshape(gradient.shape)

    rule = "plain" if plain_is_faster(attn.split_heads(qkv)[1]) else "fused"
    ways = {name: partial(attend, way) for name, way in ATTENTIONS.items()}
    return _Trial({**asdict(shape), "rule": rule}, ways, [qkv], gradient)


# Linear layers


PRODUCTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "linear": F.linear,
    "convolution": convolve,
}


@dataclass(frozen=True)
class Product:
    """A linear layer of `width_in` to `width_out` on images of `words` words each."""

    layer: str
    images: int
    words: int
    width_in: int
    width_out: int


def product_choices(
    products: Iterable[Product], *, seconds_per_round: float = 0.2, **how: Any
) -> dict:  # fmt: skip
    """Time both ways on every layer, in turn, with weights and inputs in the precision itself.

    Args:
        how: as `attention_choices` has it.

    Returns:
        JSON-ready {"settings": {...}, "rows": [...]}; a row holds a Product's fields, gflop of a
        forward pass, rule (the way that `Linear` takes there), and seconds: {way: {"forward":
        [a round's seconds, ...], "train": [...]}}, train with the gradients of input, weight, bias.

    Raises:
        ValueError: unknown precision, or fewer than one round.
    """
    return _time_trials(
        "products", _prepare_product, products, seconds_per_round=seconds_per_round, **how
    )


def _prepare_product(product: Product, device: torch.device, dtype: torch.dtype) -> _Trial:
    layer = Linear(product.width_in, product.width_out).to(device, dtype)
    shape = product.images, product.words, product.width_in
    x = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)
    gradient = torch.randn(*shape[:2], product.width_out, device=device, dtype=dtype)
    flops = 2 * product.images * product.words * product.width_in * product.width_out
    rule = "convolution" if is_convolved(x) else "linear"
    ways = {
        name: partial(compute, x, layer.weight, layer.bias) for name, compute in PRODUCTS.items()
    }
    row = {**asdict(product), "gflop": flops / 1e9, "rule": rule}
    return _Trial(row, ways, [x, layer.weight, layer.bias], gradient)
