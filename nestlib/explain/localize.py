"""Boxes from class maps: weakly supervised localization as Zhou et al. do it (arXiv 1512.04150).

A map is resized to the image and cut at a threshold; the box goes around the largest connected
component of what stays. Which threshold is best differs by method, so boxes are found for many.

Shapes: N maps of h x w places, images of H x W pixels, T thresholds. A box is x0, y0, x1, y1 in
pixel indices, both ends inside.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from nestlib.data.opening import MAX_PIXELS

THRESHOLDS = tuple(i / 20 for i in range(21))  # the paper's (appendix A.5): 0, 0.05, ..., 1
COUNT_SINGLY = 12  # components: to count the pixels of so few one by one beats a histogram


def find_boxes(
    maps: np.ndarray, image_size: tuple[int, int], thresholds: Sequence[float] = THRESHOLDS
) -> np.ndarray:
    """The box that every map gives at every threshold: (N, T, 4) int64.

    The mask at t holds the pixels of `scale_map` with value >= t. Its maximum is 1, so t is a
    share of it, and >= keeps every mask from being empty: all pixels at 0, the largest ones at 1.
    Boxes go around the 8-connected component with most pixels, holes not counted; of equal ones
    around the one whose first pixel comes first, row by row. OpenCV's numbers are no such order:
    by default it scans blocks of 2 x 2 (4.10 and 5.0). A constant map gives the whole image at
    every threshold.

    Threads gained nothing, as the steps are short; to use more cores, share out the maps among
    processes.

    Args:
        maps: (N, h, w), any sign and scale; computed in float32.
        image_size: (H, W), in whose pixels the boxes are.
        thresholds: shares of the range of a map, 0 to 1, in any order.

    Raises:
        ValueError: no maps, or maps that are not (N, h, w), real and finite; no thresholds, or
            thresholds outside 0 to 1; an image_size that is not one, or of more than MAX_PIXELS.
    """
    maps, (H, W) = check_maps(maps), check_size(image_size, "image_size")
    shares = check_thresholds(thresholds)
    order = np.argsort(shares)
    boxes = np.empty((len(maps), len(shares), 4), np.int64)
    for i, map_ in enumerate(maps):
        boxes[i, order] = _nested_boxes(scale_map(map_, (H, W)), shares[order])
    return boxes


def scale_map(map_: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """(h, w) float32 -> (H, W) float32 from 0 to 1: resized bilinearly, then min-max normalised.

    Half-pixel centres and no antialiasing, as cv2.INTER_LINEAR. A constant map becomes 1, since
    every place is its maximum; only its own places tell, as to resize it may add rounding noise.
    """
    H, W = image_size
    resized = cv2.resize(map_, (W, H), interpolation=cv2.INTER_LINEAR)
    low, high = resized.min(), resized.max()
    if low == high or map_.min() == map_.max():
        return np.ones_like(resized)
    return (resized - low) / (high - low)


def as_array(values: object, name: str) -> np.ndarray:
    """A tensor on any device, lists or an array, as an array; `name` is what messages call it.

    Raises:
        ValueError: lists of different lengths, masked values, or what has no values.
    """
    try:
        if np.ma.is_masked(values):
            raise ValueError("some values are masked")
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = values.float() if values.dtype == torch.bfloat16 else values  # numpy's lack
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:  # each library has its own
        raise ValueError(f"{name} cannot be read as an array ({error}); give numbers") from error


def check_size(size: tuple[int, int], name: str) -> tuple[int, int]:
    """The height and width of an image or a map, as Python's integers.

    Raises:
        ValueError: no two whole numbers of 1 or more, or a product of more than MAX_PIXELS.
    """
    given = as_array(size, name)
    edges = given.tolist()
    whole = given.shape == (2,) and given.dtype.kind in "iu" and min(edges) >= 1
    if not (whole and edges[0] * edges[1] <= MAX_PIXELS):
        raise ValueError(
            f"{name} {size} is not a size; give (height, width) in whole pixels, of at most "
            f"{MAX_PIXELS:,} in all"
        )
    return edges[0], edges[1]


def check_maps(maps: np.ndarray) -> np.ndarray:
    """The maps as float32.

    Raises:
        ValueError: what `find_boxes` says of maps.
    """
    maps = as_array(maps, "maps")
    if maps.ndim != 3 or 0 in maps.shape or maps.dtype.kind not in "biuf":
        raise ValueError(
            f"maps have shape {maps.shape} of {maps.dtype}; give (N, h, w) of real numbers, of one "
            "map or more"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        maps = maps.astype(np.float32, copy=False)
        finite = np.isfinite(maps.max((1, 2)) - maps.min((1, 2)))
    if not finite.all():
        raise ValueError(
            f"map {np.flatnonzero(~finite)[0]} has NaN or infinite values, or a range that float32 "
            "cannot hold; give finite maps"
        )
    return maps


def check_thresholds(thresholds: Sequence[float]) -> np.ndarray:
    """The thresholds (T,) in the order given, each a share of a map's maximum.

    Raises:
        ValueError: there are none, or one is outside of 0 to 1.
    """
    shares = as_array(thresholds, "thresholds")
    if shares.ndim != 1 or not len(shares) or shares.dtype.kind not in "iuf":
        raise ValueError(f"thresholds {thresholds} are not a list; give one or more, from 0 to 1")
    outside = shares[~((shares >= 0) & (shares <= 1))]
    if len(outside):
        raise ValueError(f"threshold {outside[0]} is not a share of a map's maximum; give 0 to 1")
    return shares


def _nested_boxes(scaled: np.ndarray, thresholds: Sequence[float]) -> list[tuple[int, ...]]:
    """The box at every threshold, which must ascend: each mask then lies in the one before it."""
    boxes: list[tuple[int, ...]] = []
    left = top = 0
    size_before = None
    for threshold in thresholds:
        mask = scaled >= np.float32(threshold)
        size = np.count_nonzero(mask)
        if size == size_before:  # and so the same mask
            boxes.append(boxes[-1])
            continue
        size_before = size
        mask = mask.view(np.uint8)
        x, y, w, h = cv2.boundingRect(mask)
        cut = slice(y, y + h), slice(x, x + w)
        scaled, left, top = scaled[cut], left + x, top + y
        x, y, w, h = _largest_component(mask[cut])
        boxes.append((left + x, top + y, left + x + w - 1, top + y + h - 1))
    return boxes


def _largest_component(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x, y, width and height of the largest component of a (H, W) mask, which all of them fill.

    cv2.connectedComponentsWithStats finds the areas too, at several times the cost.
    """
    count, labels = cv2.connectedComponents(mask, connectivity=8, ltype=cv2.CV_32S)
    if count == 2:  # the background is one
        return 0, 0, mask.shape[1], mask.shape[0]
    if count <= COUNT_SINGLY:
        areas = [np.count_nonzero(labels == k) for k in range(1, count)]
    else:
        areas = np.bincount(labels.ravel())[1:].tolist()
    most = max(areas)
    tied = [number for number, area in enumerate(areas, 1) if area == most]
    first = tied[0] if len(tied) == 1 else labels[np.isin(labels, tied)][0]
    return cv2.boundingRect((labels == first).view(np.uint8))
