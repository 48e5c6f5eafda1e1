"""Figures 7 and A3: scores of generators against training steps, and their parameters and speed."""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from nestbook.claims.verdict import mean_half_width
from nestbook.evaluations.standing import note_unchecked
from nestbook.paper import FIGURE7_BEST_UNSAMPLING, FIGURE7_THROUGHPUT_RATIO
from nestbook.recipes.rows import FIGURE7, FIGURE7_GENERATORS, FIGURE7_UNSAMPLINGS
from nestbook.report.cost import (
    describe_bench,
    describe_machine,
    images_per_second,
    is_smoke,
    results,
    rounds_of,
    source_of,
)
from nestbook.report.pictures import (
    BLUE,
    GREEN,
    ORANGE,
    PINK,
    SKY,
    VERMILION,
    Picture,
    drawing_style,
)
from nestbook.report.tables import (
    NOT_RUN,
    PAPER,
    Cell,
    Number,
    Table,
    mean_of,
    median_of,
    median_ratio,
    significant,
)
from nestlib.records import Record

Scored = Mapping[str, Sequence[Record]]  # records of scores by row of FIGURE7

# By figure: what is drawn, by Inception-v3's features and by any other network's.
SCORES = {
    "figure7": ("fid", "frechet_distance"),
    "figure_a3": ("inception_score", "classifier_score"),
}
AXES = {
    "fid": "FID (lower is better)",
    "frechet_distance": "Fréchet distance (lower is better)",
    "inception_score": "inception score (higher is better)",
    "classifier_score": "classifier score (higher is better)",
}
# Okabe and Ito's, in the order of a panel's rows; dashes tell them apart where colour does not.
COLORS = (BLUE, ORANGE, GREEN, VERMILION, SKY, PINK)
DASHES = ("-", (0, (6, 2)), (0, (1, 1)), (0, (4, 1.5, 1, 1.5)), (0, (4, 1.5)), (0, (2, 2)))
BASE = "TransGAN"  # what the paper's ratio of speeds is over


def generation_table(scored: Scored, figure: str) -> Table:
    """Every row's final score on one data set, and whether the un-samplings' order is decided."""
    rows, notes = [], []
    for row in FIGURE7:
        records = _shown(scored, row)
        label = row if row in FIGURE7_GENERATORS else f"NesT, {row}"
        rows.append(("NesT (PS)" if row == "NesT" else label, *_score_cells(records, figure)))
        notes += [describe_score(record) for record in records]
    name, data = _shared_name(scored, figure), dataset_of(scored) or "no data set yet"
    networks = {record.summary["feature_network"] for found in scored.values() for record in found}
    by = f", features of {' and '.join(sorted(networks))}" if networks else ""
    return Table(
        f"Generators trained and scored on {data}{by}: {AXES[name]}",
        ("Generator", "Score", "95 % interval of the mean", "Kernel distance", "n"),
        rows,
        [f"Paper: curves without numbers; of the un-samplings {FIGURE7_BEST_UNSAMPLING} is best. "
         f"Here: {compare_unsamplings(scored, figure)}", *notes,
         *note_unchecked(record for row in FIGURE7 for record in _shown(scored, row))],
    )  # fmt: skip


def _shown(scored: Scored, row: str) -> list[Record]:
    return [record for record in scored.get(row, ()) if not is_smoke(record)]


def _score_cells(records: Sequence[Record], figure: str) -> tuple[Cell, ...]:
    if not records:
        return NOT_RUN, "", "", ""
    source, name = records[0].run_id, score_name(records[0], figure)
    values = [record.summary[name] for record in records]
    kernel = [record.summary[_kernel_name(record)] for record in records]
    return (
        mean_of(values, source, 2), _interval(values), mean_of(kernel, source, 4), str(len(values))
    )  # fmt: skip


def runs_table(trained: Mapping[tuple[str, ...], Sequence[Record]]) -> Table:
    """How the runs themselves went: steps, time, and how they ended."""
    rows, notes = [], []
    for key, record in ((k, r) for k, found in trained.items() for r in found if not is_smoke(r)):
        s, source, environment = record.summary, record.run_id, record.environment
        distances = [epoch["sample/pixel_distance"] for epoch in record.epochs]
        rows.append((
            ", ".join(key), s["status"], Number(s["reported_step"], source, 0),
            Number(s["train_seconds"], source, 0), significant(distances[0], source),
            significant(distances[-1], source),
        ))  # fmt: skip
        notes.append(f"{source}: {s.get('failure', 'finished')}; {environment['device']}, "
                     f"{environment['threads']} threads")  # fmt: skip
    return Table(
        "Runs",
        ("Generator", "Ended", "Steps", "Seconds", "Pixel distance, at first", "at the end"),
        rows or [(", ".join(key), NOT_RUN, "", "", "", "") for key in trained],
        ["Pixel distance: Fréchet's formula on 8x8 means of patches, of few samples; it shows "
         "whether a run diverges, no more. Seconds as they passed, other work beside included",
         *notes],
    )  # fmt: skip


