"""Figures 4, 5, 6, A1, A2, Table A3 and training images as pictures: which bars stand together.

Panels are in one order everywhere: budget small, the paper's data, one GPU's runs, digits.
"""

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from nestbook.report.aggregations import name_design
from nestbook.report.bands import Band, plot_bands
from nestbook.report.bars import Bar, Bars
from nestbook.report.labels import ATTENTIONS, BOTH_PLANES, name_plane
from nestbook.report.panels import Panel, Style
from nestbook.report.pictures import BLUE, GREEN, ORANGE, PINK, Picture

_PLANES = {
    "image plane": Style(BLUE), "block plane": Style(ORANGE, "s"), BOTH_PLANES: Style(GREEN, "D"),
}  # fmt: skip
_FAMILIES = {
    "NesT": Style(BLUE), "DeiT": Style(ORANGE, "^"), "Swin": Style(PINK, "s"),
    "WRN": Style(GREEN, "D"),
}  # fmt: skip
# By size; others are whole.
_DASHES = {"S": (0, (3, 2)), "T": (0, (1, 1.2)), "narrow": (0, (6, 1.5, 1, 1.5))}
_SIZES = {"T": ORANGE, "S": GREEN, "B": BLUE, "narrow": PINK}
_WORDS = {"S=1": ("o", "-"), "S=2": ("s", (0, (3, 2)))}
_HEADS = dict(zip(ATTENTIONS.values(), (Style(BLUE), Style(ORANGE, "s", (0, (3, 2))))))
# Figure A2's x-axes, in the paper's words.
_REMOVED = {
    "none": "None", "RandomErasing": "Erasing", "RandAugment": "RA", "MixUp": "Mixup",
    "CutMix": "CutMix", "CutMix&MixUp": "CutMix\n&Mixup",
}  # fmt: skip
_WIDER = {"small": 1.8, "quick": 1.5}  # by budget, of panels of bars


def plot_figure4(bars: Bars) -> Picture:
    """Left: accuracy over total epochs."""

    def panel(group: list[Bar]) -> Panel:
        by_epochs = {(b.key[2], b.key[1]): b for b in group if b.key[0] == "epochs"}
        return Panel(by_epochs, _style_of_model, _log, "epochs (log scale)")

    about = "Figure 4, left: top-1 over total epochs"
    return plot_bands("figure4", about, [_in_a_row(bars, panel)])


def plot_aggregations(bars: Bars, figure: str) -> Picture:
    """Figures 5 and A1 ("5", "A1"): each design on the image plane and on the block plane."""

    def slot(bar: Bar) -> tuple[str, str]:
        _, plane, design = bar.key
        return name_design(design, figure), name_plane(plane, design)

    groups = [bars.quick, bars.small, bars.real]
    slots = list(dict.fromkeys(slot(bar) for group in groups for bar in group))

    def panel(group: list[Bar]) -> Panel:
        return Panel(
            {slot(bar): bar for bar in group}, _PLANES.__getitem__, slots=slots,
            weight=_WIDER.get(group[0].budget, 1.0), row=0.14 if len(slots) < 15 else 0.1,
        )  # fmt: skip

    about = f"Figure {figure}: top-1 by block aggregation, on the image plane and the block plane"
    return plot_bands(f"figure{_stem(figure)}", about, [_in_a_row(bars, panel)])


def plot_figure6(bars: Bars) -> Picture:
    """Left: accuracy over depth, one line per model size and word size S."""

    def panel(group: list[Bar]) -> Panel:
        by_depth = {(b.key[3].split()[1], f"{b.key[1]}, {b.key[2]}"): b for b in group}
        return Panel(by_depth, _style_of_size, float, "depth (hierarchies)")

    about = "Figure 6, left: top-1 over depth, for word sizes S = 1 and S = 2"
    return plot_bands("figure6", about, [_in_a_row(bars, panel)])


def plot_figure_a2(bars: Bars) -> Picture:
    """Accuracy with augmentations removed, each alone and one after another."""

    def alone(group: list[Bar]) -> Panel:
        whole = [bar for bar in group if bar.key[2] == "none"]
        return _removals(whole + [bar for bar in group if bar.key[0] == "alone"])

    def in_sequence(group: list[Bar]) -> Panel:
        return _removals(bar for bar in group if bar.key[0] == "in sequence")

    bands = [
        replace(_in_a_row(bars, alone), title="Removed individually"),
        replace(_in_a_row(bars, in_sequence), title="Removed consecutively, from left to right"),
    ]
    about = "Figure A2: top-1 with augmentations removed, individually and consecutively"
    return plot_bands("figure_a2", about, bands)


def plot_table_a3(bars: Bars) -> Picture:
    """Accuracy over the number of heads, with keys and values for each and shared by all."""

    def panel(group: list[Bar]) -> Panel:
        by_heads = {(b.key[1], ATTENTIONS[b.key[0]]): b for b in group}
        return Panel(by_heads, _HEADS.__getitem__, _log, "heads (log scale)")

    about = "Table A3: top-1 over the number of heads, multi-head and multi-query"
    return plot_bands("table_a3", about, [_in_a_row(bars, panel)])


def plot_training_images(bars: list[Bar]) -> Picture:
    """One line per model, over the number of training images; all see equally many in all."""
    by_number = {(bar.key[1], bar.key[0]): bar for bar in bars}
    panel = Panel(by_number, _style_of_model, _log, "training images (log scale)")
    about = "Top-1 over the number of training images, equally many images seen"
    return plot_bands("training_images", about, [Band([panel])])


def _stem(figure: str) -> str:
    return f"_{figure.lower()}" if figure.startswith("A") else figure


def _removals(bars: Iterable[Bar]) -> Panel:
    """A place for each step of removal, named by what was taken away last."""
    by_step = {(_REMOVED[bar.key[2].split()[-1]], bar.key[1]): bar for bar in bars}
    places = list(dict.fromkeys(place for place, _ in by_step))
    return Panel(by_step, _style_of_model, lambda place: float(places.index(place)))


def _log(place: str) -> float:
    """Where a number stands on a log axis."""
    return math.log(int(place.replace(",", "")))


def _in_a_row(bars: Bars, panel: Callable[[list[Bar]], Panel]) -> Band:
    """A panel for each data set and schedule."""
    groups: dict[str, list[Bar]] = {}
    of_gpu = [bar for bar in bars.real if bar.budget == "gpu"]
    of_paper = [bar for bar in bars.real if bar.budget != "gpu"]
    for bar in [*bars.small, *of_paper, *of_gpu, *bars.quick]:
        groups.setdefault(bar.group, []).append(bar)
    return Band([panel(group) for group in groups.values()])


def _style_of_model(name: str) -> Style:
    """NesT-S, DeiT narrow: colour and marker by family, dash by size."""
    family, size = re.fullmatch("([A-Za-z]+)[- ]?(.*)", name).groups()
    return replace(_FAMILIES[family], dash=_DASHES.get(size, "-"))


def _style_of_size(name: str) -> Style:
    """T, S=1: colour by size, marker and dash by word size."""
    size, word = name.split(", ")
    return Style(_SIZES[size], *_WORDS[word])
