"""Boxes, maps and tables of them, made by hypothesis: right, or refused by name."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from plain_boxes import boxes_one_by_one
from torchvision.ops import box_iou

from nestlib.data.boxes import gather_boxes
from nestlib.explain.cam import read_classes
from nestlib.explain.localize import find_boxes
from nestlib.metrics.localization import MOST, score_localization

EDGES = st.one_of(
    st.integers(0, 40), st.floats(0, 40), st.integers(-3, 3), st.floats(),
    st.sampled_from([2**26 - 1, 2**26, 2**62, 1e300]),
)  # fmt: skip
BOXES = st.lists(EDGES, min_size=4, max_size=4)
GOOD = st.tuples(*[st.integers(0, 30)] * 4).map(
    lambda e: [min(e[::2]), min(e[1::2]), max(e[::2]), max(e[1::2])]
)
MOSTLY_GOOD = st.one_of(*[GOOD] * 6, BOXES)
PAD = [-1] * 4


def is_box(box) -> bool:
    return all(0 <= a <= b < MOST for a, b in (box[::2], box[1::2]))


def looks_like_shares(boxes) -> bool:
    """As `check_boxes` says: all of 0 to 1, and not all whole."""
    edges = np.array(boxes, float)
    return edges.size > 0 and 0 < edges.max() <= 1 and bool((edges % 1 != 0).any())


def best(box, truth) -> float:
    """torchvision's IoU, whose boxes end behind the last pixel."""
    a, b = (torch.tensor(x, dtype=torch.float64) + torch.tensor([0, 0, 1, 1]) for x in (box, truth))
    return float(box_iou(a[None], b).max())


@given(st.lists(st.tuples(MOSTLY_GOOD, st.lists(MOSTLY_GOOD, max_size=3)), min_size=1, max_size=6))
@example([([0, 0, 1e300, 1e300], [[0, 0, 1e300, 1e300]])] * 2)  # areas of infinity were a miss
@example([([0, 0, 9, 9], [])] * 2)
def test_scores_are_torchvisions_or_the_box_is_named(rows):
    boxes = [[box] for box, _ in rows]
    most = max(len(truth) for _, truth in rows)
    truths = [[*truth, *[PAD] * (most - len(truth))] for _, truth in rows]
    truths = np.array(truths, float).reshape(len(rows), most, 4)
    right = np.arange(len(rows)) % 2 == 0
    true_boxes = [[box for box in truth if box != PAD] for _, truth in rows]
    good = (
        len(rows) > 1 and all(is_box(box) for box, _ in rows)
        and all(truth and all(map(is_box, truth)) for truth in true_boxes)
        and not looks_like_shares(boxes) and not looks_like_shares(truths)
    )  # fmt: skip
    if not good:
        with pytest.raises(ValueError, match=r"boxes|image \d+ has no true box|cannot be halved"):
            score_localization(boxes, truths, right, [0.5])
        return
    found = np.array([best(box, truth) >= 0.5 for (box, _), truth in zip(rows, true_boxes)])
    scores = score_localization(boxes, truths, right, [0.5])
    assert scores["gt_known"]["errors"] == [100 * int((~found).sum()) / len(rows)]
    assert scores["top1"]["errors"] == [100 * int((~(found & right)).sum()) / len(rows)]


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    bits = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    return np.array(bits).reshape(height, width)


@given(masks(), st.sampled_from([bool, np.uint8, np.float16, ">f4", np.float64]))
def test_boxes_of_any_mask_are_scipys(mask, dtype):
    found = find_boxes(mask[None].astype(dtype), mask.shape, (0.5, 1.0))
    if mask.all() or not mask.any():  # a constant map is the whole image
        height, width = mask.shape
        assert (found == [0, 0, width - 1, height - 1]).all()
    else:
        plain = boxes_one_by_one(mask[None].astype(np.float32), mask.shape, (0.5, 1.0))
        assert np.array_equal(found, plain)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=3),
    st.binary(max_size=3), st.complex_numbers(), st.just(np.nan), st.just(10**400),
)  # fmt: skip
NESTED = st.recursive(VALUES, lambda inner: st.lists(inner, max_size=4), max_leaves=12)