def generators_table(here: Record | None, committed: Sequence[Record]) -> Table:
    """Figure 7, right: parameters and speed of the three generators, and the paper's ratio."""
    runs = results(here, committed)
    rows = [
        (
            name,
            describe_machine(run),
            *_measured_cells(run, name, source_of(run, here)),
            _printed_ratio(name),
        )
        for run in runs
        for name in FIGURE7_GENERATORS
    ] or [(name, NOT_RUN, "", "", "", "", _printed_ratio(name)) for name in FIGURE7_GENERATORS]
    return Table(
        "Figure 7, right: generators at 64x64",
        ("Generator", "Machine", "Params (M)", "GFLOPs an image", "Images/s",
         f"Over {BASE}'s", "Paper"),
        rows,
        ["Paper: 8 x in its text, bars without numbers in its figure; neither GPU, batch nor "
         "precision is given (D23). Multiply-adds of the two transformers differ by far less: the "
         "rest is how attention over 4,096 places runs, fused here where the library has it",
         *(describe_bench(source_of(run, here), run) for run in runs)],
    )  # fmt: skip


def _measured_cells(run: Record, name: str, source: str) -> list[Cell]:
    row, rounds = run.summary.get(name, {}), rounds_of(run, name, "forward")
    counts: list[Cell] = ["", ""]
    if "params" in row:
        counts = [Number(row["params"] / 1e6, source, 2), Number(row["gflops"], source, 2)]
    ratio = median_ratio(rounds, rounds_of(run, BASE, "forward"), source)
    return [*counts, median_of(rounds, source) or row.get("error", NOT_RUN), ratio or ""]


def _printed_ratio(name: str) -> Cell:
    ratios = {"NesT": FIGURE7_THROUGHPUT_RATIO, BASE: 1}
    return Number(ratios[name], PAPER, 0) if name in ratios else "no number"


def score_table(record: Record) -> Table:
    """One run's three scores, and its curve."""
    s, source = record.summary, record.run_id
    names = [name for pair in SCORES.values() for name in pair if name in s]
    names.append(_kernel_name(record))
    rows = [
        (name, significant(s[name], source),
         significant(s[f"{name}_std"], source) if f"{name}_std" in s else "")
        for name in names
    ]  # fmt: skip
    curve = " ".join(f"{row['step']}: {row[names[0]]:.3g};" for row in record.epochs)
    return Table(
        f"Scores of {record.recipe['run']}",
        ("Score", "Value", "Over splits or subsets, ±"),
        rows,
        [describe_score(record), f"{names[0]} at each row: {curve or 'the run is not here'}"],
    )


def compare_unsamplings(scored: Scored, figure: str) -> str:
    """Which un-sampling is best, if three seeds or more of all of them say so."""
    values = {}
    for unsampling in FIGURE7_UNSAMPLINGS:
        records = _shown(scored, "NesT" if unsampling == "PS" else unsampling)
        values[unsampling] = [r.summary[score_name(r, figure)] for r in records]
    if min(map(len, values.values())) < 3:
        return "undecided, as there are not three seeds of each un-sampling"
    sign = -1 if figure == "figure_a3" else 1
    means = {name: sign * statistics.fmean(found) for name, found in values.items()}
    best = min(means, key=means.get)
    reach = {name: mean_half_width(found) for name, found in values.items()}
    if all(means[best] + reach[best] < means[name] - reach[name] for name in means if name != best):
        return f"{best} is best, its interval apart from all others'"
    return f"undecided, as {best}'s interval, the best by its mean, meets another's"


def score_name(record: Record, figure: str) -> str:
    """The figure's score under the name that the record's network gives it."""
    return next(name for name in SCORES[figure] if name in record.summary)


def describe_score(record: Record) -> str:
    """One line on how a score was made."""
    s = record.summary
    points = {row["num_samples"] for row in record.epochs}
    curve = f", points of its curve of {min(points):,}" if points else ""
    return (
        f"{record.recipe['run']}: {s['num_samples']:,} samples{curve}, against "
        f"{s['num_reference']:,} of {s['reference']} ({s['reference_fingerprint'][:8]}), features "
        f"of {s['feature_network']} ({s['feature_weights_sha256'][:8]}), resize {s['resize']}, "
        f"seed {s['seed']}; record {record.run_id}{'; ' + s['note'] if 'note' in s else ''}"
    )


