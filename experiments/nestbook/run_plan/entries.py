"""The run plan: what one GPU should measure and train, in order, and which parts have a record.

    nest evidence                                  # the plan, and each entry's record
    nest evidence --run --max-time 9m --data-dir DATA

The second carries out what has no record from the top, stops cleanly before its time is over and
resumes where it stopped. So a GPU lent for minutes is used whole, whatever was done before. Each
entry is cut so that a quarter of an hour of one GPU is enough for it.
"""

import dataclasses
import json
import shlex
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from nestbook.benchmarks.bench import run_bench
from nestbook.paper import FIGURE6_NEST3_TINY
from nestbook.paper import TABLE1 as PRINTED
from nestbook.profiles.registry import IN_FP32, run_profile
from nestbook.recipes.rows import TABLE1
from nestbook.sweeps.cost import estimate_cost
from nestbook.sweeps.plans import CIFAR, FIGURES, plan, plan_table1, plan_table2
from nestbook.sweeps.runner import Plan, load_plan
from nestlib.recipes.distillation import Distillation
from nestlib.recipes.named import get_recipe, plain_fields
from nestlib.recipes.recipe import GanRecipe, Recipe, from_dict, to_dict
from nestlib.records import Record, Store
from nestlib.runs.run import carry_out
from nestlib.runs.staleness import find_fresh
from nestlib.runs.weights import LARGEST_MB, commit_weights
from nestlib.signals import stop_signal
from nestlib.training.devices import resolve_device

PRECISION = "bf16"  # of benches and profiles but for IN_FP32
ASSUMED_TFLOPS = 100  # sustained in training; no measurement, until there are records
BENCH_MINUTES = 1.5  # of a bench or profile, assumed likewise
BENCHES = ("speed", "table1", "table2", "figure7")
PROFILES = ("input", "attention", "roofline", "growth", "explaining")
# A GPU is lent for 15 minutes in all; the rest goes to its start, the images and a bench.
TRAIN_MINUTES = 8
SCHEDULES = {
    "epochs": (300, 200, 100, 60, 30),
    "steps": (50_000, 20_000, 10_000, 5_000, 2_000, 1_000),
}
# Never cut, as the paper's number is of its whole schedule; it takes 9.6 minutes as expected, which
# a quarter of an hour still holds.
HEADLINE = "cifar10/nest_tiny_s2_depth3"
# What a model costs is nearly the same at all values of these (by a third at most), so that a
# figure's bars are cut alike and the model is counted once.
CHEAP_OPTIONS = ("aggregation", "aggregation_plane", "num_heads", "attention", "unsampling")
# What is not said of a teacher, of a recipe that has none by name.
LESSON_DEFAULTS = {field.name: field.default for field in dataclasses.fields(Distillation)}
RIVALS = ("DeiT-T", "CCT-7/3x1", "Swin-T", "Pyramid-164-48", "WRN28-10", "PVT-T", "NesT-S")


@dataclass(frozen=True)
class Entry:
    """One line of the plan: a training run, or a bench or profile by its name.

    item: its number in the plan's order; title: what it is for; decides: what its records decide.
    """

    item: int
    title: str
    recipe: Recipe | GanRecipe | None = None
    bench: str = ""
    decides: str = ""

    @property
    def name(self) -> str:
        return self.recipe.run_id if self.recipe else f"bench/{self.bench}"

    @property
    def precision(self) -> str:
        if self.recipe:
            return self.recipe.precision
        return "fp32" if self.bench in IN_FP32 else PRECISION

    @property
    def minutes(self) -> float:
        """Expected minutes, from multiply-adds at ASSUMED_TFLOPS."""
        return expect_minutes(self.recipe) if self.recipe else BENCH_MINUTES

    @property
    def command(self) -> str:
        """The command line that carries out only this entry."""
        if self.recipe:
            words = ["train", self.recipe.name]
            words += [word for each in list_overrides(self.recipe) for word in ("--set", each)]
            words += ["--seed", str(self.recipe.seed)] if self.recipe.seed else []
            words += ["--device", "cuda"]
        else:
            words = ["profile" if self.bench in PROFILES else "bench", self.bench]
            words += ["--device", "cuda", "--precision", self.precision]
        return shlex.join(["nest", *words, "--commit-record"])

    def find(self, store: Store, data_dir: Path | None = None) -> Record | None:
        """Its record of a GPU, if there is one; for a bench in the full form and its precision."""
        if self.recipe is None:
            found = store.find_benches(f"{self.bench}-full")
            found = [r for r in found if r.run_id.endswith(f"-{self.precision}")]
        else:
            return find_fresh(self.recipe, store, data_dir, "cuda")
        return next((r for r in found if r.environment["device_kind"] == "cuda"), None)


def list_entries() -> list[Entry]:
    """The plan, most wanted first; nothing stands in it twice."""
    return [entry for entry in _candidates() if _fits(entry)]


