"""Which models stand in a table's benchmark, and where its record goes.

A full bench holds every row that has a model and is committed; a quick one holds the rows that fit
a small machine and is this machine's alone.
"""

import re
from functools import partial

import torch

from nestlib.measure.speed import Contender, bench
from nestlib.recipes import TABLE1, get_recipe
from nestlib.records import Record, Store, describe_environment, device_name, timestamp
from nestlib.training.devices import resolve_device

# Rows light enough to be timed on two cores while a reader waits.
QUICK_ROWS = {"table1": ("WRN28-10", "DeiT-T", "Swin-T", "NesT-T")}
BATCH_SIZES = {"cpu": 8, "cuda": 256}


def bench_id(table: str, rows: str, device: torch.device, precision: str) -> str:
    """One bench of a table a device and precision: a new one replaces the old."""
    slug = re.sub(r"[^a-z0-9]+", "-", device_name(device).lower()).strip("-")
    return f"bench/{table}-{rows}-{slug}-{precision}"


def run_bench(
    table: str, store: Store, *, rows: str = "full", device: str = "auto", precision: str = "fp32",
    rounds: int = 5, seconds_per_round: float = 1.0, time_limit_s: float | None = None,
    committed: bool = False, progress: bool = True,
) -> Record:  # fmt: skip
    """Time a table's models in turn and write the record.

    Args:
        rows: "full" (every row that has a model), "quick" (QUICK_ROWS) or "smoke" (one row).

    Raises:
        ValueError: a table that has no bench, or an unknown choice of rows.
    """
    if table not in QUICK_ROWS:
        raise ValueError(f"no bench {table!r}; there are {', '.join(QUICK_ROWS)}")
    where = resolve_device(device)
    names = choose_rows(table, rows)
    environment = describe_environment(where)
    contenders = [_contender(name, where) for name in names]
    measured = bench(
        contenders, device=where, precision=precision, rounds=rounds,
        seconds_per_round=seconds_per_round, time_limit_s=time_limit_s, progress=progress,
    )  # fmt: skip
    record = Record(
        run_id=bench_id(table, rows, where, precision), kind="bench",
        recipe={"table": table, "budget": rows, **measured["settings"]},
        environment=environment | {"finished": timestamp()},
        summary={row["name"]: row for row in measured["rows"]},
    )  # fmt: skip
    store.add(record, committed=committed)
    return record


def find_or_run_bench(table: str, store: Store, budget: str, device: str = "auto") -> Record:
    """This machine's own bench at a budget: loaded if it was made before, else made now."""
    rows = budget if budget in ("smoke", "quick") else "full"
    found = store.find_local(bench_id(table, rows, resolve_device(device), "fp32"))
    if found is not None and rows != "smoke":  # a smoke run always runs
        return found
    rounds, seconds = (1, 0.1) if rows == "smoke" else (3, 1.0)
    return run_bench(
        table, store, rows=rows, device=device, rounds=rounds, seconds_per_round=seconds,
        time_limit_s=120 if rows == "quick" else None,
    )  # fmt: skip


def choose_rows(table: str, rows: str) -> list[str]:
    """Names of a table's rows to time."""
    quick = QUICK_ROWS[table]
    with_models = [name for name, row in TABLE1.items() if row.recipe]
    choices = {"full": with_models, "quick": list(quick), "smoke": [quick[-1]]}
    if rows not in choices:
        raise ValueError(f"rows {rows!r} is not one of {', '.join(choices)}")
    return choices[rows]


def _contender(row: str, device: torch.device) -> Contender:
    recipe = get_recipe(TABLE1[row].recipe)
    build = partial(recipe.build_model, num_classes=10)
    return Contender(row, build, recipe.image_size, BATCH_SIZES[device.type])