def plot_figure7(scored: Scored, here: Record | None, committed: Sequence[Record]) -> Picture:
    """Left and middle: Fréchet distance against steps; right: parameters and images a second."""
    with drawing_style():
        figure = Figure(figsize=(7.4, 2.9), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        tooltips = _draw_curve_panels((left, middle), scored, "figure7")
        run = max(
            results(here, committed), default=None,
            key=lambda r: (r.environment["device_kind"] == "cuda", len(r.summary)),
        )  # fmt: skip
        tooltips |= _draw_cost(right, run)
    text = "Figure 7: scores of generators against training steps, and their speed. "
    return Picture(figure, "figure7", text + _say_final(scored, "figure7"), tooltips)


def plot_figure_a3(scored: Scored) -> Picture:
    """The inception score, or its analogue, against steps."""
    with drawing_style():
        figure = Figure(figsize=(6.4, 2.9), layout="constrained")
        tooltips = _draw_curve_panels(figure.subplots(1, 2), scored, "figure_a3")
    text = "Figure A3: the scores of how sure and how varied a classifier finds samples. "
    return Picture(figure, "figure_a3", text + _say_final(scored, "figure_a3"), tooltips)


def _draw_curve_panels(panels: Sequence[Axes], scored: Scored, figure: str) -> dict[str, str]:
    unsamplings = {"NesT" if name == "PS" else name: name for name in FIGURE7_UNSAMPLINGS}
    tooltips = {}
    for axes, title, labels in zip(
        panels, ("generators", "un-sampling"),
        ({name: name for name in FIGURE7_GENERATORS}, unsamplings),
    ):  # fmt: skip
        axes.set_title(f"{title} on {dataset_of(scored)}" if scored else title, loc="left")
        axes.set_xlabel("training steps")
        drawn = 0
        for number, (row, label) in enumerate(labels.items()):
            records = [record for record in _shown(scored, row) if record.epochs]
            drawn += len(records)
            if records:
                tooltips |= _draw_curve(axes, records, figure, f"{title}-{row}", label, number)
        missing = [label for row, label in labels.items() if not scored.get(row)]
        _say_missing(axes, missing, drawn)
    panels[0].set_ylabel(AXES[_shared_name(scored, figure)])
    return tooltips


def _draw_curve(
    axes: Axes, records: Sequence[Record], figure: str, gid: str, label: str, number: int
) -> dict[str, str]:
    """The mean over runs, and their range."""
    name, steps = score_name(records[0], figure), [row["step"] for row in records[0].epochs]
    values = np.array([[row[name] for row in record.epochs] for record in records])
    means, color = values.mean(0), COLORS[number]
    axes.plot(steps, means, lw=1.2, label=label, color=color, ls=DASHES[number])
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


def _draw_cost(axes: Axes, run: Record | None) -> dict[str, str]:
    """Figure 7, right: images a second against parameters; returns the tooltips."""
    axes.set_title("cost at 64x64", loc="left")
    kind = {"cpu": ", a CPU", "cuda": ", a GPU"}[run.environment["device_kind"]] if run else ""
    axes.set(xlabel="parameters (M)", ylabel=f"images a second{kind}")
    shown = [n for n in FIGURE7_GENERATORS if run and images_per_second(run, n)]
    if not shown:
        _say_missing(axes, list(FIGURE7_GENERATORS), 0)
        return {}
    tooltips = {}
    for number, name in enumerate(shown):
        row, speed = run.summary[name], images_per_second(run, name)
        gid = f"cost-{name.lower()}"
        axes.plot(row["params"] / 1e6, speed, "o", ms=7, color=COLORS[number], mec="white", gid=gid)
        axes.annotate(name, (row["params"] / 1e6, speed), (-5, 6), textcoords="offset points",
                      ha="right")  # fmt: skip
        tooltips[gid] = (
            f"{name}: {row['params'] / 1e6:.1f} M parameters, {speed:.3g} images/s\n"
            f"{describe_machine(run)}, record {run.run_id}"
        )
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 1.25 * max(images_per_second(run, name) for name in shown))
    return tooltips


def _say_missing(axes: Axes, missing: Sequence[str], drawn: int) -> None:
    """Name what is not drawn; in the middle if nothing is."""
    if drawn:
        axes.legend(frameon=False)
    if missing:
        place = (0.5, 0.5) if not drawn else (0.98, 0.72)
        axes.text(
            *place, f"{NOT_RUN}:\n" + "\n".join(missing), transform=axes.transAxes, fontsize=6.5,
            ha="right" if drawn else "center", va="top" if drawn else "center", color="0.35",
        )  # fmt: skip


def _say_final(scored: Scored, figure: str) -> str:
    said = []
    for row, records in scored.items():
        values = [r.summary[score_name(r, figure)] for r in records if not is_smoke(r)]
        if values:
            said.append(f"{row}: {statistics.fmean(values):.3g} (n = {len(values)})")
    return f"Final: {', '.join(said)}." if said else f"{NOT_RUN}."


def _shared_name(scored: Scored, figure: str) -> str:
    """What the records at hand call the score; without any, what offline ones would."""
    records = [record for found in scored.values() for record in found]
    return score_name(records[0], figure) if records else SCORES[figure][1]


def dataset_of(scored: Scored) -> str:
    """Of the recipes that the records are of, with a word where these are narrow; "" for none."""
    runs = [record.recipe["run"] for found in scored.values() for record in found]
    if not runs:
        return ""
    return runs[0].split("/")[0] + (" (narrow)" if "_narrow" in runs[0] else "")


def _kernel_name(record: Record) -> str:
    return "kid" if "kid" in record.summary else "kernel_distance"


def _interval(values: Sequence[float]) -> str:
    if len(values) < 2:
        return "one run"
    middle, reach = statistics.fmean(values), mean_half_width(values)
    return f"{middle - reach:.2f} to {middle + reach:.2f}"
