"""torch on one of the CPU's threads for a while: where more would only wait for one another."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread() -> Iterator[None]:
    """For thousands of tiny steps, or what is bound by memory: more threads gain next to nothing.

    They do cost where the cores are busy, with a loader's workers say: threads that share an
    operation end together, and the last of them waits for a core.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
