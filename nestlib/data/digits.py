"""Handwritten digits on textured colour canvases: a real task that needs no download.

The digits are the 1,797 scans of 8x8 pixels that scikit-learn ships: the test part of Alpaydin and
Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998. Each is
drawn at a random place and size, in a random ink, on a canvas of smooth noise; where it lies is
known to the pixel, so a map that claims to find the object can be checked.

The scans stand form by form: 14 filled forms of about 130 digits in one order, by 13 writers as
scikit-learn (1.9) says. Scans of one hand resemble each other, so splits keep the file's order: at
random, every test scan would have its writer's others in train.

Everything follows from (seed, split) alone. Sums run in float64, so that the last bit in which two
machines may differ does not reach the rounded pixels.

Shapes: B canvases at a time, K digits a canvas, S canvas edge in pixels.
"""

from functools import cache
from typing import Annotated, NamedTuple

import numpy as np

from nestlib.arguments import Range, Seed, checked
from nestlib.choices import check_choice

NUM_CLASSES = 10
IMAGE_SIZES = (32, 64)
NUM_IMAGES = {"train": 4096, "test": 1024}
CANVASES = ("textured", "plain")

_CHUNK = 64  # canvases drawn together: few enough for the CPU's cache, enough to be quick
_LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601: how bright an RGB colour looks
_MIN_CONTRAST = 0.4  # luma between ink and the canvas beneath it; canvases vary by less than half
_TEST_SHARE = 0.2
_TEST_FORMS = 1415  # the scan with which the last 3 of the 14 forms begin
_LONE_EDGES, _QUADRANT_EDGES = (0.40, 0.86), (0.70, 0.86)  # shares of canvas and quadrant
# Noise grids (rows, columns): clouds from coarse to fine, and bands lying and standing.
_GRIDS = ((2, 2), (3, 3), (5, 5), (8, 8), (2, 8), (8, 2))


class DigitCanvases(NamedTuple):
    """What `make_digits` draws; N canvases, K digits on each, in reading order.

    `samples` says which of the 1,797 scans were used. Boxes are x0, y0, x1, y1 in pixel indices,
    both ends inside.
    """

    images: np.ndarray  # (N, 3, S, S) uint8
    labels: np.ndarray  # (N,) int64, the class of the first digit
    boxes: np.ndarray  # (N, K, 4) int16
    box_labels: np.ndarray  # (N, K) int64
    samples: np.ndarray  # (N, K) int64


@cache
def _load_scans() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits  # a second to import: only who draws digits waits

    scans = load_digits()
    return scans.images / 16.0, scans.target.astype(np.int64)  # (1797, 8, 8) in 0..1, (1797,)


@cache
def _samples_by_class(split: str, by_form: bool = False) -> tuple[np.ndarray, ...]:
    """Scans that `split` may use: the first four fifths of each class for train, the rest for test.

    by_form: 11 whole forms for train, 3 for test. The same whatever the seed.
    """
    _, targets = _load_scans()
    parts = []
    for digit in range(NUM_CLASSES):
        samples = np.flatnonzero(targets == digit)
        # In the file's order, so that the last ones are of other hands; but of the form that is cut
        # through, both splits have scans.
        cut = round(len(samples) * (1 - _TEST_SHARE))
        if by_form:
            cut = np.searchsorted(samples, _TEST_FORMS)
        parts.append(samples[:cut] if split == "train" else samples[cut:])
    return tuple(parts)


