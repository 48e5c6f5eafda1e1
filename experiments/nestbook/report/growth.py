"""Time and memory against batch, pixels and depth: a picture on log axes, and the slopes."""

import re
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from nestbook.report.pictures import PALETTE, Picture, drawing_style
from nestbook.report.tables import Cell, Number, Sources, Table

# Okabe and Ito's, in the order in which a picture's models come.
COLORS = PALETTE
_MODES = {"forward": "inference", "train": "training"}
_X_LABELS = {
    "batch": "batch (images)", "pixels": "pixels per image", "depth": "layers per hierarchy",
}  # fmt: skip
_AXES = {"batch": "batch", "pixels": "pixels", "depth": "layers"}  # as a table names them
_Y_LABELS = {"seconds": "seconds per step (log scale)", "memory_mb": "peak memory (MB, log scale)"}
_DASHES = {"forward": "-", "train": (0, (3, 2))}


def growth_table(measured: Mapping, source: str) -> Table:
    """The exponent of each line over all its points and between its last two.

    measured: what `nestbook.profiles.growth.growth` returned; source: a record id or HERE.
    """
    settings = measured["settings"]
    kinds = {line["memory_kind"] for line in measured["lines"] if "memory_kind" in line}
    notes = [
        "Exponent: slope of log y over log x; 1 is linear, 2 quadratic. At the end: between the "
        "last two points",
        "Quadratic: of y = a x + b x², the second term's part of the time at the last point; "
        "below 0: grows more slowly than linearly",
    ]  # fmt: skip
    sources = Sources(
        f"{settings['precision']}, {settings['threads']} threads, torch {settings['torch']}, "
        f"median of {settings['rounds_done']} rounds in turn",
        (
            "Training: forward, cross-entropy and backward without an optimizer. Multiply-adds: of "
            "a forward pass",
            f"Memory: {', '.join(sorted(kinds))}; in training with the gradients, which only depth "
            "makes more",
            *(
                f"{line['name']}, {_AXES[line['axis']]}, {_MODES[line['mode']]}: ends before "
                f"{line['stopped']}"
                for line in measured["lines"]
                if line["stopped"]
            ),
        ),
    )
    return Table(
        "Exponents of growth, one axis at a time",
        ("Model", "Against", "Step", "Time", "at the end", "quadratic (%)", "Memory",
         "at the end", "FLOPs", "at the end"),
        [_row(line, source) for line in measured["lines"]],
        notes,
        sources,
    )  # fmt: skip


def _row(line: Mapping, source: str) -> tuple[Cell, ...]:
    ends = [line["points"][i] for i in (0, -1)] if line["points"] else []
    reach = " to ".join(_show_x(line["axis"], point) for point in ends) or "none"
    cells: list[Cell] = []
    for name in ("seconds", "memory_mb", "multiply_adds"):
        fit = line[name]
        cells += [Number(fit[key], source, 2) if fit else "too few points"
                  for key in ("exponent", "last_exponent")]  # fmt: skip
        if name == "seconds":
            # Against batch or depth the other part is a constant, which the fit does not have.
            quadratic = fit and line["axis"] == "pixels"
            share = round(100 * fit["quadratic_share"]) if quadratic else None  # never -0
            cells.append("" if share is None else Number(share, source, 0))
    return (line["name"], f"{_AXES[line['axis']]}, {reach}", _MODES[line["mode"]], *cells)


def _show_x(axis: str, point: Mapping) -> str:
    """A place on the axis as a reader thinks of it: pixels by the image's edge."""
    return f"{point['image_size']}²" if axis == "pixels" else f"{point['x']:g}"


def plot_growth(measured: Mapping, machine: str) -> Picture:
    """Seconds above memory, one column per axis, on log axes beside a thin line of slope 1.

    machine: what measured, for the title and the tooltips.

    Raises:
        ValueError: no line has a point.
    """
    lines = [line for line in measured["lines"] if line["points"]]
    if not lines:
        raise ValueError("nothing to draw: no line has a point; the table says why")
    axes_names = [name for name in _X_LABELS if any(line["axis"] == name for line in lines)]
    names = dict.fromkeys(line["name"] for line in lines)
    colors = dict(zip(names, COLORS, strict=False))
    tooltips: dict[str, str] = {}
    with drawing_style():
        figure = Figure(figsize=(7, 5.2))
        panels = figure.subplots(
            len(_Y_LABELS), len(axes_names), sharex="col", squeeze=False,
            gridspec_kw={"left": 0.09, "right": 0.985, "top": 0.85, "bottom": 0.09,
                         "wspace": 0.27, "hspace": 0.09},
        )  # fmt: skip
        for row, quantity in zip(panels, _Y_LABELS):
            row[0].set_ylabel(_Y_LABELS[quantity])
            for panel, name in zip(row, axes_names):
                shown = [line for line in lines if line["axis"] == name]
                tooltips |= _draw(panel, shown, quantity, colors, machine)
        for panel, name in zip(panels[-1], axes_names):
            panel.set_xlabel(_X_LABELS[name])
        _legend(figure, colors, {line["mode"] for line in lines}, machine)
    description = (
        f"Seconds per step and peak memory of {', '.join(names)} against "
        f"{', '.join(_X_LABELS[name] for name in axes_names)}, measured on {machine}, with a line "
        "of linear growth. The slopes stand in the table of the same page."
    )
    return Picture(figure, "growth", description, tooltips)


