"""How well boxes found without box labels fit the true ones: weakly supervised localization.

The paper's figure 8 gives the top-1 localization error, with the threshold that is best for a
method on the very boxes that it is scored by (appendix A.5). Choe et al. (arXiv 2001.07437,
github.com/clovaai/wsolevaluation) warn of that practice and name the other scores here.

Shapes: N images, T thresholds, at most K true boxes per image. A box is x0, y0, x1, y1 in pixel
indices, both ends inside. Errors and accuracies are in %, intervals are Wilson's of 95 %.
"""

from collections.abc import Sequence

import numpy as np

from nestlib.explain.localize import THRESHOLDS, as_array, check_thresholds
from nestlib.metrics.intervals import wilson

IOU = 0.5  # at which a box counts as found
V2_IOUS = (0.3, 0.5, 0.7)  # MaxBoxAccV2's
MOST = 2**26  # pixels along an edge: float64 holds the areas of such boxes, and their sums, exactly


def iou(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union, (..., 4) and (..., 4) broadcast -> (...).

    Raises:
        ValueError: what is not a box, or shapes that do not broadcast.
    """
    boxes, truth = check_boxes(boxes, "boxes"), check_boxes(truth, "truth")
    try:
        np.broadcast_shapes(boxes.shape, truth.shape)
    except ValueError:
        raise ValueError(
            f"boxes {boxes.shape} and truth {truth.shape} do not broadcast; give one of them for "
            "each of the other"
        ) from None
    return _iou(boxes, truth)


def _iou(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Of float64, as unsigned and narrow integers would wrap around; whole numbers stay exact."""
    low = np.maximum(boxes[..., :2], truth[..., :2])
    high = np.minimum(boxes[..., 2:], truth[..., 2:])
    shared = _area(np.maximum(high - low + 1, 0))
    return shared / (_box_area(boxes) + _box_area(truth) - shared)


def best_iou(boxes: np.ndarray, truth_boxes: np.ndarray) -> np.ndarray:
    """Intersection over union with the true box that fits best: (N, T, 4), (N, K, 4) -> (N, T).

    Raises:
        ValueError: what `score_localization` says of boxes.
    """
    boxes = check_boxes(boxes, "boxes")
    if boxes.ndim != 3:
        raise ValueError(f"boxes have shape {boxes.shape}; give (N, T, 4)")
    truth_boxes = check_truth(truth_boxes, len(boxes))
    present = truth_boxes[..., 0] >= 0
    best = np.zeros(boxes.shape[:2])
    for k in range(truth_boxes.shape[1]):  # most images have one box: N x T x K would be mostly air
        has = present[:, k]
        best[has] = np.maximum(best[has], _iou(boxes[has], truth_boxes[has, k, None]))
    return best


def score_localization(
    boxes: np.ndarray, truth_boxes: np.ndarray, predicted_right: np.ndarray,
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict:  # fmt: skip
    """Localization errors at every threshold, and at the threshold that is chosen.

    A box is found with IoU >= 0.5 with any true box of its image; top-1 wants the right class too,
    GT-known (boxes of the true class's map) does not. An error with a chosen threshold comes twice:

    - "best": chosen on the boxes that it is scored by, as the paper does, so too low; its interval
      is for the draw of images alone.
    - "held_out": each half of the images is scored at the threshold that is best on the other one;
      the error is that of all images, which is the mean of both halves' where N is even.

    MaxBoxAccV2 is the mean over IoU 0.3, 0.5 and 0.7 of the accuracy at the threshold best for
    each, chosen on the same boxes. wsolevaluation can take the best of a mask's several contours
    (multi_contour_eval); here each mask gives the one box that it is given with. Where several
    thresholds are equally good the lowest is taken.

    Args:
        boxes: (N, T, 4). For top-1 those of the predicted class, for GT-known and MaxBoxAccV2 those
            of the true class: where the class is right they are the same, so the latter serve all.
        truth_boxes: (N, K, 4), padded with rows of -1; in the same pixels as boxes.
        predicted_right: (N,) bool, whether the model's first class is the true one.
        thresholds: T of them, those that boxes were found at.

    Returns:
        images N, thresholds; top1 and gt_known: each {"errors": T of them, "best": {"threshold",
        "error", "interval"}, "held_out": {"thresholds": that of each half, "error", "interval"}};
        max_box_acc: {IoU: accuracy} and max_box_acc_v2, their mean.

    Raises:
        ValueError: shapes that do not fit, fewer than two images, no thresholds, boxes that are
            not finite, are negative or end before they start, an image without a true box.
    """
    predicted_right = as_array(predicted_right, "predicted_right")
    if predicted_right.dtype != bool or predicted_right.ndim != 1:
        raise ValueError(
            f"predicted_right is {predicted_right.dtype} {predicted_right.shape}; give bool (N,)"
        )
    thresholds, boxes = check_thresholds(thresholds), as_array(boxes, "boxes")
    N, T = len(predicted_right), len(thresholds)
    if boxes.shape != (N, T, 4):
        raise ValueError(f"boxes have shape {boxes.shape}; give (N, T, 4), here {(N, T, 4)}")
    if N < 2:
        raise ValueError(f"{N} images cannot be halved; give two or more")
    best = best_iou(boxes, truth_boxes)
    found = best >= IOU
    max_box_acc = {x: 100 * float((best >= x).mean(0).max()) for x in V2_IOUS}
    return {
        "images": N,
        "thresholds": thresholds.astype(float).tolist(),
        "top1": _errors(found & predicted_right[:, None], thresholds),
        "gt_known": _errors(found, thresholds),
        "max_box_acc": max_box_acc,
        "max_box_acc_v2": float(np.mean(list(max_box_acc.values()))),
    }


def _box_area(boxes: np.ndarray) -> np.ndarray:
    return _area(boxes[..., 2:] - boxes[..., :2] + 1)


def _area(sides: np.ndarray) -> np.ndarray:
    return sides[..., 0] * sides[..., 1]


def check_boxes(
    boxes: np.ndarray, name: str, *, padded: bool = False, image_size: tuple[int, int] | None = None
) -> np.ndarray:
    """Boxes (..., 4) as float64.

    Args:
        name: what the message calls them.
        padded: rows of -1 stand for no box.
        image_size: (H, W), which boxes must not leave; None: any.

    Raises:
        ValueError: a box that is not finite, is negative, ends before it starts, lies outside or
            reaches beyond MOST pixels.
    """
    given = as_array(boxes, name)
    if given.shape[-1:] != (4,) or given.dtype.kind not in "iuf":
        raise ValueError(
            f"{name} have shape {given.shape} of {given.dtype}; give real numbers, (..., 4)"
        )
    with np.errstate(over="ignore"):  # of a longer type; infinite is no box either
        boxes = given.astype(np.float64, copy=False)
    if boxes.size and 0 < boxes.max() <= 1 and (boxes % 1 != 0).any():
        raise ValueError(
            f"{name} are all of 0 to 1, as shares of an image are; give pixels: multiply x by the "
            "width and y by the height, less 1, as both ends are inside"
        )
    x0, y0, x1, y1 = np.moveaxis(boxes, -1, 0)
    height, width = (MOST, MOST) if image_size is None else image_size
    right = (0 <= x0) & (x0 <= x1) & (x1 < width) & (0 <= y0) & (y0 <= y1) & (y1 < height)
    if padded:
        right |= (boxes == -1).all(-1)
    if not right.all():
        where = np.argwhere(~right)[0].tolist()
        inside = f"inside an image of {image_size} (H, W)"
        within = f"up to {MOST:,}" if image_size is None else inside
        raise ValueError(
            f"{name}{where or ''} is not a box x0, y0, x1, y1 of pixel indices from 0 {within}: "
            f"{given[tuple(where)].tolist()}"
        )
    return boxes


def check_truth(
    truth_boxes: np.ndarray, count: int | None, image_size: tuple[int, int] | None = None
) -> np.ndarray:
    """True boxes (N, K, 4), padded with rows of -1, as float64.

    Args:
        count: N; None: any number of images, one or more.
        image_size: as `check_boxes`.

    Raises:
        ValueError: another shape, what `check_boxes` says, or an image without a true box.
    """
    truth_boxes = as_array(truth_boxes, "truth_boxes")
    shape, wanted = truth_boxes.shape, "1 or more" if count is None else count
    of_count = shape[:1] != (0,) if count is None else shape[:1] == (count,)
    if len(shape) != 3 or shape[2] != 4 or not of_count:
        raise ValueError(f"truth_boxes have shape {shape}; give (N, K, 4), here N = {wanted}")
    boxes = check_boxes(truth_boxes, "truth_boxes", padded=True, image_size=image_size)
    missing = (boxes[..., 0] < 0).all(1)
    if missing.any():
        raise ValueError(
            f"image {np.flatnonzero(missing)[0]} has no true box to be scored by; leave it out"
        )
    return boxes


def _errors(right: np.ndarray, thresholds: Sequence[float]) -> dict:
    """Errors of (N, T) bool: at every threshold, at the best, and at the other half's best."""
    N = len(right)
    misses = (~right).sum(0)
    halves = np.array_split(np.random.default_rng(0).permutation(N), 2)
    chosen = [int(right[half].sum(0).argmax()) for half in halves[::-1]]  # each by the other
    held_out = sum(int((~right[half, k]).sum()) for half, k in zip(halves, chosen))
    best = int(misses.argmin())
    return {
        "errors": [100 * int(m) / N for m in misses],
        "best": {"threshold": float(thresholds[best]), **_rate(int(misses[best]), N)},
        "held_out": {"thresholds": [float(thresholds[k]) for k in chosen], **_rate(held_out, N)},
    }


def _rate(misses: int, n: int) -> dict:
    low, high = wilson(misses, n)
    return {"error": 100 * misses / n, "interval": [100 * low, 100 * high]}