def list_left_out() -> list[Entry]:
    """Runs left out of the plan: they take longer than TRAIN_MINUTES at their shortest schedule."""
    return [entry for entry in _candidates() if not _fits(entry)]


def _items() -> list[tuple[str, str, list[str | Recipe | GanRecipe]]]:
    """What each item is for, what it decides, and its runs: benches by name, recipes uncut."""
    return [
        ("speed of NesT and timm's, of all rows and generators; where time goes",
         "claim: no slower than timm; throughputs of Tables 1 and 2", [*BENCHES, *PROFILES]),
        ("NesT3-T, S = 2, CIFAR-10 by the paper's recipe",
         f"claim: {FIGURE6_NEST3_TINY[0]} % (section 4.1)", [get_recipe(HEADLINE)]),
        ("NesT-T, S = 1, CIFAR-10",
         f"what of the claimed {PRINTED['NesT-T'].cifar10} % a shorter schedule reaches",
         [get_recipe("cifar10/nest_tiny")]),
        ("its rivals in Table 1", "claim: ahead of other transformers, here in equal minutes",
         [get_recipe(TABLE1[row].on("cifar10")) for row in RIVALS]),
        ("figures 4 and 8 on Tiny ImageNet-100",
         "claims: learns in fewer epochs (figure 4); finds objects untaught (figure 8)", [
             get_recipe(f"tiny_imagenet/{name}", epochs=epochs)
             for epochs in (30, 60, 100) for name in ("nest_tiny", "deit_small", "resnet50")
         ]),
        ("figures 5, A1 and 6: aggregations and depths",
         "claims: which aggregation, plane and depth is best",
         _planned("figure_a1", 2, "figure6")),
        ("figure 7: generators and un-samplings",
         "whether all train in bf16; too short for the claims' FID", _planned("figure7")),
        ("figure A2, Tables A3 and A2 as far as they fit; second seeds of items 2 and 3",
         "what augmentation is worth; the spread over seeds",
         _planned("figure_a2", 1, "table_a3", "table_a2")
         + [get_recipe(name, seed=1) for name in (HEADLINE, "cifar10/nest_tiny")]),
    ]  # fmt: skip


@cache
def _candidates() -> list[Entry]:
    """All entries, cut; each once, at its first place."""
    entries: dict[str, Entry] = {}
    for number, (title, decides, runs) in enumerate(_items(), 1):
        for run in runs:
            named = {"bench": run} if isinstance(run, str) else {"recipe": cut(run)}
            entry = Entry(number, title, decides=decides, **named)
            entries.setdefault(entry.name, entry)
    return list(entries.values())


def _fits(entry: Entry) -> bool:
    recipe = entry.recipe
    return recipe is None or recipe.name == HEADLINE or _rough_minutes(recipe) <= TRAIN_MINUTES


def cut(recipe: Recipe | GanRecipe) -> Recipe | GanRecipe:
    """The recipe by its own schedule if that takes at most TRAIN_MINUTES, else by the longest of
    SCHEDULES that does; by the shortest if none does."""
    if recipe.name == HEADLINE:
        return recipe
    field = "steps" if isinstance(recipe, GanRecipe) else "epochs"
    whole = getattr(recipe, field)
    lengths = [whole, *(number for number in SCHEDULES[field] if number < whole)]
    minutes = _rough_minutes(recipe) / whole
    fitting = (length for length in lengths if length * minutes <= TRAIN_MINUTES)
    return replace(recipe, **{field: next(fitting, lengths[-1])})


def _rough_minutes(recipe: Recipe | GanRecipe) -> float:
    """As `expect_minutes`, whatever its CHEAP_OPTIONS are."""
    name = "generator_options" if isinstance(recipe, GanRecipe) else "model_options"
    options = {k: v for k, v in getattr(recipe, name).items() if k not in CHEAP_OPTIONS}
    return expect_minutes(replace(recipe, **{name: options}))


def expect_minutes(recipe: Recipe | GanRecipe) -> float:
    """Minutes of training at ASSUMED_TFLOPS, of a multiply-add two operations."""
    if isinstance(recipe, GanRecipe):
        row = replace(recipe, name="any", seed=0, steps=recipe.steps_per_row)
        described = json.dumps(to_dict(row), sort_keys=True)
        gmacs = _gan_cost(described) * recipe.steps / row.steps
    else:
        gmacs = estimate_cost(recipe)
    return gmacs * 1e9 * 2 / (ASSUMED_TFLOPS * 1e12) / 60


@cache
def _gan_cost(described: str) -> float:
    """`estimate_cost` of a GanRecipe written as JSON; to count its networks takes a moment."""
    return estimate_cost(from_dict(json.loads(described)))


