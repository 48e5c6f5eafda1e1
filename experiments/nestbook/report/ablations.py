"""Figures 4, 5, 6, A1, A2, Table A3 and training images as pictures: which bars stand together."""

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from nestbook.claims.verdict import judge
from nestbook.report.bands import Band, group_title, plot_bands
from nestbook.report.bars import Bar, Bars
from nestbook.report.means import join_ids
from nestbook.report.panels import Panel, Style
from nestbook.report.pictures import BLUE, GREEN, ORANGE, PINK, Picture
from nestbook.report.tables import NOT_RUN, Cell, Number, Table
from nestlib.models.aggregation import AGGREGATIONS

_BOTH = "both planes, one function"
_PLANES = {
    "image plane": Style(BLUE), "block plane": Style(ORANGE, "s"), _BOTH: Style(GREEN, "D"),
}  # fmt: skip
_FAMILIES = {
    "NesT": Style(BLUE), "DeiT": Style(ORANGE, "^"), "Swin": Style(PINK, "s"),
    "WRN": Style(GREEN, "D"),
}  # fmt: skip
_DASHES = {"S": (0, (3, 2)), "T": (0, (1, 1.2))}  # by size; others are whole
_SIZES = {"T": ORANGE, "S": GREEN, "B": BLUE, "narrow": BLUE}
_WORDS = {"S=1": ("o", "-"), "S=2": ("s", (0, (3, 2)))}
_ATTENTIONS = {
    "multi_head": "multi-head (equal parameters)",
    "multi_query": "multi-query (as published code)",
}
_HEADS = dict(zip(_ATTENTIONS.values(), (Style(BLUE), Style(ORANGE, "s", (0, (3, 2))))))


def plot_figure4(bars: Bars) -> Picture:
    """Accuracy over total epochs, and with one augmentation removed."""

    def panels(group: list[Bar]) -> list[Panel]:
        epochs = {(b.key[2], b.key[1]): b for b in group if b.key[0] == "epochs"}
        return [
            Panel("Total epochs", epochs, _style_of_model, _log, "epochs (log scale)"),
            _removals("One augmentation removed", (b for b in group if b.key[0] == "removed")),
        ]

    about = "Figure 4: top-1 over total epochs, and with one augmentation removed"
    return plot_bands("figure4", about, _stacked(bars, panels))


def plot_aggregations(bars: Bars, stem: str) -> Picture:
    """Figures 5 and A1: each aggregation on the image plane and on the block plane.

    A design whose planes are one and the same function has one bar, named so.
    """

    def panel(group: list[Bar]) -> Panel:
        planes = [f"{b.key[1]} plane" if AGGREGATIONS[b.key[2]].crosses else _BOTH for b in group]
        by_plane = {(b.key[2], plane): b for b, plane in zip(group, planes)}
        return Panel(_title(group), by_plane, _PLANES.__getitem__)

    about = "Top-1 by block aggregation, on the image plane and on the block plane"
    return plot_bands(stem, about, _side_by_side(bars, panel))


def plot_figure6(bars: Bars) -> Picture:
    """Accuracy over depth, a line a model size and word size S."""

    def panel(group: list[Bar]) -> Panel:
        by_depth = {(b.key[3].split()[1], f"{b.key[1]}, {b.key[2]}"): b for b in group}
        return Panel(_title(group), by_depth, _style_of_size, float, "depth (hierarchies)")

    about = "Figure 6: top-1 over depth, for word sizes S = 1 and S = 2"
    return plot_bands("figure6", about, _side_by_side(bars, panel))


def plot_figure_a2(bars: Bars) -> Picture:
    """Accuracy with augmentations removed, one alone and one after another."""

    def panels(group: list[Bar]) -> list[Panel]:
        whole = [bar for bar in group if bar.key[2] == "none"]
        alone, steps = ([b for b in group if b.key[0] == way] for way in ("alone", "in sequence"))
        return [
            _removals("Removed alone", whole + alone),
            _removals("Removed one after another", steps),
        ]

    about = "Figure A2: top-1 with augmentations removed, alone and one after another"
    return plot_bands("figure_a2", about, _stacked(bars, panels))


