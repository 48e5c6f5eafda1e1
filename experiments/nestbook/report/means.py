"""Means over the runs of one recipe, and what stands behind them."""

from collections.abc import Iterable, Sequence

from nestbook.report.tables import NOT_RUN, Cell, mean_of
from nestlib.records import Record


def mean_top1(records: Sequence[Record], digits: int = 2) -> Cell:
    """Mean accuracy (%) of runs of one recipe on the test images; "not run yet" of none."""
    values = [record.summary["test/top1"] for record in records]
    return mean_of(values, join_ids(records), digits) if records else NOT_RUN


def join_ids(records: Iterable[Record]) -> str:
    """The source of a number that stands for several records."""
    return ", ".join(record.run_id for record in records)


def join_devices(records: Iterable[Record]) -> str:
    """What the records were made on."""
    return " and ".join(sorted({record.environment["device"] for record in records}))


def describe_runs(name: str, records: Sequence[Record]) -> str:
    """n, devices and record ids behind a mean."""
    return f"{name}: n = {len(records)}, {join_devices(records)}, records {join_ids(records)}"
