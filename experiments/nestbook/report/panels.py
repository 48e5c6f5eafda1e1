"""One panel of bars or lines: a mark is a mean over seeds, with its spread and sampling error.

The paper's own numbers are hollow marks beside ours.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullLocator
from matplotlib.transforms import offset_copy

from nestbook.report.bars import QUICK_LABEL, Bar, group_title, is_quick
from nestbook.report.pictures import INK, mark_look
from nestbook.report.tables import NOT_RUN, mean_of
from nestbook.report.words import say_counts
from nestlib.data.datasets import dataset_info
from nestlib.metrics.intervals import sampling_half_width

_LINES_HEIGHT = 1.3  # inches
_BESIDE = 2.8  # points between a mark and the thin bar beside it
_QUICK_BOX = {"fc": "#FFF3C4", "ec": "#8A6D00", "lw": 0.6, "pad": 2}


@dataclass(frozen=True)
class Style:
    """How a series is drawn; marker and dash tell it in grey print too."""

    color: str
    marker: str = "o"
    dash: str | tuple = "-"

    def mark(self, fill: str = "full") -> dict:
        return {"marker": self.marker, **mark_look(self.color, fill)}


@dataclass(frozen=True)
class Panel:
    """Bars by (place, series), all of one data set and schedule.

    style_of: how a series is drawn, by its name.
    position: where on its axis a place of a line stands; None draws bars, one under another.
    label: of the axis of places.
    slots: (place, series) of all rows that bars have room for, in order, where a panel shares them
        with its neighbours; else those of its own bars.
    weight: of its width beside its neighbours'.
    row: inches for each bar.
    """

    bars: Mapping[tuple[str, str], Bar]
    style_of: Callable[[str], Style]
    position: Callable[[str], float] | None = None
    label: str = ""
    slots: Sequence[tuple[str, str]] = ()
    weight: float = 1.0
    row: float = 0.14

    @property
    def first(self) -> Bar:
        return next(iter(self.bars.values()))

    @property
    def dataset(self) -> str:
        return self.first.dataset

    @property
    def group(self) -> str:
        """Data and schedule of its bars."""
        return self.first.group

    @property
    def title(self) -> str:
        """Two lines: the data and the number of runs behind a mark, and what models these are."""
        dataset, _, schedule = group_title(self.group).removesuffix(")").partition(" (")
        if is_quick([self.first]):
            dataset, schedule = "Digits", "no result of the paper"
        if self.first.budget == "small":
            schedule = "narrow models"
        seeds = say_counts(bar.scores.n for bar in self.bars.values() if bar.scores)
        return f"{', '.join(filter(None, [dataset, seeds]))}\n{schedule or 'as in the paper'}"

    @property
    def rows(self) -> Sequence[tuple[str, str]]:
        return self.slots or list(self.bars)

    @property
    def places(self) -> list[str]:
        return list(dict.fromkeys(place for place, _ in self.rows))

    @property
    def series(self) -> list[str]:
        return list(dict.fromkeys(series for _, series in self.bars))

    @property
    def is_worth_drawing(self) -> bool:
        """All are but one GPU's runs of a schedule of their own, before there are any."""
        return self.first.budget != "gpu" or any(bar.records for bar in self.bars.values())

    @property
    def height(self) -> float:
        """Of the axes, in inches."""
        if self.position:
            return _LINES_HEIGHT
        return len(self.rows) * self.row + (len(self.places) + 1) * self.space

    @property
    def space(self) -> float:
        """Inches between places."""
        return 0.65 * self.row

    def find_places(self) -> dict[tuple[str, str], float]:
        """Where each mark stands: of bars, in inches from the top; of lines, on their axis."""
        return self._line_places() if self.position else self._bar_places()

    def _bar_places(self) -> dict[tuple[str, str], float]:
        places, y = {}, 0.0
        for place in self.places:
            y += self.space
            for key in self.rows:
                if key[0] == place:
                    places[key] = y + self.row / 2
                    y += self.row
        return places

    def _line_places(self) -> dict[tuple[str, str], float]:
        """Series stand a little apart, so that whiskers do not meet."""
        at = {place: self.position(place) for place in self.places}
        gap = min((b - a for a, b in itertools.pairwise(sorted(at.values()))), default=1.0)
        names = self.series
        apart = min(0.09, 0.3 / len(names)) * gap
        shift = {name: (i - (len(names) - 1) / 2) * apart for i, name in enumerate(names)}
        return {(place, name): at[place] + shift[name] for place, name in self.bars}


def draw_panel(
    axes: Axes, panel: Panel, reach: tuple[float, float], prefix: str
) -> dict[str, str]:  # fmt: skip
    """Draw a panel whose values lie in `reach`; the tooltips by gid, each beginning with prefix."""
    box = {"bbox": _QUICK_BOX} if is_quick([panel.first]) else {}
    axes.set_title(panel.title, loc="left", fontsize=7.5, weight="normal", pad=6, **box)
    tooltips, places = {}, panel.find_places()
    (_draw_lines if panel.position else _draw_bars)(axes, panel, reach, places)
    for i, ((place, series), bar) in enumerate(panel.bars.items()):
        tooltips |= _draw_mark(
            axes, bar, places[place, series], panel.style_of(series), f"{prefix}-{i}",
            upright=panel.position is not None,
        )  # fmt: skip
    return tooltips


