"""Stop a run before its end by its clock; nestlib.signals has the signals that stop it."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

FIRST_SECONDS = 5  # that a first step has in any case, so that short calls go on, too


class Overdue(Exception):
    """The deadline passed within a step."""


def is_out_of_memory(error: Exception) -> bool:
    """Whether torch or Python found no memory; for a CPU's, torch has no error of its own."""
    known = MemoryError, torch.OutOfMemoryError
    return isinstance(error, known) or "DefaultCPUAllocator" in str(error)


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

    @contextmanager
    def watch(self, models: Iterable[nn.Module]) -> Iterator[ExitStack]:
        """Raise Overdue within a pass through a model on a CPU that outlasts the deadline.

        For a first step, of which nobody knows how long it takes: its layers look at the clock,
        forward and backward. `close` of what is given ends the watch; it changes no result.
        """
        with ExitStack() as watched:
            end = None if self.deadline is None else max(self.deadline, self.start + FIRST_SECONDS)

            def look(*_) -> None:
                if time.monotonic() > end:
                    raise Overdue

            def look_back(module: nn.Module, inputs: tuple, output: object) -> None:
                look()
                if isinstance(output, Tensor) and output.requires_grad:
                    output.register_hook(look)

            layers = (layer for model in models for layer in model.modules())
            for layer in layers if end is not None else ():
                if not [*layer.children()]:
                    watched.callback(layer.register_forward_hook(look_back).remove)
            yield watched

    def checkpoint_is_due(self) -> bool:
        return time.monotonic() - self.last_checkpoint > self.every

    def checkpointed(self, seconds: float) -> None:
        self.last_checkpoint, self.save_seconds = time.monotonic(), 2 * seconds
