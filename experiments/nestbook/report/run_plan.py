"""What one GPU has still to measure, and how much of the paper has a record."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby

from nestbook.report.tables import NOT_RUN, Number, Table
from nestbook.run_plan.entries import (
    ASSUMED_TFLOPS,
    BENCH_MINUTES,
    HEADLINE,
    SCHEDULES,
    TRAIN_MINUTES,
    Entry,
)
from nestlib.records import Record, Store

ASSUMED = f"assumed, not measured: {ASSUMED_TFLOPS} TFLOP/s in bf16, {BENCH_MINUTES} min a bench"


def items_table(
    entries: Sequence[Entry], store: Store, left_out: Sequence[Entry] = ()
) -> Table:  # fmt: skip
    """The plan by item: what it decides, how many runs have a GPU's record, the minutes left.

    left_out: what a note counts as too long for the plan.
    """
    rows = []
    for item, runs in groupby(entries, key=lambda entry: entry.item):
        runs = list(runs)
        missing = [entry for entry in runs if not entry.find(store)]
        rows.append((
            str(item), runs[0].title, runs[0].decides, f"nest evidence --run --only {item}",
            f"{len(runs) - len(missing)} of {len(runs)}",
            Number(sum(entry.minutes for entry in missing), ASSUMED, 0),
        ))  # fmt: skip
    return Table(
        "The plan by item",
        ("Item", "What for", "What it decides", "Command", "With a GPU's record",
         "Expected minutes left"),
        rows,
        [f"Expected minutes are {ASSUMED}", *_describe_left_out(left_out)],
    )  # fmt: skip


def plan_table(entries: Sequence[Entry], store: Store) -> Table:
    """Every run of the plan in its order: its command, and its record once there is one."""
    rows = []
    for entry in entries:
        record = entry.find(store)
        rows.append((
            str(entry.item), entry.command, Number(entry.minutes, ASSUMED, 1), entry.decides,
            f"{record.run_id} ({record.environment['device']})" if record else NOT_RUN,
        ))  # fmt: skip
    return Table(
        "The plan of one GPU's runs, in order",
        ("Item", "Command", "Expected minutes", "What it decides", "Record"),
        rows,
        [f"Expected minutes are {ASSUMED}; multiply-adds of the recipe, twice, over that rate",
         "A record's id holds its recipe's name, seed and a hash of its settings"],
    )  # fmt: skip


def _describe_left_out(entries: Sequence[Entry]) -> list[str]:
    """A note that counts them by item and recipe; none where there are none."""
    if not entries:
        return []
    counts = Counter((entry.item, entry.recipe.name) for entry in entries)
    listed = ", ".join(f"{count} of {name} (item {item})" for (item, name), count in counts.items())
    epochs, steps = SCHEDULES["epochs"][-1], SCHEDULES["steps"][-1]
    return [
        f"{len(entries)} runs are left out, as they take more than {TRAIN_MINUTES} expected "
        f"minutes even at {epochs} epochs (generators: {steps:,} steps): {listed}",
        f"{HEADLINE} alone keeps its whole schedule, whatever it takes",
    ]


def coverage_table(found: Mapping[str, Mapping[object, Sequence[Record]]]) -> Table:
    """Of each table's rows or figure's bars as the paper has them, how many have a record here.

    found: {figure: {row: its records at budget paper}}.
    """
    rows = [
        (figure, str(len(bars)), str(sum(bool(records) for records in bars.values())))
        for figure, bars in found.items()
    ]
    return Table(
        "How much of the paper has a record of its own data and schedule",
        ("Table or figure", "Rows or bars in the paper", "With a record"),
        rows,
        ["Quick runs on digits and shorter runs of one GPU are not counted"],
    )
