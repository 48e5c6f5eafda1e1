"""Trees as pictures: what is drawn is the traversal."""

import numpy as np
import pytest

from nestbook.report.tables import Number, Table
from nestbook.report.tree import _comparable, draw_trees, draw_walks
from nestlib.explain import Traversal


def make_traversal(rows):
    rng = np.random.default_rng(0)
    activations = rng.normal(size=(rows, 2, 2, 2)).astype(np.float32)
    path = activations.reshape(rows, 2, 4).argmax(-1)
    y, x = path // 2, path % 2
    outer = np.stack([32 * x[:, 0], 32 * y[:, 0]], 1)
    inner = outer + 16 * np.stack([x[:, 1], y[:, 1]], 1)
    boxes = np.stack([np.hstack([outer, outer + 31]), np.hstack([inner, inner + 15])], 1)
    logits = rng.normal(size=(rows, 10)).astype(np.float32)
    return Traversal(path, activations, boxes, np.arange(rows), logits)


def test_every_node_tells_its_value():
    traversal = make_traversal(4)
    image = np.zeros((64, 64, 3), np.uint8)
    picture = draw_trees(image, traversal, list("abcd"), "trees")
    assert len(picture.tooltips) == 4 * 2 * 4
    value = traversal.activations[2].reshape(2, 4)[1, 3]
    assert picture.tooltips["class2-step1-3"] == f"c, step 2, lower right: {value:.4g}"
    svg = picture.to_svg().decode()
    assert svg.count("<title>") >= 32 and f"logit {traversal.logits[1, 1]:.2f}" in svg
    assert svg == draw_trees(image, traversal, list("abcd"), "trees").to_svg().decode()


def test_frames_lie_where_the_boxes_are():
    traversal = make_traversal(1)
    axes = draw_trees(np.zeros((64, 64, 3), np.uint8), traversal, ["a"], "t").figure.axes[0]
    quadrant, leaf = axes.patches
    x0, y0, x1, y1 = traversal.boxes[0, 0]
    assert (quadrant.get_x(), quadrant.get_y()) == (x0 - 0.5, y0 - 0.5)
    assert (quadrant.get_width(), quadrant.get_height()) == (x1 - x0 + 1, y1 - y0 + 1)
    assert leaf.get_width() < quadrant.get_width()


def test_what_does_not_fit_a_picture_is_refused():
    image = np.zeros((64, 64, 3), np.uint8)
    with pytest.raises(ValueError, match="5 classes do not fit"):
        draw_trees(image, make_traversal(5), list("abcde"), "t")
    with pytest.raises(ValueError, match="1 class names for 2 rows"):
        draw_trees(image, make_traversal(2), ["a"], "t")


def test_walks_of_several_images_are_framed_on_their_own_image():
    images = np.zeros((3, 64, 64, 3), np.uint8)
    traversal = make_traversal(3)
    picture = draw_walks(images, traversal, list("abc"), "walks")
    framed = [axes for axes in picture.figure.axes if axes.images]
    assert len(framed) == 3 and len(picture.tooltips) == 3 * 2 * 4
    for axes, boxes in zip(framed, traversal.boxes):
        assert [patch.get_x() for patch in axes.patches] == [
            x - 0.5 + inset for inset, x in enumerate(boxes[:, 0])
        ]
    with pytest.raises(ValueError, match="3 images, 3 walks and 2 names"):
        draw_walks(images, traversal, list("ab"), "walks")


def test_walks_say_whether_they_hit_and_a_table_stands_beside_them():
    images, names = np.zeros((2, 64, 64, 3), np.uint8), ["a", "b"]
    beside = Table("Error (%)", ("Method", "Paper"), [("x", Number(51.8, "paper")), ("y", "")])
    picture = draw_walks(
        images, make_traversal(2), names, "walks", hits=[True, False], beside=beside
    )
    titles = [axes.get_title(loc="left") for axes in picture.figure.axes if axes.images]
    assert titles == ["a: a hit", "b: a miss"]
    assert "a: a hit:" in picture.description and "x 51.8 (Paper)" in picture.description
    assert picture.tooltips["cell0-1"] == "x, Paper: 51.8 (paper)"
    svg = picture.to_svg().decode()
    assert "Error (%)" in svg and ">51.8<" in svg


@pytest.mark.parametrize(
    ("values", "texts", "unit"),
    [
        ([7.39e-3, 7.69e-3, 7.51e-3, 7.75e-3], ["7.39", "7.69", "7.51", "7.75"], "-3"),
        ([7.555e-3, 7.552e-3, 0, -1e-3], ["7.555", "7.552", "0.000", "-1.000"], "-3"),
        ([0.5, 0.25, -1.5, 3], ["0.50", "0.25", "-1.50", "3.00"], ""),
        ([0, 0, 0, 0], ["0.000"] * 4, ""),
        ([12345, 1, 0, 0], ["1.23", "0.00", "0.00", "0.00"], "4"),
    ],
)
def test_values_of_a_step_share_a_power_of_ten(values, texts, unit):
    shown, shown_unit = _comparable(np.array(values, float))
    assert [text.replace("\N{MINUS SIGN}", "-") for text in shown] == texts
    raised = str.maketrans("\u207b\u2070\u00b9\u00b2\u00b3\u2074", "-01234")
    assert shown_unit.translate(raised) == (f"\N{MULTIPLICATION SIGN} 10{unit}" if unit else "")
