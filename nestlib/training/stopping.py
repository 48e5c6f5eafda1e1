"""When a run stops before its end: a time limit, a signal."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def stop_signal() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, so that the loop ends after its step; restored on leaving."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    old = signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGTERM, old)


class Clock:
    """Seconds of a run: in all, resumed parts included; to its limit; to its next checkpoint."""

    def __init__(self, before: float, max_seconds: float | None, checkpoint_seconds: float):
        self.start = self.last_step = self.last_checkpoint = time.monotonic()
        self.before, self.max_seconds, self.every = before, max_seconds, checkpoint_seconds
        self.longest_step = 0.0

    def train_seconds(self) -> float:
        return self.before + time.monotonic() - self.start

    def is_over(self) -> bool:
        """Would another step, twice the longest so far, pass the limit? Call once a step."""
        now = time.monotonic()
        self.longest_step = max(self.longest_step, now - self.last_step)
        self.last_step = now
        return self.max_seconds is not None and (
            now + 2 * self.longest_step - self.start > self.max_seconds
        )

    def checkpoint_is_due(self) -> bool:
        return time.monotonic() - self.last_checkpoint > self.every

    def checkpointed(self) -> None:
        self.last_checkpoint = time.monotonic()
