"""Boxes from maps: equal to the plain loop over OpenCV's components, map by map and cut by cut."""

import cv2
import numpy as np
import pytest
import torch
from plain_boxes import boxes_one_by_one

from nestlib.explain.localize import THRESHOLDS, find_boxes, scale_map


def random_maps(kind, shape, seed=0):
    maps = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    if kind == "smooth":
        maps = np.stack([cv2.GaussianBlur(map_, (0, 0), 1.5) for map_ in maps])
    if kind == "coarse":  # few values: many components of one size
        maps = np.round(maps)
    return maps


@pytest.mark.parametrize("kind", ["noise", "smooth", "coarse"])
@pytest.mark.parametrize(
    "places, image_size",
    [((14, 14), (224, 224)), ((8, 8), (64, 64)), ((7, 5), (33, 61)), ((16, 16), (16, 16))],
)
def test_boxes_equal_the_plain_loop(kind, places, image_size):
    maps = random_maps(kind, (24, *places))
    found = find_boxes(maps, image_size)
    assert (found == boxes_one_by_one(maps, image_size, THRESHOLDS)).all()


# By hand: masks of equal components, which OpenCV 4.10 and 5.0 do not number row by row.
TIES = {
    "a pixel each": (["....#.", "#....."], [4, 0, 4, 0]),
    "two pixels each": (["...##.", "#.....", "#....."], [3, 0, 4, 0]),
    "a smaller one first": (["#.....#.", "..##...#"], [6, 0, 7, 1]),
    "many": (["..#.#.#.", "#.......", "..#.#.#.", "#.......", "..#.#.#.", "#.......", "..#.#.#."],
             [2, 0, 2, 0]),
}  # fmt: skip


@pytest.mark.parametrize("rows, box", TIES.values(), ids=TIES)
def test_of_equal_components_the_one_that_begins_in_the_upper_row_is_taken(rows, box):
    mask = np.array([[place == "#" for place in row] for row in rows])
    _, labels = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    areas = np.bincount(labels.ravel())[1:]
    assert (labels == 1 + areas.argmax())[box[1], box[0]] == 0  # OpenCV's first is another
    assert find_boxes(mask[None], mask.shape, [0.5])[0, 0].tolist() == box


def test_of_equal_components_the_first_is_taken():
    """Isolated pixels at every parity."""
    rng = np.random.default_rng(1)
    for _ in range(200):
        map_ = np.zeros((9, 11), np.float32)
        for y, x in zip(rng.integers(0, 9, 5), rng.integers(0, 11, 5)):
            map_[y, x] = 1
        assert (
            find_boxes(map_[None], (9, 11)) == boxes_one_by_one(map_[None], (9, 11), THRESHOLDS)
        ).all()


def test_a_box_by_hand():
    map_ = np.zeros((6, 8), np.float32)
    map_[1:3, 2:7] = 1.0  # 10 pixels
    map_[4, 0] = 0.6  # one pixel
    boxes = find_boxes(map_[None], (6, 8), [1.0, 0.5, 0.0])[0]
    assert boxes.tolist() == [[2, 1, 6, 2], [2, 1, 6, 2], [0, 0, 7, 5]]


def test_touching_corners_are_one_component():
    map_ = np.eye(5, dtype=np.float32)
    assert find_boxes(map_[None], (5, 5), [0.5])[0, 0].tolist() == [0, 0, 4, 4]


def test_thresholds_come_back_in_their_order():
    maps = random_maps("smooth", (5, 8, 8))
    order = np.random.default_rng(2).permutation(21)
    shuffled = find_boxes(maps, (64, 64), [THRESHOLDS[k] for k in order])
    assert (shuffled == find_boxes(maps, (64, 64))[:, order]).all()


def test_scale_and_sign_of_a_map_do_not_matter_but_its_order_does():
    maps = random_maps("smooth", (5, 8, 8))
    assert (find_boxes(4 * maps - 8, (64, 64)) == find_boxes(maps, (64, 64))).mean() > 0.99
    assert (find_boxes(-maps, (64, 64)) != find_boxes(maps, (64, 64))).any()


def test_a_constant_map_gives_the_whole_image():
    boxes = find_boxes(np.full((1, 7, 7), 0.3), (50, 40))
    assert (boxes == [0, 0, 39, 49]).all()
    assert (scale_map(np.full((7, 7), 0.3, np.float32), (50, 40)) == 1).all()


@pytest.mark.parametrize(
    "maps, image_size, thresholds, message",
    [
        (np.zeros((7, 7)), (64, 64), THRESHOLDS, r"shape \(7, 7\).*; give \(N, h, w\)"),
        (np.zeros((2, 0, 7)), (64, 64), THRESHOLDS, r"give \(N, h, w\)"),
        (np.array([[[0.0, np.nan]]]), (64, 64), THRESHOLDS, "map 0 has NaN or infinite"),
        (np.array([[[0.0, np.inf]]]), (64, 64), THRESHOLDS, "map 0 has NaN or infinite"),
        (np.array([[[-1e300, 1e300]]]), (64, 64), THRESHOLDS, "a range that float32"),
        (np.zeros((0, 7, 7)), (64, 64), THRESHOLDS, "one map or more"),
        (np.ones((1, 7, 7), complex), (64, 64), THRESHOLDS, "of complex128; give .* real"),
        (np.array([[["a"]]]), (64, 64), THRESHOLDS, "give .* real numbers"),
        (np.zeros((1, 7, 7)), (64, 64), [], "one or more, from 0 to 1"),
        (np.zeros((1, 7, 7)), (64, 64), 0.5, r"thresholds 0\.5 are not a list"),
        (np.zeros((1, 7, 7)), (64, 64), [0.5, np.nan], "threshold nan .* give 0 to 1"),
        (np.zeros((1, 7, 7)), (64.5, 64), THRESHOLDS, "in whole pixels"),
        (np.zeros((1, 7, 7)), 64, THRESHOLDS, "image_size 64 is not a size"),
        (np.zeros((1, 7, 7)), (0, 64), THRESHOLDS, r"image_size \(0, 64\) is not a size"),
        (np.zeros((1, 7, 7)), (64, 64), [0.5, 1.5], r"threshold 1\.5 .* give 0 to 1"),
    ],
)
def test_bad_input_is_named(maps, image_size, thresholds, message):
    with pytest.raises(ValueError, match=message):
        find_boxes(maps, image_size, thresholds)


def test_maps_of_any_float_type_give_the_same_boxes():
    """As `cam` gives them under autocast, or with a graph."""
    maps = torch.tensor([[[0.0, 1.0], [2.0, 4.0]]])
    boxes = find_boxes(maps.numpy(), (8, 8))
    for given in (maps, maps.bfloat16(), maps.clone().requires_grad_()):
        np.testing.assert_array_equal(find_boxes(given, (8, 8)), boxes)
