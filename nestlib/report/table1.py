"""Table 1: the paper's figures, our records, and what this machine measured."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from nestlib.paper import TABLE1 as PRINTED
from nestlib.recipes import TABLE1, get_recipe
from nestlib.records import Record, Store
from nestlib.report.tables import HERE, NOT_RUN, PAPER, Cell, Number, Table, mean_of

NO_MODEL = "no model yet"
SPEED_RATIOS = (0.125, 0.25, 0.5, 1, 2, 4)
# Okabe and Ito's colours, told apart by readers who confuse red and green.
GROUP_COLORS = {
    "convnet": "#009E73",
    "transformer, full attention": "#E69F00",
    "transformer, local attention": "#0072B2",
}


def table1(store: Store) -> Table:
    """Accuracy after 300 epochs: the paper's, and our records' where there are any."""
    rows, notes = [], []
    for name, printed in PRINTED.items():
        entry, mark = TABLE1[name], "?" if printed.unsure else ""
        records = store.find_seeds(get_recipe(entry.recipe)) if entry.recipe else []
        missing = NOT_RUN if entry.recipe else NO_MODEL
        rows.append((
            name, printed.group,
            Number(printed.cifar10, PAPER, 2, mark=mark), _mean_top1(records, 2) or missing,
            Number(printed.cifar100, PAPER, 2, mark=mark), missing,
        ))  # fmt: skip
        notes += [_describe_runs(name, records)] if records else []
    return Table(
        "Table 1, accuracy: top-1 on CIFAR test sets (%); ours: 300 epochs from random weights",
        ("Method", "Architecture", "C10, paper", "C10, our record", "C100, paper",
         "C100, our record"),
        rows,
        ["Paper: number of runs and spread not given; ? = training tends to diverge. Ours: mean ± "
         "standard deviation over n runs of the last epoch, not the best on test",
         *(notes or ["No record of a 300-epoch run yet"])],
    )  # fmt: skip


def _mean_top1(records: Sequence[Record], digits: int = 1) -> Number | None:
    values = [record.summary["test/top1"] for record in records]
    return mean_of(values, records[0].run_id, digits) if records else None


def _describe_runs(name: str, records: Sequence[Record]) -> str:
    """n, devices and record ids behind a mean."""
    devices = sorted({record.environment["device"] for record in records})
    ids = ", ".join(record.run_id for record in records)
    return f"{name}: n = {len(records)}, {' and '.join(devices)}, records {ids}"


def table1_real(store: Store, names: Sequence[str]) -> Table:
    """Real CIFAR-10, but not the paper's schedule: recipes of ours, each a row of its own."""
    rows, notes = [], []
    for name in names:
        recipe = get_recipe(name)
        records = store.find_seeds(recipe)
        if not records:
            rows.append((name, NOT_RUN, "", "", "", "", ""))
            continue
        source = records[0].run_id
        minutes = [record.summary["train_seconds"] / 60 for record in records]
        images = records[0].environment["data"]["test"]["images"]
        top1 = _mean_top1(records, 2)
        share = top1.value / 100
        rows.append((
            name, top1, Number(196 * math.sqrt(share * (1 - share) / images), source, 2),
            str(len(records)), Number(records[0].summary["num_params"] / 1e6, source, 2),
            str(recipe.epochs), mean_of(minutes, source, 0),
        ))  # fmt: skip
        notes.append(f"{_describe_runs(name, records)}; {images:,} test images")
    return Table(
        "Real CIFAR-10, outside the paper's table: our narrow models on small machines",
        ("Recipe", "C10 top-1 (%)", "Sampling ±", "n", "Params (M)", "Epochs", "Minutes"),
        rows,
        ["Last epoch; sampling ± is the 95 % half-width of one such score, seeds apart", *notes],
    )


def table1_cost(here: Record | None, committed: Sequence[Record]) -> Table:
    """Parameters, multiply-adds, memory and speed: the paper's beside what machines measured."""
    rows = []
    used: dict[str, Record] = {}
    candidates = [record for record in [here, *committed] if record and not is_smoke(record)]
    for name, printed in PRINTED.items():
        tried = [record for record in candidates if name in record.summary]
        record = next((r for r in tried if _forward(r, name)), None)
        if record is not None:
            source = HERE if record is here else record.run_id
            used[source] = record
            cells = _cost_cells(record, name, source)
        elif tried:  # why it could not be measured
            cells = [tried[0].summary[name].get("error", NOT_RUN), *[""] * 5]
        else:
            cells = [NOT_RUN if TABLE1[name].recipe else NO_MODEL, *[""] * 5]
        rows.append((
            name, Number(printed.params_m, PAPER), cells[0], cells[1],
            Number(printed.gpu_memory_mb, PAPER, 0), cells[2],
            Number(printed.images_per_second, PAPER, 1), cells[3], cells[4], cells[5],
        ))  # fmt: skip
    return Table(
        "Table 1, cost at 32x32",
        ("Method", "Params (M), paper", "measured", "GFLOPs, measured", "Memory (MB), paper",
         "measured", "Images/s, paper", "measured", "Training images/s", "Measured on"),
        rows,
        ["Paper: inference on a single GPU, which its table does not name",
         *(describe_bench(source, record) for source, record in used.items())],
    )  # fmt: skip