@given(NESTED, NESTED, NESTED)
def test_whatever_is_given_for_maps_sizes_and_thresholds_is_taken_or_named(maps, size, thresholds):
    for given_ in ((maps, (4, 4), (0.5,)), (np.eye(3)[None], size, (0.5,)),
                   (np.eye(3)[None], (4, 4), thresholds)):  # fmt: skip
        try:
            boxes = find_boxes(*given_)
        except ValueError as error:
            assert any(word in str(error) for word in ("map", "image_size", "threshold"))
        else:
            assert boxes.dtype == np.int64 and boxes.ndim == 3 and (boxes >= 0).all()


def is_class(value) -> bool:
    return type(value) is int and 0 <= value < 7


@given(st.one_of(NESTED, st.lists(st.integers(-1, 7), max_size=4)))
@example([True, 1])
@example([[1], [2, 3]])
def test_whatever_is_given_for_classes_is_taken_whole_or_named(classes):
    flat = [classes]
    while any(isinstance(one, list) for one in flat):
        flat = [x for one in flat for x in (one if isinstance(one, list) else [one])]
    try:
        found = read_classes(classes, 7)
    except ValueError as error:
        assert "class" in str(error) and "7" in str(error)
        ragged = isinstance(classes, list) and any(isinstance(one, list) for one in classes)
        assert ragged or not all(map(is_class, flat))
    else:
        assert all(map(is_class, flat)) and found.flatten().tolist() == flat


FIELDS = st.one_of(
    st.integers(-9, 70).map(str), st.floats().map(str),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n\t,"), max_size=4),
)  # fmt: skip
ROWS = st.lists(st.tuples(st.sampled_from("abc"), st.lists(FIELDS, min_size=3, max_size=5)))


def read_box(fields) -> tuple | None:
    """A box of four numbers cut to 64 x 64 pixels, or None."""
    try:
        x0, y0, x1, y1 = (float(field) for field in fields if "_" not in field)
    except ValueError:
        return None
    (x0, x1), (y0, y1) = sorted((x0, x1)), sorted((y0, y1))
    if not np.isfinite([x0, y0, x1, y1]).all() or x1 < 0 or y1 < 0 or x0 > 63 or y0 > 63:
        return None
    return tuple(map(round, (max(x0, 0), max(y0, 0), min(x1, 63), min(y1, 63))))


@given(ROWS, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["utf-8", "utf-8-sig"]))
@example([("a", ["1_0", "2", "30", "40"])], "\n", "utf-8")  # was a box from 10
@example([("a", ["0", "0", "0", "0", ""])], "\n", "utf-8")
def test_tables_of_boxes_are_read_or_the_line_is_named(rows, newline, encoding):
    text = newline.join("\t".join([f"{name}.JPEG", *fields]) for name, fields in rows)
    # What ends a line in white space, tabs too, is no field.
    boxes = [
        read_box([f.strip() for f in "\t".join(fields).rstrip().split("\t")]) for _, fields in rows
    ]
    known = Counter(name for name, _ in {(name, box) for (name, _), box in zip(rows, boxes)})
    try:
        found = gather_boxes([("n1/n1_boxes.txt", text.encode(encoding))], "train", 64)
    except ValueError as error:
        assert "n1/n1_boxes.txt, line " in str(error)
        strange = any(not field.strip() or not field.isascii() for _, fs in rows for field in fs)
        assert strange or None in boxes or max(known.values()) > 1
    else:
        stems = {name: box for (name, _), box in zip(rows, boxes)}
        assert {stem: box for (_, stem), (box, _) in found.items()} == stems


@given(st.binary(max_size=60))
def test_bytes_that_are_no_table_are_named(data):
    for path in ("boxes.csv", "val/val_annotations.txt", "n1/n1_boxes.txt"):
        try:
            found = gather_boxes([(path, data)], "test", 64)
        except ValueError as error:
            assert f"{path}, line " in str(error)
        else:
            assert all(0 <= edge < 64 for box, _ in found.values() for edge in box)
