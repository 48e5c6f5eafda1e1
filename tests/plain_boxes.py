"""Boxes of maps by a plain loop over masks: the yardstick of `find_boxes`."""

from collections.abc import Sequence

import cv2
import numpy as np

from nestlib.explain.localize import THRESHOLDS


def boxes_one_by_one(
    maps: np.ndarray, image_size: tuple[int, int], thresholds: Sequence[float] = THRESHOLDS
) -> np.ndarray:
    """What `find_boxes` gives, by OpenCV's statistics of every mask by itself.

    Maps must not be constant.
    """
    boxes = np.empty((len(maps), len(thresholds), 4), np.int64)
    for i, map_ in enumerate(maps):
        resized = cv2.resize(map_, image_size[::-1], interpolation=cv2.INTER_LINEAR)
        scaled = (resized - resized.min()) / (resized.max() - resized.min())
        for j, threshold in enumerate(thresholds):
            mask = (scaled >= np.float32(threshold)).astype(np.uint8)
            _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
            x, y, w, h, _ = stats[1 + stats[1:, cv2.CC_STAT_AREA].argmax()]
            boxes[i, j] = x, y, x + w - 1, y + h - 1
    return boxes
