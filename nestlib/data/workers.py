"""Worker processes that read images for a DataLoader."""

import atexit
import re
import signal
from collections.abc import Iterator
from typing import Any
from weakref import WeakSet

from torch.utils.data import DataLoader

from nestlib.signals import STOP_SIGNALS

_OPEN: WeakSet[Iterator] = WeakSet()  # whose workers this process may still have


def read_batches(loader: DataLoader) -> Iterator[Any]:
    """A loader's batches; its workers outlive stop signals, but not this process.

    A terminal or a scheduler signals all processes of a run at once. Workers that die would take
    the main process with them before it has saved anything.

    Raises:
        OSError: the workers' batches do not fit into /dev/shm, or a worker was killed.
        Exception: what the data set raises in a worker; of an OSError, its own words, without the
            worker's traceback, which torch puts into the message.
    """
    if not loader.num_workers or not hasattr(signal, "pthread_sigmask"):  # Windows has none
        yield from loader
        return
    batches = _start(loader)
    try:
        yield from batches
    except RuntimeError as error:
        if reason := _explain(str(error), loader.num_workers):
            raise OSError(reason) from error
        raise
    except OSError as error:
        if words := _find_words(error):
            raise type(error)(words) from error
        raise
    finally:
        batches._shutdown_workers()


def _find_words(error: OSError) -> str:
    """The message of a worker's error, at the end of the traceback in its place; "" if there is
    none."""
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ == "builtins"
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    traceback, _, words = str(error).rpartition(f"\n{name}: ")
    return words.strip() if " in DataLoader worker process " in traceback else ""


def _explain(said: str, num_workers: int) -> str:
    """What can be done about an error of torch's; "" where it is none of the workers' end."""
    if "shared memory" in said:
        return (
            f"/dev/shm is too small for the batches of {num_workers} workers; give the container "
            "more of it (docker run --shm-size=8g), or set dataset_options.num_workers=0"
        )
    ended = re.match(r"DataLoader worker .*(killed by signal: [\w ]+|exited unexpectedly)", said)
    return ended and (
        f"one of {num_workers} processes that read images has ended ({ended[1].strip()}), perhaps "
        "because memory ran out; free some, or set dataset_options.num_workers to fewer, then give "
        "the same command again: a run resumes from its last checkpoint"
    )


def _start(loader: DataLoader) -> Iterator[Any]:
    loader.worker_init_fn = _outlive_stop_signals
    held = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)  # until a worker has begun
    try:
        batches = iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    _OPEN.add(batches)
    return batches


def _outlive_stop_signals(*_: object) -> None:
    """Let a worker ignore stop signals; a second SIGTERM ends it."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


@atexit.register
def _end_workers() -> None:
    # multiprocessing sends workers one SIGTERM, which they outlive, and would wait for ever.
    for batches in list(_OPEN):
        batches._shutdown_workers()
