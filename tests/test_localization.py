"""Localization's scores: against torchvision's IoU, cases by hand and the definitions in a loop."""

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from nestbook.evaluations.map_checks import (
    count_contour_disagreements,
    maps_of_boxes,
    share_higher_inside,
)
from nestlib.explain.localize import find_boxes
from nestlib.metrics.localization import best_iou, iou, score_localization


def random_boxes(rng, *shape):
    low = rng.integers(0, 40, (*shape, 2))
    return np.concatenate([low, low + rng.integers(0, 24, (*shape, 2))], -1)


def test_iou_is_torchvisions():
    """Ours end inside, torchvision's behind the last pixel."""
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 50), random_boxes(rng, 60)
    theirs = box_iou(
        *(torch.tensor(x + np.array([0, 0, 1, 1]), dtype=torch.float64) for x in (a, b))
    )
    np.testing.assert_allclose(iou(a[:, None], b[None]), theirs.numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16"]
)
def test_iou_is_the_same_for_every_type(dtype):
    rng = np.random.default_rng(0)
    a, b = random_boxes(rng, 50), random_boxes(rng, 60)
    found = iou(a.astype(dtype)[:, None], b.astype(dtype)[None])
    assert np.array_equal(found, iou(a[:, None], b[None]))
    assert (iou(a.astype(dtype), a.astype(dtype)) == 1).all()


def test_iou_of_large_coordinates_does_not_wrap_around():
    box = np.array([0, 0, 69_999, 69_999], np.uint32)  # more than 2**32 pixels
    assert iou(box, box) == 1 and iou(box, [0, 0, 69_999, 34_999]) == 0.5


def test_boxes_of_one_pixel_have_an_area():
    assert iou([3, 3, 3, 3], [3, 3, 3, 3]) == 1
    assert iou([3, 3, 3, 3], [4, 3, 4, 3]) == 0


def test_the_best_of_several_true_boxes_counts_and_padding_does_not():
    boxes = np.array([[[0, 0, 9, 9]]])
    truth = np.array([[[20, 20, 29, 29], [0, 0, 9, 4], [-1, -1, -1, -1]]])
    assert best_iou(boxes, truth).tolist() == [[0.5]]


def test_scores_by_hand():
    """Four images, two thresholds: IoU 1, 0.5, 0.25 and 0 at the first; 0.25 for all else."""
    truth = np.tile([0, 0, 9, 9], (4, 1, 1))
    first = [[0, 0, 9, 9], [0, 0, 9, 4], [0, 0, 4, 4], [20, 20, 29, 29]]
    boxes = np.stack([np.array(first), np.tile([0, 0, 4, 4], (4, 1))], 1)
    scores = score_localization(boxes, truth, np.array([True, False, True, True]), (0.2, 0.4))
    assert scores["gt_known"]["errors"] == [50, 100]
    assert scores["top1"]["errors"] == [75, 100]
    assert scores["top1"]["best"]["threshold"] == 0.2
    assert scores["max_box_acc"] == {0.3: 50, 0.5: 50, 0.7: 25}
    assert scores["max_box_acc_v2"] == pytest.approx(125 / 3)


def test_scores_are_their_definitions():
    rng = np.random.default_rng(3)
    N, thresholds = 61, (0.1, 0.3, 0.5)
    boxes, truth = random_boxes(rng, N, 3), random_boxes(rng, N, 1)
    boxes[:30, 1] = truth[:30, 0]  # so that one threshold is better
    right = rng.random(N) < 0.6
    scores = score_localization(boxes, truth, right, thresholds)
    misses = np.array([
        [not (right[i] and iou(boxes[i, j], truth[i, 0]) >= 0.5) for j in range(3)]
        for i in range(N)
    ])  # fmt: skip
    assert scores["top1"]["errors"] == pytest.approx(100 * misses.mean(0))
    assert scores["top1"]["best"]["error"] == pytest.approx(100 * misses.mean(0).min())
    order = np.random.default_rng(0).permutation(N)
    first, second = order[:31], order[31:]
    by_second, by_first = misses[second].sum(0).argmin(), misses[first].sum(0).argmin()
    total = misses[first, by_second].sum() + misses[second, by_first].sum()
    held_out = scores["top1"]["held_out"]
    assert held_out["error"] == pytest.approx(100 * total / N)
    assert held_out["thresholds"] == [thresholds[by_second], thresholds[by_first]]


def test_choosing_on_what_is_scored_flatters():
    """Boxes without any skill: the best of 21 thresholds beats the one chosen elsewhere."""
    rng = np.random.default_rng(4)
    gaps = []
    for _ in range(20):
        boxes, truth = random_boxes(rng, 60, 21), random_boxes(rng, 60, 1)
        scores = score_localization(boxes, truth, np.ones(60, bool))["gt_known"]
        gaps.append(scores["held_out"]["error"] - scores["best"]["error"])
    assert min(gaps) >= 0
    assert np.mean(gaps) > 1


