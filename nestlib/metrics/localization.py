"""How well boxes found without box labels fit the true ones: weakly supervised localization.

The paper's figure 8 gives the top-1 localization error, with the threshold that is best for a
method on the very boxes that it is scored by (appendix A.5). Choe et al. (arXiv 2001.07437,
github.com/clovaai/wsolevaluation) warn of that practice and name the other scores here.

Shapes: N images, T thresholds, at most K true boxes an image. A box is x0, y0, x1, y1 in pixel
indices, both ends inside. Errors and accuracies are in %, intervals are Wilson's of 95 %.
"""

from collections.abc import Sequence

import numpy as np

from nestlib.explain.localize import THRESHOLDS
from nestlib.metrics.intervals import wilson

IOU = 0.5  # at which a box counts as found
V2_IOUS = (0.3, 0.5, 0.7)  # MaxBoxAccV2's


def iou(boxes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union, (..., 4) and (..., 4) broadcast -> (...)."""
    boxes, truth = np.asarray(boxes), np.asarray(truth)
    low = np.maximum(boxes[..., :2], truth[..., :2])
    high = np.minimum(boxes[..., 2:], truth[..., 2:])
    shared = np.maximum(high - low + 1, 0).prod(-1)
    return shared / (_areas(boxes) + _areas(truth) - shared)


def best_iou(boxes: np.ndarray, truth_boxes: np.ndarray) -> np.ndarray:
    """With the true box that fits best: (N, T, 4) and (N, K, 4) -> (N, T).

    Raises:
        ValueError: what `score_localization` says of boxes.
    """
    boxes, truth_boxes = np.asarray(boxes), np.asarray(truth_boxes)
    _check_boxes(boxes, truth_boxes)
    present = (truth_boxes >= 0).all(-1)
    best = np.zeros(boxes.shape[:2])
    for k in range(truth_boxes.shape[1]):  # most images have one box: N x T x K would be mostly air
        has = present[:, k]
        best[has] = np.maximum(best[has], iou(boxes[has], truth_boxes[has, k, None]))
    return best


def score_localization(
    boxes: np.ndarray, truth_boxes: np.ndarray, predicted_right: np.ndarray,
    thresholds: Sequence[float] = THRESHOLDS,
) -> dict:  # fmt: skip
    """Localization errors at every threshold, and of a method with its threshold chosen.

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
        ValueError: shapes that do not fit, fewer than two images, boxes that end before they
            start, an image without a true box.
    """
    predicted_right = np.asarray(predicted_right)
    N, T = len(predicted_right), len(thresholds)
    if np.shape(boxes) != (N, T, 4):
        raise ValueError(f"boxes have shape {np.shape(boxes)}; give (N, T, 4), here {(N, T, 4)}")
    if predicted_right.dtype != bool or predicted_right.ndim != 1:
        raise ValueError(
            f"predicted_right is {predicted_right.dtype} {predicted_right.shape}; give bool (N,)"
        )
    if N < 2:
        raise ValueError(f"{N} images cannot be halved; give two or more")
    best = best_iou(boxes, truth_boxes)
    found = best >= IOU
    max_box_acc = {x: 100 * float((best >= x).mean(0).max()) for x in V2_IOUS}
    return {
        "images": N,
        "thresholds": [float(t) for t in thresholds],
        "top1": _errors(found & predicted_right[:, None], thresholds),
        "gt_known": _errors(found, thresholds),
        "max_box_acc": max_box_acc,
        "max_box_acc_v2": float(np.mean(list(max_box_acc.values()))),
    }


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[..., 2:] - boxes[..., :2] + 1).prod(-1)


def _check_boxes(boxes: np.ndarray, truth_boxes: np.ndarray) -> None:
    if truth_boxes.ndim != 3 or len(truth_boxes) != len(boxes) or truth_boxes.shape[2] != 4:
        raise ValueError(
            f"truth_boxes have shape {truth_boxes.shape}; give (N, K, 4), here N = {len(boxes)}"
        )
    padding = (truth_boxes == -1).all(-1)
    for name, given in (("boxes", boxes), ("truth_boxes", truth_boxes)):
        wrong = (given[..., :2] < 0).any(-1) | (given[..., 2:] < given[..., :2]).any(-1)
        if name == "truth_boxes":
            wrong &= ~padding
        if wrong.any():
            where = np.argwhere(wrong)[0].tolist()
            raise ValueError(
                f"{name}{where} is no box x0, y0, x1, y1 of pixel indices from 0: "
                f"{given[tuple(where)].tolist()}"
            )
    if padding.all(1).any():
        raise ValueError(
            f"image {np.flatnonzero(padding.all(1))[0]} has no true box to be scored by; leave it "
            "out"
        )


def _errors(right: np.ndarray, thresholds: Sequence[float]) -> dict:
    """Of (N, T) bool: at every threshold, at the best, and at the other half's best."""
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