def _draw_bars(
    axes: Axes, panel: Panel, reach: tuple[float, float], places: Mapping[tuple[str, str], float]
) -> None:
    """Bars behind the marks, and both axes."""
    low, high = reach
    whole = low < 50 or panel.dataset == "digits"
    begin = 0.0 if whole else math.floor(low - 0.3 * max(high - low, 1))
    for key, bar in panel.bars.items():
        if bar.scores:
            axes.barh(places[key], bar.scores.mean - begin, 0.8 * panel.row, begin, lw=0, zorder=1,
                      alpha=0.3, color=panel.style_of(key[1]).color)  # fmt: skip
    axes.set(xlim=(begin, min(100.5, high + 0.06 * (high - begin))), ylim=(panel.height, 0))
    middles = [
        statistics.fmean(y for key, y in places.items() if key[0] == name) for name in panel.places
    ]
    axes.set_yticks(middles, panel.places)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.xaxis.set_major_locator(MaxNLocator(3 if panel.weight <= 1 else 5, steps=(1, 2, 5, 10)))
    axes.set_xlabel("top-1 (%)" + (f"\nfrom {begin:g}" if begin else ""))
    _draw_chance(axes.axvline, panel, begin)


def _draw_lines(
    axes: Axes, panel: Panel, reach: tuple[float, float], places: Mapping[tuple[str, str], float]
) -> None:
    """Lines that join the marks of a series, and both axes."""
    for name in panel.series:
        style = panel.style_of(name)
        bars = [(places[key], bar) for key, bar in panel.bars.items() if key[1] == name]
        ours = [(at, bar.scores.mean) for at, bar in bars if bar.scores]
        printed = [(at, bar.printed.value) for at, bar in bars if bar.printed]
        for points, alpha in ((ours, 1.0), (printed, 0.5)):
            axes.plot(*zip(*sorted(points)) if points else ([], []), ls=style.dash,
                      color=style.color, lw=0.9, alpha=alpha, zorder=1)  # fmt: skip
    low, high = reach
    margin = 0.08 * max(high - low, 1)
    axes.set_ylim(max(0, low - margin), min(101, high + margin))
    left, right = min(places.values()), max(places.values())
    axes.set_xlim(left - 0.06 * (right - left), right + 0.06 * (right - left))
    axes.set_xticks([panel.position(place) for place in panel.places], panel.places)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    axes.set_xlabel(panel.label)
    _draw_chance(axes.axhline, panel, axes.get_ylim()[0])


def reach_of(bars: Sequence[Bar]) -> tuple[float, float]:
    """The lowest and the highest end of a mark's whiskers; of nothing, all that can be."""
    ends = []
    for bar in bars:
        if bar.scores:
            wide = max(bar.scores.spread or 0, bar.scores.half_width)
            ends += [bar.scores.mean - wide, bar.scores.mean + wide]
        if bar.printed:
            wide = _printed_half_width(bar)
            ends += [bar.printed.value - wide, bar.printed.value + wide]
    return (min(ends), max(ends)) if ends else (0.0, 100.0)


def _printed_half_width(bar: Bar) -> float:
    return sampling_half_width(bar.printed.value, dataset_info(bar.dataset).num_test)


def _draw_chance(draw: Callable, panel: Panel, begin: float) -> None:
    chance = 100 / dataset_info(panel.dataset).num_classes
    if chance > begin:
        draw(chance, color="0.5", lw=0.8, ls=":", zorder=0.5)


def _draw_mark(
    axes: Axes, bar: Bar, place: float, style: Style, gid: str, *, upright: bool
) -> dict[str, str]:
    """Ours and the paper's, with their whiskers; the tooltips by gid.

    upright: the value is read on the y axis.
    """

    def plot(values: Sequence[float], shift: float, **look) -> None:
        at = [place] * len(values)
        beside = (shift, 0) if upright else (0, -shift)
        transform = offset_copy(axes.transData, axes.figure, *beside, units="points")
        axes.plot(*((at, values) if upright else (values, at)), transform=transform, **look)

    thin = {"color": INK, "lw": 0.7, "marker": "_" if upright else "|", "ms": 3.5, "mew": 0.7}
    tooltips = {}
    if bar.scores:
        mean, spread, half = bar.scores.mean, bar.scores.spread, bar.scores.half_width
        if spread is not None:
            plot([mean - spread, mean + spread], 0, color=style.color, lw=1.6, gid=f"{gid}-spread")
        plot([mean - half, mean + half], _BESIDE, gid=f"{gid}-sampling", **thin)
        plot([mean], 0, ls="", zorder=3, gid=gid, **style.mark())
        tooltips[gid] = _describe(bar)
    if bar.printed:
        value, half = bar.printed.value, _printed_half_width(bar)
        shift = -1.6 * _BESIDE if bar.scores else 0
        if not bar.scores:
            plot([value - half, value + half], _BESIDE, gid=f"{gid}-paper-sampling", **thin)
        plot([value], shift, ls="", zorder=4, gid=f"{gid}-paper", **style.mark("none"))
        tooltips[f"{gid}-paper"] = (
            f"{bar.name}\n{value:g} %, printed by the paper ({bar.printed.where})\n"
            f"± {half:.2f} for the draw of {dataset_info(bar.dataset).num_test:,} test images\n"
            f"our record: {bar.ids if bar.records else NOT_RUN}"
        )
    return tooltips


def _describe(bar: Bar) -> str:
    scores = bar.scores
    return "\n".join([
        bar.name, *([QUICK_LABEL] if is_quick([bar]) else []),
        f"{mean_of(scores.values, bar.ids, 2)} %, n = {scores.n} seeds",
        f"± {scores.half_width:.2f} for the draw of {scores.num_images:,} test images",
        f"records {bar.ids}",
    ])  # fmt: skip
