"""Stop a run before its end by its clock; nestlib.signals has the signals that stop it."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Seconds of a run: in all, resumed parts included; to its deadline; to its next checkpoint.

    Args:
        before: seconds that earlier calls trained.
        deadline: when to have ended, on time.monotonic's clock; None: never.
        checkpoint_seconds: between checkpoints.
        save_seconds: what a checkpoint may take, until one was measured.
    """

    def __init__(
        self, before: float, deadline: float | None, checkpoint_seconds: float, save_seconds: float
    ):
        self.start = self.mark = self.last_checkpoint = time.monotonic()
        self.before, self.deadline, self.every = before, deadline, checkpoint_seconds
        self.save_seconds = save_seconds
        # Enough steps to hold those at which a GPU is waited for, few enough to forget a compile.
        self.steps: deque[float] = deque(maxlen=100)

    def train_seconds(self) -> float:
        return self.before + time.monotonic() - self.start

    def step_done(self) -> None:
        now = time.monotonic()
        self.steps.append(now - self.mark)
        self.mark = now

    def longest_step(self) -> float:
        return max(self.steps, default=0.0)

    def is_over(self, next_seconds: float) -> bool:
        """Whether `next_seconds` more, and the checkpoint after them, would pass the deadline."""
        if self.deadline is None:
            return False
        return time.monotonic() + next_seconds + self.save_seconds > self.deadline

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Leave what runs inside out of the time of a step."""
        yield
        self.mark = time.monotonic()

    def checkpoint_is_due(self) -> bool:
        return time.monotonic() - self.last_checkpoint > self.every

    def checkpointed(self, seconds: float) -> None:
        self.last_checkpoint, self.save_seconds = time.monotonic(), 2 * seconds
