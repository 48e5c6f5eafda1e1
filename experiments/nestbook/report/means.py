"""Means over the runs of one recipe, and what stands behind them."""

import re
from collections.abc import Iterable, Sequence

from nestbook.report.tables import NOT_RUN, Cell, Sources, mean_of
from nestlib.records import Record


def mean_top1(records: Sequence[Record], digits: int = 2) -> Cell:
    """Mean accuracy (%) of runs of one recipe on the test images; "not run yet" of none."""
    values = [record.summary["test/top1"] for record in records]
    return mean_of(values, join_ids(records), digits) if records else NOT_RUN


def join_ids(records: Iterable[Record]) -> str:
    """The source of a number that stands for several records."""
    return ", ".join(record.run_id for record in records)


def short_device(device: str) -> str:
    """Such as "Xeon, 2 cores" of "Intel(R) Xeon(R) Processor, 2 cores"."""
    left_out = r"\((R|TM)\)|\(family [^)]*\)|\b(Intel|AMD|NVIDIA|Processor|CPU)\b"
    return re.sub(r"\s+(,|$)", r"\1", " ".join(re.sub(left_out, " ", device).split()))


def join_devices(records: Iterable[Record]) -> str:
    """What the records were made on, by short names."""
    return " and ".join(sorted({short_device(r.environment["device"]) for r in records}))


def find_sources(records: Iterable[Record], what: str = "run") -> Sources | None:
    """One line of how many records there are, on which hardware; their ids below it.

    what: one of them, such as "run" or "bench".
    """
    found = {record.run_id: record for record in records}
    if not found:
        return None
    counts = [r.environment.get("data", {}).get("test", {}).get("images") for r in found.values()]
    images = " or ".join(f"{count:,}" for count in sorted({*filter(None, counts)}))
    by_device: dict[str, list[str]] = {}
    for record in found.values():
        by_device.setdefault(record.environment["device"], []).append(record.run_id)
    number = f"{len(found)} {what}{'s' * (len(found) > 1)}"
    tested = f", {images} test images" if images else ""
    return Sources(
        f"{number} on {join_devices(found.values())}{tested}",
        tuple(f"{device}: {', '.join(ids)}" for device, ids in by_device.items()),
    )


def describe_runs(name: str, records: Sequence[Record]) -> str:
    """n, devices and record ids behind a mean."""
    return f"{name}: n = {len(records)}, {join_devices(records)}, records {join_ids(records)}"
