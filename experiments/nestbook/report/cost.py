"""What models cost, in the paper and where we measured: parameters, GFLOPs, memory, speed."""

from collections.abc import Mapping, Sequence

from nestbook import paper
from nestbook.report.tables import (
    HERE,
    NOT_RUN,
    PAPER,
    Cell,
    Number,
    Table,
    median_of,
    median_ratio,
)
from nestlib.records import Record

PRINTED = {"table1": paper.TABLE1, "table2": paper.TABLE2}
TITLES = {"table1": "Table 1", "table2": "Table 2"}
ANCHOR = "NesT-T"  # speeds of two machines compare as ratios to this row only


def cost_table(table: str, here: Record | None, committed: Sequence[Record]) -> Table:
    """The paper's costs beside measured ones: of this machine's run where it timed a row, else of
    the one committed run that timed most."""
    runs = [run for run in (here, best_run(None, committed)) if run and not is_smoke(run)]
    rows, used = [], {}
    for name, printed in PRINTED[table].items():
        timed = next((run for run in runs if images_per_second(run, name)), None)
        if timed is not None:
            used[timed.run_id] = timed
        counted = timed or next((run for run in runs if name in run.summary), None)
        cells = _measured_cells(counted, name, here) if counted else [NOT_RUN, *[""] * 5]
        rows.append((name, *_beside_the_paper(table, printed, cells)))
    columns = {
        "table1": ("Params (M), paper", "measured", "GFLOPs, measured", "Memory (MB), paper",
                   "measured"),
        "table2": ("Params (M), paper", "measured", "GFLOPs, paper", "measured",
                   "Memory (MB), measured"),
    }  # fmt: skip
    sizes = {"table1": "32x32", "table2": "each row's own input size"}
    return Table(
        f"{TITLES[table]}, cost at {sizes[table]}",
        ("Method", *columns[table], "Images/s, paper", "measured", "Training images/s",
         "Measured on"),
        rows,
        ["Paper: inference on a single GPU, which its table does not name",
         *(describe_bench(source_of(run, here), run) for run in used.values())],
    )  # fmt: skip


def _beside_the_paper(table: str, printed, cells: list[Cell]) -> tuple[Cell, ...]:
    params, gflops, memory, *speeds = cells
    images = Number(printed.images_per_second, PAPER, 1)
    if table == "table1":
        memory_there = Number(printed.gpu_memory_mb, PAPER, 0)
        return (Number(printed.params_m, PAPER), params, gflops, memory_there, memory, images,
                *speeds)  # fmt: skip
    gflops_there = Number(printed.gflops, PAPER)
    return (Number(printed.params_m, PAPER, 0), params, gflops_there, gflops, memory, images,
            *speeds)  # fmt: skip


def speed_table(table: str, here: Record | None, committed: Sequence[Record]) -> Table:
    """Speed relative to NesT-T: the paper's GPU beside every machine and precision that has a run.

    Of several runs of one machine and precision the one that timed most rows stands.
    """
    by_machine: dict[str, list[Record]] = {}
    for record in committed:
        by_machine.setdefault(describe_machine(record), []).append(record)
    records = [run for run in (best_run(None, same) for same in by_machine.values()) if run]
    if best_run(here, ()) and here.run_id not in {record.run_id for record in records}:
        records.insert(0, here)
    modes = [(r, mode) for r in records for mode in ("forward", "train")]
    rows = []
    for name, printed in PRINTED[table].items():
        base = PRINTED[table][ANCHOR].images_per_second
        cells = [_ratio(record, name, mode) for record, mode in modes]
        rows.append((name, Number(printed.images_per_second / base, PAPER, 2), *cells))
    columns = [
        f"{HERE if r is here else describe_machine(r)}, "
        f"{'inference' if mode == 'forward' else 'training'}"
        for r, mode in modes
    ]
    return Table(
        f"Images/s relative to {ANCHOR}, rows of one column timed in one run",
        ("Method", "Paper, inference", *columns),
        rows,
        [describe_bench(source_of(record, here), record) for record in records]
        or [f"Nothing measured yet: nest bench {table}"],
    )


def _ratio(record: Record, name: str, mode: str) -> Cell:
    """A row's speed over NesT-T's: median and half range of the rounds' own ratios."""
    ours, base = (rounds_of(record, row, mode) for row in (name, ANCHOR))
    ratio = median_ratio(ours, base, record.run_id)
    return ratio or record.summary.get(name, {}).get("error", NOT_RUN)


def rounds_of(record: Record, name: str, mode: str) -> list[float]:
    """Every round's images/s of a row; [] where it was not or could not be timed."""
    row = record.summary.get(name, {})
    return row.get("images_per_second", {}).get(mode, {}).get("rounds", [])


def source_of(record: Record, here: Record | None) -> str:
    return HERE if record is here else record.run_id


def describe_machine(record: Record) -> str:
    return f"{record.environment['device']}, {record.recipe['precision']}"


def describe_settings(settings: Mapping, source: str) -> str:
    """What a profile was measured with, to go on with a comma."""
    return (
        f"{source}: {settings['device']}, {settings['threads']} threads, {settings['precision']}, "
        f"torch {settings['torch']}"
    )


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
        return record.environment["device_kind"] == "cuda", timed

    return max(runs, key=merit, default=None)


def images_per_second(record: Record, name: str) -> float | None:
    """Median images/s of a row's forward pass, None where it was not or could not be measured."""
    row = record.summary.get(name, {})
    return row.get("images_per_second", {}).get("forward", {}).get("median")


def _measured_cells(record: Record, name: str, here: Record | None) -> list[Cell]:
    """Parameters, GFLOPs, memory, both speeds and on what; the reason where a row has none."""
    row, source = record.summary[name], source_of(record, here)
    missing = row.get("error", NOT_RUN)
    if "params" not in row:
        return [missing, *[""] * 5]
    sizes = [Number(row["params"] / 1e6, source, 2), Number(row["gflops"], source, 2)]
    if not images_per_second(record, name):
        return [*sizes, "", missing, "", ""]
    rounds = [rounds_of(record, name, mode) for mode in ("forward", "train")]
    return [
        *sizes, Number(row["memory_mb"], source, 0),
        *(median_of(values, source) or missing for values in rounds),
        HERE if source == HERE else f"record: {describe_machine(record)}",
    ]  # fmt: skip


def describe_bench(source: str, record: Record) -> str:
    """One line on how a bench was made."""
    settings = record.recipe
    row = next(row for name, row in record.summary.items() if images_per_second(record, name))
    return (
        f"{source}: {record.environment['device']}, {settings['threads']} threads, "
        f"{settings['precision']}, batch {row['batch_size']}, warm-up {settings['warmup']} steps, "
        f"torch {settings['torch']}, median ± half range of {settings['rounds_done']} rounds in "
        f"turn, memory = {row['memory_kind']} of a forward pass, GFLOPs = multiply-adds by "
        f"{settings['flop_counter']}; record {record.run_id}, "
        f"{record.environment['finished'][:10]}"
    )


def is_smoke(record: Record) -> bool:
    """A smoke run checks the path; what it measured is no result and is never shown."""
    return record.recipe.get("budget") == "smoke"
