"""Further measures of class maps beside the errors of their boxes: contours, ceilings, contrast.

Shapes: N images, T thresholds, at most K true boxes per image. A box is x0, y0, x1, y1 in pixel
indices, both ends inside.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from nestlib.explain.localize import (
    THRESHOLDS,
    check_maps,
    check_size,
    check_thresholds,
    find_boxes,
    scale_map,
)
from nestlib.metrics.localization import check_truth


def share_higher_inside(
    maps: np.ndarray, truth_boxes: np.ndarray, image_size: tuple[int, int]
) -> float:
    """Share of images whose map is higher, on average, inside their true boxes than outside.

    No threshold and no box of the map's own: 0.5 by chance. An image that its boxes cover whole
    counts as half.

    Args:
        maps: (N, h, w).
        truth_boxes: (N, K, 4), padded with rows of -1.
        image_size: (H, W), in whose pixels the boxes are.

    Raises:
        ValueError: what `find_boxes` says of maps, boxes that leave the image, or an image without
            a true box.
    """
    maps, image_size = check_maps(maps), check_size(image_size, "image_size")
    truth_boxes = check_truth(truth_boxes, len(maps), image_size)
    points = 0.0
    for map_, boxes in zip(maps, truth_boxes):
        scaled, inside = scale_map(map_, image_size), _cover(boxes, image_size)
        if inside.all():
            points += 0.5
        else:
            points += float(scaled[inside].mean() > scaled[~inside].mean())
    return points / len(maps)


def maps_of_boxes(
    truth_boxes: np.ndarray, image_size: tuple[int, int], map_size: tuple[int, int]
) -> np.ndarray:
    """How much of every place the true boxes cover, from 0 to 1: the best that a map could be.

    What is wrong with boxes found on these is the coarseness of the map alone.

    Args:
        truth_boxes: (N, K, 4), padded with rows of -1.

    Returns:
        (N, h, w) float32.

    Raises:
        ValueError: no boxes, boxes that leave the image, an image without a true box, or sizes that
            are none.
    """
    image_size, map_size = check_size(image_size, "image_size"), check_size(map_size, "map_size")
    truth_boxes = check_truth(truth_boxes, None, image_size)
    covered = (_cover(boxes, image_size).astype(np.float32) for boxes in truth_boxes)
    size = map_size[::-1]
    maps = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in covered]
    return np.reshape(maps, (len(truth_boxes), *map_size)).astype(np.float32)


def _cover(boxes: np.ndarray, image_size: tuple[int, int]) -> np.ndarray:
    """Which pixels lie in one of an image's true boxes (K, 4): (H, W) bool."""
    inside = np.zeros(image_size, bool)
    for x0, y0, x1, y1 in boxes[boxes[:, 0] >= 0].astype(int):
        inside[y0 : y1 + 1, x0 : x1 + 1] = True
    return inside


def count_contour_disagreements(
    maps: np.ndarray, image_size: tuple[int, int], thresholds: Sequence[float] = THRESHOLDS
) -> float:
    """Share of the N x T masks where wsolevaluation's choice of a contour gives another box.

    It takes the contour with the largest cv2.contourArea, `find_boxes` the component with most
    pixels; they differ where a component has holes or is thin. Only this choice is compared: masks
    and boxes are `find_boxes`'s. wsolevaluation also cuts at 255 levels with > for >=, and ends
    its boxes one pixel further right and below.

    Args:
        maps: (N, h, w).
        image_size: (H, W).

    Raises:
        ValueError: what `find_boxes` says.
    """
    maps, image_size = check_maps(maps), check_size(image_size, "image_size")
    thresholds = check_thresholds(thresholds)
    by_contour = np.empty((len(maps), len(thresholds), 4), np.int64)
    for i, map_ in enumerate(maps):
        scaled = scale_map(map_, image_size)
        for j, threshold in enumerate(thresholds):
            by_contour[i, j] = _contour_box(scaled >= np.float32(threshold))
    return float((by_contour != find_boxes(maps, image_size, thresholds)).any(-1).mean())


def _contour_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    contours, _ = cv2.findContours(
        mask.view(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE
    )  # fmt: skip
    x, y, w, h = cv2.boundingRect(max(contours, key=cv2.contourArea))
    return x, y, x + w - 1, y + h - 1
