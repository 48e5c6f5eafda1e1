"""Planted truth: who points at the digit is counted, who points elsewhere is not."""

import numpy as np
import pytest
import torch
from scipy.stats import norm

from nestbook.evaluations.grounding import (
    faithfulness,
    good_leaves,
    grounding,
    point_by_gradcat,
    point_by_map,
    quadrants_of,
)
from nestlib.data.datasets import load_dataset
from nestlib.metrics.intervals import wilson
from nestlib.models import create_model


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model(
        "nest_tiny_64", num_classes=10, img_size=64, patch_size=4, num_hierarchies=3, embed_dim=24
    )


@pytest.fixture(scope="module")
def four():
    return load_dataset(
        "digits", "test", image_size=64, canvas="plain", digits_per_image=4, num_images=24
    )


def seen_digit(canvases, model, images, classes, order):
    """Middles of the boxes of the digits asked for, found again by their canvas's pixels."""
    points, flat = [], {}
    for i, image in enumerate(canvases.images):
        flat[image.numpy().tobytes()] = i
    raw = (images * torch.tensor(canvases.std)[:, None, None]) + torch.tensor(canvases.mean)[
        :, None, None
    ]
    for image, label in zip((raw * 255).round().to(torch.uint8), classes):
        i = flat[image.numpy().tobytes()]
        k = order[int((canvases.box_labels[i] == label).nonzero()[0, 0])]
        x0, y0, x1, y1 = canvases.boxes[i, k].tolist()
        points.append([(x0 + x1 + 1) / 2, (y0 + y1 + 1) / 2])
    return np.array(points)


def test_the_truth_hits_always_and_a_neighbours_digit_never(model, four):
    found = grounding(
        model, four,
        {
            "truth": lambda m, x, c: seen_digit(four, m, x, c, [0, 1, 2, 3]),
            "neighbour": lambda m, x, c: seen_digit(four, m, x, c, [1, 0, 3, 2]),
        },
        progress=False,
    )  # fmt: skip
    assert found["queries"] == 96
    assert found["ways"]["truth"] == {"quadrant": 96, "leaf": 96}
    assert found["ways"]["neighbour"] == {"quadrant": 0, "leaf": 0}


def test_chance_is_what_random_points_hit(model, four):
    rng = np.random.default_rng(0)
    ways = {str(i): lambda m, x, c: rng.uniform(0, 64, (len(x), 2)) for i in range(60)}
    found = grounding(model, four, ways, progress=False)
    n = 60 * found["queries"]
    for part, chance in found["chance"].items():
        rate = sum(way[part] for way in found["ways"].values()) / n
        assert abs(rate - chance) < norm.ppf(1 - 1e-6) * (chance * (1 - chance) / n) ** 0.5


def test_good_leaves_are_those_of_a_plain_loop():
    boxes = load_dataset(
        "digits", "test", image_size=64, digit_edges=(0.18, 0.43), num_images=50
    ).boxes.numpy()
    found = good_leaves(boxes, 16, 64)
    for box, leaves in zip(boxes[:, 0], found[:, 0]):
        ink = np.zeros((64, 64), int)
        ink[box[1] : box[3] + 1, box[0] : box[2] + 1] = 1
        area = ink.reshape(4, 16, 4, 16).sum((1, 3))
        assert (leaves == (area >= max(1, area.max() / 2))).all()
    boxes = np.array([[[0, 0, 5, 5], [40, 2, 60, 9]], [[1, 33, 9, 60], [1, 33, 9, 60]]])
    assert quadrants_of(boxes, 64).tolist() == [[0, 1], [2, 2]]


def test_a_map_points_at_the_middle_of_its_largest_place():
    maps = torch.zeros(2, 4, 8)
    maps[0, 3, 1] = maps[1, 0, 7] = 1
    point = point_by_map(lambda model, images, classes: maps)
    assert point(None, torch.zeros(2, 3, 64, 64), None).tolist() == [[12, 56], [60, 8]]


def test_gradcat_points_into_its_leaf_block(model, four):
    images = torch.randn(5, 3, 64, 64)
    points = point_by_gradcat(sign="positive")(model, images, torch.arange(5))
    assert points.shape == (5, 2) and set(points.flatten() % 16) == {8}


class LooksAt(torch.nn.Module):
    """Logits are the mean of one leaf block's pixels."""

    patch_size = block_size = 4

    def __init__(self, y, x):
        super().__init__()
        self.y, self.x = y, x

    def forward(self, images):
        seen = images[:, :, self.y : self.y + 16, self.x : self.x + 16].mean((1, 2, 3))
        return seen[:, None].expand(-1, 10)


def test_blanking_costs_what_the_model_looks_at(four):
    chosen = faithfulness(
        LooksAt(16, 32), four, lambda m, x, c: np.full((len(x), 2), [40.0, 24.0]), progress=False
    )
    assert chosen["random"] == 0 and chosen["canvases"] == 24
    images = (four.images[:, :, 16:32, 32:48].float() / 255 - 0.5) / 0.24
    assert chosen["chosen"] == pytest.approx(float(images.mean()), rel=1e-4)


def test_interval_is_wilsons():
    z, n, p = norm.ppf(0.975), 200, 0.9
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    assert wilson(180, 200) == pytest.approx((middle - half, middle + half))


def test_canvases_without_boxes_are_refused(model, four):
    from dataclasses import replace

    with pytest.raises(ValueError, match="digits test does not have boxes"):
        grounding(model, replace(four, boxes=None), {})
