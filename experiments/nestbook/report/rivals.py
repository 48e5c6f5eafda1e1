"""Pictures of NesT here against timm's: every round of the contenders of a run."""

import statistics
import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nestbook.benchmarks.rivals import RIVALS, Rival
from nestbook.report.cost import describe_machine
from nestbook.report.means import short_device
from nestbook.report.pictures import BLUE, VERMILION, Picture, drawing_style
from nestbook.report.speed import MODES, fullest_runs, rounds_of, rows_of
from nestbook.report.tables import median_of
from nestlib.records import Record

# Okabe and Ito's colours; a compiled form is hollow, so that grey print tells it too.
COLORS = {"nestlib": BLUE, "timm": VERMILION, "yardstick": "0.35"}
LABELS = {"nestlib": "NesT here", "timm": "timm's NesT", "yardstick": "timm's DeiT and Swin"}
_LINE = 0.21  # inches per contender
_TEXT = {"fontsize": 7, "va": "center", "bbox": {"fc": "white", "ec": "none", "pad": 0.5}}
_WIDTH, _LEFT, _RIGHT, _GAP = 7, 2.05, 0.4, 0.3  # inches


def plot_rivals(here: Record | None, committed: Sequence[Record]) -> Picture:
    """NesT here and in timm: speed relative to timm's eager form, every round drawn."""
    return _plot(fullest_runs(here, committed), _nests, "speed", "NesT here and in timm")


def plot_all_rivals(here: Record | None, committed: Sequence[Record]) -> Picture:
    """Likewise of all that was timed: compiled forms, fp32 beside bf16, and yardsticks.

    TFLOP/s, as the yardsticks do other work per image; between two forms of NesT that ratio is the
    one of images/s.
    """
    return _plot(fullest_runs(here, committed), _names, "speed_all", "all that was timed")


def _plot(
    runs: Sequence[Record], choose: Callable[[Record], list[str]], stem: str, who: str
) -> Picture:
    """choose: the contenders of a run that are drawn; who: says which, for the description."""
    runs = [record for record in runs if choose(record)]
    machines = " and ".join(describe_machine(record) for record in runs) or "nothing measured yet"
    description = (
        f"Arithmetic per second of {who}, relative to timm's uncompiled NesT at the same input "
        f"size, left in forward passes, right in training steps: {machines}. The page's tables "
        "have the numbers."
    )
    tooltips: dict[str, str] = {}
    with drawing_style():
        figure, panels = _layout([len(choose(record)) for record in runs] or [2])
        _legend(figure, [name for record in runs for name in choose(record)])
        for i, (record, axes) in enumerate(zip(runs, panels)):
            for mode, panel in zip(MODES, axes):
                tooltips |= _draw(panel, record, choose(record), mode, f"run{i}-{mode}")
            device = short_device(record.environment["device"])
            title = textwrap.shorten(f"{device}, {record.recipe['precision']}", 90)
            axes[0].set_title(title, loc="left", x=-_LEFT / _panel_width())
            axes[0].tick_params(labelleft=True)
        if not runs:
            for panel in panels[0]:
                panel.set(xticks=[], yticks=[])
        for mode, panel in zip(MODES.values(), panels[-1]):
            panel.set_xlabel(f"{mode}: times timm's NesT as it comes")
    return Picture(figure, stem, description, tooltips)


def _names(record: Record) -> list[str]:
    """Contenders to draw: all whose unit was timed."""
    return [n for n in rows_of(record) if rounds_of(record, _unit(record, n), "forward")]


def _nests(record: Record) -> list[str]:
    """NesT alone, in the run's own precision and not compiled."""
    return [
        name for name in _names(record)
        if _kind(name) != "yardstick" and not RIVALS[name].compile and not RIVALS[name].precision
    ]  # fmt: skip


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


def _legend(figure: Figure, names: Sequence[str]) -> None:
    """What the contenders of these names need."""
    kinds = {_kind(name) for name in names} or set(COLORS)
    handles = [
        Line2D([], [], ls="", marker="o", **_fill(color, False), label=LABELS[kind])
        for kind, color in COLORS.items() if kind in kinds
    ]  # fmt: skip
    if any(RIVALS[name].compile for name in names):
        hollow = _fill("0.3", True)
        handles.append(Line2D([], [], ls="", marker="o", **hollow, label="hollow: compiled"))
    handles.append(Line2D([], [], ls="", marker="|", color="0.3", ms=6, label="one round"))
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


def _draw(
    axes: Axes, record: Record, names: Sequence[str], mode: str, prefix: str
) -> dict[str, str]:
    """One line per contender; the tooltips by gid."""
    tooltips, largest = {}, 1.0
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
            reason = textwrap.shorten(record.summary[name].get("error", ""), 44)
            axes.text(0.02, y, reason, transform=axes.get_yaxis_transform(), color="0.35", **_TEXT)
    axes.axvline(1, color="0.5", lw=0.8, zorder=1)
    # Both panels of a band have one scale, the larger one.
    axes.set(xlim=(0, max(1.2 * largest, axes.get_xlim()[1])), ylim=(places[-1] + 0.6, -0.6))
    axes.set_yticks(places, [_label(record, name) for name in names])
    axes.tick_params(axis="y", length=0, labelleft=False)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 5, 10)))
    return tooltips


def _label(record: Record, name: str) -> str:
    """Such as "NesT-T at 32x32: timm, tuned"."""
    rival, edge = RIVALS[name], record.summary[name]["image_size"]
    if _kind(name) == "yardstick":
        return f"{name.removeprefix('timm ')} at {edge}x{edge}"
    form = name.replace(f" {rival.model}", "").replace("nestlib", "here")
    return f"NesT-T at {edge}x{edge}: {form}"


def _draw_rounds(axes: Axes, name: str, ratios: Sequence[float], y: float, gid: str) -> None:
    """The median's mark, a tick per round, and the median in figures beside them."""
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
