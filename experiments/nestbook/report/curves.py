"""Training curves of all committed records: one panel per metric and data set."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nestbook.report.pictures import BLUE, VERMILION, Picture, drawing_style
from nestlib.records import Record, Store

# {what an epoch holds: (label, unit, digits)}
METRICS = {
    "test/top1": ("test top-1", " (%)", 2),
    "test/loss": ("test loss", "", 3),
    "train/loss": ("training loss", "", 3),
    "loss/generator": ("generator's loss", "", 3),
    "loss/discriminator": ("discriminator's loss", "", 3),
}
# By the name of a recipe's model; dashes tell them apart where colour does not.
STYLES = {
    "NesT and its decoder": {"color": BLUE, "ls": "-"},
    "others": {"color": VERMILION, "ls": (0, (4, 2))},
}
_COLUMNS = 4


def find_trained(store: Store) -> list[Record]:
    """Committed records that have a curve.

    Raises:
        ValueError: there is none.
    """
    found = [record for record in store.all_committed() if _metrics_of(record)]
    if not found:
        raise ValueError("no record has epochs; run `nest train` and commit one")
    return found


def plot_curves(records: Sequence[Record]) -> Picture:
    """One thin line per run; its tooltip names the record and the last value."""
    panels: dict[tuple[str, str], list[Record]] = {}
    for key in METRICS:
        for record in records:
            if key in _metrics_of(record):
                panels.setdefault((key, _dataset_of(record)), []).append(record)
    rows = math.ceil(len(panels) / _COLUMNS)
    tooltips: dict[str, str] = {}
    with drawing_style():
        figure = Figure(figsize=(7.4, 1.7 * rows + 0.3), layout="constrained")
        grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
        for number, ((key, dataset), shown) in enumerate(panels.items()):
            tooltips |= _draw_panel(grid[number], key, dataset, shown, f"panel{number}")
        for axes in grid[len(panels) :]:
            axes.remove()
        handles = [Line2D([], [], label=name, **style) for name, style in STYLES.items()]
        figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False)
    counts = ", ".join(
        f"{METRICS[key][0]} on {dataset}: {len(shown)}" for (key, dataset), shown in panels.items()
    )
    description = f"Training curves of {len(records)} records, one line per run. Lines of {counts}."
    return Picture(figure, "curves", description, tooltips)


def _draw_panel(
    axes: Axes, key: str, dataset: str, records: Sequence[Record], prefix: str
) -> dict[str, str]:
    """Draw one metric of runs on one data set; the tooltips by gid."""
    label, unit, digits = METRICS[key]
    tooltips = {}
    for number, record in enumerate(records):
        steps, values = curve_of(record, key)
        gid, step = f"{prefix}-{number}", _step_of(record)
        axes.plot(steps, values, lw=0.7, alpha=0.6, gid=gid, **STYLES[family_of(record)])
        last = f"{values[-1]:.{digits}f} at {step} {steps[-1]}"
        tooltips[gid] = f"{record.run_id}\n{label}{unit}: {last}"
    axes.set_title(dataset, loc="left")
    axes.set(xlabel=_step_of(records[0]), ylabel=f"{label}{unit}")
    return tooltips


def curve_of(record: Record, key: str) -> tuple[list[int], list[float]]:
    """Epochs or steps that hold a metric, and its values."""
    held = [epoch for epoch in record.epochs if key in epoch]
    return [epoch[_step_of(record)] for epoch in held], [epoch[key] for epoch in held]


def family_of(record: Record) -> str:
    """One of STYLES: nest_narrow_depth2 is a NesT."""
    model = record.recipe["name"].partition("/")[2]
    nest, others = STYLES
    return nest if model.startswith(("nest", "gan_nest")) else others


def _metrics_of(record: Record) -> list[str]:
    return [key for key in METRICS if any(key in epoch for epoch in record.epochs)]


def _step_of(record: Record) -> str:
    return "step" if "step" in record.epochs[0] else "epoch"


def _dataset_of(record: Record) -> str:
    return record.recipe["name"].partition("/")[0]
