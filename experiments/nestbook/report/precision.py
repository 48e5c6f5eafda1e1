"""Does bf16 learn as well as fp32: the runs of `nest sweep precision`, pair by pair."""

from collections.abc import Iterable
from pathlib import Path

from nestbook.claims.verdict import mean_half_width
from nestbook.report.tables import NOT_RUN, Cell, Number, Table, mean_of
from nestbook.sweeps.plans import plan
from nestbook.sweeps.runner import load_plan
from nestlib.precision import PRECISIONS
from nestlib.records import Record, Store


def precision_table(
    store: Store, seeds: Iterable[int] = (0, 1, 2), data_dir: Path | None = None
) -> Table:
    """A row a recipe: top-1 in both precisions, and their difference by pairs of one seed."""
    runs = plan("precision", "quick", list(seeds))
    records = load_plan(runs, store, data_dir)
    rows = [_row(name, records) for name in dict.fromkeys(name for name, _ in runs)]
    return Table(
        "Top-1 (%) of runs that differ in precision alone",
        ("Recipe", "Test images", *PRECISIONS, "bf16 - fp32 (points)", "95 % interval holds zero"),
        rows,
        ["Mean ± standard deviation over seeds; the difference is the mean over pairs of one seed, "
         "± half of its 95 % interval (Student's t). A pair begins with the same weights and sees "
         "the same batches. Runs of one row may be of different machines and builds, which their "
         "records name",
         "Records: recipe-s<seed>-<hash>, the hash of each precision its own; "
         "nest sweep precision makes them"],
    )  # fmt: skip


def _row(name: str, records: dict[tuple[str, ...], list[Record]]) -> tuple[Cell, ...]:
    by_seed = [
        {record.recipe["seed"]: record for record in records[name, precision]}
        for precision in PRECISIONS
    ]
    images = {r.environment["data"]["test"]["images"] for found in by_seed for r in found.values()}
    shown = " or ".join(f"{n:,}" for n in sorted(images))
    tops = [
        mean_of([_top1(r) for r in found.values()], _ids(found.values()), 2) if found else NOT_RUN
        for found in by_seed
    ]
    fp32, bf16 = by_seed
    pairs = sorted(fp32.keys() & bf16.keys())
    if len(pairs) < 2:
        return (name, shown, *tops, NOT_RUN, "")
    differences = [_top1(bf16[seed]) - _top1(fp32[seed]) for seed in pairs]
    half_width = mean_half_width(differences)
    both = [found[seed] for found in by_seed for seed in pairs]
    mean = sum(differences) / len(pairs)
    difference = Number(mean, _ids(both), 2, len(pairs), half_width)
    return (
        name, shown, *tops, difference,
        "yes" if abs(mean) <= half_width else "no",
    )  # fmt: skip


def _top1(record: Record) -> float:
    return record.summary["test/top1"]


def _ids(records: Iterable[Record]) -> str:
    return ", ".join(record.run_id for record in records)
