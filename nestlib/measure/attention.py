"""Ways to attend within blocks, timed on NesT's own shapes: which one shall be the rule?

All compute softmax(q k^T / sqrt(D)) v of `BlockAttention.split_heads`. NesT's blocks are short (16
to 196 patches), where a fused kernel's tiles may be mostly empty and copies weigh much.

Shapes: BT blocks of all images, N patches of a block, D width of a head.
"""

import statistics
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from nestlib.measure.rates import fill, time_steps
from nestlib.models.nest import NesT
from nestlib.precision import check_precision


def attend_fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The rule: torch's fused attention on views of what one linear map gave."""
    return F.scaled_dot_product_attention(q, k, v)


def attend_copied(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Fused, each head's rows copied together first."""
    return F.scaled_dot_product_attention(q.contiguous(), k.contiguous(), v.contiguous())


def attend_plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Two matrix products with a softmax between, the scores kept in memory."""
    return (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1) @ v


CHOICES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "fused": attend_fused,
    "fused, copied": attend_copied,
    "plain": attend_plain,
}


def attention_choices(
    models: Mapping[str, NesT], batch_sizes: Mapping[str, int], *, device: torch.device,
    precision: str = "fp32", rounds: int = 5, seconds_per_round: float = 0.1,
    progress: bool = True,
) -> dict:  # fmt: skip
    """Time every choice at every hierarchy of the models, in turn.

    Args:
        models: by name; their attention's form and shapes are taken, at their own image size.
        batch_sizes: images, by the model's name.

    Returns:
        JSON-ready {"settings": {...}, "rows": [...]}; a row holds model, level, blocks (BT),
        patches (N), heads, head_dim (D), multi_query, and seconds: {choice: {"forward": [a round's
        seconds, ...], "train": [...]}}, train with the backward pass to the linear map's output.

    Raises:
        ValueError: unknown precision.
    """
    check_precision(precision)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    levels = [(name, level) for name, model in models.items() for level in range(len(model.grids))]
    rows = []
    for name, level in tqdm(levels, desc="attention", unit="shape", disable=not progress):
        row, times = _prepare(models[name], level, batch_sizes[name], device, dtype)
        for steps in times.values():  # warm-up
            for step in steps.values():
                step(2)
        for _ in range(rounds):
            for choice, steps in times.items():
                for mode, step in steps.items():
                    done, seconds = fill(step, seconds_per_round)
                    row["seconds"][choice][mode].append(seconds / done)
        rows.append({"model": name, "level": level, **row})
    settings = {
        "device": str(device), "precision": precision, "rounds": rounds,
        "seconds_per_round": seconds_per_round, "batch_sizes": dict(batch_sizes),
        "threads": torch.get_num_threads(), "torch": torch.__version__,
    }  # fmt: skip
    return {"settings": settings, "rows": rows}


def fastest(row: Mapping, mode: str) -> str:
    """The choice with the least median of a row's rounds."""
    return min(row["seconds"], key=lambda choice: statistics.median(row["seconds"][choice][mode]))


def _prepare(
    model: NesT, level: int, batch_size: int, device: torch.device, dtype: torch.dtype
) -> tuple[dict, dict[str, dict[str, Callable[[int], float]]]]:
    """One row without its times, and what gives them: {choice: {mode: seconds of n steps}}."""
    attn = model.hierarchies[level][0].attn
    blocks, patches = batch_size * model.num_blocks[level], model.block_size**2
    shape = (blocks, patches, attn.qkv.out_features)
    qkv = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)
    gradient = torch.randn(blocks, patches, attn.proj.in_features, device=device, dtype=dtype)

    def attend(choice: Callable) -> Tensor:
        return choice(*attn.split_heads(qkv)).transpose(1, 2).reshape(gradient.shape)

    def forward(choice: Callable) -> None:
        with torch.no_grad():
            attend(choice)

    def train(choice: Callable) -> None:
        torch.autograd.grad(attend(choice), qkv, gradient)

    times = {
        name: {mode: partial(time_steps, partial(step, choice), device)
               for mode, step in (("forward", forward), ("train", train))}
        for name, choice in CHOICES.items()
    }  # fmt: skip
    row = {
        "blocks": blocks, "patches": patches, "heads": attn.num_heads, "head_dim": attn.head_dim,
        "multi_query": attn.num_kv_heads < attn.num_heads,
        "seconds": {name: {"forward": [], "train": []} for name in CHOICES},
    }  # fmt: skip
    return row, times
