"""What one model costs: parameters and multiply-adds."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nestlib.models.mode import keeping_state, running_mode

FLOP_COUNTER = "torch.utils.flop_counter.FlopCounterMode / 2, attention unfused"


def count_params(model: nn.Module) -> int:
    """Number of trainable values; a shared parameter counts once."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def make_input(model: nn.Module, batch_size: int, image_size: int, device) -> Tensor:
    """A model's input: RGB images (B, 3, S, S), or a generator's noise (B, latent_dim)."""
    latent_dim = getattr(model, "latent_dim", None)
    shape = (3, image_size, image_size) if latent_dim is None else (latent_dim,)
    return torch.randn(batch_size, *shape, device=device)


def count_gflops(model: nn.Module, image_size: int) -> float:
    """Multiply-adds of one forward pass on one RGB image, in units of 10**9, by `FLOP_COUNTER`.

    Of a generator: to make one image.

    Counts matrix products and convolutions, as the papers' tables do; norms, activations and
    additions are left out.
    """
    # torch's counter knows no formula for the CPU's fused attention, nor for the one operator that
    # torch's own transformer layers are in inference, and would drop either without a word
    # (findings/flop_counter_drops_transformer_layers.sh). Apart, attention is two matrix products,
    # the same count on every device.
    with (
        keeping_state(model), running_mode(model, training=False), torch.no_grad(),
        sdpa_kernel(SDPBackend.MATH), _layers_taken_apart(),
        FlopCounterMode(display=False) as counter,
    ):  # fmt: skip
        model(make_input(model, 1, image_size, next(model.parameters()).device))
    return counter.get_total_flops() / 2 / 1e9


@contextmanager
def _layers_taken_apart() -> Iterator[None]:
    """Run torch's own attention and transformer layers operator by operator, not fused."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
