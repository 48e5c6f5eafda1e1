"""Ways to compute one thing, timed in turn on the shapes that NesT has."""

import statistics
from collections.abc import Callable, Mapping
from functools import partial

import torch

from nestbook.benchmarks.rates import fill, time_steps

Steps = Mapping[str, Mapping[str, Callable[[], object]]]  # by choice, then by mode


def time_choices(
    steps: Steps, device: torch.device, *, rounds: int, seconds_per_round: float
) -> dict[str, dict[str, list[float]]]:
    """{choice: {mode: [seconds of one step in each round]}}, after a warm-up of two steps each."""
    timers = {
        choice: {mode: partial(time_steps, step, device) for mode, step in modes.items()}
        for choice, modes in steps.items()
    }
    seconds = {choice: {mode: [] for mode in modes} for choice, modes in timers.items()}
    for number in range(rounds + 1):
        for choice, modes in timers.items():
            for mode, time_n in modes.items():
                if number == 0:
                    time_n(2)
                    continue
                done, elapsed = fill(time_n, seconds_per_round)
                seconds[choice][mode].append(elapsed / done)
    return seconds


def describe_settings(
    device: torch.device, precision: str, rounds: int, seconds_per_round: float
) -> dict:
    """What the times depend on, beside the machine itself."""
    return {
        "device": str(device), "precision": precision, "rounds": rounds,
        "seconds_per_round": seconds_per_round, "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }  # fmt: skip


def fastest(row: Mapping, mode: str) -> str:
    """The choice with the least median of a row's rounds."""
    return min(row["seconds"], key=lambda choice: statistics.median(row["seconds"][choice][mode]))
