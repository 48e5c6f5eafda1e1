"""Figures 3 and 8: images with their chosen blocks framed, and the tree that each class walks."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from nestbook.report.pictures import PALETTE, Picture, drawing_style
from nestlib.explain.gradcat import Traversal

# Okabe and Ito's, one a class, each readable as text on white and as a frame on a photo.
COLORS = PALETTE[:4]
CHILDREN = ("upper left", "upper right", "lower left", "lower right")
_DASHES = ("--", "-")  # of frames: on the way, and the leaf block


def draw_trees(
    image: np.ndarray, traversal: Traversal, class_names: Sequence[str], stem: str
) -> Picture:
    """An image beside the walks of up to four classes, the rows of a traversal.

    Args:
        image: (H, W, 3) uint8, what the model saw without its normalisation.
        traversal: of that image repeated, a class each.
        class_names: one for each of its rows.
        stem: names the picture.

    Raises:
        ValueError: more classes than colours, or another number of names than rows.
    """
    rows = len(traversal.path)
    if not 1 <= rows <= len(COLORS):
        raise ValueError(f"{rows} classes do not fit a picture; give 1 to {len(COLORS)}")
    if len(class_names) != rows:
        raise ValueError(f"{len(class_names)} class names for {rows} rows; give one each")
    with drawing_style():
        figure = Figure(figsize=(7.2, max(2.2, 1.05 * rows)), layout="constrained")
        grid = figure.add_gridspec(rows, 2, width_ratios=(1, 1.9))
        _draw_image(figure.add_subplot(grid[:, 0]), image, traversal.boxes)
        tooltips = {}
        for row, (name, color) in enumerate(zip(class_names, COLORS)):
            axes = figure.add_subplot(grid[row, 1])
            tooltips |= _draw_tree(axes, traversal, row, name, color)
            axes.set_xlim(left=-0.55)
            label = _label(traversal, row, name)
            axes.text(-0.5, 1.5, label, color=color, weight="bold", va="center")
    text = f"An image and the paths of its classes. {_say(traversal, class_names)}."
    return Picture(figure, stem, text, tooltips)


def draw_walks(
    images: np.ndarray, traversal: Traversal, class_names: Sequence[str], stem: str
) -> Picture:
    """Several images, each with the walk of one class, two a line: figure 8, left.

    Args:
        images: (B, H, W, 3) uint8, what the model saw without its normalisation.
        traversal: a row an image.
        class_names: one an image.

    Raises:
        ValueError: another number of rows or names than images.
    """
    B = len(images)
    if not B == len(traversal.path) == len(class_names):
        raise ValueError(
            f"{B} images, {len(traversal.path)} walks and {len(class_names)} names; give as many "
            "of each"
        )
    lines, tooltips = -(-B // 2), {}
    with drawing_style():
        figure = Figure(figsize=(7.2, 1.45 * lines), layout="constrained")
        grid = figure.add_gridspec(lines, 4, width_ratios=(1, 1.8, 1, 1.8))
        for row, (image, name) in enumerate(zip(images, class_names)):
            line, half = divmod(row, 2)
            framed = figure.add_subplot(grid[line, 2 * half])
            _draw_image(framed, image, traversal.boxes[row : row + 1])
            framed.set_title(_label(traversal, row, name).replace("\n", ", "), color=COLORS[0])
            axes = figure.add_subplot(grid[line, 2 * half + 1])
            tooltips |= _draw_tree(axes, traversal, row, name, COLORS[0])
    text = f"Images and the path of one class of each. {_say(traversal, class_names)}."
    return Picture(figure, stem, text, tooltips)


def _label(traversal: Traversal, row: int, name: str) -> str:
    return f"{name}\nlogit {traversal.logits[row, traversal.classes[row]]:.2f}"


def _say(traversal: Traversal, class_names: Sequence[str]) -> str:
    return "; ".join(
        f"{name}: " + ", then ".join(CHILDREN[child] for child in path)
        for name, path in zip(class_names, traversal.path)
    )


def _draw_image(axes: Axes, image: np.ndarray, walks: np.ndarray) -> None:
    """walks: boxes (walks, L, 4), framed in a colour each."""
    axes.imshow(image, interpolation="nearest")
    axes.axis("off")
    for boxes, color in zip(walks, COLORS):
        for inset, box in enumerate(boxes):
            inside = np.add(box, (inset, inset, -inset, -inset))
            leaf = inset == len(boxes) - 1
            frame_box(axes, inside, color, _DASHES[leaf], 2.2 if leaf else 1.2)


def frame_box(axes: Axes, box: np.ndarray, color: str, dashes: str, width: float) -> None:
    """box: x0, y0, x1, y1 in pixels, all within it."""
    x0, y0, x1, y1 = box
    axes.add_patch(Rectangle(
        (x0 - 0.5, y0 - 0.5), x1 - x0 + 1, y1 - y0 + 1, fill=False, edgecolor=color,
        linestyle=dashes, linewidth=width,
    ))  # fmt: skip


def _draw_tree(axes: Axes, traversal: Traversal, row: int, name: str, color: str) -> dict[str, str]:
    """One class's walk, left to right: the root, then the four children of each chosen node."""
    path, values = traversal.path[row], traversal.activations[row].reshape(-1, 4)
    tooltips = {}
    axes.axis("off")
    axes.set(xlim=(0, len(path) + 0.5), ylim=(-0.6, 3.6))
    start = (0.05, 1.5)
    for step, (child, four) in enumerate(zip(path, values)):
        x = step + 0.55
        for i, value in enumerate(four):
            y, chosen = 3 - i, i == child
            axes.plot(
                (start[0], x), (start[1], y), color=color if chosen else "0.8",
                linewidth=1.8 if chosen else 0.7, zorder=1,
            )  # fmt: skip
            gid = f"class{row}-step{step}-{i}"
            axes.add_patch(FancyBboxPatch(
                (x, y - 0.3), 0.52, 0.6, boxstyle="round,pad=0,rounding_size=0.08", gid=gid,
                facecolor=color if chosen else "white", edgecolor=color if chosen else "0.6",
                linewidth=0.8, zorder=2,
            ))  # fmt: skip
            axes.text(
                x + 0.26, y, f"{value:.2g}", ha="center", va="center", fontsize=6.5, zorder=3,
                color="white" if chosen else "0.25",
            )  # fmt: skip
            tooltips[gid] = f"{name}, step {step + 1}, {CHILDREN[i]}: {value:.4g}"
        start = (x + 0.52, 3 - child)
    return tooltips
