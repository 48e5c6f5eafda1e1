"""The device and the processes of a run: one process, or those that torchrun started."""

import os
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")
RANK_TIMEOUT = 600.0  # seconds that ranks wait for one another


class DeviceError(RuntimeError):
    """The device asked for cannot be used; the message says why and what would work."""


def resolve_device(name: str = "auto") -> torch.device:
    """The device to run on; "auto" takes CUDA if a driver is present, else the CPU.

    Without an index it is this rank's GPU. It becomes the current one: torch makes streams and
    events on that, and NCCL sends objects from it, wherever the tensors are. A driver that is
    there but does not work (too old for this PyTorch, say) is an error, never a silent run on the
    CPU.

    Raises:
        DeviceError: no such device, or CUDA cannot start; with PyTorch's reason and the remedy.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", name):
        raise DeviceError(f"device {name!r} is not one of auto, cpu, cuda, cuda:<index>")
    if name == "cpu":
        return torch.device("cpu")
    try:
        torch.cuda.init()
        if not torch.cuda.device_count():
            raise RuntimeError("no CUDA GPUs are available")
    except (RuntimeError, AssertionError) as error:  # AssertionError: a build without CUDA
        reason = str(error).strip().split("\n")[0]
        if name == "auto" and not _has_nvidia_driver():
            return torch.device("cpu")
        raise DeviceError(
            f"CUDA does not start: {reason} (PyTorch {torch.__version__} is built for CUDA "
            f"{torch.version.cuda}). Update the driver, install the PyTorch build for yours, or "
            "ask for the CPU with --device cpu"
        ) from error
    index = int(name.partition(":")[2] or _read_count("LOCAL_RANK", 0))
    if index >= torch.cuda.device_count():
        raise DeviceError(
            f"device cuda:{index} is not there; this process sees cuda:0 to "
            f"cuda:{torch.cuda.device_count() - 1}. Name one of them, or start one rank for each"
        )
    device = torch.device("cuda", index)
    torch.cuda.set_device(device)
    return device


def _has_nvidia_driver() -> bool:
    # By device nodes: /proc/driver/nvidia shows in any container on a GPU's host.
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "unset") in ("", "-1")
    return not hidden and any(map(os.path.exists, ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")))


def _warn_of_shared_store() -> None:
    restarts = _read_count("TORCHELASTIC_MAX_RESTARTS", 0)
    if restarts and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":
        warnings.warn(
            "ranks that torchrun restarts may use the addresses of dead ranks and hang; set "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 for torchrun",
            stacklevel=3,
        )


def count_ranks() -> int:
    """How many processes were started together.

    Raises:
        DeviceError: WORLD_SIZE is no number.
    """
    return _read_count("WORLD_SIZE", 1)


def _read_count(name: str, default: int) -> int:
    """A variable that torchrun sets, or `default` where it is not set."""
    text = os.environ.get(name, "") or str(default)
    if not re.fullmatch(r"[0-9]{1,9}", text) or (default and not int(text)):
        raise DeviceError(
            f"the environment variable {name} is {text!r:.40}, must be a whole number from "
            f"{default}; torchrun sets it: unset it, or start the ranks by torchrun"
        )
    return int(text)


@dataclass(frozen=True)
class Ranks:
    """This process among all: rank 0 of 1 unless torchrun started more."""

    rank: int = 0
    size: int = 1

    @classmethod
    def join(cls, device: torch.device, timeout: float = RANK_TIMEOUT) -> "Ranks":
        """Join the process group that torchrun's environment describes (gloo on CPUs).

        Ranks wait `timeout` seconds for one another, then the group is lost: each ends with an
        error, and torch elastic or Slurm starts all of them again.
        """
        size = count_ranks()
        if size == 1:
            return cls()
        if not dist.is_initialized():
            _warn_of_shared_store()
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo", timeout=timedelta(seconds=timeout)
            )
        return cls(dist.get_rank(), size)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def own_parts(self, parts: int) -> range:
        """The numbers of this rank's parts of a batch: neighbours, one more or less than others."""
        return range(self.rank * parts // self.size, (self.rank + 1) * parts // self.size)

    def share(self, order: torch.Tensor, batch_size: int, parts: int | None = None) -> torch.Tensor:
        """This rank's parts of each global batch, batches in order: (n,) -> (about n / size,).

        parts: into how many a batch is cut; default: one per rank.
        """
        parts = parts or self.size
        own, part_size = self.own_parts(parts), batch_size // parts
        batches = order.view(-1, batch_size)
        return batches[:, own.start * part_size : own.stop * part_size].flatten()

    def broadcast(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every rank the main rank's values."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over ranks, on all ranks; `values` of float32, float64 or int64.

        A NaN of any rank makes it NaN. gloo's MAX and MIN, which compare by < and >, lose a NaN on
        some ranks and elements. Its sum of bools holds bytes of 2, and it refuses int16 and fp8
        (seen with torch 2.14.1). So sums are the only reduction here.
        """
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: T) -> list[T]:
        """Every rank's value, on all ranks; for small values, as they are pickled."""
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def together(self, act: Callable[[], T]) -> list[T]:
        """Every rank's result of `act`, on all ranks; an error on one rank is raised on all.

        Else the others would wait for one that has ended. For small values, as they are pickled.
        """
        if self.size == 1:
            return [act()]
        try:
            own = act(), None
        except Exception as error:
            own = None, error
        values, errors = zip(*self.gather(own))
        for error in (own[1], *errors):
            if error is not None:
                raise error
        return list(values)

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace each tensor by its mean over ranks, in one exchange for all."""
        if self.size > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            parts = (flat / self.size).split([tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts):
                tensor.copy_(part.view_as(tensor))