def test_contours_disagree_on_rings_and_agree_on_discs():
    """By contour area a thin ring is larger than a disc of more pixels within none of it."""
    ring = np.zeros((32, 32), np.float32)
    ring[1:15, 1:15] = 1
    ring[2:14, 2:14] = 0  # 52 pixels, its contour encloses 169
    ring[18:28, 18:28] = 1  # 100 pixels, its contour encloses 81
    assert count_contour_disagreements(ring[None], (32, 32), [0.5]) == 1
    disc = np.zeros((32, 32), np.float32)
    disc[18:28, 18:28] = 1
    assert count_contour_disagreements(np.stack([disc, ring]), (32, 32), [0.5]) == 0.5


BOX = [[[0, 0, 9, 9]], [[0, 0, 9, 9]]]


@pytest.mark.parametrize(
    "boxes, truth, right, message",
    [
        (BOX, BOX, [True], r"boxes have shape \(2, 1, 4\)"),
        (BOX, BOX, [1, 0], "predicted_right is int64"),
        (BOX[:1], BOX[:1], [True], "1 images cannot be halved"),
        (BOX, BOX[:1], [True, True], "truth_boxes have shape"),
        ([[[5, 0, 4, 9]]] * 2, BOX, [True, True], r"boxes\[0, 0\] is not a box"),
        (BOX, [[[0, 0, 9, 9]], [[0, -3, 9, 9]]], [True, True], r"truth_boxes\[1, 0\] is not a box"),
        (BOX, [[[0, 0, 9, 9]], [[-1] * 4]], [True, True], "image 1 has no true box"),
        ([[[np.nan] * 4]] * 2, BOX, [True, True], r"boxes\[0, 0\] is not a box.*nan"),
        ([[[0, 0, 9, np.inf]]] * 2, BOX, [True, True], r"boxes\[0, 0\] is not a box.*inf"),
        (BOX, [[[0, 0, 9, 9]], [[0, 0, np.nan, 9]]], [True, True], r"truth_boxes\[1, 0\] is no"),
        (BOX, [[[0, 0, 9, 9]], [[-1, -1, -1, 5]]], [True, True], r"truth_boxes\[1, 0\] is no"),
        (np.ones((2, 1, 4), complex), BOX, [True, True], "of complex128; give real numbers"),
        (BOX, BOX, True, r"predicted_right is bool \(\); give bool"),
    ],
)
def test_bad_input_is_named(boxes, truth, right, message):
    with pytest.raises(ValueError, match=message):
        score_localization(np.array(boxes), np.array(truth), np.array(right), [0.5])


def test_no_thresholds_are_said():
    with pytest.raises(ValueError, match="give one or more, from 0 to 1"):
        score_localization(np.zeros((2, 0, 4)), np.array(BOX), np.array([True, True]), [])


def test_what_is_no_box_has_no_iou():
    with pytest.raises(ValueError, match=r"boxes is not a box .*\[5\.0, 0\.0, nan, 9\.0\]"):
        iou([5, 0, np.nan, 9], [0, 0, 9, 9])
    with pytest.raises(ValueError, match=r"truth\[1\] is not a box .*\[9, 0, 0, 9\]"):
        iou([0, 0, 9, 9], [[0, 0, 9, 9], [9, 0, 0, 9]])
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        iou([0, 0, 9], [0, 0, 9])


def test_nothing_to_compare_is_said():
    with pytest.raises(ValueError, match="one map or more"):
        count_contour_disagreements(np.zeros((0, 7, 7)), (64, 64))
    with pytest.raises(ValueError, match="one or more, from 0 to 1"):
        count_contour_disagreements(np.zeros((1, 7, 7)), (64, 64), [])


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ([[[0, 0, 64, 9]]], r"truth_boxes\[0, 0\] is not a box .*inside an image of \(64, 64\)"),
        ([[[0, 0, 9, 9], [-3, 0, 9, 9]]], r"truth_boxes\[0, 1\] is not a box"),
        ([[[9, 0, 0, 9]]], r"truth_boxes\[0, 0\] is not a box"),
        ([[[0, 0, np.nan, 9]]], r"truth_boxes\[0, 0\] is not a box"),
        ([[[-1, -1, -1, -1]]], "image 0 has no true box"),
        ([[0, 0, 9, 9]], r"shape \(1, 4\); give \(N, K, 4\)"),
    ],
)
def test_truth_that_does_not_fit_the_image_is_named(truth, message):
    with pytest.raises(ValueError, match=message):
        maps_of_boxes(np.array(truth), (64, 64), (8, 8))
    with pytest.raises(ValueError, match=message):
        share_higher_inside(np.eye(8)[None], np.array(truth), (64, 64))


