"""Accuracy against cost: the paper's points beside ours."""

import re
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from nestbook.paper import Table1Row, Table2Row
from nestbook.report.cost import ANCHOR as REFERENCE
from nestbook.report.cost import PRINTED, TITLES, best_run, images_per_second, relative_speed
from nestbook.report.means import short_device
from nestbook.report.pictures import GROUP_COLORS, Picture, drawing_style, label_marks, mark_look
from nestlib.records import Record

# A second cue beside colour, for grey print.
FAMILY_MARKERS = {
    "NesT": "o", "Swin": "s", "DeiT": "^", "PVT": "v", "CCT": "P", "ViT": "P", "WRN": "X",
    "ResNet": "X", "Pyramid": "p", "EffNet": "D", "RegNetY": "p",
}  # fmt: skip


def family_of(row: str) -> str:
    """Such as "NesT" of the row NesT-T."""
    return re.match("[A-Za-z]+", row)[0]


def name_group(group: str) -> str:
    """As a table has room for: "full attention" of "transformer, full attention"."""
    return group.removeprefix("transformer, ")


@dataclass(frozen=True)
class Point:
    """A row of a table: what the paper prints, and what we have of it.

    printed: the paper's row; paper_accuracy: which of its accuracies is drawn.
    images_per_second, params_m: measured here; accuracy: of our own records. None: not (yet).
    relative_speed: to REFERENCE's, the median of the rounds' own ratios, as in the table of costs.
    accuracy_source, speed_source: where ours are from; read in the tooltip.
    published: the accuracy is that of published weights, not of a model trained here.
    """

    name: str
    printed: Table1Row | Table2Row
    paper_accuracy: float
    images_per_second: float | None
    params_m: float | None
    accuracy: float | None
    accuracy_source: str
    speed_source: str
    published: bool = False
    relative_speed: float | None = None

    @property
    def unsure(self) -> bool:
        """The paper's "?", training tends to diverge."""
        return getattr(self.printed, "unsure", False)

    @property
    def family(self) -> str:
        return family_of(self.name)

    @property
    def slug(self) -> str:
        return re.sub("[^a-z0-9]+", "-", self.name.lower())


@dataclass(frozen=True)
class _Mark:
    """A point as one column draws it, filled by where its accuracy is from (_FILLS).

    speed, params: where it stands on the axes of costs; None: nowhere.
    """

    point: Point
    speed: float | None
    params: float | None
    accuracy: float
    tooltip: str
    fill: str = "full"

    def at(self, cost: str) -> tuple[float, float]:
        return getattr(self, cost), self.accuracy


_X_LABELS = {
    "speed": f"inference images/s, relative to {REFERENCE} (log scale)",
    "params": "parameters (millions, log scale)",
}
_TEXT, _MARK = 7, 6.5  # points
_SIZES = (7.5, 5.4)  # of filled and of hollow marks, so that both are _MARK wide
# Matplotlib's fill style of a mark says whose its accuracy is.
_FILLS = {
    "full": "filled: accuracy and cost from the column's source",
    "none": "hollow: accuracy from the paper, cost measured here",
    "left": "half: published weights scored here, cost measured here",
}


def plot_trade_off(
    points: Sequence[Point], cost: str, *, stem: str, accuracy_label: str, description: str,
    machine: str,
) -> Picture:  # fmt: skip
    """Accuracy against a cost: left as the paper prints both, right as here.

    cost: "speed", relative to NesT-T's, or "params".
    accuracy_label: the y axis, with its unit; machine: what measured, for the right panel's title.

    Raises:
        KeyError: NesT-T, the unit of speed, is not among the points.
    """
    columns = {
        "paper": _paper_marks(points, accuracy_label), "here": _our_marks(points, accuracy_label)
    }  # fmt: skip
    marks = {
        side: [mark for mark in column if getattr(mark, cost) is not None]
        for side, column in columns.items()
    }
    note = _note(points, marks["here"], cost)
    title = textwrap.fill(f"here ({machine})", 46, break_on_hyphens=False)
    tooltips = {}
    with drawing_style():
        figure, panels = _layout(title, note, any(p.published for p in points))
        _legend(figure, points)
        panels["paper"].set_title("paper (its GPU, not named)")
        panels["paper"].set_ylabel(accuracy_label, rotation_mode="anchor")
        panels["here"].set_title(title)
        panels["here"].annotate(
            note, (0, 0), (0, -33), xycoords="axes fraction", textcoords="offset points",
            fontsize=_TEXT, va="top",
        )  # fmt: skip
        for side, axes in panels.items():
            _draw(axes, marks[side], cost, f"{side}-{cost}")
            axes.set_xlabel(_X_LABELS[cost])
        _scale(panels.values(), cost)
        for side, axes in panels.items():
            tooltips |= _label(axes, marks[side], cost, f"{side}-{cost}")
    return Picture(figure, stem, description, tooltips)


