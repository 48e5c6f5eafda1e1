"""Figures 7 and A3 in the paper's panels; narrow models on digits stand in a band of their own."""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogFormatter, MaxNLocator

from nestbook.paper import FIGURE7_THROUGHPUT_RATIO
from nestbook.recipes.rows import FIGURE7, FIGURE7_GENERATORS, FIGURE7_UNSAMPLINGS
from nestbook.report.bars import QUICK_LABEL
from nestbook.report.cost import describe_machine, images_per_second
from nestbook.report.generation import (
    BASE,
    BETTER,
    Found,
    Scored,
    dataset_of,
    join_runs,
    label_of,
    name_score,
    score_name,
    shown_of,
    speed_ratio,
    values_of,
)
from nestbook.report.means import short_device
from nestbook.report.pictures import (
    BLUE,
    GREEN,
    ORANGE,
    QUICK_BOX,
    SMALL,
    Picture,
    drawing_style,
    mark_look,
)
from nestbook.report.words import begin_upper
from nestlib.records import Record

# Dashes tell the generators apart where colour does not.
_STYLES = {"NesT": (BLUE, "-"), "TransGAN": (ORANGE, (0, (6, 2))), "Convnet": (GREEN, (0, (1, 1)))}
_UNSAMPLINGS = {"NesT" if name == "PS" else name: name for name in FIGURE7_UNSAMPLINGS}
_HEIGHTS = {"empty": 1.75, "full": 2.3, "narrow": 2.4}  # inches, of a band of panels


def plot_figure7(found: Found, run: Record | None) -> Picture:
    """FID against steps, FID by un-sampling, parameters and images per second.

    run: the bench that is drawn.
    """
    return _plot(found, "figure7", run, "Figure 7: scores of generators, and what they cost")


def plot_figure_a3(found: Found) -> Picture:
    """The inception score, or its analogue, in figure 7's first two panels."""
    about = "Figure A3: how sure and how varied a classifier finds the samples of generators"
    return _plot(found, "figure_a3", None, about)


def _plot(found: Found, figure: str, run: Record | None, about: str) -> Picture:
    bands = ["full" if dataset_of(found.full) or figure == "figure7" else "empty"]
    bands += ["narrow"] if dataset_of(found.narrow) else []
    heights = [_HEIGHTS[band] for band in bands]
    with drawing_style():
        whole = Figure(figsize=(7.4, sum(heights)), layout="constrained")
        parts = np.atleast_1d(whole.subfigures(len(bands), 1, height_ratios=heights))
        tooltips = _draw_full(parts[0], found.full, figure, run)
        if len(bands) > 1:
            tooltips |= _draw_narrow(parts[1], found.narrow, figure)
    texts = (about, _describe("64x64", found.full, figure),
             _describe(QUICK_LABEL, found.narrow, figure))  # fmt: skip
    return Picture(whole, figure, ". ".join(texts) + ".", tooltips)


def _draw_full(
    part: SubFigure, scored: Scored, figure: str, run: Record | None
) -> dict[str, str]:  # fmt: skip
    """The paper's panels; those without a record stay empty. Returns the tooltips by gid."""
    title = "The paper's panels: 64x64"
    if dataset_of(scored):
        title = f"{dataset_of(scored)} at 64x64 ({join_runs(scored, FIGURE7)})"
    _write_title(part, title)
    has_cost = figure == "figure7"
    grid = part.add_gridspec(2, 3 if has_cost else 2)
    left, middle = part.add_subplot(grid[:, 0]), part.add_subplot(grid[:, 1])
    left.set_title("training", loc="left")
    middle.set_title("un-sampling", loc="left")
    tooltips = _draw_curves(left, scored, figure, "full")
    tooltips |= _draw_finals(middle, scored, _UNSAMPLINGS, figure, "full")
    if has_cost:
        axes = part.add_subplot(grid[0, 2]), part.add_subplot(grid[1, 2])
        axes[0].set_title("parameters and throughput", loc="left")
        tooltips |= _draw_cost(axes, run)
    return tooltips


def _draw_narrow(part: SubFigure, scored: Scored, figure: str) -> dict[str, str]:
    label = begin_upper(QUICK_LABEL)
    _write_title(part, f"{label} ({join_runs(scored, FIGURE7)})", bbox=QUICK_BOX)
    left, right = part.subplots(1, 2)
    tooltips = _draw_curves(left, scored, figure, "narrow")
    labels = {row: label_of(row) for row in FIGURE7}
    return tooltips | _draw_finals(right, scored, labels, figure, "narrow")


def _write_title(part: SubFigure, text: str, **look) -> None:
    part.suptitle(text, x=0.012, ha="left", fontsize=8, weight="bold", **look)


def _draw_curves(axes: Axes, scored: Scored, figure: str, prefix: str) -> dict[str, str]:
    """The score against training steps: the three generators; the tooltips by gid."""
    axes.set(xlabel="training steps", ylabel=name_score(scored, figure))
    tooltips = {}
    for name in FIGURE7_GENERATORS:
        records = [record for record in shown_of(scored, name) if record.epochs]
        if records:
            tooltips |= _draw_curve(axes, records, figure, f"{prefix}-curve-{name}", name)
    if not tooltips:
        axes.set(xticks=[], yticks=[])
        return {}
    handles = [Line2D([], [], color=c, ls=ls, lw=1.2, label=n) for n, (c, ls) in _STYLES.items()]
    high = figure == "figure7"
    axes.legend(handles=handles, frameon=False, loc="upper right" if high else "lower right")
    return tooltips