def _draw(
    axes: Axes, lines: Sequence[Mapping], quantity: str, colors: Mapping[str, str], machine: str
) -> dict[str, str]:
    """One panel; its tooltips by gid."""
    tooltips = {}
    axes.set(xscale="log", yscale="log")
    names = list(colors)
    for line in lines:
        xs = [point["x"] for point in line["points"]]
        ys = [_value(point, quantity) for point in line["points"]]
        color, filled = colors[line["name"]], line["mode"] == "forward"
        axes.plot(xs, ys, ls=_DASHES[line["mode"]], color=color, lw=0.9)
        slug = re.sub("[^a-z0-9]+", "-", line["name"].lower())
        size = max(4, 7 - 1.25 * names.index(line["name"]))  # so that none hides another
        for i, (x, y) in enumerate(zip(xs, ys)):
            gid = f"{line['axis']}-{quantity}-{slug}-{line['mode']}-{i}"
            axes.plot(
                x, y, "o", ms=size, mec=color, mew=1, mfc=color if filled else "white", gid=gid,
                zorder=3,
            )  # fmt: skip
            tooltips[gid] = _tooltip(line, line["points"][i], machine)
    _finish(axes, lines, quantity)
    return tooltips


def _finish(axes: Axes, lines: Sequence[Mapping], quantity: str) -> None:
    """Ticks where points are, and the line of slope 1 through the first point."""
    ticks = {point["x"]: _show_x(line["axis"], point) for line in lines for point in line["points"]}
    first, low, high = lines[0]["points"][0], min(ticks), max(ticks)
    slope = _value(first, quantity) / first["x"]
    axes.plot([low, high], [slope * low, slope * high], color="0.5", lw=0.6, zorder=1)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:,g}")


def _value(point: Mapping, quantity: str) -> float:
    return point["seconds"]["median"] if quantity == "seconds" else point[quantity]


def _tooltip(line: Mapping, point: Mapping, machine: str) -> str:
    rounds = point["seconds"]["rounds"]
    half_range = (max(rounds) - min(rounds)) / 2
    return "\n".join([
        f"{line['name']}, {_MODES[line['mode']]}",
        f"batch {point['batch_size']} at {point['image_size']}x{point['image_size']} pixels"
        + (f", {point['x']:g} {_X_LABELS['depth']}" if line["axis"] == "depth" else ""),
        f"{point['seconds']['median']:.3g} ± {half_range:.1g} s, n = {len(rounds)}",
        f"{point['memory_mb']:,.0f} MB, {line['memory_kind']}",
        f"{point['multiply_adds'] / 1e9:,.1f} billion multiply-adds forward",
        machine,
    ])  # fmt: skip


def _legend(figure: Figure, colors: Mapping[str, str], modes: set[str], machine: str) -> None:
    figure.suptitle(machine, x=0.09, y=0.985, ha="left", fontsize=8, fontweight="bold")
    models = [Line2D([], [], color=color, lw=2, label=name) for name, color in colors.items()]
    styles = [
        Line2D([], [], color="0.3", lw=0.9, ls=_DASHES[mode], marker="o", ms=4.5,
               mfc="0.3" if mode == "forward" else "white", label=_MODES[mode])
        for mode in _MODES if mode in modes
    ]  # fmt: skip
    styles.append(Line2D([], [], color="0.5", lw=0.6, label="linear growth"))
    place = {"loc": "upper left", "frameon": False, "borderpad": 0, "borderaxespad": 0}
    for y, handles in ((0.945, models), (0.91, styles)):
        figure.legend(handles=handles, bbox_to_anchor=(0.09, y), ncols=len(handles), **place)
