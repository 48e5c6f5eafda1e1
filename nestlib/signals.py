"""Signals that ask a run to stop: its loop ends after the current step and keeps a checkpoint."""

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


def _present(*names: str) -> tuple[signal.Signals, ...]:
    return tuple(getattr(signal, name) for name in names if hasattr(signal, name))


# What `sbatch --signal` and `scancel --signal` are often told to send before a job's time is over.
USER_SIGNALS = _present("SIGUSR1", "SIGUSR2")
# Ctrl-C; preemption; a terminal that is closed. Windows has the first two.
STOP_SIGNALS = _present("SIGINT", "SIGTERM", "SIGHUP") + USER_SIGNALS
# Launchers hand on a Ctrl-C that the terminal has sent to all processes already: a second one so
# soon after the first asks for nothing more.
SAME_CTRL_C_SECONDS = 2.0
PARENT_SECONDS = 0.2  # between looks whether a worker's parent still lives
_CTRL_C = (
    b"\nStopping after this step, with a checkpoint unless it is a smoke run. Ctrl-C once more "
    b"stops at once and loses the steps since the last checkpoint.\n"
)

_LISTENERS: list[Callable[[], None]] = []  # of the blocks that are open, the outermost first
_INTERRUPTED: list[float] = []  # when the first Ctrl-C came, while any block is open
_TOLD: list[int] = []  # the signals that came since the outermost block was opened


@contextmanager
def stop_signal(also: Callable[[], None] | None = None) -> Iterator[threading.Event]:
    """An event that STOP_SIGNALS set, so that a loop ends after its step; restored on leaving.

    Blocks may be nested: all of them are told, also one that is opened after the signal. A signal
    that this process ignores, as `nohup` makes it ignore SIGHUP, stays ignored. In other threads
    than the main one the event is never set.

    Args:
        also: called at each signal.
    """
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    own, heeded = [stopped.set] if also is None else [stopped.set, also], _heeded()
    _LISTENERS.extend(own)
    for number in heeded:
        signal.signal(number, _tell)
    if _TOLD:
        _call(own)
    try:
        yield stopped
    finally:
        for number, handler in heeded.items():
            signal.signal(number, handler)
        del _LISTENERS[-len(own) :]
        if not _LISTENERS:
            _INTERRUPTED.clear()
            _TOLD.clear()


def listen(call: Callable[[], None]) -> None:
    """Call at each of STOP_SIGNALS from now on, outside `stop_signal` too: a worker process idles
    between two runs, and must not end there."""
    for number in _heeded():
        signal.signal(number, lambda *_: _call([call]))


def when_parent_ends(parent: int, call: Callable[[], object]) -> None:
    """Call, in a thread of its own, when this process's parent has ended: a worker would wait for
    ever for its next task, and hold a lock. Windows keeps a dead parent's id: there nothing is
    called.

    Args:
        parent: the parent's process id.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_SECONDS)
        call()

    threading.Thread(target=watch, daemon=True).start()


def _heeded() -> dict[int, object]:
    """The signals that this process does not ignore, and their handlers."""
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    return {n: handler for n, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}


def _tell(number: int, frame: object) -> None:
    """The handler of all blocks. A second Ctrl-C, well after the first, is Python's own."""
    _TOLD.append(number)
    _call(_LISTENERS)
    if number != signal.SIGINT:
        return
    now = time.monotonic()
    if not _INTERRUPTED:
        _INTERRUPTED.append(now)
        if multiprocessing.parent_process() is None and os.environ.get("RANK", "0") == "0":
            with contextlib.suppress(OSError):  # no terminal any more
                os.write(2, _CTRL_C)
    elif now - _INTERRUPTED[0] > SAME_CTRL_C_SECONDS:
        raise KeyboardInterrupt


_CALLING: list[bool] = []  # True while listeners are called


def _call(listeners: list[Callable[[], None]]) -> None:
    """Call each, once: a second signal within the first one's call would wait for ever for the lock
    of an event that the first is setting."""
    if _CALLING:
        return
    _CALLING.append(True)
    try:
        for listener in listeners:
            listener()
    finally:
        _CALLING.clear()
