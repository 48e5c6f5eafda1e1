"""Evaluation mode for a while, and every part's own mode again."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def running_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Training or evaluation mode inside; after it each module's own one.

    Unlike `model.train()`, this leaves parts frozen in evaluation mode, as BatchNorms are when one
    fine-tunes, as they were.
    """
    before = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, mode in before:
            module.training = mode