def list_overrides(recipe: Recipe | GanRecipe) -> list[str]:
    """The fewest `--set` of `nest train` that make the named recipe this one, but for its seed."""
    named, overrides = plain_fields(recipe.name), []
    for field, value in to_dict(recipe).items():
        if field in ("name", "seed") or value == named[field]:
            continue
        if isinstance(value, dict):
            known = named[field] or LESSON_DEFAULTS
            changed = {k: v for k, v in value.items() if k not in known or known[k] != v}
            overrides += [f"{field}.{k}={_to_text(v)}" for k, v in changed.items()]
        else:
            overrides.append(f"{field}={_to_text(value)}")
    return overrides


def _to_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def find_coverage(store: Store, seeds: int = 3) -> dict[str, dict[Hashable, list[Record]]]:
    """Records of the paper's own data and schedule, by table or figure and by row or bar."""
    plans: dict[str, Plan] = {
        f"table1, {dataset}": plan_table1("paper", dataset, range(seeds)) for dataset in CIFAR
    }
    plans["table2"] = plan_table2(range(seeds))
    plans |= {figure: plan(figure, "paper", range(seeds)) for figure in FIGURES}
    return {name: load_plan(rows, store) for name, rows in plans.items()}


def run_entries(
    store: Store, *, data_root: Path | None = None, runs_dir: Path | None = None,
    max_seconds: float | None = None, device: str = "cuda",
    only: int = 0, say: Callable[[str], None] = print,
) -> bool:  # fmt: skip
    """Run what has no record, in order, until the time is over; the records are committed ones.

    A run that fails is said and passed over. Weights small enough are kept in fp16 beside records.

    Args:
        data_root: a folder with one folder per data set.
        max_seconds: a run is stopped before that and resumed by the next call; a bench is not begun
            with less left than it is expected to take.
        only: the entries of one item; 0: all.

    Returns:
        Whether every entry asked for has its record now.

    Raises:
        DeviceError: the device cannot be used; nothing is begun.
        ValueError: the plan has no such item.
    """
    items = sorted({entry.item for entry in list_entries()})
    if only not in (0, *items):
        raise ValueError(f"the plan has no item {only}; give one of {items}, or 0 for all of them")
    resolve_device(device)
    end = None if max_seconds is None else time.monotonic() + max_seconds
    complete = True
    with stop_signal() as stopped:
        for entry in list_entries():
            data_dir = data_root / entry.recipe.dataset if data_root and entry.recipe else None
            if only not in (0, entry.item) or entry.find(store, data_dir):
                continue
            if stopped.is_set():
                return False
            left = None if end is None else end - time.monotonic()
            if left is not None and left < 60 * (0.1 if entry.recipe else entry.minutes):
                complete = False
                continue  # a run may still fit where a bench does not
            say(f"{entry.name}: begins")
            try:
                record = _carry_out(entry, store, data_dir, runs_dir, left, device)
            except Exception as error:  # what one run lacks must not cost the others their minutes
                say(f"{entry.name}: failed: {type(error).__name__}: {error}")
                complete = False
                continue
            say(
                f"{entry.name}: {'stopped; the next call resumes it' if record is None else 'done'}"
            )
            complete = complete and record is not None
    return complete


def _carry_out(
    entry: Entry, store: Store, data_dir: Path | None, runs_dir: Path | None,
    seconds: float | None, device: str,
) -> Record | None:  # fmt: skip
    if entry.recipe is None:
        run = run_profile if entry.bench in PROFILES else run_bench
        return run(entry.bench, store, device=device, precision=entry.precision, committed=True)
    found = find_fresh(entry.recipe, store, data_dir)
    # The record of another kind of device is not what the plan asks for.
    elsewhere = found and found.environment["device_kind"] != resolve_device(device).type
    record = carry_out(
        entry.recipe, store, data_dir=data_dir, runs_dir=runs_dir, device=device,
        max_seconds=seconds, checkpoint_seconds=120, committed=True, again=bool(elsewhere),
    )  # fmt: skip
    if record:
        keep_weights(entry.recipe, record, store, runs_dir)
    return record


def keep_weights(
    recipe: Recipe | GanRecipe, record: Record, store: Store, runs_dir: Path | None
) -> Path | None:
    """Round a run's weights to fp16 beside the committed records; None for a model too large."""
    if record.summary["num_params"] * 2 > LARGEST_MB * 2**20:
        return None
    return commit_weights(recipe, store, runs_dir=runs_dir)


def _planned(figure: str, seeds: int = 1, *others: str) -> list[Recipe | GanRecipe]:
    """A figure's recipes at budget gpu, one seed each for other figures; without CIFAR-100."""
    plans = [(figure, seeds), *((other, 1) for other in others)]
    return [
        recipe for name, count in plans for row in plan(name, "gpu", range(count)).values()
        for recipe in row if recipe.dataset != "cifar100"
    ]  # fmt: skip
