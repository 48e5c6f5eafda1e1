"""A figure whose marks answer the mouse: SVG with native tooltips, for pages without scripts."""

import io
import itertools
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from xml.dom import minidom

import matplotlib as mpl
import matplotlib.style
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text

# Okabe and Ito's colours, told apart by readers who confuse red and green.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
PINK, SKY, YELLOW = "#CC79A7", "#56B4E9", "#F0E442"
PALETTE = (BLUE, VERMILION, GREEN, PINK, ORANGE, SKY)  # of curves, in their order
GROUP_COLORS = {
    "convnet": GREEN, "transformer, full attention": ORANGE, "transformer, local attention": BLUE
}  # fmt: skip
# The label of a band of digits, which are no result of the paper.
QUICK_BOX = {"fc": "#FFF3C4", "ec": "#8A6D00", "lw": 0.6, "pad": 2}
INK = "0.25"
SMALL = 6.5  # points, of notes
# Matplotlib brings DejaVu Sans, so every machine lays a figure out alike. Verdana has its widths;
# the others are narrower, so where a reader has none of the first two, text still fits.
_STYLE = {
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "Helvetica"],
    "font.size": 7.5,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "axes.titleweight": "bold",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.grid": True,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.linewidth": 0.8,
    "grid.color": "0.9",
    "grid.linewidth": 0.6,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "text.hinting": "none",  # so that text is measured as wide as an SVG shows it
    "svg.fonttype": "none",  # text stays text
}


def drawing_style() -> AbstractContextManager[None]:
    """One look for all pictures, whatever the session has set; nothing global changes for good."""
    return mpl.style.context(["default", sns.axes_style("ticks"), _STYLE])


def mark_look(color: str, fill: str = "full", size: float = 5.6, hollow_size: float = 4.6) -> dict:
    """A line's arguments for its marks; sizes in points.

    fill: Matplotlib's fill style: "full", whose white rim parts marks that overlap, "none", which
    is hollow, or "left", a half.
    """
    if fill == "full":
        return {"mfc": color, "mec": "white", "mew": 0.5, "ms": size}
    face = {"mfc": "white"} if fill == "none" else {"mfc": color, "fillstyle": fill}
    return {**face, "mfcalt": "white", "mec": color, "mew": 1.1, "ms": hollow_size}


@dataclass(frozen=True)
class Picture:
    """A figure with a text for each marked element; shows itself in Jupyter as inline SVG.

    Attributes:
        figure: made by `Figure(...)`, not by pyplot, which would show it a second time.
        stem: names the picture and begins each of its ids, so two pictures share a page.
        description: what a screen reader says instead of the picture.
        tooltips: what appears when the mouse rests on a Matplotlib artist, by the artist's gid.
    """

    figure: Figure
    stem: str
    description: str
    tooltips: Mapping[str, str]

    def to_svg(self) -> bytes:
        """The picture as an SVG file, byte for byte the same for the same picture."""
        header = '<?xml version="1.0" encoding="utf-8"?>\n'
        return f"{header}{self._repr_html_()}\n".encode()

    def _repr_html_(self) -> str:
        buffer = io.BytesIO()
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        with drawing_style(), mpl.rc_context({"svg.hashsalt": self.stem}):
            # White, as black text on a transparent picture is lost on a dark page.
            self.figure.savefig(buffer, format="svg", facecolor="white", metadata=no_metadata)
        svg = minidom.parseString(buffer.getvalue()).documentElement
        _remove_page_wide_style(svg)
        _add_tooltips(svg, self.tooltips)
        _prefix_ids(svg, f"{self.stem}-")
        svg.setAttribute("id", f"{self.stem}-picture")
        svg.setAttribute("role", "img")
        svg.setAttribute("aria-label", self.description)
        return svg.toxml()

    def __repr__(self) -> str:
        return f"<Picture {self.stem}: {self.description}>"


