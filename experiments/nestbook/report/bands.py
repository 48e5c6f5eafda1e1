"""Pictures of bars: rows of panels under one legend.

Digits stand in panels whose title says what they are. An axis without records shows what the paper
prints, or stays empty; which runs are missing is said once, below.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nestbook.report.bars import QUICK_LABEL, group_title, is_quick
from nestbook.report.panels import Panel, Style, draw_panel, reach_of
from nestbook.report.pictures import INK, SMALL, Picture, drawing_style, mark_look
from nestbook.report.tables import NOT_RUN

_WIDTH, _EDGE, _GAP = 7.0, 0.1, 0.26  # inches
_NUMBERS, _LETTER = 0.26, 0.073  # inches: an axis of numbers left of a panel, a letter of a name
_LINE, _HEAD, _FOOT = 0.19, 0.36, 0.52  # inches: a line of text, a panel's title, its axis
_LETTERS = 125  # of a line below the panels
_IN_A_ROW = 6  # series of the legend


@dataclass(frozen=True)
class Band:
    """Panels side by side, under one title."""

    panels: Sequence[Panel]
    title: str = ""

    @property
    def height(self) -> float:
        """Inches, of all that is drawn."""
        foot = _FOOT - 0.12 * all(panel.position and not panel.label for panel in self.panels)
        return _head(self) + max(panel.height for panel in self.panels) + foot


def plot_bands(stem: str, about: str, bands: Sequence[Band]) -> Picture:
    """Bands from top to bottom.

    about: what is compared, for the description.
    """
    drawn = [Band([p for p in b.panels if p.is_worth_drawing], b.title) for b in bands]
    panels = [panel for band in drawn for panel in band.panels]
    missing = _say_missing(panels)
    below = textwrap.wrap(missing, _LETTERS)
    printed = any(bar.printed for panel in panels for bar in panel.bars.values())
    tooltips: dict[str, str] = {}
    with drawing_style():
        series = _series_of(panels)
        rows = math.ceil(len(series) / _IN_A_ROW) if len(series) > 1 else 0
        top = (2 + rows) * _LINE + 0.14
        height = top + sum(band.height for band in drawn) + 0.12 * len(below) + 0.05
        figure = Figure(figsize=(_WIDTH, height))
        _explain(figure, printed)
        if rows:
            _name_series(figure, series, rows)
        y = top
        for i, band in enumerate(drawn):
            tooltips |= _draw_band(figure, band, y, f"band{i}", panels)
            y += band.height
        if below:
            _write(figure, "\n".join(below), y, fontsize=SMALL, color=INK)
    shown = "; ".join(dict.fromkeys(_describe(panel) for panel in panels))
    description = (
        f"{about}. {shown}. {missing}. The numbers stand in the tables of the same page."
    ).replace(". .", ".")
    return Picture(figure, stem, description, tooltips)


def _describe(panel: Panel) -> str:
    """What its marks are and how many, such as "CIFAR-10 (narrow models): 7 marks"."""
    bars = panel.bars.values()
    title = QUICK_LABEL if is_quick(list(bars)) else group_title(panel.group)
    ours, printed = (sum(map(bool, found)) for found in zip(*((b.scores, b.printed) for b in bars)))
    return f"{title}: {ours} of {len(bars)} bars run, {printed} printed by the paper"


def _say_missing(panels: Sequence[Panel]) -> str:
    """Which of our bars are not run, once for each data set and schedule; "" if all are."""
    found: dict[str, list[bool]] = {}
    for panel in panels:
        found.setdefault(panel.group, []).extend(not bar.records for bar in panel.bars.values())
    words = []
    for group, lacking in found.items():
        if all(lacking):
            words.append(group_title(group))
        elif any(lacking):
            words.append(f"{group_title(group)}: {sum(lacking)} of {len(lacking)} bars")
    return f"{NOT_RUN.capitalize()}: {', '.join(words)}" if words else ""


# Layout: inches from the top of the figure


def _head(band: Band) -> float:
    """Of a band's title and its panels' titles."""
    return _HEAD + _LINE * bool(band.title)


def _write(figure: Figure, text: str, y: float, **how) -> None:
    where = _EDGE / _WIDTH, 1 - y / figure.get_figheight()
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
    _add_legend(figure, list(handles.values()), list(handles), 2, 0)


def _series_of(panels: Sequence[Panel]) -> dict[str, tuple[Style, bool]]:
    """Every series once: its style, and whether it is drawn as a line."""
    return {
        name: (panel.style_of(name), panel.position is not None)
        for panel in panels for name in panel.series
    }  # fmt: skip


def _name_series(figure: Figure, series: dict[str, tuple[Style, bool]], rows: int) -> None:
    handles = [
        Line2D([], [], **({"ls": style.dash, "lw": 1} if line else {"ls": ""}), **style.mark(),
               color=style.color)
        for style, line in series.values()
    ]  # fmt: skip
    _add_legend(figure, handles, list(series), math.ceil(len(series) / rows), 2 * _LINE + 0.08)


def _add_legend(figure: Figure, handles: list, names: list[str], columns: int, y: float) -> None:
    figure.legend(
        handles, names, loc="upper left", ncols=columns, frameon=False, borderpad=0,
        bbox_to_anchor=(_EDGE / _WIDTH, 1 - y / figure.get_figheight()), borderaxespad=0.6,
        handlelength=3.4, columnspacing=1.4, labelspacing=0.3,
    )  # fmt: skip


def _draw_band(
    figure: Figure, band: Band, y: float, prefix: str, all_panels: Sequence[Panel]
) -> dict[str, str]:
    """Title and panels of a band whose top is at y; the tooltips by gid."""
    if band.title:
        _write(figure, band.title, y, weight="bold", fontsize=8)
    tooltips, x, top = {}, _EDGE, y + _head(band)
    rooms, height = _rooms(band), figure.get_figheight()
    free = _WIDTH - 2 * _EDGE - 0.1 - sum(left for left, _ in rooms)
    unit = free / sum(panel.weight for panel in band.panels)
    for i, (panel, (left, named)) in enumerate(zip(band.panels, rooms)):
        x, width = x + left, unit * panel.weight
        bottom = 1 - (top + panel.height) / height
        axes = figure.add_axes((x / _WIDTH, bottom, width / _WIDTH, panel.height / height))
        alike = [p for p in all_panels if p.group == panel.group]
        reach = reach_of([bar for one in alike for bar in one.bars.values()])
        tooltips |= draw_panel(axes, panel, reach, f"{prefix}-panel{i}")
        if panel.position and i == 0:
            axes.set_ylabel("top-1 (%)")
        if named:
            axes.tick_params(labelleft=False)
        x += width
    return tooltips


def _rooms(band: Band) -> list[tuple[float, bool]]:
    """Inches left of each panel, and whether its places are named by the panel before it."""
    rooms: list[tuple[float, bool]] = []
    before: list[str] = []
    for panel in band.panels:
        named = not panel.position and before == panel.places
        names = 0.12 + _LETTER * max(map(len, panel.places))
        first = not rooms
        room = 0 if named else _NUMBERS + 0.22 * first if panel.position else names
        rooms.append((room + _GAP * (not first), named))
        before = [] if panel.position else panel.places
    return rooms
