"""Ways to attend within blocks, timed on NesT's shapes: which one shall the rule take?

All compute softmax(q k^T / sqrt(D)) v of `BlockAttention.split_heads`. NesT's blocks are short (4
to 196 patches), where a fused kernel's tiles may be mostly empty and copies weigh much.

Shapes: BT blocks of all images, N patches of a block, D width of a head.
"""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from nestbook.profiles.choices import Steps, describe_settings, time_choices
from nestlib.models.attention import (
    BlockAttention,
    attend_fused,
    attend_plain,
    plain_is_faster,
)  # fmt: skip
from nestlib.precision import check_precision


def attend_textbook(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Two matrix products with a softmax between, as timm and most others write it."""
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v


CHOICES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
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
    shapes: Iterable[Shape], *, device: torch.device, precision: str = "fp32", rounds: int = 5,
    seconds_per_round: float = 0.1, progress: bool = True,
) -> dict:  # fmt: skip
    """Time every choice on every shape, in turn.

    Returns:
        JSON-ready {"settings": {...}, "rows": [...]}; a row holds a Shape's fields, rule (the
        choice that `attend` takes there), and seconds: {choice: {"forward": [a round's seconds,
        ...], "train": [...]}}, train with the backward pass to the linear map's output.

    Raises:
        ValueError: unknown precision.
    """
    check_precision(precision)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rows = []
    for shape in tqdm(list(shapes), desc="attention", unit="shape", disable=not progress):
        row, steps = _prepare(shape, device, dtype)
        row["seconds"] = time_choices(
            steps, device, rounds=rounds, seconds_per_round=seconds_per_round
        )
        rows.append(row)
    return {
        "settings": describe_settings(device, precision, rounds, seconds_per_round), "rows": rows
    }  # fmt: skip


def _prepare(shape: Shape, device: torch.device, dtype: torch.dtype) -> tuple[dict, Steps]:
    """One row without its times, and the steps to be timed."""
    width = shape.heads * shape.head_dim
    attn = BlockAttention(width, shape.heads, "multi_query" if shape.multi_query else "multi_head")
    size = (shape.blocks, shape.patches, attn.qkv.out_features)
    qkv = torch.randn(size, device=device, dtype=dtype, requires_grad=True)
    gradient = torch.randn(shape.blocks, shape.patches, width, device=device, dtype=dtype)

    def attend(choice: Callable) -> Tensor:
        return choice(*attn.split_heads(qkv)).transpose(1, 2).reshape(gradient.shape)

    def forward(choice: Callable) -> None:
        with torch.no_grad():
            attend(choice)

    def train(choice: Callable) -> None:
        torch.autograd.grad(attend(choice), qkv, gradient)

    steps = {
        name: {"forward": partial(forward, choice), "train": partial(train, choice)}
        for name, choice in CHOICES.items()
    }
    rule = "plain" if plain_is_faster(attn.split_heads(qkv)[1]) else "fused"
    return {**asdict(shape), "rule": rule}, steps
