"""Measure whether explanations point at what they were asked for, on canvases of planted truth.

A way to explain is a function (model, images, classes) -> points (B, 2), x and y in pixels: where
it says that the class is. GradCAT's point is the middle of its leaf block, a map's that of its
largest place; every point is then judged by the leaf block that it lies in.

Shapes: B canvases, K digits a canvas, G x G leaf blocks; Q = B * K queries, a canvas and a class.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from nestlib.data.augment import normalize
from nestlib.data.containers import ImageSet
from nestlib.explain.gradcat import gradcat
from nestlib.metrics.intervals import wilson
from nestlib.models.mode import running_mode
from nestlib.models.nest import NesT

Way = Callable[[NesT, Tensor, Tensor], np.ndarray]
BATCH = 64
# The best leaf block of a digit holds the largest part of its box. A block with half of that part
# or more still shows the digit, and counts.
SHARE_OF_BEST = 0.5


def point_by_gradcat(**options: str) -> Way:
    """The middle of GradCAT's leaf block; options are `gradcat`'s."""

    def point(model: NesT, images: Tensor, classes: Tensor) -> np.ndarray:
        x0, y0, x1, y1 = gradcat(model, images, classes, **options).boxes[:, -1].T
        return np.stack([x0 + x1 + 1, y0 + y1 + 1], 1) / 2

    return point


def point_by_map(class_maps: Callable[[NesT, Tensor, Tensor], Tensor]) -> Way:
    """The middle of a map's largest place; class_maps gives (B, h, w)."""

    def point(model: NesT, images: Tensor, classes: Tensor) -> np.ndarray:
        maps = class_maps(model, images, classes)
        h, w = maps.shape[1:]
        best = maps.flatten(1).argmax(1).cpu().numpy()
        step = np.array([images.shape[-1] / w, images.shape[-2] / h])
        return (np.stack([best % w, best // w], 1) + 0.5) * step

    return point


def grounding(
    model: NesT, canvases: ImageSet, ways: dict[str, Way], *, progress: bool = True
) -> dict:
    """How often each way points at the digit that it was asked for.

    Every digit of every canvas is asked for once. A quadrant is hit where it is that of the
    digit's middle, a leaf block where it holds at least half as much of the digit's box as the
    block that holds most.

    Returns:
        queries Q; chance: what a block drawn at random hits, exactly; ways: {name: hits of
        quadrants and leaf blocks}.

    Raises:
        ValueError: canvases without boxes.
    """
    if canvases.boxes is None:
        raise ValueError(f"{canvases.name} {canvases.split} does not have boxes to judge by")
    leaf = model.patch_size * model.block_size
    size = canvases.images.shape[-1]
    good = good_leaves(canvases.boxes.numpy(), leaf, size)  # (B, K, G, G)
    quadrants = quadrants_of(canvases.boxes.numpy(), size)  # (B, K)
    K = quadrants.shape[1]
    hits = {name: {"quadrant": 0, "leaf": 0} for name in ways}
    starts = range(0, len(canvases), max(1, BATCH // K))
    for start in tqdm(starts, desc="planted truth", disable=not progress):
        part = slice(start, start + max(1, BATCH // K))
        images = normalize(canvases.images[part], canvases.mean, canvases.std)
        images = images.repeat_interleave(K, 0)
        classes = canvases.box_labels[part].flatten()
        asked = good[part].reshape(len(images), *good.shape[2:])
        rows = np.arange(len(images))
        for name, way in ways.items():
            x, y = way(model, images, classes).T
            hit = asked[rows, (y // leaf).astype(int), (x // leaf).astype(int)]
            quadrant = (y >= size / 2) * 2 + (x >= size / 2)
            hits[name]["leaf"] += int(hit.sum())
            hits[name]["quadrant"] += int((quadrant == quadrants[part].flatten()).sum())
    return {
        "queries": int(quadrants.size),
        "chance": {"quadrant": 0.25, "leaf": float(good.mean())},
        "ways": hits,
    }


def good_leaves(boxes: np.ndarray, leaf: int, size: int) -> np.ndarray:
    """Which leaf blocks show a digit: boxes (B, K, 4) -> (B, K, G, G) bool."""
    edges = np.arange(0, size, leaf)

    def overlap(first: np.ndarray, last: np.ndarray) -> np.ndarray:  # (B, K) -> (B, K, G) pixels
        low = np.maximum(edges, first[..., None])
        return (np.minimum(edges + leaf, last[..., None] + 1) - low).clip(0)

    across, down = overlap(boxes[..., 0], boxes[..., 2]), overlap(boxes[..., 1], boxes[..., 3])
    area = down[..., :, None] * across[..., None, :]
    return area >= np.maximum(SHARE_OF_BEST * area.max((-2, -1), keepdims=True), 1)


def quadrants_of(boxes: np.ndarray, size: int) -> np.ndarray:
    """The quadrant, 0 to 3 in reading order, of each box's middle: (B, K, 4) -> (B, K)."""
    middle = (boxes[..., :2] + boxes[..., 2:] + 1) / 2
    right, low = middle[..., 0] >= size / 2, middle[..., 1] >= size / 2
    return low * 2 + right


def judge_paths(paths: np.ndarray, leaves: np.ndarray, truth: np.ndarray, size: int) -> np.ndarray:
    """Whether paths find what is there, judged as `grounding` judges.

    Args:
        paths: (B, L), the child chosen at each step.
        leaves: (B, 4), the leaf blocks that they end in.
        truth: (B, 4), the true boxes.
        size: edge of the square images.

    Returns:
        (B, 2) bool: whether the first step is the true quadrant, whether the leaf block shows the
        object.
    """
    x0, y0, x1, _ = leaves.T
    leaf, rows = int(x1[0] - x0[0] + 1), np.arange(len(leaves))
    shown = good_leaves(truth[:, None], leaf, size)[rows, 0, y0 // leaf, x0 // leaf]
    return np.stack([paths[:, 0] == quadrants_of(truth[:, None], size)[:, 0], shown], 1)


def faithfulness(
    model: NesT, canvases: ImageSet, way: Way, *, seed: int = 0, progress: bool = True
) -> dict:
    """Blank the leaf block that a way chooses, or another one at random: what the class loses.

    Blanked pixels take the data set's mean colour, which normalisation makes zero. The class is
    that of each canvas's first digit.

    Returns:
        canvases B; wins: on how many the chosen block costs the class's logit more than the random
        one; chosen, random: mean losses of the logit.
    """
    leaf, size = model.patch_size * model.block_size, canvases.images.shape[-1]
    rng, losses = np.random.default_rng(seed), []
    for start in tqdm(range(0, len(canvases), BATCH), desc="blanking", disable=not progress):
        part = slice(start, start + BATCH)
        images = normalize(canvases.images[part], canvases.mean, canvases.std)
        classes = canvases.labels[part]
        chosen = (way(model, images, classes) // leaf).astype(int)  # (B, 2) x, y in blocks
        number = chosen[:, 1] * (size // leaf) + chosen[:, 0]
        other = rng.integers((size // leaf) ** 2 - 1, size=len(images))
        other += other >= number  # any block but the chosen one
        losses.append(_losses(model, images, classes, (number, other), leaf))
    chosen, random = np.concatenate(losses, 1)
    return {
        "canvases": len(canvases), "wins": int((chosen > random).sum()),
        "chosen": float(chosen.mean()), "random": float(random.mean()),
    }  # fmt: skip


def describe_wins(wins: int, n: int) -> dict:
    """The share of n that are won or hit, with Wilson's interval."""
    return {"rate": wins / n, "interval": list(wilson(wins, n))}


def _losses(
    model: NesT, images: Tensor, classes: Tensor, blocks: tuple[np.ndarray, ...], leaf: int
) -> np.ndarray:
    """What blanking each of the blocks (B,) costs the classes' logits: (len(blocks), B)."""
    per_row = images.shape[-1] // leaf
    with running_mode(model, training=False), torch.no_grad():
        whole = model(images).gather(1, classes[:, None])[:, 0]
        lost = []
        for numbers in blocks:
            blanked = images.clone()
            for image, number in zip(blanked, numbers):
                y, x = number // per_row * leaf, number % per_row * leaf
                image[:, y : y + leaf, x : x + leaf] = 0
            lost.append(whole - model(blanked).gather(1, classes[:, None])[:, 0])
    return torch.stack(lost).numpy()
