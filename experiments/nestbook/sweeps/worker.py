"""What each process of a sweep keeps to: it stops at a signal, with its sweep, and in its time."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from nestlib.signals import listen, when_parent_ends

# How long a run that was told to stop may take for its step and its checkpoint.
GRACE_SECONDS = 60.0
# When this process was told to stop, on time.monotonic's clock, which a machine's processes share.
# Times and not a flag: a notebook's workers live on, and the next sweep is not told to stop.
TOLD_TO_STOP: list[float] = []
RUNNING = threading.Lock()  # while this process is at a run


def begin_worker() -> None:
    """Prepare a worker process: a signal between two runs counts too, and so does its sweep's end.

    A sweep that is killed in a worker's first seconds has it end as soon as torch is imported.
    """
    listen(note_signal)
    when_parent_ends(multiprocessing.parent_process().pid, _end)


def note_signal() -> None:
    """Begin no run of this sweep any more."""
    TOLD_TO_STOP.append(time.monotonic())


def tell_workers() -> None:
    """Stop at a signal to the sweep's own process, which may have reached it alone, and pass it on
    to the workers."""
    note_signal()
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGTERM)


@contextmanager
def end_when_late(seconds: float | None) -> Iterator[None]:
    """End a worker that is still inside long after it should have stopped by itself: it hangs, and
    its sweep would wait for it for ever. A sweep's own process is left alone.

    Args:
        seconds: after which it should have stopped; None: never.
    """
    if seconds is None or multiprocessing.parent_process() is None:
        yield
        return
    timer = threading.Timer(min(seconds + GRACE_SECONDS, threading.TIMEOUT_MAX), _end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _end() -> None:
    """Stop this worker's run as a signal does, with a checkpoint; then end the process."""
    os.kill(os.getpid(), signal.SIGTERM)
    RUNNING.acquire(timeout=GRACE_SECONDS)  # a run that hangs never gives it back
    os._exit(1)
