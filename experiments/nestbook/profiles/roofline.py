"""Where a forward pass spends its time, part by part, beside the least that the machine needs.

Two floors hold for each part: its FLOPs at the rate of a large matrix product, and its bytes (each
operator's inputs, weights and outputs, once) at the rate of a large copy. Both rates are measured
in the same process. A part far above both loses time that better code could win.
"""

import statistics
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import partial

import torch
from torch import Tensor, nn

from nestbook.benchmarks.rates import (
    Machine,
    check_settings,
    describe_settings,
    equal_tf32,
    measure_machine,
    take_turns,
    time_step,
)
from nestbook.profiles import MACHINE_RATES
from nestbook.profiles.operators import OperatorTimer
from nestlib.models.mode import running_mode
from nestlib.precision import autocast


def roofline(
    model: nn.Module, images: Tensor, *, precision: str = "fp32", rounds: int = 10, warmup: int = 2,
    machine: Machine | None = None,
) -> dict:  # fmt: skip
    """Time the parts of a forward pass (evaluation, eager, no gradients); returns JSON-ready data.

    Rounds time the pass as a whole and then by parts, in turn. The result holds settings, machine
    (its two rates), whole_seconds (median), parts_seconds (sum over the parts' medians), the rounds
    of both, overhead (median over rounds of parts / whole, less 1: what timing single operators
    adds, less the host's work between them, which no part holds), copy_seconds (of operators that
    compute nothing) and parts, in the order in which they first run. A part holds name, calls
    (operators that are no views), seconds, copy_seconds, gflop (10**9 FLOPs, two a multiply-add:
    products and convolutions only), mbytes (10**6), arithmetic_floor_seconds and
    bytes_floor_seconds.

    Bytes are those that each operator by itself must move: inputs, weights and outputs once. Fewer
    operators would need fewer. A part can be faster than its floor: from a cache, or where a kernel
    does better than the matrix product that the rate is of.

    Args:
        images: (B, 3, H, W), on the model's device; model and images keep their memory format.
        precision: "fp32" or "bf16" (autocast).
        machine: rates measured before; by default they are measured here.

    Raises:
        ValueError: unknown precision, or fewer than one round.
    """
    check_settings(precision, rounds)
    device = images.device
    context = autocast(precision, device)
    # With other TF32 in convolutions than in the matrix product no floor would hold.
    with equal_tf32() as tf32, running_mode(model, training=False), torch.no_grad():
        machine = machine or measure_machine(device, precision)
        passes = {
            "whole": context(partial(time_step, partial(model, images), device)),
            "parts": context(partial(count_parts, model, images)),
        }
        timed = take_turns(passes, rounds, warmup=warmup)
    settings = describe_settings(
        device, precision, rounds, batch_size=len(images), image_size=images.shape[-1],
        warmup=warmup, tf32=tf32,
    )  # fmt: skip
    return {"settings": settings, **_summarize(machine, timed["whole"], timed["parts"])}


def describe_rates(machine: Machine) -> dict[str, float]:
    """A machine's rates as records keep them."""
    return {key: rate / 1e9 for key, rate in zip(MACHINE_RATES, astuple(machine), strict=True)}


@dataclass
class Part:
    """Totals of the operators that run in one part of a model, in one pass."""

    calls: int = 0
    seconds: float = 0.0
    copy_seconds: float = 0.0
    flops: int = 0
    bytes: int = 0


def count_parts(model: nn.Module, images: Tensor) -> dict[str, Part]:
    """Run the model once as it is; what each part took and had to do, in running order."""
    with OperatorTimer(model, images.device) as timer:
        model(images)
    torch.get_device_module(images.device).synchronize(images.device)
    parts: dict[str, Part] = {}
    for operator in timer.operators:
        part = parts.setdefault(operator.part, Part())
        part.calls += 1
        part.seconds += operator.seconds
        part.copy_seconds += operator.seconds * (operator.kind == "copies")
        part.flops += operator.flops
        part.bytes += operator.bytes
    return parts


def _summarize(machine: Machine, whole: list[float], by_parts: list[Mapping[str, Part]]) -> dict:
    """Medians over rounds, floors and shares, ready for JSON."""
    rows = []
    for name, part in by_parts[0].items():
        rows.append({
            "name": name,
            "calls": part.calls,
            "seconds": statistics.median(parts[name].seconds for parts in by_parts),
            "copy_seconds": statistics.median(parts[name].copy_seconds for parts in by_parts),
            "gflop": part.flops / 1e9,
            "mbytes": part.bytes / 1e6,
            "arithmetic_floor_seconds": part.flops / machine.flops_per_second,
            "bytes_floor_seconds": part.bytes / machine.bytes_per_second,
        })  # fmt: skip
    sums = [sum(part.seconds for part in parts.values()) for parts in by_parts]
    return {
        "machine": describe_rates(machine),
        "whole_seconds": statistics.median(whole),
        "whole_rounds": whole,
        "parts_seconds": sum(row["seconds"] for row in rows),
        "parts_rounds": sums,
        "overhead": statistics.median(a / b for a, b in zip(sums, whole)) - 1,
        "copy_seconds": sum(row["copy_seconds"] for row in rows),
        "parts": rows,
    }