def plot_rows(
    table: str, accuracy_label: str, column: str, our_accuracy: Mapping[str, tuple[float, str]],
    here: Record | None, committed: Sequence[Record],
    published_accuracy: Mapping[str, tuple[float, str]] = {},
) -> tuple[Picture, Picture]:  # fmt: skip
    """A table's rows against speed, and against parameters: costs from one bench
    (report.cost.best_run), accuracies as handed in.

    column: of the accuracies that the paper prints.
    our_accuracy: {row: (%, where from)} of models trained here, of records alone;
    published_accuracy: likewise of published weights, as scored here.
    """
    record = best_run(here, committed)
    machine, source = "nothing measured yet", ""
    if record is not None:
        machine = f"{short_device(record.environment['device'])}, {record.recipe['precision']}"
        source = f"{record.recipe['rounds_done']} rounds, record {record.run_id}"
    points = []
    for name, printed in PRINTED[table].items():
        row = record.summary.get(name, {}) if record else {}
        ratio = relative_speed(record, name, "forward") if record else None
        accuracy, accuracy_source = (published_accuracy | our_accuracy).get(name, (None, ""))
        points.append(Point(
            name, printed, getattr(printed, column), record and images_per_second(record, name),
            row["params"] / 1e6 if "params" in row else None, accuracy, accuracy_source, source,
            name in published_accuracy and name not in our_accuracy,
            ratio and ratio.value,
        ))  # fmt: skip
    costs = {"speed": f"inference speed relative to {REFERENCE}", "params": "parameters"}
    stems = {"speed": table, "params": f"{table}_params"}
    speed, params = (
        plot_trade_off(
            points, cost, stem=stems[cost], accuracy_label=accuracy_label, machine=machine,
            description=f"{TITLES[table]}: {accuracy_label} against {words}, left as the paper "
            f"prints it, right as measured ({machine}). The numbers stand in the tables of the "
            "same page.",
        )
        for cost, words in costs.items()
    )  # fmt: skip
    return speed, params


def _paper_marks(points: Sequence[Point], accuracy_label: str) -> list[_Mark]:
    unit = _reference(points).printed.images_per_second
    marks = []
    for point in points:
        ratio = point.printed.images_per_second / unit
        lines = [
            f"{point.name}, as the paper prints it",
            f"{accuracy_label}: {point.paper_accuracy:g}",
            f"{point.printed.images_per_second:,.1f} images/s, {ratio:.2f}x {REFERENCE}",
            f"{point.printed.params_m:g} M parameters",
            point.printed.group,
            *(["? as in the paper: training tends to diverge"] if point.unsure else []),
        ]
        text = "\n".join(lines)
        marks.append(_Mark(point, ratio, point.printed.params_m, point.paper_accuracy, text))
    return marks


def _our_marks(points: Sequence[Point], accuracy_label: str) -> list[_Mark]:
    marks = []
    for point in points:
        ratio = point.relative_speed if point.images_per_second else None
        accuracy, fill = point.accuracy, "left" if point.published else "full"
        shown = f"{accuracy:.2f}, {point.accuracy_source}" if accuracy is not None else ""
        if accuracy is None:
            accuracy, fill = point.paper_accuracy, "none"
            shown = f"{accuracy:g}, from the paper, no record of ours"
        lines = [f"{point.name}, cost measured here", f"{accuracy_label}: {shown}"]
        if ratio is not None:
            lines.append(f"{point.images_per_second:,.1f} images/s, {ratio:.2f}x {REFERENCE}")
        if point.params_m is not None:
            lines.append(f"{point.params_m:.2f} M parameters")
        text = "\n".join([*lines, point.speed_source, point.printed.group])
        marks.append(_Mark(point, ratio, point.params_m, accuracy, text, fill))
    return marks


def _reference(points: Sequence[Point]) -> Point:
    return {point.name: point for point in points}[REFERENCE]


