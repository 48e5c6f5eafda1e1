"""Which models stand in a table's benchmark, for how long, and where its record goes."""

import re
from dataclasses import dataclass
from functools import partial

import torch

from nestlib.data.datasets import dataset_info
from nestlib.measure.speed import Contender, bench
from nestlib.recipes import TABLES, get_recipe
from nestlib.records import Record, Store, describe_environment, device_name, timestamp
from nestlib.training.devices import resolve_device


@dataclass(frozen=True)
class Form:
    """How long a bench takes: what is timed, how often, for how many seconds each time."""

    rows: str  # "all", "light" or "one"
    rounds: int
    seconds_per_round: float
    warmup: int
    time_limit_s: float | None = None


FORMS = {
    "full": Form("all", rounds=5, seconds_per_round=1.0, warmup=2),
    "quick": Form("all", rounds=3, seconds_per_round=0.5, warmup=1, time_limit_s=900),
    "light": Form("light", rounds=3, seconds_per_round=1.0, warmup=2, time_limit_s=120),
    "smoke": Form("one", rounds=1, seconds_per_round=0.1, warmup=1),
}
# Rows that two cores time while a reader waits.
LIGHT_ROWS = {
    "table1": ("Pyramid-164-48", "WRN28-10", "DeiT-T", "PVT-T", "CCT-7/3x1", "Swin-T", "NesT-T"),
    "table2": ("ResNet-50", "DeiT-S", "Swin-T", "NesT-T"),
}
BATCH_SIZES = {("table1", "cpu"): 8, ("table2", "cpu"): 4,
               ("table1", "cuda"): 256, ("table2", "cuda"): 128}  # fmt: skip


def bench_id(table: str, form: str, device: torch.device, precision: str) -> str:
    """One bench of a table a device and precision: a new one replaces the old."""
    slug = re.sub(r"[^a-z0-9]+", "-", device_name(device).lower()).strip("-")
    return f"bench/{table}-{form}-{slug}-{precision}"


def run_bench(
    table: str, store: Store, *, form: str = "full", device: str = "auto", precision: str = "fp32",
    committed: bool = False, progress: bool = True,
) -> Record:  # fmt: skip
    """Time a table's models in turn and write the record.

    Args:
        table: "table1" or "table2".
        form: "full" (every row, five rounds), "quick" (every row, minutes on two cores), "light"
            (LIGHT_ROWS, two minutes) or "smoke" (one row, no result).

    Raises:
        ValueError: a table that has no bench, or an unknown form.
    """
    names, how = choose_rows(table, form), FORMS[form]
    where = resolve_device(device)
    environment = describe_environment(where)
    measured = bench(
        [_contender(table, name, where) for name in names], device=where, precision=precision,
        rounds=how.rounds, seconds_per_round=how.seconds_per_round, warmup=how.warmup,
        time_limit_s=how.time_limit_s, progress=progress,
    )  # fmt: skip
    record = Record(
        run_id=bench_id(table, form, where, precision), kind="bench",
        recipe={"table": table, "budget": form, **measured["settings"]},
        environment=environment | {"finished": timestamp()},
        summary={row["name"]: row for row in measured["rows"]},
    )  # fmt: skip
    store.add(record, committed=committed)
    return record


def find_or_run_bench(table: str, store: Store, budget: str, device: str = "auto") -> Record:
    """This machine's own bench at a notebook's budget: loaded if it was made before, else made."""
    form = {"smoke": "smoke", "quick": "light"}.get(budget, "full")
    found = store.find_local(bench_id(table, form, resolve_device(device), "fp32"))
    if found is not None and form != "smoke":  # a smoke run always runs
        return found
    return run_bench(table, store, form=form, device=device)


def choose_rows(table: str, form: str) -> list[str]:
    """Names of a table's rows that a form of its bench times."""
    if table not in TABLES:
        raise ValueError(f"no bench {table!r}; there are {', '.join(TABLES)}")
    if form not in FORMS:
        raise ValueError(f"no form {form!r} of a bench; there are {', '.join(FORMS)}")
    light = LIGHT_ROWS[table]
    return list({"all": TABLES[table], "light": light, "one": light[-1:]}[FORMS[form].rows])


def _contender(table: str, row: str, device: torch.device) -> Contender:
    recipe = get_recipe(TABLES[table][row].recipe)
    build = partial(recipe.build_model, num_classes=dataset_info(recipe.dataset).num_classes)
    return Contender(row, build, recipe.image_size, BATCH_SIZES[table, device.type])
