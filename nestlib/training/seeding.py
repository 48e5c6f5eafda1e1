"""Randomness as a function of (seed, step, rank): nothing to save, nothing to restore."""

import numpy as np
import torch
from torch import Tensor

from nestlib.data.containers import FolderSet, ImageSet


def seed_step(seed: int, step: int, rank: int, generator: torch.Generator) -> None:
    """Seed stochastic depth (the global generators) and augmentation for one step."""
    torch.manual_seed(derive_seed(seed, step, rank, 0))
    generator.manual_seed(derive_seed(seed, step, rank, 1))


def derive_seed(*parts: int) -> int:
    """A 63-bit seed that is a function of all parts, by numpy's SeedSequence."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def epoch_order(seed: int, epoch: int, images: ImageSet | FolderSet, batch_size: int) -> Tensor:
    """The order of one epoch's images, equal on all ranks and for any number of them."""
    return images.shuffle(derive_seed(seed, epoch, 2), batch_size)