def _draw_curve(
    axes: Axes, records: Sequence[Record], figure: str, gid: str, label: str
) -> dict[str, str]:
    """The mean over runs, and their range."""
    name, steps = score_name(records[0], figure), [row["step"] for row in records[0].epochs]
    values = np.array([[row[name] for row in record.epochs] for record in records])
    means, (color, dash) = values.mean(0), _STYLES[label]
    axes.plot(steps, means, lw=1.2, label=label, color=color, ls=dash)
    axes.plot(steps[-1], means[-1], "o", ms=5, color=color, mec="white", gid=gid)
    if len(records) > 1:
        axes.fill_between(steps, values.min(0), values.max(0), color=color, alpha=0.15, lw=0)
    if figure == "figure7" and values.min() > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))  # plain numbers
    runs = ", ".join(f"{row[-1]:.3g}" for row in values)
    return {gid: f"{label} at step {steps[-1]:,}: {runs}; of "
                 f"{records[0].epochs[-1]['num_samples']:,} samples\nrecords "
                 f"{', '.join(record.run_id for record in records)}"}  # fmt: skip


def _draw_finals(
    axes: Axes, scored: Scored, labels: Mapping[str, str], figure: str, prefix: str
) -> dict[str, str]:
    """The final scores by row of FIGURE7, one under another: a bar to the mean, a ring per run.

    Returns the tooltips by gid.
    """
    axes.set_yticks(range(len(labels)), labels.values())
    axes.set(
        ylim=(len(labels) - 0.4, -0.6),
        xlabel=f"final {name_score(scored, figure)} ({BETTER[figure]})",
    )
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    tooltips = {}
    for place, (row, label) in enumerate(labels.items()):
        records, values = shown_of(scored, row), values_of(scored, row, figure)
        if not records:
            continue
        mean, color = statistics.fmean(values), _STYLES.get(row, _STYLES["NesT"])[0]
        gid = f"{prefix}-final-{row}"
        axes.barh(place, mean, 0.6, color=color, alpha=0.3, lw=0)
        axes.plot(values, [place] * len(values), "o", ls="", **mark_look(color, "none", 3.4, 3.4))
        axes.plot([mean], [place], "o", gid=gid, zorder=3, **mark_look(color))
        runs = ", ".join(f"{value:.2f}" for value in values)
        tooltips[gid] = (
            f"{label}: {mean:.2f} (n = {len(values)}: {runs}); of "
            f"{records[0].summary['num_samples']:,} samples\nrecords "
            f"{', '.join(record.run_id for record in records)}"
        )
    if not tooltips:
        axes.set_xticks([])
    return tooltips


def _draw_cost(panels: tuple[Axes, Axes], run: Record | None) -> dict[str, str]:
    """Parameters above images per second; returns the tooltips by gid."""
    tooltips, machine = {}, f" ({short_device(run.environment['device'])})" if run else ""
    speeds = {name: images_per_second(run, name) if run else None for name in FIGURE7_GENERATORS}
    sizes = {name: run.summary.get(name, {}).get("params") if run else None for name in speeds}
    millions = {name: size and size / 1e6 for name, size in sizes.items()}
    ratio = speed_ratio(run, "NesT") if run else None
    over = (
        f"\nNesT over {BASE}: {ratio.value:.2f}; paper: {FIGURE7_THROUGHPUT_RATIO}"
        if ratio else ""
    )  # fmt: skip
    for axes, what, values, label in zip(
        panels, ("params", "speed"), (millions, speeds),
        ("parameters (M)", f"images per second{machine}{over}"),
    ):  # fmt: skip
        axes.set_yticks(range(len(values)), values)
        axes.set(ylim=(len(values) - 0.4, -0.6))
        axes.set_xlabel(label, fontsize=7)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_locator(MaxNLocator(4))
        known = {name: value for name, value in values.items() if value}
        for name, value in known.items():
            place, gid = list(values).index(name), f"cost-{what}-{name}"
            axes.barh(place, value, 0.6, color=_STYLES[name][0], lw=0, gid=gid)
            axes.annotate(f"{value:.1f}", (value, place), (2, 0), textcoords="offset points",
                          va="center", fontsize=SMALL)  # fmt: skip
            tooltips[gid] = (
                f"{name}: {value:.3g} {'M parameters' if what == 'params' else 'images/s'}\n"
                f"{describe_machine(run)}, record {run.run_id}"
            )
        if known:
            axes.set_xlim(0, 1.2 * max(known.values()))
        else:
            axes.set_xticks([])
    return tooltips


def _describe(band: str, scored: Scored, figure: str) -> str:
    """The final scores, for a reader who does not see the picture."""
    said = [
        f"{label_of(row)} {statistics.fmean(values_of(scored, row, figure)):.3g} "
        f"(n = {len(shown_of(scored, row))})"
        for row in FIGURE7 if shown_of(scored, row)
    ]  # fmt: skip
    what = f"{name_score(scored, figure)} ({BETTER[figure]})"
    return f"{band}: final {what} {', '.join(said)}" if said else f"{band}: no score yet"
