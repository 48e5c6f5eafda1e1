"""What one GPU has still to measure, and how much of the paper has a record."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from nestbook.report.tables import NOT_RUN, Number, Table
from nestbook.run_plan.entries import ASSUMED_TFLOPS, BENCH_MINUTES, Entry
from nestlib.records import Record, Store

ASSUMED = f"assumed, not measured: {ASSUMED_TFLOPS} TFLOP/s in bf16, {BENCH_MINUTES} min a bench"


def plan_table(entries: Sequence[Entry], store: Store) -> Table:
    """Every run of the plan in its order: expected minutes, and its record once there is one."""
    rows = []
    for entry in entries:
        record = entry.find(store)
        rows.append((
            str(entry.item), entry.name, Number(entry.minutes, ASSUMED, 1),
            f"{record.run_id} ({record.environment['device']})" if record else NOT_RUN,
        ))  # fmt: skip
    return Table(
        "The plan of one GPU's runs, in order",
        ("Item", "Run", "Expected minutes", "Record"),
        rows,
        [f"Expected minutes are {ASSUMED}; multiply-adds of the recipe, twice, over that rate",
         "A run's id holds its recipe's name, seed and a hash of its settings"],
    )  # fmt: skip


def items_table(entries: Sequence[Entry], store: Store) -> Table:
    """The same by item: how many runs, how many have a GPU's record, the minutes left."""
    rows = []
    for (item, title), runs in groupby(entries, key=lambda entry: (entry.item, entry.title)):
        runs = list(runs)
        missing = [entry for entry in runs if not entry.find(store)]
        rows.append((
            str(item), title, f"nest evidence --run --only {item}",
            f"{len(runs) - len(missing)} of {len(runs)}",
            Number(sum(entry.minutes for entry in missing), ASSUMED, 0),
        ))  # fmt: skip
    return Table(
        "The plan by item",
        ("Item", "What for", "Command", "With a GPU's record", "Expected minutes left"),
        rows,
        [f"Expected minutes are {ASSUMED}"],
    )  # fmt: skip


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
