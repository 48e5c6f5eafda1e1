"""Look at a model and leave it as it was: its mode, its buffers, the random state around it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def running_mode(model: nn.Module, training: bool) -> Iterator[None]:
    """Set training or evaluation mode inside; restore each module's own mode afterwards.

    Unlike `model.train()`, this leaves parts frozen in evaluation mode, as BatchNorms are when one
    fine-tunes, as they were. One thread at a time: a model has one mode.
    """
    before = [(module, module.training) for module in model.modules()]
    try:
        model.train(training)
        yield
    finally:
        for module, mode in before:
            module.training = mode


@contextmanager
def keeping_state(model: nn.Module) -> Iterator[None]:
    """Restore the model's buffers, running statistics among them, and torch's random state."""
    buffers = [
        (module._buffers, name, buffer, buffer.clone())
        for module in model.modules() for name, buffer in module._buffers.items()
        if buffer is not None
    ]  # fmt: skip
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            with torch.inference_mode():  # which may write to what was made in it, and to the rest
                for own, name, buffer, before in buffers:
                    buffer.copy_(before)
                    own[name] = buffer


@contextmanager
def taking_gradients(model: nn.Module) -> Iterator[None]:
    """Enable gradients inside, even if the caller is in no_grad or inference_mode.

    Raises:
        ValueError: weights made in inference mode, which torch takes no gradients through.
    """
    if any(p.is_inference() for p in model.parameters()):
        raise ValueError(
            f"the weights of this {type(model).__name__} were made inside torch.inference_mode(), "
            "so torch cannot compute gradients through them; build or load the model outside of it"
        )
    with torch.inference_mode(False), torch.enable_grad():
        yield
