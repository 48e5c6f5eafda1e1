"""What models cost, in the paper and where we measured: parameters, GFLOPs, memory, speed."""

from collections.abc import Mapping, Sequence

from nestlib import paper
from nestlib.records import Record
from nestlib.report.tables import HERE, NOT_RUN, PAPER, Cell, Number, Table

PRINTED = {"table1": paper.TABLE1, "table2": paper.TABLE2}
TITLES = {"table1": "Table 1", "table2": "Table 2"}
ANCHOR = "NesT-T"  # speeds of two machines compare as ratios to this row only


def cost_table(table: str, here: Record | None, committed: Sequence[Record]) -> Table:
    """The paper's costs beside measured ones; a row comes from `here` if it holds it."""
    rows, used = [], {}
    for name, printed in PRINTED[table].items():
        record = find_measured(name, here, committed)
        if record is not None:
            source = HERE if record is here else record.run_id
            used[source] = record
            cells = _measured_cells(record, name, source)
        else:
            cells = [why_not(name, here, committed), *[""] * 5]
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
         *(describe_bench(source, record) for source, record in used.items())],
    )  # fmt: skip


def _beside_the_paper(table: str, printed, cells: list[Cell]) -> tuple[Cell, ...]:
    params, gflops, memory, *speeds = cells
    images = Number(printed.images_per_second, PAPER, 1)
    if table == "table1":
        sizes = (Number(printed.params_m, PAPER), params, gflops,
                 Number(printed.gpu_memory_mb, PAPER, 0), memory)  # fmt: skip
    else:
        sizes = (Number(printed.params_m, PAPER, 0), params,
                 Number(printed.gflops, PAPER), gflops, memory)  # fmt: skip
    return (*sizes, images, *speeds)


def speed_table(table: str, here: Record | None, committed: Sequence[Record]) -> Table:
    """Speed relative to NesT-T: the paper's GPU beside every machine that timed NesT-T."""
    records = [r for r in results(here, committed) if images_per_second(r, ANCHOR)]
    modes = [(r, mode) for r in records for mode in ("forward", "train")]
    rows = []
    for name, printed in PRINTED[table].items():
        base = PRINTED[table][ANCHOR].images_per_second
        cells = [_ratio(record, name, mode) for record, mode in modes]
        rows.append((name, Number(printed.images_per_second / base, PAPER, 2), *cells))
    columns = [f"{_machine(r)}, {'inference' if m == 'forward' else 'training'}" for r, m in modes]
    return Table(
        f"Images/s relative to {ANCHOR}, rows of one column timed in one run",
        ("Method", "Paper, inference", *columns),
        rows,
        [describe_bench(HERE if r is here else r.run_id, r) for r in records]
        or [f"Nothing measured yet: nest bench {table}"],
    )


def _ratio(record: Record, name: str, mode: str) -> Cell:
    """A row's median speed over NesT-T's, with half the range of the rounds' own ratios."""
    if not images_per_second(record, name, mode):
        return record.summary.get(name, {}).get("error", NOT_RUN)
    ours, base = (record.summary[n]["images_per_second"][mode] for n in (name, ANCHOR))
    if not base["median"]:
        return NOT_RUN
    ratios = [a / b for a, b in zip(ours["rounds"], base["rounds"])]
    spread = (max(ratios) - min(ratios)) / 2
    return Number(ours["median"] / base["median"], record.run_id, 2, len(ratios), spread)


def _machine(record: Record) -> str:
    return f"{record.environment['device']}, {record.recipe['precision']}"


def results(here: Record | None, committed: Sequence[Record]) -> list[Record]:
    """Benches that may be shown, this machine's own first; a record is listed once."""
    found: dict[str, Record] = {}
    for record in [here, *committed]:
        if record is not None and not is_smoke(record):
            found.setdefault(record.run_id, record)
    return list(found.values())


def find_measured(name: str, here: Record | None, committed: Sequence[Record]) -> Record | None:
    """The first bench that timed a row."""
    return next((r for r in results(here, committed) if images_per_second(r, name)), None)


def best_run(here: Record | None, committed: Sequence[Record]) -> Record | None:
    """The one run to draw speeds from: a GPU's if there is one, then the one with most rows."""
    runs = [r for r in results(here, committed) if images_per_second(r, ANCHOR)]

    def merit(record: Record) -> tuple[bool, int]:
        timed = sum(images_per_second(record, name) is not None for name in record.summary)
        return record.environment["device_kind"] == "cuda", timed

    return max(runs, key=merit, default=None)


def images_per_second(record: Record, name: str, mode: str = "forward") -> float | None:
    """Median images/s of a row, None where it was not or could not be measured."""
    row = record.summary.get(name, {})
    return row.get("images_per_second", {}).get(mode, {}).get("median")


def why_not(name: str, here: Record | None, committed: Sequence[Record]) -> str:
    """What a cell says of a row that no bench timed."""
    tried = [r.summary[name] for r in results(here, committed) if name in r.summary]
    return tried[0].get("error", NOT_RUN) if tried else NOT_RUN


def _measured_cells(record: Record, name: str, source: str) -> list[Cell]:
    row = record.summary[name]
    kind = "GPU" if record.environment["device_kind"] == "cuda" else "CPU"
    return [
        Number(row["params"] / 1e6, source, 2),
        Number(row["gflops"], source, 2),
        Number(row["memory_mb"], source, 0),
        *(_speed(row, mode, source) for mode in ("forward", "train")),
        HERE if source == HERE else f"record {kind}",
    ]


def _speed(row: Mapping, mode: str, source: str) -> Cell:
    measured = row["images_per_second"].get(mode, {})
    if measured.get("median") is None:
        return row.get("error", NOT_RUN)
    rounds = measured["rounds"]
    spread = (max(rounds) - min(rounds)) / 2
    return Number(measured["median"], source, 1, len(rounds), spread)


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
