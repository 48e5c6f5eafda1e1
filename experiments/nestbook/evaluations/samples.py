"""Images of a finished run's generator for the pages: a grid, a walk through its noise, and each
sample's nearest training image."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nestlib.data.containers import FolderSet, ImageSet
from nestlib.metrics.generation import generate, to_bytes
from nestlib.recipes.recipe import GanRecipe
from nestlib.records import Store
from nestlib.runs.subsets import load_split
from nestlib.runs.weights import load_run

GRID = 8
WALKS, WALK_STEPS = 4, 10
CHUNK = 256
HELD_OUT = 256  # test images whose nearest training images say what is near


@dataclass(frozen=True)
class Samples:
    """What one generator makes: grid (8, 8, H, W, 3) uint8, walks (W, steps, H, W, 3) likewise."""

    run_id: str
    grid: np.ndarray
    walks: np.ndarray


@dataclass(frozen=True)
class Neighbours:
    """Samples (N, H, W, 3) uint8 and their nearest training images.

    nearest is None where the data set's images may not be handed on; names then tells them, by file
    or by place in the set. Distances as `find_nearest` has them. held_out: those of test images.
    """

    run_id: str
    dataset: str
    samples: np.ndarray
    nearest: np.ndarray | None
    names: tuple[str, ...]
    distances: tuple[float, ...]
    held_out: tuple[float, ...]


def draw_samples(
    recipe: GanRecipe, store: Store, *, seed: int = 0, runs_dir: Path | None = None
) -> Samples:
    """The first 64 samples of a run's generator, and walks between its first noise vectors.

    A smoke recipe's generator is untrained.

    Raises:
        FileNotFoundError: no finished run, or no weights.
    """
    generator = _load(recipe, store, runs_dir)
    grid = to_pixels(generate(generator, GRID**2, seed=seed))
    walks = walk_noise(generator, WALKS, WALK_STEPS, seed=seed)
    return Samples(
        recipe.run_id, grid.reshape(GRID, GRID, *grid.shape[1:]),
        np.stack([to_pixels(walk) for walk in walks]),
    )  # fmt: skip


@torch.inference_mode()
def walk_noise(generator: nn.Module, walks: int, steps: int, *, seed: int) -> Tensor:
    """Images along arcs from each of `walks` noise vectors to the next: (walks, steps, 3, H, W).

    Arcs, as normal noise of many dimensions lies near a sphere and its chords go through places
    that the generator was never trained on.
    """
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(walks + 1, generator.latent_dim, generator=random)
    shares = torch.linspace(0, 1, steps)[:, None]
    images = []
    for start, end in pairwise(noise):
        angle = torch.acos(torch.cosine_similarity(start, end, dim=0).clamp(-1, 1))
        arc = torch.sin((1 - shares) * angle) * start + torch.sin(shares * angle) * end
        images.append(to_bytes(generator(arc / torch.sin(angle))))
    return torch.stack(images)


def compare_with_training(
    recipe: GanRecipe, store: Store, *, count: int = 8, seed: int = 0,
    data_dir: Path | None = None, runs_dir: Path | None = None,
) -> Neighbours:  # fmt: skip
    """The first samples of a run's generator beside their nearest training images.

    Raises:
        FileNotFoundError: no finished run, no weights, or no data.
    """
    train, test = (load_split(recipe, split, data_dir=data_dir) for split in ("train", "test"))
    samples = generate(_load(recipe, store, runs_dir), count, seed=seed)
    distances, indices = find_nearest(samples, train)
    order = torch.arange(min(HELD_OUT, len(test)))
    held_out = next(test.iterate(order, HELD_OUT, seed=0))[0]
    shown = train.images[indices] if recipe.dataset == "digits" else None
    return Neighbours(
        recipe.run_id, recipe.dataset, to_pixels(samples),
        None if shown is None else to_pixels(shown),
        tuple(_name(train, int(index)) for index in indices), tuple(distances.tolist()),
        tuple(find_nearest(held_out, train)[0].tolist()),
    )  # fmt: skip


def find_nearest(images: Tensor, reference: ImageSet | FolderSet) -> tuple[Tensor, Tensor]:
    """The nearest of all reference images to each of images (N, 3, H, W) uint8.

    Near in pixels alone: a copy that is moved by two pixels is far.

    Returns:
        Root mean square differences (N,) float32, in steps of 0..255, and indices (N,).

    Raises:
        ValueError: images of another size than the reference's.
    """
    if images.shape[-2:] != reference.image_size:
        raise ValueError(
            f"images of {tuple(images.shape[-2:])} pixels against {reference.image_size}; give "
            "equal sizes"
        )
    flat = images.float().flatten(1)
    order = torch.arange(len(reference))
    # Differences one by one: by a matrix product small distances would be lost to rounding.
    exact = {"compute_mode": "donot_use_mm_for_euclid_dist"}
    distances = torch.cat([
        torch.cdist(part.cpu().float().flatten(1), flat, **exact)
        for part, _ in reference.iterate(order, CHUNK, seed=0)
    ])  # (reference, N)  # fmt: skip
    nearest, indices = distances.min(0)
    return nearest / flat.shape[1] ** 0.5, indices


def _name(images: ImageSet | FolderSet, index: int) -> str:
    if isinstance(images, FolderSet):
        return images.files[index].decode()
    return f"{images.split} image {index}"


def _load(recipe: GanRecipe, store: Store, runs_dir: Path | None) -> nn.Module:
    if recipe.budget == "smoke":
        return recipe.build_generator().eval()
    return load_run(recipe, store, runs_dir)


def to_pixels(images: Tensor) -> np.ndarray:
    """Images (N, 3, H, W) as pictures take them: (N, H, W, 3)."""
    return images.permute(0, 2, 3, 1).contiguous().numpy()
