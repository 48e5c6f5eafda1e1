"""The time of a training step, by kinds of operators.

What an implementation can win is bounded by what it shares with every other: the products of layers
and of attention. So a step's products are set apart from the rest, and beside them stands the rate
of a large matrix product of the same machine and run.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm

from nestbook.benchmarks.rates import (
    MatrixProduct,
    check_settings,
    describe_settings,
    time_step,
    time_steps,
)
from nestbook.benchmarks.speed import train_step
from nestbook.profiles.operators import OperatorTimer
from nestlib.precision import autocast

# Of nestbook.profiles.operators.KINDS: those whose FLOPs are counted.
PRODUCTS = ("matrix products", "convolutions", "attention")


@dataclass
class Kind:
    """One kind's operators in a step; the last two are equal in every step, seconds are not."""

    seconds: list[float] = field(default_factory=list)  # of each round
    calls: int = 0
    gflop: float = 0.0  # 10**9 FLOPs, two a multiply-add


def step_kinds(
    models: Mapping[str, tuple[nn.Module, Tensor]], *, precision: str = "fp32", rounds: int = 5,
    seconds_per_round: float = 1.0, warmup: int = 2, progress: bool = True,
) -> dict:  # fmt: skip
    """Time training steps (AdamW) as a whole and by kinds of operators, models in turn.

    Args:
        models: by name, a model and its images (B, 3, H, W), all on one device.
        seconds_per_round: least time of the matrix product that ends each round.

    Returns:
        JSON-ready {"settings": {...}, "matmul_tflops": {"size", "median", "rounds"}, "models":
        {name: {"batch_size", "image_size", "whole_seconds": [a round's, ...], "kinds": {kind of
        nestbook.profiles.operators.KINDS: {"seconds": [a round's, ...], "calls", "gflop"}}}}}.

    Raises:
        ValueError: unknown precision, or fewer than one round.
    """
    check_settings(precision, rounds)
    device = next(iter(models.values()))[1].device
    settings = describe_settings(device, precision, rounds, seconds_per_round=seconds_per_round)
    product = MatrixProduct(device, precision)
    steps = {name: _prepare(*how, precision) for name, how in models.items()}
    found = {
        name: {
            "batch_size": len(images), "image_size": images.shape[-1], "whole_seconds": [],
            "kinds": {},
        }
        for name, (_, images) in models.items()
    }  # fmt: skip
    for step in steps.values():
        time_steps(step, device, warmup)
    for _ in tqdm(range(rounds), desc="training step", unit="round", disable=not progress):
        for name, step in steps.items():
            time_step(step, device)  # behind another's turn its caches are cold
            found[name]["whole_seconds"].append(time_step(step, device))
            _add_kinds(found[name]["kinds"], models[name][0], step, device)
        product.run_round(seconds_per_round)
    for model in found.values():
        model["kinds"] = {name: asdict(kind) for name, kind in model["kinds"].items()}
    return {"settings": settings, "matmul_tflops": product.row, "models": found}


def _prepare(model: nn.Module, images: Tensor, precision: str) -> partial:
    """A training step, ready to be called."""
    optimizer = torch.optim.AdamW(model.train().parameters(), lr=1e-4, fused=True)
    with torch.no_grad():
        num_classes = model(images[:1]).shape[-1]
    labels = torch.arange(len(images), device=images.device) % num_classes
    context = autocast(precision, images.device)
    return partial(train_step, model, optimizer, images, labels, context)


def _add_kinds(
    kinds: dict[str, Kind], model: nn.Module, step: partial, device: torch.device
) -> None:  # fmt: skip
    with OperatorTimer(model, device) as timer:
        step()
    torch.get_device_module(device).synchronize(device)
    for kind in kinds.values():
        kind.seconds.append(0.0)
        kind.calls, kind.gflop = 0, 0.0
    for operator in timer.operators:
        kind = kinds.setdefault(operator.kind, Kind([0.0]))
        kind.seconds[-1] += operator.seconds
        kind.calls += 1
        kind.gflop += operator.flops / 1e9