@checked
def make_digits(
    split: str, *, image_size: int = 32, digits_per_image: Annotated[int, Range(1, 4)] = 1,
    num_images: Annotated[int, Range(1, 100_000)] | None = None, seed: Seed = 0,
    canvas: str = "textured", digit_edges: tuple[float, float] | None = None,
    by_form: bool = False,
) -> DigitCanvases:  # fmt: skip
    """Draw the canvases of one split; a longer set begins with the shorter one's canvases.

    Args:
        split: "train" or "test"; no scan is used in both.
        image_size: edge in pixels, 32 or 64.
        digits_per_image: 1 anywhere on the canvas, or 2 to 4 in quadrants of their own, all of
            different classes and in reading order.
        num_images: up to 100,000; 4,096 for train and 1,024 for test where not given.
        seed: not negative; train and test differ under the same seed.
        canvas: "textured", or "plain" for bright digits on near black.
        digit_edges: least and largest edge of a lone digit, as shares of the canvas's; from 0.40
            to 0.86 where not given.
        by_form: cut between two forms, so that no form is in both splits. Otherwise each class is
            cut at four fifths in the file's order, which puts 23 scans of a test form into train.

    Raises:
        ValueError: a value outside these ranges.
    """
    check_choice("split of digits", split, NUM_IMAGES)
    num_images = NUM_IMAGES[split] if num_images is None else num_images
    check_choice("image_size of digits", image_size, IMAGE_SIZES)
    check_choice("canvas", canvas, CANVASES)
    edges = _check_edges(digit_edges, digits_per_image)
    chunks = [
        _draw_chunk(
            np.random.Generator(np.random.PCG64([seed, int(split == "test"), chunk])),
            _samples_by_class(split, by_form), image_size, digits_per_image, canvas, edges,
        )
        for chunk in range(-(-num_images // _CHUNK))
    ]  # fmt: skip
    return DigitCanvases(*(np.concatenate(parts)[:num_images] for parts in zip(*chunks)))


def _check_edges(edges: tuple[float, float] | None, digits_per_image: int) -> tuple[float, float]:
    if edges is None:
        return _LONE_EDGES if digits_per_image == 1 else _QUADRANT_EDGES
    if digits_per_image != 1:
        raise ValueError(
            f"digits: digit_edges={edges!r} needs one digit per canvas; leave it out for "
            f"digits_per_image={digits_per_image}"
        )
    if not 0.1 <= edges[0] <= edges[1] <= 0.9:
        raise ValueError(
            f"digits: digit_edges={edges!r} must be two shares of the canvas's edge, the smaller "
            "first, within 0.1 to 0.9"
        )
    return edges[0], edges[1]


def _draw_chunk(
    rng: np.random.Generator, by_class: tuple[np.ndarray, ...], size: int, num_digits: int,
    canvas: str, edges: tuple[float, float],
) -> DigitCanvases:  # fmt: skip
    classes = rng.permuted(np.tile(np.arange(NUM_CLASSES), (_CHUNK, 1)), axis=1)[:, :num_digits]
    choice = rng.random(classes.shape)
    samples = np.array([
        [by_class[c][int(x * len(by_class[c]))] for c, x in zip(*row)]
        for row in zip(classes, choice)
    ])  # (B, K)  # fmt: skip
    scans, _ = _load_scans()
    ink = _place(rng, scans[samples], size, edges)  # (B, K, S, S)
    paint = _textured_canvas if canvas == "textured" else _plain_canvas
    picture = paint(rng, size).reshape(_CHUNK, -1, 3)  # (B, S*S, 3)
    alpha = ink.reshape(_CHUNK, num_digits, -1)  # (B, K, S*S); no two digits share a pixel
    beneath = alpha @ (picture @ _LUMA)[..., None] / alpha.sum(-1, keepdims=True)  # (B, K, 1)
    colours = _contrasting_ink(rng, beneath[..., 0])  # (B, K, 3)
    picture *= 1 - alpha.sum(1)[..., None]
    picture += alpha.swapaxes(1, 2) @ colours
    images = np.rint(picture * 255).astype(np.uint8).reshape(_CHUNK, size, size, 3)
    images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return DigitCanvases(images, classes[:, 0], _bound(ink), classes, samples)


def _place(
    rng: np.random.Generator, scans: np.ndarray, size: int, edges: tuple[float, float]
) -> np.ndarray:
    """Enlarge scans (B, K, 8, 8) to random sizes at random places: opacity (B, K, S, S).

    edges are shares of the canvas, of a quadrant where there are several digits.
    """
    shape = scans.shape[:2]
    if shape[1] == 1:
        region, corner = size, np.zeros((*shape, 2))
    else:
        region = size // 2
        quadrants = rng.permuted(np.tile(np.arange(4), (_CHUNK, 1)), axis=1)[:, : shape[1]]
        quadrants.sort(axis=1)  # reading order, so that "the first digit" is one a reader can name
        corner = np.stack([quadrants // 2, quadrants % 2], axis=-1) * region
    edge = rng.uniform(*edges, shape) * region
    extent = edge[..., None] * np.exp(rng.uniform(-0.08, 0.08, (*shape, 2)))  # height, width
    # One pixel free all round keeps swelling strokes out of the neighbour's quadrant.
    extent = np.minimum(extent, region - 2)
    origin = corner + 1 + rng.random((*shape, 2)) * (region - 2 - extent)
    rows, columns = (
        _cubic_weights(
            (np.arange(size) + 0.5 - origin[..., axis, None]) / extent[..., axis, None] * 8 - 0.5
        )
        for axis in (0, 1)
    )  # (B, K, S, 8) each
    ink = rows @ scans @ columns.swapaxes(-1, -2)
    ink = np.clip((ink - 0.28) / 0.45, 0, 1)  # enlarged eightfold pixels are blurred: firm the edge
    return np.where(ink < 0.1, 0, ink)  # fainter ink is not seen, and would make boxes too large


def _cubic_weights(position: np.ndarray) -> np.ndarray:
    """Catmull-Rom weights (..., 8) of eight samples at `position` (...), in sample units."""
    x = np.abs(position[..., None] - np.arange(8))
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0))


def _bound(ink: np.ndarray) -> np.ndarray:
    """Tight boxes (B, K, 4) around all opacity above zero, ends inside."""
    size = ink.shape[-1]
    across, down = ink.any(axis=-2), ink.any(axis=-1)  # (B, K, S)
    first = [seen.argmax(-1) for seen in (across, down)]
    last = [size - 1 - seen[..., ::-1].argmax(-1) for seen in (across, down)]
    return np.stack([*first, *last], axis=-1).astype(np.int16)


def _colour(rng: np.random.Generator, luma: np.ndarray, strength: float | np.ndarray) -> np.ndarray:
    """Random colours (..., 3) in 0..1 of exactly the given luma (...); `strength` 0 is grey."""
    tint = rng.random((*luma.shape, 3))
    tint -= (tint @ _LUMA)[..., None]  # zero luma: adding it changes the hue alone
    luma = luma[..., None]
    room = np.where(tint > 0, 1 - luma, luma) / np.maximum(np.abs(tint), 1e-9)
    return luma + tint * np.minimum(room.min(-1, keepdims=True), 1.6) * strength


def _contrasting_ink(rng: np.random.Generator, beneath: np.ndarray) -> np.ndarray:
    """Ink colours (B, K, 3), luma at least `_MIN_CONTRAST` from that `beneath` (B, K)."""
    lighter = rng.random(beneath.shape) < 0.5
    lighter = np.where(1 - beneath < _MIN_CONTRAST, False, lighter)
    lighter = np.where(beneath < _MIN_CONTRAST, True, lighter)
    room = np.where(lighter, 1 - beneath, beneath)
    contrast = _MIN_CONTRAST + rng.random(beneath.shape) * (0.97 * room - _MIN_CONTRAST).clip(0)
    return _colour(rng, beneath + np.where(lighter, contrast, -contrast), 0.9)


def _textured_canvas(rng: np.random.Generator, size: int) -> np.ndarray:
    """Two noise fields blend three colours of similar luma: canvases (B, S, S, 3) in 0..1."""
    luma = rng.uniform(0.18, 0.82, (_CHUNK, 1)) + rng.uniform(-0.13, 0.13, (_CHUNK, 3))
    vividness = rng.uniform(0.1, 0.8, (_CHUNK, 1, 1))
    colours = _colour(rng, luma, vividness)[:, :, None, None]  # (B, 3 colours, 1, 1, 3)
    first, second = (_noise_field(rng, size)[..., None] for _ in range(2))
    picture = colours[:, 0] + first * (colours[:, 1] - colours[:, 0])
    picture = picture + second * (colours[:, 2] - picture)
    grain = rng.normal(0, 1, (_CHUNK, size, size, 1)) * rng.uniform(0, 0.03, (_CHUNK, 1, 1, 1))
    return np.clip(picture + grain, 0, 1)


def _plain_canvas(rng: np.random.Generator, size: int) -> np.ndarray:
    luma = rng.uniform(0.02, 0.10, _CHUNK)
    return np.repeat(_colour(rng, luma, 0.5), size * size, 0).reshape(_CHUNK, size, size, 3)


def _noise_field(rng: np.random.Generator, size: int) -> np.ndarray:
    """Smooth noise (B, S, S) in 0..1, from soft clouds to sharp patches or bands."""
    shares = rng.random((_CHUNK, len(_GRIDS), 1, 1)) ** 4  # mostly one scale leads
    field = np.zeros((_CHUNK, size, size))
    for scale, (rows, columns) in enumerate(_GRIDS):
        knots = rng.normal(0, 1, (_CHUNK, rows + 1, columns + 1))
        field += shares[:, scale] * (_blend(rows, size) @ knots @ _blend(columns, size).T)
    field -= field.mean((1, 2), keepdims=True)
    field /= field.std((1, 2), keepdims=True)
    sharpness = np.exp(rng.uniform(-0.5, 2.0, (_CHUNK, 1, 1)))
    return 0.5 + 0.5 * np.tanh(sharpness * field)


def _blend(num_cells: int, size: int) -> np.ndarray:
    """Smooth interpolation (S, num_cells + 1) from knots at the cells' ends."""
    position = (np.arange(size) + 0.5) / size * num_cells
    near = np.clip(1 - np.abs(position[:, None] - np.arange(num_cells + 1)), 0, 1)
    return near * near * (3 - 2 * near)
