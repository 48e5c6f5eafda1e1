"""What a machine can do at best: the rate of a plain matrix product."""

import math
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch

# Edges of the square product: large enough that arithmetic bounds it, not memory.
MATMUL_SIZES = {"cpu": 2048, "cuda": 8192}


class MatrixProduct:
    """A product of square matrices in the bench's precision, and its rate in each round."""

    def __init__(self, device: torch.device, precision: str):
        size = MATMUL_SIZES[device.type]
        # In the precision itself: autocast would convert both at each call, and that took time.
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.a, self.b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        self.out = torch.empty_like(self.a)
        self.synchronize = partial(torch.get_device_module(device).synchronize, device)
        self.row = {"size": size, "median": None, "rounds": []}
        self._time(1)

    def _time(self, iterations: int) -> float:
        self.synchronize()
        start = time.perf_counter()
        for _ in range(iterations):
            torch.mm(self.a, self.b, out=self.out)
        self.synchronize()
        return time.perf_counter() - start

    def run_round(self, seconds: float) -> None:
        """Note the TFLOP/s of `seconds` or more."""
        done, elapsed = fill(self._time, seconds)
        self.row["rounds"].append(done * 2 * self.row["size"] ** 3 / elapsed / 1e12)
        self.row["median"] = statistics.median(self.row["rounds"])


def fill(time_steps: Callable[[int], float], seconds: float) -> tuple[int, float]:
    """Steps done and seconds taken, one step and `seconds` at least; `time_steps` does n steps."""
    done, elapsed = 1, time_steps(1)
    while elapsed < seconds:
        # As many as should fill the rest: to wait for the device costs a queue refill.
        more = math.ceil((seconds - elapsed) * done / elapsed)
        elapsed += time_steps(more)
        done += more
    return done, elapsed
