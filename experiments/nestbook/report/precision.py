"""Does bf16 learn as well as fp32: the runs of `nest sweep precision`, pair by pair."""

import statistics
from collections.abc import Iterable
from pathlib import Path

from nestbook.claims.verdict import mean_half_width
from nestbook.report.means import find_sources, join_ids, mean_top1
from nestbook.report.tables import NOT_RUN, Cell, Number, Table
from nestbook.sweeps.plans import plan
from nestbook.sweeps.runner import load_plan
from nestlib.precision import PRECISIONS
from nestlib.records import Record, Store


def precision_table(
    store: Store, seeds: Iterable[int] = (0, 1, 2), data_dir: Path | None = None
) -> Table:
    """One row per recipe: top-1 in both precisions, and their difference by pairs of one seed."""
    runs = plan("precision", "quick", list(seeds))
    records = load_plan(runs, store, data_dir)
    rows = [_row(name, records) for name in dict.fromkeys(name for name, _ in runs)]
    return Table(
        "Top-1 (%) of runs that differ in precision alone",
        ("Recipe", "Test images", *PRECISIONS, "bf16 - fp32 (points)", "95 % interval holds zero"),
        rows,
        ["Mean ± standard deviation over seeds; the difference is the mean over pairs of one seed, "
         "± half of its 95 % interval (Student's t). Runs of one row may be of different machines "
         "and builds"],
        find_sources(record for found in records.values() for record in found),
    )  # fmt: skip


def _row(name: str, records: dict[tuple[str, ...], list[Record]]) -> tuple[Cell, ...]:
    found = [records[name, precision] for precision in PRECISIONS]
    images = {r.environment["data"]["test"]["images"] for runs in found for r in runs}
    shown = " or ".join(f"{n:,}" for n in sorted(images))
    row = (name, shown, *map(mean_top1, found))
    fp32, bf16 = ({record.recipe["seed"]: record for record in runs} for runs in found)
    pairs = [(fp32[seed], bf16[seed]) for seed in sorted(fp32.keys() & bf16.keys())]
    if len(pairs) < 2:
        return (*row, NOT_RUN, "")
    differences = [b.summary["test/top1"] - a.summary["test/top1"] for a, b in pairs]
    mean, half_width = statistics.fmean(differences), mean_half_width(differences)
    source = join_ids(record for runs in zip(*pairs) for record in runs)
    difference = Number(mean, source, 2, len(pairs), half_width)
    return (*row, difference, "yes" if abs(mean) <= half_width else "no")
