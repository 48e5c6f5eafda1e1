"""Compile models side by side in processes of their own, into torch's cache, before they are timed.

python -m nestbook.run_plan.compile_ahead row "nestlib nest_tiny compiled" cuda
python -m nestbook.run_plan.compile_ahead step cifar10/nest_tiny_s2_depth3 cuda
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from nestbook.benchmarks.bench import prepare_rival
from nestbook.run_plan.schedule import measure_step
from nestlib.recipes.named import get_recipe

CACHE = "TORCHINDUCTOR_CACHE_DIR"
Job = tuple[str, str]  # "row" and a name of RIVALS, or "step" and a recipe's name


class Compilations:
    """Processes that compile; what they leave is a cache in `folder`, for this process too.

    Args:
        folder: of the cache, and of one log a job.
        device: of every job.
    """

    def __init__(self, jobs: Sequence[Job], folder: Path, device: str):
        folder.mkdir(parents=True, exist_ok=True)
        os.environ[CACHE] = str(folder.absolute())
        self.running = {job: _start(job, folder / f"{i}.log", device) for i, job in enumerate(jobs)}

    def wait(self, seconds: float, now: Callable[[], float] = time.monotonic) -> dict[Job, str]:
        """Wait at most `seconds`, end what still runs, and return for each job "" or why it is not
        compiled."""
        deadline, said = now() + seconds, {}
        for job, process in self.running.items():
            try:
                code = process.wait(max(0.0, deadline - now()))
                said[job] = "" if code == 0 else f"its process ended with {code}"
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)  # its compilers too
                process.wait()
                said[job] = f"not compiled within {seconds:.0f} s"
        self.running = {}
        return said

    def end(self) -> None:
        """End what still runs."""
        self.wait(0.0)


def _start(job: Job, log: Path, device: str) -> subprocess.Popen:
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "nestbook.run_plan.compile_ahead", *job, device],
            stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip


def main(kind: str, name: str, device: str) -> str:
    """Compile one job; return "" or why it failed."""
    where = torch.device(device)
    if kind == "row":
        return prepare_rival(name, where)
    return measure_step(get_recipe(name), "compiled", where, limit_seconds=0).error


if __name__ == "__main__":
    from nestbook import extension
    from nestlib.extensions import register
    from nestlib.signals import when_parent_ends

    register(extension)
    # Its group is its own: itself and the compilers that it starts.
    when_parent_ends(os.getppid(), partial(os.killpg, os.getpgrp(), signal.SIGKILL))
    sys.exit(main(*sys.argv[1:]) or 0)  # a text is printed, and the code is 1
