"""Figures 3 and 8: an image with its chosen blocks framed, and the tree that each class walks."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from nestlib.explain.gradcat import Traversal
from nestlib.report.pictures import Picture, drawing_style

# Okabe and Ito's, one a class, each readable as text on white and as a frame on a photo.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
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
        _draw_image(figure.add_subplot(grid[:, 0]), image, traversal)
        tooltips = {}
        for row, name in enumerate(class_names):
            tooltips |= _draw_tree(figure.add_subplot(grid[row, 1]), traversal, row, name)
    said = "; ".join(
        f"{name}: " + ", then ".join(CHILDREN[child] for child in path)
        for name, path in zip(class_names, traversal.path)
    )
    return Picture(figure, stem, f"An image and the paths of its classes. {said}.", tooltips)


def _draw_image(axes: Axes, image: np.ndarray, traversal: Traversal) -> None:
    axes.imshow(image, interpolation="nearest")
    axes.axis("off")
    for boxes, color in zip(traversal.boxes, COLORS):
        for box, inset in zip(boxes, range(len(boxes))):
            x0, y0, x1, y1 = np.add(box, (inset, inset, -inset, -inset))
            leaf = inset == len(boxes) - 1
            corner = (x0 - 0.5, y0 - 0.5)
            axes.add_patch(Rectangle(
                corner, x1 - x0 + 1, y1 - y0 + 1, fill=False, edgecolor=color,
                linestyle=_DASHES[leaf], linewidth=2.2 if leaf else 1.2,
            ))  # fmt: skip


def _draw_tree(axes: Axes, traversal: Traversal, row: int, name: str) -> dict[str, str]:
    """One class's walk, left to right: the root, then the four children of each chosen node."""
    path, values = traversal.path[row], traversal.activations[row].reshape(-1, 4)
    color, tooltips = COLORS[row], {}
    logit = traversal.logits[row, traversal.classes[row]]
    axes.axis("off")
    axes.set(xlim=(-0.55, len(path) + 0.5), ylim=(-0.6, 3.6))
    axes.text(-0.5, 1.5, f"{name}\nlogit {logit:.2f}", color=color, weight="bold", va="center")
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
