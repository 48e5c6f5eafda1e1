"""Figures 3 and 8: images with their chosen blocks framed, and the tree that each class walks."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from nestbook.report.pictures import PALETTE, SMALL, Picture, drawing_style
from nestbook.report.tables import Number, Table
from nestlib.explain.gradcat import Traversal

# Okabe and Ito's, one per class, each readable as text on white and as a frame on a photo.
COLORS = PALETTE[:4]
CHILDREN = ("upper left", "upper right", "lower left", "lower right")
_DASHES = ("--", "-")  # of frames: on the way, and the leaf block
_NODE = 0.64  # width of a node; a step is 1
_RAISED = "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"


def draw_trees(
    image: np.ndarray, traversal: Traversal, class_names: Sequence[str], stem: str
) -> Picture:
    """An image beside the walks of up to four classes, the rows of a traversal.

    Args:
        image: (H, W, 3) uint8, what the model saw without its normalisation.
        traversal: of that image repeated, one class per row.
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
        figure = Figure(figsize=(7.2, max(2.2, 1.1 * rows)), layout="constrained")
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
    images: np.ndarray, traversal: Traversal, class_names: Sequence[str], stem: str, *,
    hits: Sequence[bool] | None = None, beside: Table | None = None,
) -> Picture:  # fmt: skip
    """Several images, each with the walk of one class, two per line, and a table: figure 8.

    Args:
        images: (B, H, W, 3) uint8, what the model saw without its normalisation.
        traversal: one row per image.
        class_names: one per image.
        hits: whether each walk ends on its object, where that is known.
        beside: what stands on the right, as the paper has it.

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
    ends = [""] * B if hits is None else [": a hit" if hit else ": a miss" for hit in hits]
    with drawing_style():
        figure = Figure(figsize=(7.2, 1.55 * lines), layout="constrained")
        widths = (1, 1.35, 1, 1.35) + ((2.2,) if beside else ())
        grid = figure.add_gridspec(lines, len(widths), width_ratios=widths)
        for row, (image, name, end) in enumerate(zip(images, class_names, ends)):
            line, half = divmod(row, 2)
            framed = figure.add_subplot(grid[line, 2 * half])
            _draw_image(framed, image, traversal.boxes[row : row + 1])
            framed.set_title(f"{name}{end}", color=COLORS[0], loc="left")
            axes = figure.add_subplot(grid[line, 2 * half + 1])
            tooltips |= _draw_tree(axes, traversal, row, name, COLORS[0])
        if beside:
            tooltips |= _draw_table(figure.add_subplot(grid[:, -1]), beside)
    names = [f"{name}{end}" for name, end in zip(class_names, ends)]
    text = f"Images and the path of one class of each. {_say(traversal, names)}."
    return Picture(figure, stem, f"{text}{_say_table(beside) if beside else ''}", tooltips)


def _draw_table(axes: Axes, table: Table) -> dict[str, str]:
    """A small table: its caption, its columns' names, a line for each row."""
    tooltips, rows, columns = {}, len(table.rows), len(table.columns)
    axes.axis("off")
    axes.set(xlim=(0, 1), ylim=(rows + 0.4, -2.8))
    places = [0.04, *np.linspace(0.72, 1, columns - 1)] if columns > 2 else [0.04, 1]
    axes.text(0.04, -2.5, table.caption, weight="bold", va="center")
    for i, (x, name) in enumerate(zip(places, table.columns)):
        words = name.replace(", ", ",\n").replace(" ImageNet", "\nImageNet")
        axes.text(x, -0.7, words, ha="right" if i else "left", va="bottom", fontsize=SMALL)
    axes.axhline(-0.5, color="0.3", lw=0.8)
    axes.axhline(rows - 1.5, color="0.3", lw=0.5)  # above the paper's own row, its last
    for y, row in enumerate(table.rows):
        weight = "bold" if y == rows - 1 else "normal"
        for i, (x, cell) in enumerate(zip(places, row)):
            gid = f"cell{y}-{i}"
            axes.text(x, y, str(cell), ha="right" if i else "left", va="center", weight=weight,
                      gid=gid)  # fmt: skip
            if isinstance(cell, Number):
                tooltips[gid] = f"{row[0]}, {table.columns[i]}: {cell} ({cell.source})"
    return tooltips


def _say_table(table: Table) -> str:
    rows = (
        f"{name} " + ", ".join(f"{cell} ({title})" for title, cell in zip(table.columns[1:], cells))
        for name, *cells in table.rows
    )
    return f" {table.caption}: {'; '.join(rows)}."


def _label(traversal: Traversal, row: int, name: str) -> str:
    return f"{name}\nlogit {traversal.logits[row, traversal.classes[row]]:.2f}"


def _say(traversal: Traversal, class_names: Sequence[str]) -> str:
    return "; ".join(
        f"{name}: " + ", then ".join(CHILDREN[child] for child in path)
        for name, path in zip(class_names, traversal.path)
    )


def _draw_image(axes: Axes, image: np.ndarray, walks: np.ndarray) -> None:
    """walks: boxes (walks, L, 4), framed in one colour each."""
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
    axes.set(xlim=(0, len(path) + 0.3), ylim=(-1.1, 3.6))
    start = (0.05, 1.5)
    for step, (child, four) in enumerate(zip(path, values)):
        x, (texts, unit) = step + 0.45, _comparable(four)
        axes.text(x + _NODE / 2, -0.8, unit, ha="center", va="center", fontsize=6, color="0.35")
        for i, value in enumerate(four):
            y, chosen = 3 - i, i == child
            axes.plot(
                (start[0], x), (start[1], y), color=color if chosen else "0.8",
                linewidth=1.8 if chosen else 0.7, zorder=1,
            )  # fmt: skip
            gid = f"class{row}-step{step}-{i}"
            axes.add_patch(FancyBboxPatch(
                (x, y - 0.3), _NODE, 0.6, boxstyle="round,pad=0,rounding_size=0.08", gid=gid,
                facecolor=color if chosen else "white", edgecolor=color if chosen else "0.6",
                linewidth=0.8, zorder=2,
            ))  # fmt: skip
            axes.text(
                x + _NODE / 2, y, texts[i], ha="center", va="center", fontsize=6.2, zorder=3,
                color="white" if chosen else "0.25",
            )  # fmt: skip
            tooltips[gid] = f"{name}, step {step + 1}, {CHILDREN[i]}: {value:.4g}"
        start = (x + _NODE, 3 - child)
    return tooltips


def _comparable(values: np.ndarray) -> tuple[list[str], str]:
    """Values with one power of ten for all, which stands apart, and digits that tell them apart.

    As the explorer writes them (explorer/page/words.js).
    """
    largest = np.abs(values).max()
    power = math.floor(math.log10(largest)) if largest > 0 else 0
    power = 0 if -1 <= power <= 2 else power
    scaled = values / 10.0**power
    second, first = np.sort(scaled)[-2:]
    digits = 3 if f"{first:.2f}" == f"{second:.2f}" else 2
    texts = [f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}") for value in scaled]
    raised = str(power).translate(str.maketrans("-0123456789", _RAISED))
    return texts, f"\N{MULTIPLICATION SIGN} 10{raised}" if power else ""
