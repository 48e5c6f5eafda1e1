"""Boxes of maps by a plain loop over masks: the yardstick of `find_boxes`."""

from collections.abc import Sequence

import cv2
import numpy as np
from scipy import ndimage

from nestlib.explain.localize import THRESHOLDS


def boxes_one_by_one(
    maps: np.ndarray, image_size: tuple[int, int], thresholds: Sequence[float] = THRESHOLDS
) -> np.ndarray:
    """What `find_boxes` gives, by SciPy's components of every mask by itself.

    Maps must not be constant.
    """
    boxes = np.empty((len(maps), len(thresholds), 4), np.int64)
    for i, map_ in enumerate(maps):
        resized = cv2.resize(map_, image_size[::-1], interpolation=cv2.INTER_LINEAR)
        scaled = (resized - resized.min()) / (resized.max() - resized.min())
        for j, threshold in enumerate(thresholds):
            labels, _ = ndimage.label(scaled >= np.float32(threshold), np.ones((3, 3)))
            ys, xs = np.divmod(_largest(labels.ravel()), image_size[1])
            boxes[i, j] = xs.min(), ys.min(), xs.max(), ys.max()
    return boxes


def _largest(labels: np.ndarray) -> np.ndarray:
    """Places of the component with most pixels, of equal ones of the one that begins first."""
    areas = np.bincount(labels)[1:]
    tied = 1 + np.flatnonzero(areas == areas.max())
    return min((np.flatnonzero(labels == number) for number in tied), key=lambda found: found[0])
