"""Pictures of bars: a stack of bands, a band a row of panels under one title.

Digits stand in a band of their own, under a label that says what they are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nestbook.report.bars import QUICK_LABEL, Bar, describe_time, is_quick
from nestbook.report.panels import Panel, Style, draw_panel, reach_of
from nestbook.report.pictures import INK, SMALL, Picture, drawing_style, mark_look
from nestbook.report.tables import NOT_RUN
from nestlib.data.datasets import dataset_info

_WIDTH, _EDGE, _GAP = 7.0, 0.1, 0.25  # inches
_NUMBERS, _LETTER = 0.5, 0.073  # inches: an axis of numbers left of a panel, a letter of a name
_LINE, _HEAD, _FOOT = 0.19, 0.22, 0.42  # inches: a line of text, a panel's title, its axis
_QUICK_BOX = {"fc": "#FFF3C4", "ec": "#8A6D00", "lw": 0.6, "pad": 2}


@dataclass(frozen=True)
class Band:
    """Panels side by side under one title."""

    title: str
    panels: Sequence[Panel]

    @property
    def bars(self) -> list[Bar]:
        return [bar for panel in self.panels for bar in panel.bars.values()]


def plot_bands(stem: str, about: str, bands: Sequence[Band]) -> Picture:
    """Bands from top to bottom; panels without marks are named below as not run yet.

    about: what is compared, for the description.
    """
    drawn = [Band(b.title, [p for p in b.panels if p.is_worth_drawing]) for b in bands]
    drawn = [band for band in drawn if band.panels]
    absent = [p for band in bands for p in band.panels if not p.is_worth_drawing]
    below = ", ".join(dict.fromkeys(group_title(p.group) for p in absent))
    tooltips: dict[str, str] = {}
    with drawing_style():
        heights = [_band_height(band) for band in drawn]
        top, bottom = 2 * _LINE + 0.14, 0.25 if below else 0.05
        figure = Figure(figsize=(_WIDTH, top + sum(heights) + bottom))
        _explain(figure, any(bar.printed for band in drawn for bar in band.bars))
        y = top
        for i, (band, height) in enumerate(zip(drawn, heights)):
            tooltips |= _draw_band(figure, band, y, f"band{i}")
            y += height
        if below:
            _write(figure, f"{NOT_RUN.capitalize()}: {below}", y + 0.1, fontsize=SMALL, color=INK)
    shown = "; ".join(f"{_title(band)}: {describe_time(band.bars)}" for band in drawn)
    rest = f" {NOT_RUN.capitalize()}: {below}." if below else ""
    description = f"{about}. {shown}.{rest} The numbers stand in the tables of the same page."
    return Picture(figure, stem, description, tooltips)


def group_title(group: str) -> str:
    """Of Bar.group: the data set by its title, and the schedule where it has one."""
    dataset, opening, schedule = group.partition(" (")
    return dataset_info(dataset).title.split(",")[0] + opening + schedule


def _title(band: Band) -> str:
    if is_quick(band.bars):
        return QUICK_LABEL[0].upper() + QUICK_LABEL[1:]
    return band.title or ", ".join(panel.title for panel in band.panels)


def _seeds(band: Band) -> str:
    """How many runs a mark is the mean of."""
    counts = {bar.scores.n for bar in band.bars if bar.scores}
    if not counts:
        return ""
    low, high = min(counts), max(counts)
    return f" (n = {low})" if low == high else f" (n = {low} to {high})"


# Layout: inches from the top of the figure


def _band_height(band: Band) -> float:
    notes = max(panel.note.count("\n") + bool(panel.note) for panel in band.panels)
    return (
        _titles_height(band) + max(panel.height for panel in band.panels) + _FOOT + notes * 0.12
        + 0.1
    )  # fmt: skip


def _titles_height(band: Band) -> float:
    """Of a band's title, its legends and its panels' titles."""
    legends = max(_legend_rows(panel) for panel in band.panels)
    return (1 + legends) * _LINE + 0.06 + _HEAD * any(panel.title for panel in band.panels)


def _legend_rows(panel: Panel) -> int:
    series = len(panel.series)
    return 0 if series < 2 else 1 if series <= 4 else 2


def _write(figure: Figure, text: str, y: float, x: float = _EDGE, **how) -> None:
    where = x / _WIDTH, 1 - y / figure.get_figheight()
    figure.text(*where, text, **{"ha": "left", "va": "top", **how})


def _explain(figure: Figure, printed: bool) -> None:
    """What a mark's parts are."""
    mark = Line2D([], [], ls="", marker="o", **mark_look(INK, size=6))
    thick = Line2D([], [], color=INK, lw=1.6)
    thin = Line2D([], [], color=INK, lw=0.7, marker="|", ms=3.5, mew=0.7)
    hollow = Line2D([], [], ls="", **Style(INK).mark("none"))
    chance = Line2D([], [], color="0.5", lw=0.8, ls=":")
    handles = {
        "mean of n seeds, ± standard deviation": (thick, mark),
        "beside it, 95 % for the draw of test images": thin,
        **({"printed by the paper": hollow} if printed else {}),
        "chance": chance,
    }
    figure.legend(
        list(handles.values()), list(handles), loc="upper left", ncols=2, frameon=False,
        bbox_to_anchor=(_EDGE / _WIDTH, 1), borderpad=0, borderaxespad=0.6, handlelength=1.8,
        columnspacing=1.5, labelspacing=0.3,
    )  # fmt: skip


