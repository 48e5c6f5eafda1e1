"""Table 1: the paper's figures, our records, and what this machine measured."""

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
    rows, sources = [], []
    for name, printed in PRINTED.items():
        record_cell, ids = _record_cell(name, store)
        sources += ids
        mark = "?" if printed.unsure else ""
        rows.append((
            name, printed.group,
            Number(printed.cifar10, PAPER, 2, mark=mark), record_cell,
            Number(printed.cifar100, PAPER, 2, mark=mark),
            NOT_RUN if TABLE1[name].recipe else NO_MODEL,
        ))  # fmt: skip
    return Table(
        "Table 1, accuracy: top-1 on CIFAR test sets (%), 300 epochs from random initialisation",
        ("Method", "Architecture", "C10, paper", "C10, our record", "C100, paper",
         "C100, our record"),
        rows,
        ["Paper: one run each; ? = training tends to diverge. Ours: mean ± standard deviation of n "
         "runs of the last epoch, not the best on test",
         *(sources or ["No record of a 300-epoch run yet"])],
    )  # fmt: skip


def _record_cell(name: str, store: Store) -> tuple[Cell, list[str]]:
    recipe = TABLE1[name].recipe
    if recipe is None:
        return NO_MODEL, []
    records = store.find_seeds(get_recipe(recipe))
    if not records:
        return NOT_RUN, []
    number = mean_of([r.summary["test/top1"] for r in records], records[0].run_id, 2)
    ids = ", ".join(r.run_id for r in records)
    return number, [f"{name}: n = {number.n}, {records[0].environment['device']}, records {ids}"]


def table1_real(store: Store, names: Sequence[str]) -> Table:
    """Real CIFAR-10, but not the paper's schedule: recipes of ours, each a row of its own."""
    rows = []
    for name in names:
        recipe = get_recipe(name)
        records = store.find_seeds(recipe)
        if not records:
            rows.append((name, NOT_RUN, "", "", "", "", ""))
            continue
        first = records[0]
        top1 = mean_of([r.summary["test/top1"] for r in records], first.run_id, 2)
        rows.append((
            name, top1, str(top1.n), Number(first.summary["num_params"] / 1e6, first.run_id, 2),
            str(recipe.epochs), Number(first.summary["train_seconds"] / 60, first.run_id, 0),
            f"{first.environment['device']}, {first.environment['threads']} thread(s)",
        ))  # fmt: skip
    ids = [r.run_id for name in names for r in store.find_seeds(get_recipe(name))]
    return Table(
        "Real CIFAR-10, outside the paper's table: our narrow models on small machines",
        ("Recipe", "C10 top-1 (%)", "n", "Params (M)", "Epochs", "Minutes", "Device"),
        rows,
        [f"Records: {', '.join(ids)}" if ids else "No record yet",
         "Whole test set (10,000 images), last epoch; sampling half-width of one such score at "
         "95 %: about 0.9 points near 75 %"],
    )  # fmt: skip


def table1_cost(here: Record | None, committed: Sequence[Record]) -> Table:
    """Parameters, multiply-adds, memory and speed: the paper's beside what machines measured."""
    rows = []
    used: dict[str, Record] = {}
    for name, printed in PRINTED.items():
        record = next((r for r in [here, *committed] if r and _measured(r, name)), None)
        cells: list[Cell] = [NO_MODEL if TABLE1[name].recipe is None else NOT_RUN] + [""] * 5
        if record is not None:
            source = HERE if record is here else record.run_id
            used[source] = record
            cells = _cost_cells(record, name, source)
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


def _measured(record: Record, name: str) -> bool:
    row = record.summary.get(name, {})
    return not is_smoke(record) and "forward" in row.get("images_per_second", {})


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
    measured = row["images_per_second"].get(mode)
    if measured is None:
        return row.get("error", NOT_RUN)
    rounds = measured["rounds"]
    spread = (max(rounds) - min(rounds)) / 2
    return Number(measured["median"], source, 1, len(rounds), spread)


def _is_gpu(record: Record) -> bool:
    return record.environment["device_kind"] == "cuda"


def describe_bench(source: str, record: Record) -> str:
    """One line on how a bench was made."""
    settings, row = record.recipe, next(iter(record.summary.values()))
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
    for name, found in records.items():
        done = [record for record in found if not is_smoke(record)]
        recipe = get_recipe(TABLE1[name].quick)
        if not done:
            rows.append((name, recipe.name, NOT_RUN, "", "", ""))
            continue
        seconds = sum(r.summary["train_seconds"] for r in done) / len(done)
        top1 = mean_of([r.summary["test/top1"] for r in done], HERE)
        rows.append((
            name, recipe.name, top1, str(top1.n),
            Number(done[0].summary["num_params"] / 1e6, HERE, 2), Number(seconds, HERE, 0),
        ))  # fmt: skip
        notes.append(f"{recipe.name}: records {', '.join(r.run_id for r in done)}")
    return Table(
        "Quick: narrow relatives after a short training on the embedded digits "
        "(chance 10 %; not the paper's data, not its models)",
        ("Row", "Recipe", "Digits top-1 (%)", "n", "Params (M)", "Seconds a run"),
        rows,
        ["Mean ± standard deviation over seeds, this machine; the same images, epochs and learning "
         "rate for all, so it ranks nothing but a short run (D19)", *notes],
    )  # fmt: skip


def plot_table1(here: Record | None, committed: Sequence[Record]) -> Figure:
    """Inference speed relative to NesT-T: the paper's GPU beside the machine that measured."""
    sns.set_theme(style="whitegrid", font_scale=0.9)
    record = next((r for r in [*committed, here] if r and _measured(r, "NesT-T")), None)
    names = list(PRINTED)[::-1]
    figure, axes = plt.subplots(figsize=(7, 4.6))
    base = PRINTED["NesT-T"].images_per_second
    for y, name in enumerate(names):
        color = GROUP_COLORS[PRINTED[name].group]
        paper = PRINTED[name].images_per_second / base
        axes.plot(paper, y, "o", mfc="white", mec=color, ms=8, mew=1.8)
        if record is not None and _measured(record, name):
            ours = _median(record, name) / _median(record, "NesT-T")
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


def _median(record: Record, name: str) -> float:
    return record.summary[name]["images_per_second"]["forward"]["median"]


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