def _forward(record: Record, name: str) -> float | None:
    """Median inference images/s of a row, None where it was not or could not be measured."""
    row = record.summary.get(name, {})
    return row.get("images_per_second", {}).get("forward", {}).get("median")


def _cost_cells(record: Record, name: str, source: str) -> list[Cell]:
    row = record.summary[name]
    where = HERE if source == HERE else f"record {'GPU' if _is_gpu(record) else 'CPU'}"
    speeds = [_speed(row, mode, source) for mode in ("forward", "train")]
    return [
        Number(row["params"] / 1e6, source, 2),
        Number(row["gflops"], source, 2),
        Number(row["memory_mb"], source, 0),
        *speeds,
        where,
    ]


def _speed(row: Mapping, mode: str, source: str) -> Cell:
    measured = row["images_per_second"].get(mode, {})
    if measured.get("median") is None:
        return row.get("error", NOT_RUN)
    rounds = measured["rounds"]
    spread = (max(rounds) - min(rounds)) / 2
    return Number(measured["median"], source, 1, len(rounds), spread)


def _is_gpu(record: Record) -> bool:
    return record.environment["device_kind"] == "cuda"


def describe_bench(source: str, record: Record) -> str:
    """One line on how a bench was made."""
    settings = record.recipe
    row = next(row for name, row in record.summary.items() if _forward(record, name))
    return (
        f"{source}: {record.environment['device']}, {settings['threads']} threads, "
        f"{settings['precision']}, batch {row['batch_size']}, torch {settings['torch']}, median ± "
        f"half range of {settings['rounds_done']} rounds in turn, memory = {row['memory_kind']} "
        f"of a forward pass, GFLOPs = multiply-adds by {settings['flop_counter']}; "
        f"record {record.run_id}, {record.environment['finished'][:10]}"
    )


def is_smoke(record: Record) -> bool:
    """A smoke run checks the path; what it measured is no result and is never shown."""
    return record.recipe.get("budget") == "smoke"


def table1_quick(records: Mapping[str, Sequence[Record]]) -> Table:
    """Narrow relatives on the embedded digits: no result of the paper, a check that all train."""
    rows, notes = [], []
    for name, entry in TABLE1.items():
        if entry.quick is None:
            continue
        found = records.get(name, ())
        done = [r for r in found if r.recipe["name"] == entry.quick and not is_smoke(r)]
        if not done:
            rows.append((name, entry.quick, NOT_RUN, "", "", ""))
            continue
        source = done[0].run_id
        seconds = [record.summary["train_seconds"] for record in done]
        rows.append((
            name, entry.quick, _mean_top1(done), str(len(done)),
            Number(done[0].summary["num_params"] / 1e6, source, 2), mean_of(seconds, source, 0),
        ))  # fmt: skip
        notes.append(_describe_runs(entry.quick, done))
    return Table(
        "Quick: narrow relatives after a short training on the embedded digits "
        "(chance 10 %; not the paper's data, not its models)",
        ("Row", "Recipe", "Digits top-1 (%)", "n", "Params (M)", "Seconds a run"),
        rows,
        ["Mean ± standard deviation over seeds; the same images, epochs and learning rate for all. "
         "The rate was chosen so that every seed of NesT learns; WRN does better at a higher one, "
         "so this ranks nothing (D19)", *notes],
    )  # fmt: skip


def plot_table1(here: Record | None, committed: Sequence[Record]) -> Figure:
    """Inference speed relative to NesT-T: the paper's GPU beside the machine that measured."""
    sns.set_theme(style="whitegrid", font_scale=0.9)
    candidates = [record for record in [*committed, here] if record and not is_smoke(record)]
    record = next((r for r in candidates if _forward(r, "NesT-T")), None)
    names = list(PRINTED)[::-1]
    figure, axes = plt.subplots(figsize=(7, 4.6))
    base = PRINTED["NesT-T"].images_per_second
    for y, name in enumerate(names):
        color = GROUP_COLORS[PRINTED[name].group]
        paper = PRINTED[name].images_per_second / base
        axes.plot(paper, y, "o", mfc="white", mec=color, ms=8, mew=1.8)
        if record is not None and _forward(record, name):
            ours = _forward(record, name) / _forward(record, "NesT-T")
            axes.plot([paper, ours], [y, y], "-", color=color, lw=1, alpha=0.6)
            axes.plot(ours, y, "D", color=color, ms=6)
    axes.set(xscale="log", xlabel="inference images/s, relative to NesT-T (log scale)")
    axes.set_yticks(range(len(names)), names)
    axes.axvline(1, color="0.5", lw=0.8)
    axes.set_xticks(SPEED_RATIOS, [f"{ratio:g}x" for ratio in SPEED_RATIOS])
    axes.xaxis.set_minor_locator(NullLocator())
    machine = "not measured yet" if record is None else record.environment["device"]
    _legend(axes, machine)
    figure.tight_layout()
    return figure


def _legend(axes, machine: str) -> None:
    paper = {"marker": "o", "mfc": "white", "mec": "0.3", "mew": 1.8}
    marks = [
        Line2D([], [], ls="", **paper, label="paper (a GPU, not named)"),
        Line2D([], [], ls="", marker="D", color="0.3", label=f"measured ({machine})"),
        *(Line2D([], [], ls="", marker="s", color=c, label=g) for g, c in GROUP_COLORS.items()),
    ]
    axes.legend(
        handles=marks, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, frameon=False
    )