def _note(points: Sequence[Point], drawn: Sequence[_Mark], cost: str) -> str:
    """Names the points that a panel leaves out, and why."""
    shown = {mark.point for mark in drawn}
    without_unit = f"measured here, but not {REFERENCE}, the unit"
    reasons: dict[str, list[str]] = {"not measured here": [], without_unit: []}
    for point in points:
        if point not in shown:
            timed = cost == "speed" and point.images_per_second is not None
            reasons[without_unit if timed else "not measured here"].append(point.name)
    parts = [f"{reason}: {', '.join(names)}" for reason, names in reasons.items() if names]
    return "\n".join(textwrap.fill(part, 54, break_on_hyphens=False) for part in parts)


def _layout(title: str, note: str, third_line: bool) -> tuple[Figure, dict[str, Axes]]:
    """Two panels of fixed size in a 7 in wide figure that is as tall as its texts need."""
    line = 0.125  # inches
    top = 0.77 + 0.2 * third_line + title.count("\n") * line
    bottom, panel = 0.48 + len(note.splitlines()) * line, 2.9
    height = top + panel + bottom
    figure = Figure(figsize=(7, height))
    grid = figure.subplots(
        1, 2, sharex=True, sharey=True,
        gridspec_kw={"left": 0.55 / 7, "right": 1 - 0.12 / 7, "wspace": 0.07,
                     "top": 1 - top / height, "bottom": bottom / height},
    )  # fmt: skip
    return figure, dict(zip(("paper", "here"), grid))


def _legend(figure: Figure, points: Sequence[Point]) -> None:
    def handle(marker: str, color: str, fill: str, label: str) -> Line2D:
        look = mark_look(color, fill, *_SIZES)
        return Line2D([], [], ls="", marker=marker, label=label, **look)

    groups = dict.fromkeys(point.printed.group for point in points)
    colors = [handle("s", GROUP_COLORS[group], "full", group) for group in groups]
    fills = [handle("o", "0.3", fill, label) for fill, label in _FILLS.items()]
    if not any(point.published for point in points):
        fills.pop()
    place = {"loc": "upper left", "frameon": False, "borderpad": 0, "borderaxespad": 0}
    left, line = 0.55 / 7, 0.2 / figure.get_figheight()
    for i, handles in enumerate((colors, fills[:2], fills[2:])):
        if handles:
            figure.legend(
                handles=handles, bbox_to_anchor=(left, 1 - (i + 0.6) * line), ncols=len(handles),
                handlelength=1, **place,
            )  # fmt: skip


def _draw(axes: Axes, marks: Sequence[_Mark], cost: str, prefix: str) -> None:
    """Marks on a thin line through each family, in the order of its rows."""
    for family in dict.fromkeys(mark.point.family for mark in marks):
        sizes = [mark for mark in marks if mark.point.family == family]
        color = GROUP_COLORS[sizes[0].point.printed.group]
        axes.plot(*zip(*(m.at(cost) for m in sizes)), "-", color=color, lw=0.8, alpha=0.6)
        for mark in sizes:
            axes.plot(
                *mark.at(cost), FAMILY_MARKERS[family], gid=f"{prefix}-{mark.point.slug}", zorder=3,
                **mark_look(color, mark.fill, *_SIZES),
            )  # fmt: skip


def _scale(panels: Collection[Axes], cost: str) -> None:
    """Log axes with plain numbers, and room for the labels."""
    for axes in panels:
        axes.set_xscale("log")
        axes.margins(x=0.15, y=0.07)
        axes.xaxis.set_minor_locator(NullLocator())
        if cost == "speed":
            axes.xaxis.set_major_locator(LogLocator(2))
            axes.xaxis.set_major_formatter(lambda x, _: f"{x:g}" if x >= 1 else f"1/{1 / x:g}")
            axes.axvline(1, color="0.5", lw=0.8, zorder=1)
        else:
            axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
            axes.xaxis.set_major_formatter("{x:g}")
    for axes in panels:  # Matplotlib would find them when it draws: too late for names
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())


def _label(axes: Axes, marks: Sequence[_Mark], cost: str, prefix: str) -> dict[str, str]:
    """Write the names; the tooltips of marks and names by gid."""
    names = {mark.point.name + "?" * mark.point.unsure: mark for mark in marks}
    at = {name: mark.at(cost) for name, mark in names.items()}
    tooltips = {}
    for name, text in label_marks(axes, at, _TEXT, _MARK).items():
        gid = f"{prefix}-{names[name].point.slug}"
        text.set_gid(f"{gid}-label")
        tooltips |= {gid: names[name].tooltip, f"{gid}-label": names[name].tooltip}
    return tooltips
