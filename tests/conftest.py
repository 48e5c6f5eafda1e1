"""Shared fixtures. Tests that need the real images in ../shared skip where it is absent."""

import os
from pathlib import Path

# Two processes share two cores: waiting threads must not spin. Set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch

from nestlib.data.augment import Augmentation
from nestlib.recipe import Recipe

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture
def tiny_recipe() -> Recipe:
    """Trains in a second, with everything on that draws random numbers."""
    return Recipe(
        name="digits/tiny", model="nest_tiny_cifar", dataset="digits",
        model_options={"embed_dim": 12, "num_hierarchies": 2, "patch_size": 4},
        dataset_options={"num_images": 96}, augmentation=Augmentation(flip=0.0), epochs=3,
        warmup_epochs=1, batch_size=32, drop_path_rate=0.2, ema_decay=0.9, budget="quick",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _one_thread():
    """Small models are faster so, and bit-equal runs need one number of threads."""
    torch.set_num_threads(1)