def _draw_band(figure: Figure, band: Band, y: float, prefix: str) -> dict[str, str]:
    """Title, series and panels of a band whose top is at y; the tooltips by gid."""
    quick = is_quick(band.bars)
    look = {"weight": "bold", "fontsize": 8, **({"bbox": _QUICK_BOX} if quick else {})}
    _write(figure, _title(band) + _seeds(band), y, _EDGE + 0.03 * quick, **look)
    tooltips, x, top = {}, _EDGE, y + _titles_height(band)
    rooms, height = _rooms(band), figure.get_figheight()
    width = (_WIDTH - 2 * _EDGE - 0.1 - sum(left for left, _ in rooms)) / len(rooms)
    for i, (panel, (left, named)) in enumerate(zip(band.panels, rooms)):
        x += left
        if i == 0 or panel.series != band.panels[i - 1].series:
            _legend(figure, panel, x if i else _EDGE, y + _LINE + 0.06)
        bottom = 1 - (top + panel.height) / height
        axes = figure.add_axes((x / _WIDTH, bottom, width / _WIDTH, panel.height / height))
        tooltips |= draw_panel(axes, panel, _reach(panel, band), f"{prefix}-panel{i}")
        if named:
            axes.tick_params(labelleft=False)
        x += width
    return tooltips


def _reach(panel: Panel, band: Band) -> tuple[float, float]:
    """Of all panels of a band that are drawn alike: of the same data, as lines or as bars."""
    alike = [
        one for one in band.panels
        if (one.position is None, one.group) == (panel.position is None, panel.group)
    ]  # fmt: skip
    return reach_of(Band("", alike).bars)


def _rooms(band: Band) -> list[tuple[float, bool]]:
    """Inches left of each panel, and whether its places are named by the panel before it."""
    rooms, before = [], []
    for panel in band.panels:
        named = not panel.position and before[: len(panel.places)] == panel.places
        names = 0.12 + _LETTER * max(map(len, panel.places))
        room = 0 if named else _NUMBERS if panel.position else names
        rooms.append((room + _GAP * bool(rooms), named))
        before = [] if panel.position else panel.places
    return rooms


def _legend(figure: Figure, panel: Panel, x: float, y: float) -> None:
    """The series of a panel, and of those right of it with the same."""
    rows, handles = _legend_rows(panel), []
    if not rows:
        return
    for name in panel.series:
        style = panel.style_of(name)
        look = {"ls": style.dash, "lw": 1} if panel.position else {"ls": ""}
        handles.append(Line2D([], [], **look, **style.mark(), color=style.color, label=name))
    figure.legend(
        handles=handles, loc="upper left", ncols=math.ceil(len(handles) / rows), frameon=False,
        bbox_to_anchor=(x / _WIDTH, 1 - y / figure.get_figheight()), borderpad=0,
        borderaxespad=0, handlelength=2.4 if panel.position else 1, columnspacing=1.4,
        labelspacing=0.35,
    )  # fmt: skip
