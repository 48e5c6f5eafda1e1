"""The run plan: what one GPU should measure and train, in order, and what of it has a record.

    nest evidence                                  # the plan, and each entry's record
    nest evidence --run --max-time 9m --data-dir DATA

The second carries out what has no record from the top, stops cleanly before its time is over and
goes on where it stopped. So a GPU lent for minutes is used whole, whatever was done before.
"""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

from nestbook.benchmarks.bench import run_bench
from nestbook.profiles.registry import run_profile
from nestbook.recipes.rows import TABLE1
from nestbook.sweeps.plans import CIFAR, EPOCHS, FIGURES, plan, plan_table1, plan_table2
from nestbook.sweeps.runner import Plan, estimate_cost, load_plan
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import GanRecipe, Recipe
from nestlib.records import Record, Store
from nestlib.runs.run import carry_out
from nestlib.runs.staleness import find_fresh
from nestlib.runs.weights import LARGEST_MB, commit_weights
from nestlib.signals import stop_signal
from nestlib.training.devices import resolve_device

PRECISION = "bf16"
ASSUMED_TFLOPS = 100  # sustained in training; no measurement, until there are records
BENCH_MINUTES = 1.5  # of a bench or profile, assumed likewise
BENCHES = ("table1", "table2", "figure7", "speed")
PROFILES = ("input", "attention", "roofline", "growth", "explaining")
RIVAL_MINUTES = 12  # what a row of Table 1 beside NesT-T is given
RIVALS = ("DeiT-T", "CCT-7/3x1", "Swin-T", "Pyramid-164-48", "WRN28-10", "PVT-T", "NesT-S")
TINY_EPOCHS = (30, 60, 100)
GAN_STEPS = 5000  # a tenth of the recipes' own


@dataclass(frozen=True)
class Entry:
    """One line of the plan: a training run, or a bench or profile by its name.

    item: its number in the order of the plan; title: what the item is for.
    """

    item: int
    title: str
    recipe: Recipe | GanRecipe | None = None
    bench: str = ""

    @property
    def name(self) -> str:
        return self.recipe.run_id if self.recipe else f"bench/{self.bench}"

    @property
    def minutes(self) -> float:
        """Expected ones, from multiply-adds at ASSUMED_TFLOPS."""
        if self.recipe is None:
            return BENCH_MINUTES
        return estimate_cost(self.recipe) * 1e9 * 2 / (ASSUMED_TFLOPS * 1e12) / 60

    def find(self, store: Store, data_dir: Path | None = None) -> Record | None:
        """Its record of a GPU, if there is one."""
        if self.recipe is None:
            found = store.find_benches(self.bench)
        else:
            record = find_fresh(self.recipe, store, data_dir)
            found = [record] if record else []
        return next((r for r in found if r.environment["device_kind"] == "cuda"), None)


def list_entries() -> list[Entry]:
    """The plan, most wanted first; nothing stands in it twice."""
    items = [
        (1, "speed of all rows, the generators and NesT against timm", [*BENCHES, *PROFILES]),
        (2, "NesT3-T, S = 2, CIFAR-10 (94.5 % in the paper)",
         [get_recipe("cifar10/nest_tiny_s2_depth3")]),
        (3, "NesT-T, CIFAR-10", [get_recipe("cifar10/nest_tiny")]),
        (4, "its rivals in Table 1", [_fit(TABLE1[row].on("cifar10")) for row in RIVALS]),
        (5, "figures 4 and 8 on Tiny ImageNet-100", [
            get_recipe(f"tiny_imagenet/{name}", epochs=epochs)
            for epochs in TINY_EPOCHS for name in ("nest_tiny", "deit_small", "resnet50")
        ]),
        (6, "figures 5, A1 and 6: aggregations and depths", _planned("figure_a1", 2, "figure6")),
        (7, "figure 7: generators and un-samplings", [
            get_recipe(recipe.name, steps=GAN_STEPS) for recipe in _planned("figure7")
        ]),
        (8, "figure A2, Tables A3 and A2, and second seeds",
         _planned("figure_a2", 1, "table_a3", "table_a2") + [
             get_recipe(name, seed=1)
             for name in ("cifar10/nest_tiny_s2_depth3", "cifar10/nest_tiny")
         ]),
    ]  # fmt: skip
    entries: dict[str, Entry] = {}
    for item, title, runs in items:
        for run in runs:
            named = {"bench": run} if isinstance(run, str) else {"recipe": run}
            entry = Entry(item, title, **named)
            entries.setdefault(entry.name, entry)
    return list(entries.values())


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
    """Carry out what has no record, in order, until the time is over; records are committed ones.

    A run that fails is said and passed over. Weights small enough are kept in fp16 beside records.

    Args:
        data_root: a folder with one folder a data set.
        max_seconds: a run is stopped before that and resumed by the next call; a bench is not begun
            with less left than it is expected to take.
        only: the entries of one item; 0: all.

    Returns:
        Whether every entry asked for has its record now.

    Raises:
        DeviceError: the device cannot be used; nothing is begun.
    """
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
            say(f"{entry.name}: {'stopped; the next call goes on' if record is None else 'done'}")
            complete = complete and record is not None
    return complete


def _carry_out(
    entry: Entry, store: Store, data_dir: Path | None, runs_dir: Path | None,
    seconds: float | None, device: str,
) -> Record | None:  # fmt: skip
    if entry.recipe is None:
        run = run_profile if entry.bench in PROFILES else run_bench
        return run(entry.bench, store, device=device, precision=PRECISION, committed=True)
    record = carry_out(
        entry.recipe, store, data_dir=data_dir, runs_dir=runs_dir, device=device,
        max_seconds=seconds, checkpoint_seconds=120, committed=True,
    )  # fmt: skip
    if record and record.summary["num_params"] * 2 <= LARGEST_MB * 2**20:
        commit_weights(entry.recipe, store, runs_dir=runs_dir)
    return record


def _fit(name: str) -> Recipe:
    """A recipe by its own schedule where RIVAL_MINUTES are expected to allow it, else the longest
    of EPOCHS that they allow."""
    recipe = get_recipe(name)
    if Entry(0, "", recipe).minutes <= RIVAL_MINUTES:
        return recipe
    shorter = [get_recipe(name, epochs=epochs) for epochs in sorted(EPOCHS, reverse=True)]
    fitting = [one for one in shorter if Entry(0, "", one).minutes <= RIVAL_MINUTES]
    return fitting[0] if fitting else shorter[-1]


def _planned(figure: str, seeds: int = 1, *others: str) -> list[Recipe | GanRecipe]:
    """A figure's recipes at budget gpu, and one seed of others'; CIFAR-100 is not at hand yet."""
    plans = [(figure, seeds), *((other, 1) for other in others)]
    return [
        recipe for name, count in plans for row in plan(name, "gpu", range(count)).values()
        for recipe in row if recipe.dataset != "cifar100"
    ]  # fmt: skip