def plot_table_a3(bars: Bars) -> Picture:
    """Accuracy over the number of heads, with keys and values for each and shared by all."""

    def panels(group: list[Bar]) -> list[Panel]:
        by_heads = {(b.key[1], _ATTENTIONS[b.key[0]]): b for b in group}
        return [Panel("", by_heads, _HEADS.__getitem__, _log, "heads (log scale)")]

    about = "Table A3: top-1 over the number of heads, multi-head and multi-query"
    return plot_bands("table_a3", about, _stacked(bars, panels))


def plot_training_images(bars: list[Bar]) -> Picture:
    """A line a model, over the number of training images; all see equally many in all."""
    by_number = {(bar.key[1], bar.key[0]): bar for bar in bars}
    panel = Panel("", by_number, _style_of_model, _log, "training images (log scale)")
    about = "Top-1 over the number of training images, equally many images seen"
    return plot_bands("training_images", about, [Band(group_title(bars[0].group), [panel])])


def _removals(title: str, bars: Iterable[Bar]) -> Panel:
    """A place a step of removal, named by what was taken away last."""
    steps = [(bar, bar.key[2].split()[-1]) for bar in bars]
    by_step = {
        ("all used" if step == "none" else f"- {step}", bar.key[1]): bar for bar, step in steps
    }
    return Panel(title, by_step, _style_of_model)


def _log(place: str) -> float:
    """Where a number stands on a log axis."""
    return math.log(int(place.replace(",", "")))


def _by_dataset(bars: Bars) -> list[list[Bar]]:
    groups: dict[str, list[Bar]] = {}
    for bar in [*bars.small, *bars.real, *bars.quick]:
        groups.setdefault(bar.group, []).append(bar)
    return list(groups.values())


def _stacked(bars: Bars, panels: Callable[[list[Bar]], list[Panel]]) -> list[Band]:
    """A band a data set."""
    return [Band(_title(group), panels(group)) for group in _by_dataset(bars)]


def _side_by_side(bars: Bars, panel: Callable[[list[Bar]], Panel]) -> list[Band]:
    """The paper's data sets in one band, budget small's and the digits in bands of their own."""
    small, *real, quick = map(panel, _by_dataset(bars))
    alone = [Band(one.title, [replace(one, title="")]) for one in (small, quick)]
    return [alone[0], Band("", real), alone[1]]


def _title(group: Sequence[Bar]) -> str:
    return group_title(group[0].group)


def _style_of_model(name: str) -> Style:
    """NesT-S, DeiT narrow: colour and marker by family, dash by size."""
    family, size = re.fullmatch("([A-Za-z]+)[- ]?(.*)", name).groups()
    return replace(_FAMILIES[family], dash=_DASHES.get(size, "-"))


def _style_of_size(name: str) -> Style:
    """T, S=1: colour by size, marker and dash by word size."""
    size, word = name.split(", ")
    return Style(_SIZES[size], *_WORDS[word])


# Training images: how far NesT is ahead


def gaps_table(bars: list[Bar]) -> Table:
    """How far NesT is ahead of each other model, by the number of training images."""
    found = {bar.key: bar for bar in bars}
    others = list(dict.fromkeys(model for model, _ in found if model != "NesT narrow"))
    numbers = dict.fromkeys(number for _, number in found)
    rows = [
        (number, *(_gap(found["NesT narrow", number], found[other, number]) for other in others))
        for number in numbers
    ]
    return Table(
        "How far narrow NesT is ahead, in points of top-1",
        ("Training images", *(f"of {other}" for other in others)),
        rows,
        ["±: half of the 95 % interval over seeds (Welch's) and over the draw of the test images "
         "(image by image), added in squares; one run a side has none"],
    )  # fmt: skip


def _gap(ours: Bar, theirs: Bar) -> Cell:
    if not ours.scores or not theirs.scores:
        return NOT_RUN
    verdict = judge([(1, ours.scores), (-1, theirs.scores)])
    source = join_ids([*ours.records, *theirs.records])
    return Number(verdict.value, source, 2, ours.scores.n, verdict.half_width)


def say_figure5(bars: Bars) -> str:
    return "pilot sentence of figure 5"
