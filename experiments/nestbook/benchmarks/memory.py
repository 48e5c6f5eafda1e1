"""Measure the peak memory of a model's pass, and check whether the machine has enough."""

import re
import weakref
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nestlib.metrics.cost import make_input
from nestlib.models.mode import keeping_state, running_mode

MB = 2**20  # bytes, as nvidia-smi counts


def measure_memory_mb(model: nn.Module, images: Tensor, train: bool = False) -> tuple[float, str]:
    """Peak memory of one pass, in MB (2**20 bytes), and which kind of peak it is.

    With `train` the pass is forward, cross-entropy and backward, without an optimizer. `model` is
    left as it was: its mode, gradients and running statistics. Model and images (B, 3, H, W) must
    be on one device.

    - CUDA, "device peak": weights, images and activations, kernels' work space that comes from
      torch's allocator included, whatever else lives on the device left out.
    - CPU, "activation peak (CPU)": tensors made during the pass and alive at once (with `train`
      gradients too); neither weights nor images, nor work space within a kernel.
    """
    with keeping_state(model), running_mode(model, training=train), torch.set_grad_enabled(train):
        return _measure(model, images, train)


def _measure(model: nn.Module, images: Tensor, train: bool) -> tuple[float, str]:
    held = {t.untyped_storage() for t in (*model.parameters(), *model.buffers(), images)}
    if images.device.type == "cuda":
        others = torch.cuda.memory_allocated(images.device) - sum(s.nbytes() for s in held)
        torch.cuda.reset_peak_memory_stats(images.device)
        _one_pass(model, images, train)
        peak, kind = torch.cuda.max_memory_allocated(images.device) - others, "device peak"
    else:
        with _LivePeak(held) as live:
            _one_pass(model, images, train)
        peak, kind = live.peak, "activation peak (CPU)"
    return peak / MB, kind


def check_fits(model: nn.Module, batch_size: int, image_size: int, train: bool) -> float:
    """Refuse a model that the machine's free memory cannot hold, before the system kills the
    process: Linux gives memory that it does not have.

    `model` is on the meta device, where nothing is allocated. Attention is counted as if it were
    not fused, so what is needed is an upper bound.

    Returns:
        Bytes that a pass needs beside the weights (and, with `train`, AdamW's two moments).

    Raises:
        MemoryError: with what is needed and what is free.
    """
    held = sum(t.nbytes for t in model.parameters()) * (3 if train else 1)
    images = make_input(model, batch_size, image_size, "meta")
    peak = measure_memory_mb(model, images, train=train)[0] * MB  # with gradients
    check_free(held + peak)
    return peak


def check_free(num_bytes: float) -> None:
    """Raise MemoryError if the machine has less free memory."""
    free = _free_memory()
    if free is not None and num_bytes > free:
        raise MemoryError(f"needs {num_bytes / 1e9:.1f} GB; {free / 1e9:.1f} GB are free")


def _free_memory() -> int | None:
    """Bytes of free memory on this machine; None if it does not say."""
    meminfo = Path("/proc/meminfo")
    if not meminfo.exists():
        return None
    found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text())
    return int(found[1]) * 1024 if found else None


def _one_pass(model: nn.Module, images: Tensor, train: bool) -> None:
    logits = model(images)
    if train:
        loss = F.cross_entropy(logits, logits.detach().argmax(1))
        trained = [p for p in model.parameters() if p.requires_grad]
        torch.autograd.grad(loss, trained, allow_unused=True)  # into no .grad, which may be in use


class _LivePeak(TorchDispatchMode):
    """Peak bytes of the storages that operators return, while anything holds them.

    Chosen over torch.profiler's memory events: those name no owner, need a private interface for
    a running total and vary with the allocator; this counts the same on every machine.
    """

    def __init__(self, held: set):
        super().__init__()
        self.seen = {storage._cdata for storage in held}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for storage in {x.untyped_storage() for x in tree_leaves(out) if isinstance(x, Tensor)}:
            key, size = storage._cdata, storage.nbytes()  # the address: views share a storage
            if key not in self.seen:
                self.seen.add(key)
                weakref.finalize(storage, self._free, key, size)
                self.now += size
                self.peak = max(self.peak, self.now)
        return out

    def _free(self, key: int, size: int) -> None:
        self.seen.remove(key)
        self.now -= size