def test_maps_without_boxes_are_not_counted():
    with pytest.raises(ValueError, match=r"shape \(2, 1, 4\); give \(N, K, 4\), here N = 3"):
        share_higher_inside(np.stack([np.eye(8)] * 3), np.array(BOX), (64, 64))


def test_maps_of_boxes_are_the_covered_shares():
    """Against torch's pooling; where boxes end at places' edges they are found again exactly."""
    rng = np.random.default_rng(1)
    truth = random_boxes(rng, 30, 2)
    truth[::3, 1] = -1
    maps = maps_of_boxes(truth, (64, 64), (8, 8))
    masks = np.zeros((30, 64, 64))
    for mask, boxes in zip(masks, truth):
        for x0, y0, x1, y1 in boxes[boxes[:, 0] >= 0]:
            mask[y0 : y1 + 1, x0 : x1 + 1] = 1
    pooled = torch.nn.functional.avg_pool2d(torch.tensor(masks)[:, None], 8)[:, 0]
    np.testing.assert_allclose(maps, pooled.numpy(), atol=1e-6)
    low = 8 * rng.integers(0, 5, (30, 1, 2))
    aligned = np.concatenate([low, low + 23], -1)
    boxes = find_boxes(maps_of_boxes(aligned, (64, 64), (8, 8)), (64, 64))
    scores = score_localization(boxes, aligned, np.ones(30, bool))
    assert scores["gt_known"]["best"]["error"] == 0


def test_maps_higher_inside_are_counted():
    truth = np.tile([8, 8, 23, 23], (4, 1, 1))
    truth[3] = [0, 0, 63, 63]
    inside = maps_of_boxes(truth, (64, 64), (8, 8))
    maps = np.stack([inside[0], -inside[1], inside[2] + 3, np.arange(64.0).reshape(8, 8)])
    assert share_higher_inside(maps, truth, (64, 64)) == (1 + 0 + 1 + 0.5) / 4
    rng = np.random.default_rng(0)
    noise, boxes = rng.random((400, 8, 8)), random_boxes(rng, 400, 1)
    assert abs(share_higher_inside(noise, boxes, (64, 64)) - 0.5) < 0.1


def test_shares_of_an_image_are_not_taken_for_pixels():
    with pytest.raises(ValueError, match="shares of an image"):
        iou([0, 0, 0.3, 0.3], [0.5, 0.5, 1, 1])
    assert iou([0, 0, 1, 1], [0, 0, 1, 1]) == 1  # whole numbers are pixels


@pytest.mark.parametrize(
    "boxes",
    [
        [[[0, 0, 2**26, 9]]] * 2, [[[0, 0, 9, 1e300]]] * 2, np.array(BOX, object),
        np.ma.masked_equal(BOX, 9), [[[0, 0, 9, 9]], [[0, 0, 9]]], torch.tensor(BOX, device="meta"),
        None, "boxes",
    ],
)  # fmt: skip
def test_boxes_without_an_exact_area_or_values_are_named(boxes):
    """Areas of infinity have an IoU of NaN, which counted as a miss."""
    with pytest.raises(ValueError, match="boxes"):
        score_localization(boxes, BOX, [True, True], [0.5])
    with pytest.raises(ValueError, match="truth_boxes"):
        score_localization(BOX, boxes, [True, True], [0.5])


def test_tensors_of_any_kind_are_boxes():
    plain = score_localization(BOX, BOX, [True, False], [0.5])
    for boxes in (torch.tensor(BOX).bfloat16(), torch.tensor(BOX).float().requires_grad_()):
        assert score_localization(boxes, boxes, [True, False], [0.5]) == plain


def test_boxes_that_do_not_pair_and_sizes_that_are_none_are_named():
    with pytest.raises(ValueError, match=r"boxes \(3, 4\) and truth \(2, 4\) do not broadcast"):
        iou(np.zeros((3, 4)), np.zeros((2, 4)))
    for size in ((0, 8), (8.5, 8), (10**5, 10**5), (2**70, 1), 8, None, "88"):
        with pytest.raises(ValueError, match=r"image_size .* is not a size|image_size cannot be"):
            maps_of_boxes(BOX, size, (8, 8))
        with pytest.raises(ValueError, match=r"map_size .* is not a size|map_size cannot be"):
            maps_of_boxes(BOX, (64, 64), size)
    with pytest.raises(ValueError, match="here N = 1 or more"):
        maps_of_boxes(np.zeros((0, 1, 4)), (64, 64), (8, 8))
