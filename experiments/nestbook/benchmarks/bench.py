"""Choose which models a benchmark times and for how long, and write its record.

There is one for each table, of its rows; `small`, of Table 1's narrow relatives at budget small;
`figure7`, of its three generators, forward alone; and `speed`: NesT here against timm's
(nestbook.benchmarks.rivals).
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from functools import partial

import torch

from nestbook.benchmarks.rivals import MODELS, RIVALS, Rival, measure_differences
from nestbook.benchmarks.speed import Contender, bench, prepare_alone
from nestbook.recipes.rows import FIGURE7_GENERATORS, TABLE1, TABLES
from nestbook.records import add_record
from nestlib.choices import check_choice, choose
from nestlib.data.datasets import dataset_info
from nestlib.precision import check_precision, resolve_precision
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, Store, describe_environment, device_name
from nestlib.training.devices import resolve_device


@dataclass(frozen=True)
class Form:
    """How long a bench takes: what is timed, how often, for how many seconds each time."""

    rows: str  # "all", "light", "one" or "session"
    rounds: int
    seconds_per_round: float
    warmup: int
    time_limit_s: float | None = None
    batch_size: int | None = None  # images; default: the bench's own


FORMS = {
    "full": Form("all", rounds=5, seconds_per_round=1.0, warmup=2),
    "quick": Form("all", rounds=3, seconds_per_round=0.5, warmup=1, time_limit_s=480),
    "light": Form("light", rounds=3, seconds_per_round=1.0, warmup=2, time_limit_s=120),
    "smoke": Form("one", rounds=1, seconds_per_round=0.1, warmup=1, batch_size=2),
}
# Targets are judged by five rounds at least, so no time limit cuts them.
SPEED_FORMS = {
    "full": Form("all", rounds=7, seconds_per_round=1.0, warmup=3),
    "quick": Form("all", rounds=5, seconds_per_round=0.5, warmup=2),  # on a CPU none is compiled
    "light": Form("light", rounds=5, seconds_per_round=0.5, warmup=1),
    "session": Form("session", rounds=7, seconds_per_round=0.5, warmup=3),
    "smoke": FORMS["smoke"],
}
# Of `speed` in a session of minutes (nestbook.run_plan.stages), forward alone; on a CPU, where one
# is rehearsed, small models.
SESSION_ROWS = {
    "cuda": ("nestlib nest_tiny", "nestlib nest_tiny compiled", "timm nest_tiny",
             "timm nest_tiny tuned", "timm nest_tiny tuned compiled", "timm deit_small tuned",
             "timm deit_small tuned compiled"),
    "cpu": ("nestlib nest_tiny_cifar", "nestlib nest_tiny_cifar compiled", "timm nest_tiny_cifar"),
}  # fmt: skip
SMALL_ROWS = {row: entry.small for row, entry in TABLE1.items() if entry.small}
ROWS = {**TABLES, "small": SMALL_ROWS, "figure7": FIGURE7_GENERATORS, "speed": RIVALS}
# Rows that two cores time while a reader waits.
LIGHT_ROWS = {
    "table1": ("Pyramid-164-48", "WRN28-10", "DeiT-T", "PVT-T", "CCT-7/3x1", "Swin-T", "NesT-T"),
    "table2": ("ResNet-50", "DeiT-S", "Swin-T", "NesT-T"),
    "small": tuple(SMALL_ROWS),
    "figure7": tuple(FIGURE7_GENERATORS),
    "speed": [name for name, rival in RIVALS.items() if len(MODELS[rival.model].builders) == 2],
}
SMOKE_ROW = {"figure7": "NesT", "speed": "nestlib nest_tiny_cifar"}  # otherwise NesT-T
BATCH_SIZES = {("table1", "cpu"): 8, ("table2", "cpu"): 4, ("figure7", "cpu"): 4,
               ("small", "cpu"): 125, ("table1", "cuda"): 256, ("table2", "cuda"): 128,
               ("small", "cuda"): 125, ("figure7", "cuda"): 64}  # fmt: skip
# By input size, pixels.
SPEED_BATCH_SIZES = {(224, "cpu"): 8, (32, "cpu"): 32, (224, "cuda"): 128, (32, "cuda"): 256}


def bench_id(name: str, form: str, device: torch.device, precision: str) -> str:
    """The id of a bench by name, form, device and precision: a new bench replaces the old."""
    slug = re.sub(r"[^a-z0-9]+", "-", device_name(device).lower()).strip("-")
    return f"bench/{name}-{form}-{slug}-{precision}"


def run_bench(
    name: str, store: Store, *, form: str = "full", device: str = "auto", precision: str = "fp32",
    committed: bool = False, progress: bool = True, without: Collection[str] = (),
    time_limit_s: float | None = None,
) -> Record:  # fmt: skip
    """Time models in turn and write the record.

    Args:
        name: "table1", "table2" (their rows), "small" (Table 1's narrow relatives), "figure7" (its
            generators at 64x64) or "speed" (NesT here against timm's; on a CPU compiled ones in the
            full form alone).
        form: "full" (every row, five rounds or more), "quick" (every row, minutes on two cores),
            "light" (LIGHT_ROWS, two minutes), "session" (SESSION_ROWS of `speed`, forward alone) or
            "smoke" (one row, no result).
        without: rows to leave out.
        time_limit_s: begin no round that would probably end later; default: the form's own.

    Raises:
        ValueError: an unknown bench or form, or rivals of `speed` that are not one function.
    """
    where = resolve_device(device)
    precision = resolve_precision(precision, where)
    contenders = check_bench(name, form, precision, where.type)
    contenders = [contender for contender in contenders if contender.name not in without]
    how, checks = _form_of(name, form), {}
    environment = describe_environment(where)
    if name == "speed":
        models = dict.fromkeys(RIVALS[contender.name].model for contender in contenders)
        checks = {"logit_differences": measure_differences(models, where)}
    measured = bench(
        contenders, device=where, precision=precision, rounds=how.rounds,
        seconds_per_round=how.seconds_per_round, warmup=how.warmup, progress=progress,
        time_limit_s=how.time_limit_s if time_limit_s is None else time_limit_s,
        train=name != "figure7" and form != "session",
    )  # fmt: skip
    return add_record(
        store, environment, committed=committed, kind="bench",
        run_id=bench_id(name, form, where, precision),
        recipe={"table": name, "budget": form, **checks, **measured["settings"]},
        summary={row["name"]: row for row in measured["rows"]},
    )  # fmt: skip


def check_bench(name: str, form: str, precision: str, device_type: str) -> list[Contender]:
    """What a bench would time on a type of device ("cpu" or "cuda"), which this machine may lack.

    Raises:
        ValueError: an unknown bench, form, precision or type of device.
    """
    check_precision(precision)
    check_choice("type of device", device_type, ("cpu", "cuda"))
    device = torch.device(device_type)
    rows, how = _rows_on(device, name, form, precision), _form_of(name, form)
    if name == "speed":
        return [_rival(RIVALS[row], how, device) for row in rows]
    return [_table_row(name, row, how, device) for row in rows]


def find_or_run_bench(
    name: str, store: Store, budget: str, device: str = "auto", precision: str = "fp32", *,
    unless_committed: bool = False,
) -> Record | None:  # fmt: skip
    """This machine's own bench at a notebook's budget: loaded if it exists, else made.

    None for a store that is read only. One of other rows, another torch or another number of
    threads is made again; a smoke run always. With `unless_committed` none is made, and None
    returned, where a committed record of such a machine has all the rows: it says the same in more
    rounds.
    """
    if store.read_only:
        return None
    form = {"smoke": "smoke", "quick": "light", "small": "light"}.get(budget, "full")
    where = resolve_device(device)
    precision = resolve_precision(precision, where)
    rows = _rows_on(where, name, form, precision)
    found = store.find_local(bench_id(name, form, where, precision))
    if found is not None and form != "smoke":
        then = set(found.summary), found.recipe["torch"], found.recipe["threads"]
        if then == (set(rows), torch.__version__, torch.get_num_threads()):
            return found
    if unless_committed and form != "smoke" and _has_committed(store, name, rows, where, precision):
        return None
    return run_bench(name, store, form=form, device=device, precision=precision)


def _has_committed(
    store: Store, name: str, rows: list[str], where: torch.device, precision: str
) -> bool:  # fmt: skip
    """Whether a committed bench of such a machine, with this torch, timed all of `rows`."""
    asked = device_name(where), precision, torch.__version__, torch.get_num_threads()
    return any(
        asked
        == (r.environment["device"], *(r.recipe[k] for k in ("precision", "torch", "threads")))
        and set(rows) <= set(r.summary)
        for r in store.find_benches(name)
    )


def choose_rows(name: str, form: str) -> list[str]:
    """Names of the rows that a form of a bench times."""
    check_choice("bench", name, ROWS)
    how = choose("form of a bench", form, SPEED_FORMS if name == "speed" else FORMS)
    rows = {"all": ROWS[name], "light": LIGHT_ROWS[name], "one": [SMOKE_ROW.get(name, "NesT-T")]}
    return list(rows[how.rows])


def prepare_rival(name: str, device: torch.device) -> str:
    """Build a row of `speed` up to its first pass, which compiles it; return "" or the error."""
    contender = _rival(RIVALS[name], SPEED_FORMS["session"], device)
    return prepare_alone(contender, device, "bf16")


def _form_of(name: str, form: str) -> Form:
    return (SPEED_FORMS if name == "speed" else FORMS)[form]


def _rows_on(device: torch.device, name: str, form: str, precision: str) -> list[str]:
    """As `choose_rows`. On a CPU compiled rivals, which take minutes to compile, run only in the
    full form, and in bf16 timm's own form in fp32 is one more."""
    if (name, form) == ("speed", "session"):
        return list(SESSION_ROWS[device.type])
    rows = choose_rows(name, form)
    if name != "speed":
        return rows
    on_cpu = device.type == "cpu"
    return [
        row for row in rows
        if (form == "full" or not on_cpu or not RIVALS[row].compile)
        and (RIVALS[row].precision is None or (on_cpu and precision == "bf16"))
    ]  # fmt: skip


def _table_row(table: str, row: str, how: Form, device: torch.device) -> Contender:
    batch_size = how.batch_size or BATCH_SIZES[table, device.type]
    if table == "figure7":
        recipe = get_recipe(f"tiny_imagenet/{FIGURE7_GENERATORS[row]}")
        return Contender(row, recipe.build_generator, recipe.image_size, batch_size)
    recipe = get_recipe(SMALL_ROWS[row] if table == "small" else TABLES[table][row].recipe)
    build = partial(recipe.build_model, num_classes=dataset_info(recipe.dataset).num_classes)
    return Contender(row, build, recipe.image_size, batch_size)


def _rival(rival: Rival, how: Form, device: torch.device) -> Contender:
    size = MODELS[rival.model].image_size
    batch_size = how.batch_size or SPEED_BATCH_SIZES[size, device.type]
    return Contender(
        rival.name, rival.build, size, batch_size, tuned=rival.tuned, compile=rival.compile,
        precision=rival.precision,
    )  # fmt: skip
