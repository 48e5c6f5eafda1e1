"""Time steps of contenders in turn, and the best rates of a machine: products and copies."""

import math
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from nestlib.metrics.accuracy import describe_error
from nestlib.precision import check_precision

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

# Edges of the square product: large enough that arithmetic bounds it, not memory.
MATMUL_SIZES = {"cpu": 2048, "cuda": 8192}
COPY_BYTES = {"cpu": 2**28, "cuda": 2**30}  # larger than any cache
RATE_SECONDS = 1.0  # for which `measure_machine` tries each rate


def take_turns(
    contenders: Mapping[K, Callable[[], T]], rounds: int, *, warmup: int = 1, title: str = "",
    progress: bool = False,
) -> dict[K, list[T]]:  # fmt: skip
    """Measure contenders in rounds, A B C A B C ..., so that other load on the machine meets all
    alike. Warm-up rounds are not kept."""
    measured: dict[K, list[T]] = {name: [] for name in contenders}
    for number in tqdm(range(-warmup, rounds), title, unit="round", disable=not progress):
        for name, measure in contenders.items():
            value = measure()
            if number >= 0:
                measured[name].append(value)
    return measured


def count_rounds(rounds: int, start: float, time_limit_s: float | None) -> Iterator[int]:
    """Yield 1, 2, ... `rounds`. A round after the first is not begun if it would probably end later
    than `time_limit_s` after `start`."""
    for number in range(1, rounds + 1):
        began = time.perf_counter()
        yield number
        now = time.perf_counter()
        if time_limit_s is not None and now + (now - began) > start + time_limit_s:
            return


def time_step(step: Callable[[], object], device: torch.device, seconds: float = 0.0) -> float:
    """Seconds of one step, the mean over `seconds` or more and one step at least."""
    done, elapsed = fill(partial(time_steps, step, device), seconds)
    return elapsed / done


def time_steps(step: Callable[[], object], device: torch.device, iterations: int) -> float:
    """Seconds that `iterations` steps take, from an idle device to an idle device."""
    synchronize = torch.get_device_module(device).synchronize
    synchronize(device)
    start = time.perf_counter()
    for _ in range(iterations):
        step()
    synchronize(device)
    return time.perf_counter() - start


def fill(time_n: Callable[[int], float], seconds: float) -> tuple[int, float]:
    """Steps done and seconds taken, one step and `seconds` at least; `time_n` does n steps."""
    done, elapsed = 1, time_n(1)
    while elapsed < seconds:
        # As many as should fill the rest: to wait for the device costs a queue refill.
        more = math.ceil((seconds - elapsed) * done / elapsed)
        elapsed += time_n(more)
        done += more
    return done, elapsed


def attempt(action: Callable[[], object]) -> str | None:
    """Run `action`; return why it failed if memory or a library is missing, or else None.

    Nothing of it is held then: a caught error's traceback would keep the tensors of a failed pass.
    """
    try:
        action()
    except (RuntimeError, MemoryError, ImportError) as error:
        return describe_error(error)
    return None


@contextmanager
def equal_tf32() -> Iterator[bool]:
    """Use TF32 in convolutions only if matrix products do: torch's defaults would favour convnets.

    Yields whether they do.
    """
    tf32 = torch.get_float32_matmul_precision() != "highest"
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32):
        yield tf32


def check_settings(precision: str, rounds: int) -> None:
    """Raise ValueError for an unknown precision, or fewer than one round."""
    check_precision(precision)
    if rounds < 1:
        raise ValueError(f"rounds {rounds} would measure nothing; use 1 or more")


def describe_settings(
    device: torch.device, precision: str, rounds: int, **others: Any
) -> dict[str, Any]:
    """Settings that times depend on, beside the machine itself; ready for JSON."""
    return {
        "device": str(device), "precision": precision, "rounds": rounds,
        "threads": torch.get_num_threads(), "torch": torch.__version__, **others,
    }  # fmt: skip


class MatrixProduct:
    """A product of square matrices in the bench's precision, and its rate in each round."""

    def __init__(self, device: torch.device, precision: str):
        size = MATMUL_SIZES[device.type]
        # In the precision itself: autocast would convert both at each call, and that took time.
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.a, self.b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        self.out = torch.empty_like(self.a)
        self.device = device
        self.row = {"size": size, "median": None, "rounds": []}
        self.flops = 2 * size**3  # two a multiply-add
        self.time(1)

    def time(self, iterations: int) -> float:
        """Seconds that `iterations` products take."""
        return time_steps(lambda: torch.mm(self.a, self.b, out=self.out), self.device, iterations)

    def run_round(self, seconds: float) -> None:
        """Note the TFLOP/s of `seconds` or more."""
        done, elapsed = fill(self.time, seconds)
        self.row["rounds"].append(done * self.flops / elapsed / 1e12)
        self.row["median"] = statistics.median(self.row["rounds"])


@dataclass(frozen=True)
class Machine:
    """The rates that floors are computed from."""

    flops_per_second: float  # two FLOPs a multiply-add
    bytes_per_second: float  # read and written


def measure_machine(device: str | torch.device, precision: str = "fp32") -> Machine:
    """Both rates of a device, the fastest found in about two seconds: of a large matrix product and
    of a large copy."""
    device = torch.device(device)
    product = MatrixProduct(device, precision)
    source = torch.ones(COPY_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    time_copies = partial(time_steps, lambda: target.copy_(source), device)
    time_copies(1)
    return Machine(
        flops_per_second=product.flops / _least_seconds(product.time),
        bytes_per_second=2 * source.nbytes / _least_seconds(time_copies),
    )


def _least_seconds(time_n: Callable[[int], float]) -> float:
    """The least seconds of one step: steps that a neighbour disturbs are left out."""
    times, end = [time_n(1)], time.perf_counter() + RATE_SECONDS
    while time.perf_counter() < end:
        times.append(time_n(1))
    return min(times)
