"""The picture of NesT here against timm's: every round of every contender of a run."""

import statistics
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nestbook.benchmarks.rivals import RIVALS, Rival
from nestbook.report.cost import describe_machine
from nestbook.report.pictures import BLUE, VERMILION, Picture, drawing_style
from nestbook.report.speed import MODES, fullest_runs, rounds_of, rows_of
from nestbook.report.tables import NOT_RUN, median_of
from nestlib.records import Record

# Okabe and Ito's colours; a compiled form is hollow, so that grey print tells it too.
COLORS = {"nestlib": BLUE, "timm": VERMILION, "yardstick": "0.35"}
LABELS = {"nestlib": "NesT, nestlib", "timm": "NesT, timm", "yardstick": "yardstick, timm"}
_LINE = 0.21  # inches a contender
_TEXT = {"fontsize": 7, "va": "center", "bbox": {"fc": "white", "ec": "none", "pad": 0.5}}
_WIDTH, _LEFT, _RIGHT, _GAP = 7, 2.05, 0.4, 0.3  # inches


def plot_rivals(here: Record | None, committed: Sequence[Record]) -> Picture:
    """Speed relative to timm's eager NesT of the same input size, every round drawn.

    TFLOP/s, as the yardsticks have other work an image; between two forms of NesT that ratio is
    the one of images/s.
    """
    runs = [record for record in fullest_runs(here, committed) if _names(record)]
    machines = " and ".join(describe_machine(record) for record in runs) or "nothing measured yet"
    description = (
        "Arithmetic done a second, relative to timm's uncompiled NesT at the same input size, left "
        f"in forward passes, right in training steps: {machines}. The numbers stand in the table "
        "of the same page."
    )
    tooltips: dict[str, str] = {}
    with drawing_style():
        figure, panels = _layout([len(_names(record)) for record in runs] or [2])
        _legend(figure)
        for i, (record, axes) in enumerate(zip(runs, panels)):
            for mode, panel in zip(MODES, axes):
                tooltips |= _draw(panel, record, mode, f"run{i}-{mode}")
            title = textwrap.shorten(describe_machine(record), 90)
            axes[0].set_title(title, loc="left", x=-_LEFT / _panel_width())
            axes[0].tick_params(labelleft=True)
        if not runs:
            for panel in panels[0]:
                panel.text(0.5, 0.5, "no points yet", ha="center", transform=panel.transAxes)
                panel.set(xticks=[], yticks=[])
        for mode, panel in zip(MODES.values(), panels[-1]):
            panel.set_xlabel(f"{mode}: TFLOP/s, 1 = timm's NesT")
    return Picture(figure, "speed", description, tooltips)


def _names(record: Record) -> list[str]:
    """Contenders to draw: all whose unit was timed."""
    return [n for n in rows_of(record) if rounds_of(record, _unit(record, n), "forward")]


def _unit(record: Record, name: str) -> str:
    """timm's eager NesT at a contender's input size."""
    small = record.summary[name]["image_size"] == 32
    return Rival("nest_tiny_cifar" if small else "nest_tiny", "timm").name


def _panel_width() -> float:
    return (_WIDTH - _LEFT - _RIGHT - _GAP) / 2


def _layout(counts: Sequence[int]) -> tuple[Figure, np.ndarray]:
    """A band of two panels for each run, a line for each contender: axes (runs, 2)."""
    top, bottom, between, pad = 0.55, 0.42, 0.5, 0.27
    heights = [count * _LINE + pad for count in counts]
    height = top + sum(heights) + between * (len(counts) - 1) + bottom
    figure = Figure(figsize=(_WIDTH, height))
    return figure, figure.subplots(
        len(counts), 2, sharex="row", squeeze=False, height_ratios=heights,
        gridspec_kw={"left": _LEFT / _WIDTH, "right": 1 - _RIGHT / _WIDTH,
                     "top": 1 - top / height, "bottom": bottom / height,
                     "hspace": between / statistics.fmean(heights),
                     "wspace": _GAP / _panel_width()},
    )  # fmt: skip


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], ls="", marker="o", **_fill(color, False), label=LABELS[kind])
        for kind, color in COLORS.items()
    ]
    handles += [
        Line2D([], [], ls="", marker="o", **_fill("0.3", True), label="hollow: compiled"),
        Line2D([], [], ls="", marker="|", color="0.3", ms=6, label="a round"),
    ]
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(0, 1), ncols=len(handles),
        handlelength=1, frameon=False, columnspacing=1.4,
    )  # fmt: skip


def _fill(color: str, hollow: bool) -> dict:
    if hollow:
        return {"mfc": "white", "mec": color, "mew": 1.2, "ms": 5.5}
    return {"mfc": color, "mec": "white", "mew": 0.5, "ms": 6.5}


def _kind(name: str) -> str:
    rival = RIVALS[name]
    return rival.library if rival.model.startswith("nest") else "yardstick"


def _draw(axes: Axes, record: Record, mode: str, prefix: str) -> dict[str, str]:
    """A line a contender; the tooltips by gid."""
    tooltips, names, largest = {}, _names(record), 1.0
    # Air between the input sizes.
    places = [i + 0.6 * (_unit(record, n) != _unit(record, names[0])) for i, n in enumerate(names)]
    for y, name in zip(places, names):
        unit = rounds_of(record, _unit(record, name), mode, "TFLOP/s")
        ratios = [a / b for a, b in zip(rounds_of(record, name, mode, "TFLOP/s"), unit)]
        if ratios:
            gid, largest = f"{prefix}-{len(tooltips)}", max(largest, *ratios)
            _draw_rounds(axes, name, ratios, y, gid)
            tooltips[gid] = _tooltip(record, name, mode, ratios)
        else:
            reason = textwrap.shorten(record.summary[name].get("error", NOT_RUN), 44)
            axes.text(0.02, y, reason, transform=axes.get_yaxis_transform(), color="0.35", **_TEXT)
    axes.axvline(1, color="0.5", lw=0.8, zorder=1)
    # Both panels of a band have one scale, the larger one.
    axes.set(xlim=(0, max(1.2 * largest, axes.get_xlim()[1])), ylim=(places[-1] + 0.6, -0.6))
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    return tooltips


def _draw_rounds(axes: Axes, name: str, ratios: Sequence[float], y: float, gid: str) -> None:
    """The median's mark, a tick a round, and the median in figures beside them."""
    color, median = COLORS[_kind(name)], statistics.median(ratios)
    axes.plot([min(ratios), max(ratios)], [y, y], "-", color=color, lw=1)
    axes.plot(ratios, [y] * len(ratios), "|", color=color, ms=6, mew=0.8)
    axes.plot(median, y, "o", zorder=3, gid=gid, **_fill(color, RIVALS[name].compile))
    axes.annotate(f"{median:.2f}", (max(ratios), y), (6, 0), textcoords="offset points", **_TEXT)


def _tooltip(record: Record, name: str, mode: str, ratios: Sequence[float]) -> str:
    ratio, images = (
        median_of(values, record.run_id) for values in (ratios, rounds_of(record, name, mode))
    )
    return "\n".join([
        f"{name}, {MODES[mode]}",
        f"{ratio} x the TFLOP/s of {_unit(record, name)}, n = {ratio.n} rounds",
        f"{images} images/s at batch {record.summary[name]['batch_size']}",
        f"{describe_machine(record)}, record {record.run_id}",
    ])  # fmt: skip
