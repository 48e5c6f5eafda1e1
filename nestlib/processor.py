"""What this CPU does well, and how to use it: bf16, products, threads, memory."""

import ctypes
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch

# glibc's mallopt (malloc.h): from which size on a block is mapped by itself, and how much free
# memory the heap keeps at its end.
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1
_LARGEST_KEPT = 2**30  # bytes


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread: tiny steps and work bound by memory gain next to nothing from more.

    They do cost where the cores are busy, with a loader's workers say: threads that share an
    operation end together, and the last of them waits for a core.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@cache
def has_bf16_products() -> bool:
    """Whether this CPU multiplies bf16 itself (AVX512-BF16, AMX or Arm's BF16), as torch reads it.

    A CPU without computes bf16 by way of fp32: right, but slower than fp32.
    """
    found = _capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


@cache
def prefers_convolutions() -> bool:
    """Whether linear layers run faster as 1x1 convolutions (oneDNN) than as linear (MKL, oneDNN).

    They do on AMD processors, in fp32 and in bf16 (`nest profile products`, page "Speed"). The
    maker decides and not a trial at each start: a trial may end either way, and then two starts of
    one run would not give the same bits. Other makers' processors have no record yet.
    """
    is_amd = _capabilities().get("cpu_name", "").startswith("AMD")
    return is_amd and torch.backends.mkldnn.is_available()


def _capabilities() -> Mapping[str, Any]:
    """The features of this CPU that torch detects; empty if torch is too old to say."""
    return getattr(torch.cpu, "get_capabilities", dict)()


def keep_freed_memory() -> None:
    """Let this process use freed blocks of up to a GiB again, whatever their size.

    glibc gives large blocks back to the kernel when they are freed, and the next tensor meets pages
    that the kernel has to clear one by one (findings/cpu_freed_tensors_cost_page_faults.sh). For
    loops that allocate the same sizes again and again.
    Does nothing where the C library is not glibc, and cannot be taken back.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_M_TRIM_THRESHOLD, _LARGEST_KEPT)
