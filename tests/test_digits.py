"""The digit canvases: repeatable, disjoint between splits, honest about where each digit is."""

from difflib import SequenceMatcher
from itertools import pairwise

import numpy as np
import pytest

from nestlib.data.datasets import load_dataset
from nestlib.data.digits import _samples_by_class, make_digits

LUMA = np.array([0.299, 0.587, 0.114])


def tight_box(mask: np.ndarray) -> list[int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [columns[0], rows[0], columns[-1], rows[-1]]


def digit_samples(split: str, by_form: bool = False) -> np.ndarray:
    return np.concatenate(_samples_by_class(split, by_form))


def test_no_scan_is_in_both_splits():
    train, test = digit_samples("train"), digit_samples("test")
    assert not set(train) & set(test)
    assert len(train) + len(test) == 1797
    for split, allowed, seed in (("train", train, 0), ("test", test, 0), ("test", test, 5)):
        used = make_digits(split, num_images=300, digits_per_image=4, seed=seed).samples
        assert np.isin(used, allowed).all()


# A form asks for these digits in this order; some forms have a few digits less.
FORM = "0123456789" * 3 + (
    "09556509898417735100227820126337334666491509528200176321746313917684314053696175447282257954"
    "88490898"
)
FORM_STARTS = [0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667, 1797]


def test_scans_stand_form_by_form():
    """In scikit-learn 1.9.1; should the file's order change, so must the split by form."""
    from sklearn.datasets import load_digits

    digits = "".join(map(str, load_digits().target))
    for start, end in pairwise(FORM_STARTS):
        form = digits[start:end]
        same = sum(
            block.size for block in SequenceMatcher(None, FORM, form, False).get_matching_blocks()
        )
        assert len(form) <= len(FORM) and same >= len(form) - 2, start


def test_split_by_form_shares_no_form():
    form = np.searchsorted(FORM_STARTS, np.arange(1797), side="right")
    for by_form, shared in ((False, 23), (True, 0)):
        train, test = (digit_samples(split, by_form) for split in ("train", "test"))
        assert sorted([*train, *test]) == [*range(1797)]
        assert np.isin(form[train], form[test]).sum() == shared
    used = {s: make_digits(s, num_images=200, by_form=True).samples for s in ("train", "test")}
    assert used["train"].max() < 1415 <= used["test"].min()
    whole = load_dataset("digits", "train", num_images=64)
    assert (
        whole.images == load_dataset("digits", "train", num_images=64, by_form=False).images
    ).all()
    assert (
        whole.images != load_dataset("digits", "train", num_images=64, by_form=True).images
    ).any()


def test_a_shuffled_split_of_the_scans_flatters():
    """D19's numbers: writers that are in train and test alike are recognised by their hands."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.svm import SVC

    scans = load_digits(return_X_y=True)
    reached = [
        round(100 * cross_val_score(model, *scans, cv=folds).mean(), 1)
        for folds in (KFold(5, shuffle=True, random_state=0), KFold(5))
        for model in (KNeighborsClassifier(1), SVC(gamma=0.001))
    ]
    assert reached == [98.8, 99.1, 96.5, 97.2]


def test_both_splits_hold_every_class_evenly():
    from sklearn.datasets import load_digits

    target = load_digits().target
    train, test = (np.bincount(target[digit_samples(s)]) for s in ("train", "test"))
    assert np.all(np.abs(test / (train + test) - 0.2) < 0.01)


def test_labels_are_the_scans_own_classes():
    from sklearn.datasets import load_digits

    drawn = make_digits("train", num_images=200, digits_per_image=3)
    np.testing.assert_array_equal(load_digits().target[drawn.samples], drawn.box_labels)
    np.testing.assert_array_equal(drawn.labels, drawn.box_labels[:, 0])


def test_the_seed_alone_decides():
    first, again = make_digits("train", num_images=80), make_digits("train", num_images=80)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (first.images != make_digits("train", num_images=80, seed=1).images).any()
    assert (first.images != make_digits("test", num_images=80).images).any()


def test_a_longer_set_begins_with_the_shorter():
    short, long = make_digits("train", num_images=10), make_digits("train", num_images=130)
    np.testing.assert_array_equal(short.images, long.images[:10])
    np.testing.assert_array_equal(short.boxes, long.boxes[:10])


@pytest.mark.parametrize("image_size", [32, 64])
def test_box_is_tight_around_the_ink(image_size):
    # A plain canvas is of one colour, which its corner shows: all else is ink.
    drawn = make_digits("test", canvas="plain", image_size=image_size, num_images=150)
    for image, boxes in zip(drawn.images, drawn.boxes, strict=True):
        corner = image[:, -1:, -1:] if boxes[0, 3] < image_size - 1 else image[:, :1, :1]
        assert boxes[0].tolist() == tight_box((image != corner).any(0))


@pytest.mark.parametrize("image_size", [32, 64])
@pytest.mark.parametrize("digits", [2, 3, 4])
def test_several_digits_differ_and_keep_to_their_quadrants(image_size, digits):
    drawn = make_digits("train", digits_per_image=digits, image_size=image_size, num_images=200)
    assert drawn.boxes.shape == (200, digits, 4)
    assert all(len(set(row)) == digits for row in drawn.box_labels.tolist())
    half = image_size // 2
    low, high = drawn.boxes[..., :2] // half, drawn.boxes[..., 2:] // half
    np.testing.assert_array_equal(low, high)
    quadrant = low[..., 1] * 2 + low[..., 0]
    assert (np.diff(quadrant, axis=1) > 0).all()  # reading order, one digit a quadrant


def test_ink_stands_out_from_its_surroundings():
    drawn = make_digits("train", num_images=300)
    brightness = np.tensordot(drawn.images / 255, LUMA, axes=(1, 0))  # (N, H, W)
    spread = [
        np.ptp(picture[y0 : y1 + 1, x0 : x1 + 1])
        for picture, (x0, y0, x1, y1) in zip(brightness, drawn.boxes[:, 0], strict=True)
    ]
    assert min(spread) > 0.35


def test_colour_alone_does_not_tell_the_class():
    from sklearn.linear_model import LogisticRegression

    def statistics(split):
        drawn = make_digits(split, num_images=1000)
        pixels = drawn.images.reshape(1000, 3, -1) / 255
        return np.hstack(
            [pixels.mean(2), pixels.std(2), pixels.min(2), pixels.max(2)]
        ), drawn.labels

    model = LogisticRegression(max_iter=1000).fit(*statistics("train"))
    assert model.score(*statistics("test")) < 0.2


@pytest.mark.parametrize("canvas", ["textured", "plain"])
def test_set_has_the_promised_shapes(canvas):
    data = load_dataset("digits", "test", image_size=64, num_images=70, canvas=canvas)
    assert data.images.shape == (70, 3, 64, 64)
    assert data.images.is_contiguous()
    assert data.boxes.shape == (70, 1, 4)
    assert data.num_classes == 10
    assert (data.boxes >= 0).all()
    assert (data.boxes < 64).all()
    assert (data.boxes[..., 2:] - data.boxes[..., :2] >= 5).any(-1).all()


def test_default_sizes():
    train = load_dataset("digits", "train")
    assert len(train) == 4096
    assert len(load_dataset("digits", "test")) == 1024
    pixels = train.images.double() / 255
    assert pixels.mean((0, 2, 3)).sub(0.5).abs().max() < 0.02
    assert pixels.std((0, 2, 3)).sub(0.24).abs().max() < 0.02


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"digits_per_image": 5}, "digits_per_image is 5, must be .* 1 and at most 4"),
        ({"num_images": 0}, "num_images is 0, must be .*at least 1"),
        ({"seed": -1}, "seed is -1, must be .*at least 0"),
        ({"by_form": 1}, "by_form is 1, must be true or false"),
        ({"canvas": "wood"}, "no canvas 'wood'; .*textured, plain"),
        ({"image_size": 48}, "image_size=48.*32 or 64"),
    ],
)
def test_impossible_values_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        load_dataset("digits", "train", **options)


def test_a_lone_digit_takes_the_edges_asked_for():
    boxes = make_digits("test", image_size=64, digit_edges=(0.18, 0.26), num_images=64).boxes
    edges = boxes[:, 0, 2:] - boxes[:, 0, :2] + 1
    assert edges.max() <= 0.26 * 1.09 * 64 + 2
    default = make_digits("test", image_size=64, num_images=64)
    same = make_digits("test", image_size=64, num_images=64, digit_edges=(0.40, 0.86))
    assert (default.images == same.images).all()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (dict(digit_edges=(0.2, 0.3), digits_per_image=2), "one digit per canvas"),
        (dict(digit_edges=(0.3, 0.2)), "smaller first"),
        (dict(digit_edges=(0.2, 1.5)), "within 0.1 to 0.9"),
        (dict(digit_edges=(0.2,)), "a list of 2 items"),
    ],
)
def test_edges_that_do_not_fit_are_refused(options, error):
    with pytest.raises(ValueError, match=error):
        make_digits("test", **options)