def _remove_page_wide_style(svg: minidom.Element) -> None:
    """A style element of an inline SVG would rule the whole page; both its rules are inherited."""
    for style in svg.getElementsByTagName("style"):
        style.parentNode.removeChild(style)
    svg.setAttribute(
        "style",
        "display:block;margin:auto;max-width:100%;height:auto;"
        "stroke-linejoin:round;stroke-linecap:butt",
    )


def _add_tooltips(svg: minidom.Element, tooltips: Mapping[str, str]) -> None:
    elements = {e.getAttribute("id"): e for e in svg.getElementsByTagName("*")}
    for gid, text in tooltips.items():
        if gid not in elements:
            raise ValueError(f"nothing in the figure has the gid {gid!r} of the tooltip {text!r}")
        title = svg.ownerDocument.createElement("title")
        title.appendChild(svg.ownerDocument.createTextNode(text))
        elements[gid].insertBefore(title, elements[gid].firstChild)


def _prefix_ids(svg: minidom.Element, prefix: str) -> None:
    """All ids and what refers to them: marks, clip paths and hatches are shared by reference."""
    for element in svg.getElementsByTagName("*"):
        for name, value in element.attributes.items():
            if name == "id":
                element.setAttribute(name, prefix + value)
            elif name == "xlink:href" and value.startswith("#"):
                element.setAttribute(name, f"#{prefix}{value[1:]}")
            elif "url(#" in value:
                element.setAttribute(name, value.replace("url(#", f"url(#{prefix}"))


def label_marks(
    axes: Axes, marks: Mapping[str, tuple[float, float]], size: float, mark_size: float
) -> dict[str, Annotation]:
    """Write each name beside its mark, off the other names, the marks and the lines of `axes`.

    The axes must have their final limits and place. size: of the text, mark_size: edge of a mark,
    both in points. A name that found room only farther off is tied to its mark by a thin line.
    """
    if not marks:
        return {}
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    pixels = renderer.points_to_pixels(1)  # a point has
    positions = np.array([axes.transData.transform(mark) for mark in marks.values()]) / pixels
    frame = np.array(axes.get_window_extent(renderer).extents) / pixels
    frame[2:] += (4, 2)  # a name may end a little outside, where no axis stands
    lines = _sample_lines(axes) / pixels
    choices, costs = [], []
    for i, name in enumerate(marks):
        extent = Text(text=name, fontsize=size, figure=axes.figure).get_window_extent(renderer)
        choices.append(_choices(positions[i], np.array(extent.size) / pixels, mark_size))
        costs.append(_cost_of_place(choices[i], i, positions, mark_size, frame, lines))
    labels = {}
    for i, (name, pick) in enumerate(zip(marks, _pick(np.array(choices), np.array(costs)))):
        place = choices[i][pick] - np.tile(positions[i], 2)
        labels[name] = _annotate(axes, name, marks[name], place, size, mark_size)
    return labels


# Where a text may stand around its mark, the best liked first: 1 and -1 touch it from outside.
_SIDES = np.array([
    (1, 0), (-1, 0), (0, 1), (0, -1), (0.5, 1), (-0.5, 1), (0.5, -1), (-0.5, -1),
    (0.9, 1), (-0.9, 1), (0.9, -1), (-0.9, -1), (1, 0.6), (-1, 0.6), (1, -0.6), (-1, -0.6),
])  # fmt: skip
_GAPS = (1.5, 4, 7, 11, 16, 22)  # points between mark and text; the cost grows with them
_STARTS = 40  # of the search; more find no better places for the tables' names


def _sample_lines(axes: Axes) -> np.ndarray:
    """Pixels a few points apart along every line that joins marks."""
    samples = [np.empty((0, 2))]
    for line in axes.lines:
        ends = line.get_transform().transform(line.get_xydata())
        for start, end in itertools.pairwise(ends):
            count = max(2, math.ceil(np.hypot(*(end - start)) / 3))
            samples.append(np.linspace(start, end, count))
    return np.concatenate(samples)


