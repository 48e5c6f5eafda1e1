"""Spread a sweep's runs over devices, one run at a time on each."""

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import torch

from nestlib.files import Held, hold
from nestlib.training.devices import resolve_device


def list_devices(name: str = "auto") -> list[str]:
    """Devices that runs can be spread over: "auto" gives all GPUs if there are any, else the CPU.

    Raises:
        DeviceError: as `resolve_device`.
    """
    where = resolve_device(name)
    if name != "auto" or where.type == "cpu":
        return [str(where)]
    return [f"cuda:{index}" for index in range(torch.cuda.device_count())]


@contextmanager
def free_device(devices: Sequence[str], poll_seconds: float = 1.0) -> Iterator[str]:
    """Take one of `devices` that no other process of this machine has taken; wait for one.

    The lock ends with its process. The CPU is free for all.
    """
    with ExitStack() as stack:
        while True:
            for device in devices:
                if device == "cpu":
                    yield device
                    return
                with suppress(Held):
                    stack.enter_context(hold(_device_lock(device)))
                    yield device
                    return
            time.sleep(poll_seconds)


def _device_lock(device: str) -> Path:
    """The lock of a GPU by its number on the machine, whichever GPUs this process can see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    index = int(device.partition(":")[2] or 0)
    name = visible.split(",")[index] if visible else str(index)
    # Slurm gives each job GPUs of its own, and may count them from 0 in every one.
    if "SLURM_JOB_ID" in os.environ:
        name += f"-of-job-{os.environ['SLURM_JOB_ID']}"
    user = os.getuid() if hasattr(os, "getuid") else "locks"  # Windows: a user's own folder already
    return Path(tempfile.gettempdir()) / f"nestlib-{user}" / f"gpu-{name}.lock"
