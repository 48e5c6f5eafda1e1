"""Figure 7, right: parameters and speed of the three generators."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from nestbook.paper import FIGURE7_THROUGHPUT_RATIO
from nestbook.recipes.rows import FIGURE7_GENERATORS
from nestbook.report.cost import (
    describe_bench,
    describe_machine,
    images_per_second,
    results,
    rounds_of,
    source_of,
)
from nestbook.report.tables import NOT_RUN, PAPER, Cell, Number, Table, median_of, median_ratio
from nestlib.records import Record

BASE = "TransGAN"  # what the paper's ratio is over
# Okabe and Ito's, in the order of a panel's rows.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")


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


def draw_cost(axes: Axes, run: Record | None) -> dict[str, str]:
    """Images a second against parameters; returns the tooltips."""
    axes.set_title("cost at 64x64", loc="left")
    kind = {"cpu": ", a CPU", "cuda": ", a GPU"}[run.environment["device_kind"]] if run else ""
    axes.set(xlabel="parameters (M)", ylabel=f"images a second{kind}")
    shown = [n for n in FIGURE7_GENERATORS if run and images_per_second(run, n)]
    if not shown:
        say_missing(axes, list(FIGURE7_GENERATORS), 0)
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


def say_missing(axes: Axes, missing: Sequence[str], drawn: int) -> None:
    """Name what is not drawn; in the middle if nothing is."""
    if drawn:
        axes.legend(frameon=False)
    if missing:
        place = (0.5, 0.5) if not drawn else (0.98, 0.72)
        axes.text(
            *place, f"{NOT_RUN}:\n" + "\n".join(missing), transform=axes.transAxes, fontsize=6.5,
            ha="right" if drawn else "center", va="top" if drawn else "center", color="0.35",
        )  # fmt: skip