def _choices(at: np.ndarray, size: np.ndarray, mark_size: float) -> np.ndarray:
    """Boxes (left, bottom, right, top) around a mark, nearest and best liked first."""
    gaps = np.array(_GAPS)[:, None, None]
    centres = (at + _SIDES * (size / 2 + mark_size / 2 + gaps)).reshape(-1, 2)
    return np.concatenate([centres - size / 2, centres + size / 2], axis=1)


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Shared area of each box (K, 4) with each other box (N, 4): (K, N)."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    return np.prod(np.clip(high - low, 0, None), axis=-1)


def _cost_of_place(choice, own, positions, mark_size, frame, lines) -> np.ndarray:
    """What each box costs a label whatever the other labels do; weights found by looking."""
    others = np.delete(positions, own, axis=0)
    apart = np.maximum(choice[:, None, :2] - others, others - choice[:, None, 2:])
    distance = np.linalg.norm(np.clip(apart, 0, None), axis=-1) - mark_size / 2
    covered = np.clip(1 - distance, 0, None).sum(axis=1)
    near = np.clip(5 - distance, 0, None).sum(axis=1)  # it would seem to belong to that mark
    tie = np.linspace(positions[own], np.clip(positions[own], choice[:, :2], choice[:, 2:]), 6)
    tied_over = np.linalg.norm(tie[:, :, None] - others, axis=-1).min(axis=0) < mark_size / 2 + 1
    outside = np.clip(frame[:2] - choice[:, :2] + 1, 0, None).sum(axis=1)
    outside += np.clip(choice[:, 2:] - frame[2:] + 1, 0, None).sum(axis=1)
    inside = (lines[None] > choice[:, None, :2]) & (lines[None] < choice[:, None, 2:])
    crossed = inside.all(axis=-1).sum(axis=1)
    liked = np.add.outer(_GAPS, 0.2 * np.arange(len(_SIDES))).ravel()
    over = tied_over.sum(axis=1)
    return liked + 2 * near + 50 * covered + 20 * over + 100 * outside + 2 * crossed


def _pick(choices: np.ndarray, own_costs: np.ndarray) -> np.ndarray:
    """The cheapest found: labels move in turn until none wants to, from many starts.

    choices: (labels, K, 4); own_costs: (labels, K).
    """
    n, k = own_costs.shape
    boxes = choices.reshape(-1, 4) + np.array((-1.5, -0.25, 1.5, 0.25))  # air between names
    shared = 30 * _overlap(boxes, boxes).reshape(n, k, n, k)
    shared[np.arange(n), :, np.arange(n)] = 0
    random, every = np.random.default_rng(0), np.arange(n)
    best, best_cost = None, math.inf
    for _ in range(_STARTS):
        picks = random.integers(k, size=n)
        for _ in range(20):  # far more rounds than they move in
            before = picks.copy()
            for i in random.permutation(n):
                picks[i] = np.argmin(own_costs[i] + shared[i][:, every, picks].sum(axis=1))
            if np.array_equal(picks, before):
                break
        cost = own_costs[every, picks].sum() + shared[every, picks][:, every, picks].sum() / 2
        if cost < best_cost:
            best, best_cost = picks, cost
    return best


def _annotate(axes, name, mark, place, size, mark_size) -> Annotation:
    """Write `name` at `place` (left, bottom, right, top, points from `mark`).

    It is aligned at the side of its mark, where it stays if a reader's font is narrower.
    """
    left, bottom, right, top = place
    centre = (left + right) / 2
    align, x = ("left", left) if centre > 1 else ("right", right) if centre < -1 else ("center", 0)
    far = math.hypot(max(left, -right, 0), max(bottom, -top, 0)) > mark_size / 2 + 4
    tie = {"arrowstyle": "-", "lw": 0.5, "color": "0.4", "shrinkA": 0, "shrinkB": mark_size / 2}
    return axes.annotate(
        name, mark, (x, (bottom + top) / 2), textcoords="offset points", fontsize=size,
        ha=align, va="center", arrowprops=tie if far else None,
    )  # fmt: skip
