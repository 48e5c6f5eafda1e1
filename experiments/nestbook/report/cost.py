"""What models cost, in the paper and where we measured: parameters, GFLOPs, memory, speed."""

from collections.abc import Iterable, Sequence

from nestbook import paper
from nestbook.report.means import short_device
from nestbook.report.tables import (
    HERE,
    NOT_RUN,
    PAPER,
    Cell,
    Number,
    Sources,
    Table,
    median_of,
    median_ratio,
)
from nestlib.records import Record

PRINTED = {"table1": paper.TABLE1, "table2": paper.TABLE2}
TITLES = {"table1": "Table 1", "table2": "Table 2"}
ANCHOR = "NesT-T"  # speeds of two machines compare as ratios to this row only


def cost_tables(table: str, here: Record | None, committed: Sequence[Record]) -> list[Table]:
    """A table per machine and precision: this machine's run first, then a GPU's, then the rest.

    Of several runs of one machine and precision the one that timed most rows stands.
    """
    by_machine: dict[str, list[Record]] = {}
    for record in results(here, committed):
        by_machine.setdefault(describe_machine(record), []).append(record)
    best = [run for run in (best_run(None, same) for same in by_machine.values()) if run]
    best.sort(key=lambda run: (run is not here, not _is_gpu(run)))
    return [cost_table(table, run, here) for run in best]


def cost_table(table: str, record: Record, here: Record | None = None) -> Table:
    """What one run measured of a table's rows, speeds also relative to NesT-T's, as in the paper.

    A row that the run left out has no line; one that failed has its reason.
    """
    source = source_of(record, here)
    base = PRINTED[table][ANCHOR].images_per_second
    rows = [
        (name, *_measured_cells(record, name, source, printed.images_per_second / base))
        for name, printed in PRINTED[table].items() if name in record.summary
    ]  # fmt: skip
    machine = f"{short_device(record.environment['device'])}, {record.recipe['precision']}"
    where = f"{HERE} ({machine})" if record is here else machine
    return Table(
        f"{TITLES[table]}, cost on {where}",
        ("Method", "Params (M)", "GFLOPs", "Memory (MB)", "Images/s", f"x {ANCHOR}",
         f"x {ANCHOR}, paper", "Training images/s", f"x {ANCHOR}, training"),
        rows,
        [f"Images/s: inference, with half the range of the rounds. x {ANCHOR}: relative to "
         f"{ANCHOR}, the median of the rounds' own ratios; the paper's is of a single GPU that its "
         "table does not name"],
        find_bench_sources([record], here),
    )  # fmt: skip


def say_bench(here: Record | None, committed: Sequence[Record]) -> str:
    """A chip's text: on what costs were measured, by the run that pictures are drawn from."""
    record = best_run(here, committed)
    if record is None:
        return ""
    device = short_device(record.environment["device"])
    return f"cost: measured on {device}, {record.recipe['rounds_done']} rounds"


def _is_gpu(record: Record) -> bool:
    return record.environment["device_kind"] == "cuda"


def find_bench_sources(records: Iterable[Record], here: Record | None = None) -> Sources | None:
    """One line of how many rows were timed, how often and on what; each bench's settings below."""
    timed = [r for r in records if any(images_per_second(r, name) for name in r.summary)]
    if not timed:
        return None
    lines = [
        f"{len(r.summary)} rows timed in turn, {r.recipe['rounds_done']} rounds, on "
        f"{short_device(r.environment['device'])} ({r.recipe['precision']})" for r in timed
    ]  # fmt: skip
    details = tuple(describe_bench(source_of(r, here), r) for r in timed)
    return Sources("; ".join(dict.fromkeys(lines)), details)


def relative_speed(record: Record, name: str, mode: str) -> Number | None:
    """A row's speed over NesT-T's: median and half range of the rounds' own ratios."""
    ours, base = (rounds_of(record, row, mode) for row in (name, ANCHOR))
    return median_ratio(ours, base, record.run_id)


def rounds_of(record: Record, name: str, mode: str) -> list[float]:
    """Every round's images/s of a row; [] where it was not or could not be timed."""
    row = record.summary.get(name, {})
    return row.get("images_per_second", {}).get(mode, {}).get("rounds", [])


def source_of(record: Record, here: Record | None) -> str:
    return HERE if record is here else record.run_id


def describe_machine(record: Record) -> str:
    return f"{record.environment['device']}, {record.recipe['precision']}"


def results(here: Record | None, committed: Sequence[Record]) -> list[Record]:
    """Benches that may be shown, this machine's own first; a record is listed once."""
    found: dict[str, Record] = {}
    for record in (here, *committed):
        if record is not None and not is_smoke(record):
            found.setdefault(record.run_id, record)
    return list(found.values())


def best_run(here: Record | None, committed: Sequence[Record]) -> Record | None:
    """The one run to draw speeds from: a GPU's if there is one, then the one with most rows."""
    runs = [r for r in results(here, committed) if images_per_second(r, ANCHOR)]

    def merit(record: Record) -> tuple[bool, int]:
        timed = sum(images_per_second(record, name) is not None for name in record.summary)
        return _is_gpu(record), timed

    return max(runs, key=merit, default=None)


def images_per_second(record: Record, name: str) -> float | None:
    """Median images/s of a row's forward pass, None where it was not or could not be measured."""
    row = record.summary.get(name, {})
    return row.get("images_per_second", {}).get("forward", {}).get("median")


def _measured_cells(record: Record, name: str, source: str, printed_ratio: float) -> list[Cell]:
    """Parameters, GFLOPs, memory, both speeds and their ratios; the reason where a row failed."""
    row, there = record.summary[name], Number(printed_ratio, PAPER, 2)
    missing = row.get("error", NOT_RUN)
    if "params" not in row:
        return [missing, "", "", "", "", there, "", ""]
    sizes = [Number(row["params"] / 1e6, source, 2), Number(row["gflops"], source, 2)]
    if not images_per_second(record, name):
        return [*sizes, "", missing, "", there, "", ""]
    forward, training = (
        median_of(rounds_of(record, name, mode), source) or missing for mode in ("forward", "train")
    )
    return [
        *sizes, Number(row["memory_mb"], source, 0),
        forward, relative_speed(record, name, "forward") or "", there,
        training, relative_speed(record, name, "train") or "",
    ]  # fmt: skip


def describe_bench(source: str, record: Record) -> str:
    """One line on how a bench was made."""
    settings = record.recipe
    row = next(row for name, row in record.summary.items() if images_per_second(record, name))
    named = "" if source == record.run_id else f"record {record.run_id}, "
    return (
        f"{source}: {record.environment['device']}, {settings['threads']} threads, "
        f"{settings['precision']}, batch {row['batch_size']}, warm-up {settings['warmup']} steps, "
        f"torch {settings['torch']}, median ± half range of {settings['rounds_done']} rounds in "
        f"turn, memory = {row['memory_kind']} of a forward pass, GFLOPs: multiply-adds, "
        f"{say_flop_counter(settings['flop_counter'])}; {named}"
        f"{record.environment['finished'][:10]}"
    )


def say_flop_counter(counter: str) -> str:
    """A record's "COUNTER / 2, attention unfused" in words."""
    name, half, more = counter.partition(" / 2")
    return f"half of what {name} counts{more}" if half else f"by {name}"


def is_smoke(record: Record) -> bool:
    """A smoke run checks the path; what it measured is never shown as a result."""
    return record.recipe.get("budget") == "smoke"
