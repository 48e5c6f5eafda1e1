"""Sweeps: run what a plan is missing, cheapest first, each run once, until all have a record.

The state of a sweep is on the disk alone: a run with a record is done, one whose lock is held is
running, one with checkpoints has begun. So a sweep may be killed at any moment and started again,
or be started twice, on several machines of one file system: each run is made by one process.
"""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from nestbook.sweeps.devices import free_device, list_devices
from nestbook.sweeps.plans import Key
from nestbook.sweeps.plans import plan as plan_figure
from nestlib.data.datasets import dataset_info, find_dataset
from nestlib.files import Held, is_held
from nestlib.metrics.cost import count_gflops
from nestlib.models import create_model
from nestlib.project import find_project_root
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import GanRecipe, Recipe
from nestlib.records import Record, Store
from nestlib.runs.run import LOCK, carry_out, describe_stop
from nestlib.runs.staleness import find_fresh
from nestlib.signals import listen, stop_signal

K = TypeVar("K", bound=Hashable)
Plan = Mapping[K, Sequence[Recipe | GanRecipe]]
POLL_SECONDS = 5.0  # between looks at runs that other processes hold
PARENT_SECONDS = 1.0  # between looks whether a worker's sweep still lives
# Each process of a sweep has its own: once it is set, that process begins no run any more.
_TOLD_TO_STOP = threading.Event()
_RUNNING = threading.Lock()  # while this process is at a run
STATES = {"done": "#", "running": ">", "begun": "-", "waiting": "."}


@dataclass(frozen=True)
class Outcome:
    """The outcome of an attempt: state "done", "failed", "stopped" (out of time) or "held"."""

    run_id: str
    state: str
    text: str = ""


class RunsIncomplete(RuntimeError):
    """Runs that a page needs failed or were stopped; the message names each."""


def sweep(
    plan: Plan[K], store: Store, *, processes: int = 1, device: str = "auto",
    runs_dir: Path | None = None, data_dir: Path | None = None, max_seconds: float | None = None,
    committed: bool = False, progress: bool = True, again: bool = False, in_order: bool = False,
) -> list[Outcome]:  # fmt: skip
    """Run each recipe of a plan that has no fresh record, cheapest first, teachers before students.

    A failed run does not stop the others. At one of nestlib.signals.STOP_SIGNALS all runs stop
    after their step and keep a checkpoint.

    Args:
        processes: runs side by side on a CPU, one thread each: models this small gain more from
            two runs than from two threads in one. A run that alone is missing gets all threads.
            GPUs take one run each.
        device: "auto" takes all GPUs, else the CPU; or one of them.
        max_seconds: stop cleanly after that; the next call resumes from the checkpoints.
        again: run all, as `carry_out` does.
        in_order: as the plan has them, and not the cheapest first.

    Returns:
        What came of each run that was not there, "done", "failed" or "stopped".

    Raises:
        DeviceError: the device cannot be used.
        FileNotFoundError: no images of a data set that a run needs; nothing is begun.
    """
    runs_dir = runs_dir or find_project_root() / "runs"
    # All processes of a machine share this clock, and nobody can set it.
    deadline = None if max_seconds is None else time.monotonic() + max_seconds
    how: dict[str, Any] = {
        "runs_dir": runs_dir, "data_dir": data_dir, "committed": committed, "again": again
    }  # fmt: skip
    wanted = {recipe.run_id: recipe for row in plan.values() for recipe in row}
    pending = [
        recipe for recipe in wanted.values()
        if again or recipe.budget == "smoke" or find_fresh(recipe, store, data_dir) is None
    ]  # fmt: skip
    if not pending:
        return []
    _check_images(pending, data_dir)
    devices, threads = list_devices(device), 1
    if len(pending) == 1:
        processes, threads = 1, torch.get_num_threads()
    if not in_order:
        costs = {recipe.run_id: estimate_cost(recipe) for recipe in pending}
        pending.sort(key=lambda recipe: (costs[recipe.run_id], recipe.seed))
    workers = Parallel(
        processes if devices == ["cpu"] else len(devices), return_as="generator_unordered",
        initializer=_begin_worker,
    )  # fmt: skip
    outcomes: list[Outcome] = []
    said: set[str] = set()  # missing or damaged images fail many runs for one reason
    bar = tqdm(
        desc="sweep", total=len(wanted), initial=len(wanted) - len(pending), unit="run",
        disable=not progress,
    )  # fmt: skip
    with stop_signal(_tell_all), bar:
        while pending:
            ready = [recipe for recipe in pending if _has_teacher(recipe, store)]
            if not ready:
                return outcomes + [_without_teacher(recipe) for recipe in pending]
            jobs = [
                delayed(_attempt)(recipe, store, devices, threads, deadline, how)
                for recipe in ready
            ]
            ended = []
            for outcome in workers(jobs):
                if outcome.state != "held":
                    ended.append(outcome)
                    bar.update(outcome.state == "done")
                    text = "as above" if outcome.text in said else outcome.text
                    said |= {outcome.text} if outcome.state == "failed" else set()
                    bar.write(f"{outcome.state:<8}{outcome.run_id}  {text}")
            outcomes += ended
            run_ids = {outcome.run_id for outcome in ended}
            pending = [recipe for recipe in pending if recipe.run_id not in run_ids]
            if pending and not ended:
                time.sleep(POLL_SECONDS)
    return outcomes


def collect(
    plan: Plan[K], store: Store, *, data_dir: Path | None = None, **how: Any
) -> dict[K, list[Record]]:
    """The records of each row's recipes: existing records are loaded, missing runs are carried out.

    A store that is read only has none run. `how` goes to `sweep`.

    Raises:
        RunsIncomplete: runs failed or were stopped. All others have ended by then, and have their
            records.
    """
    ended = [] if store.read_only else sweep(plan, store, data_dir=data_dir, **how)
    lacking = [outcome for outcome in ended if outcome.state != "done"]
    if lacking:
        listed = "".join(f"\n  {o.state} {o.run_id}: {o.text}" for o in lacking)
        raise RunsIncomplete(
            f"{len(lacking)} of {len(ended)} runs did not end; the others have their records:"
            f"{listed}"
        )
    return load_plan(plan, store, data_dir)


def collect_figure(
    figure: str, budget: str, store: Store, *, seeds: int = 3, train: bool = False,
    data_dir: Path | None = None, **how: Any,
) -> dict[Key, list[Record]]:  # fmt: skip
    """What a notebook asks for: a figure's records at a budget, by bar.

    smoke runs, in seconds. What is missing of the others takes hours of a CPU or days of a GPU, so
    it is run only where `train` asks for it. `how` goes to `sweep`.
    """
    bars = plan_figure(figure, budget, range(seeds))
    if budget == "smoke":  # a worker takes longer to start than all of its runs
        how["processes"] = 1
    if train or budget == "smoke":
        return collect(bars, store, data_dir=data_dir, **how)
    return load_plan(bars, store, data_dir)


def load_plan(plan: Plan[K], store: Store, data_dir: Path | None = None) -> dict[K, list[Record]]:
    """The fresh records that there are, by row; nothing is run."""
    found = {
        key: [
            store.find(r.run_id) if r.budget == "smoke" else find_fresh(r, store, data_dir)
            for r in row
        ]
        for key, row in plan.items()
    }  # fmt: skip
    return {key: [record for record in row if record] for key, row in found.items()}


def show_board(plan: Plan[K], store: Store, runs_dir: Path | None = None) -> str:
    """Every row of a plan with one sign per run, from what is on the disk now."""
    runs_dir = runs_dir or find_project_root() / "runs"
    rows = {key: [state_of(r, store, runs_dir) for r in row] for key, row in plan.items()}
    flat = [state for row in rows.values() for state in row]
    counts = [f"{flat.count(state)} {state} ({sign})" for state, sign in STATES.items()]
    names = {key: ", ".join(key) if isinstance(key, tuple) else str(key) for key in rows}
    width = max(map(len, names.values()))
    lines = [
        f"{names[key]:<{width}}  {''.join(STATES[state] for state in row)}"
        for key, row in rows.items()
    ]
    return "\n".join([*lines, f"{len(flat)} runs: {', '.join(counts)}"])


def state_of(recipe: Recipe | GanRecipe, store: Store, runs_dir: Path) -> str:
    """One of STATES; a stale record counts as none. A store that is read only has no runs."""
    if find_fresh(recipe, store) is not None:
        return "done"
    if store.read_only:
        return "waiting"
    run_dir = runs_dir / recipe.run_id
    if is_held(run_dir / LOCK):
        return "running"
    return "begun" if any((run_dir / "checkpoints").glob("step-*.pt")) else "waiting"


def estimate_cost(recipe: Recipe | GanRecipe) -> float:
    """What a run costs, in multiply-adds * 10^9: a step's backward pass is twice its forward.

    A GAN's discriminator sees real images, generated ones, and these again for the generator.
    """
    if isinstance(recipe, GanRecipe):
        with torch.device("meta"):
            networks = recipe.build_generator(), recipe.build_discriminator()
        made, judged = (count_gflops(network, recipe.image_size) for network in networks)
        return recipe.steps * recipe.batch_size * 3 * (made + 3 * judged)
    gflops = 3 * _forward_gflops(recipe)
    if recipe.distillation:
        name, seed = recipe.distillation.teacher_recipe
        gflops += _forward_gflops(get_recipe(name, seed=seed))
    return count_images_seen(recipe) * gflops


def count_images_seen(recipe: Recipe) -> int:
    """Training images over all of a run's epochs; the rest of an epoch's last batch is left out."""
    images = recipe.train_subset or recipe.train_limit or recipe.dataset_options.get(
        "num_images", dataset_info(recipe.dataset).num_train
    )  # fmt: skip
    return recipe.epochs * (images // recipe.batch_size) * recipe.batch_size


def _forward_gflops(recipe: Recipe) -> float:
    num_classes = dataset_info(recipe.dataset).num_classes
    options = json.dumps(recipe.model_options, sort_keys=True)
    return _count_gflops(recipe.model, recipe.image_size, num_classes, options)


@cache
def _count_gflops(model: str, image_size: int, num_classes: int, options: str) -> float:
    """Recipes of a plan share models, so each is counted once."""
    with torch.device("meta"):  # of shapes alone
        network = create_model(
            model, img_size=image_size, num_classes=num_classes, **json.loads(options)
        )
    return count_gflops(network, image_size)


def _check_images(pending: Sequence[Recipe | GanRecipe], data_dir: Path | None) -> None:
    """Raise FileNotFoundError, once, if runs would fail because their images are missing."""
    missing: dict[str, str] = {}
    for recipe in {recipe.dataset: recipe for recipe in pending}.values():
        splits = ("train",) if isinstance(recipe, GanRecipe) else ("train", "test")
        try:
            for split in splits:
                find_dataset(recipe.dataset, split, data_dir)
        except FileNotFoundError as error:
            missing[recipe.dataset] = str(error)
    if missing:
        count = sum(recipe.dataset in missing for recipe in pending)
        others = "" if count == len(pending) else "; `nest sweep --only WORD` runs the others"
        raise FileNotFoundError(
            f"{count} of the {len(pending)} runs without a record are missing their "
            f"images{others}\n" + "\n".join(missing.values())
        )


def _begin_worker() -> None:
    """Prepare a worker process: from its start on a signal between two runs counts too."""
    listen(_TOLD_TO_STOP.set)
    threading.Thread(target=_end_with_sweep, daemon=True).start()


def _end_with_sweep() -> None:
    """Stop the run of a worker whose sweep was killed, as a signal does; then end the process."""
    sweep_process = multiprocessing.parent_process().pid
    while os.getppid() == sweep_process:
        time.sleep(PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)  # the run keeps a checkpoint
    with _RUNNING:
        os._exit(1)


def _tell_all() -> None:
    """Stop at a signal to the sweep's own process, which may have reached it alone, and pass it on
    to the workers."""
    _TOLD_TO_STOP.set()
    for worker in multiprocessing.active_children():
        os.kill(worker.pid, signal.SIGTERM)


def _has_teacher(recipe: Recipe | GanRecipe, store: Store) -> bool:
    lesson = getattr(recipe, "distillation", None)  # a GAN's has no such field
    return not lesson or recipe.budget == "smoke" or store.find(lesson.teacher) is not None


def _without_teacher(recipe: Recipe) -> Outcome:
    return Outcome(
        recipe.run_id, "failed", f"its teacher {recipe.distillation.teacher} has no record"
    )


def _attempt(
    recipe: Recipe | GanRecipe, store: Store, devices: list[str], threads: int,
    deadline: float | None, how: dict,
) -> Outcome:  # fmt: skip
    """Carry out one run, in a worker process if there are several at a time."""
    left = None if deadline is None else deadline - time.monotonic()
    if _TOLD_TO_STOP.is_set() or (left is not None and left < 1):
        return Outcome(recipe.run_id, "stopped", "not started: the time is over, or a signal came")
    before = torch.get_num_threads()
    try:
        with stop_signal(_TOLD_TO_STOP.set), free_device(devices) as device, _RUNNING:
            if device == "cpu":
                torch.set_num_threads(threads)
            record = carry_out(
                recipe, store, device=device, max_seconds=left, progress_bar=False, **how
            )
    except Held:
        return Outcome(recipe.run_id, "held")
    except Exception as error:  # a diverged or impossible run must not end the others
        return Outcome(recipe.run_id, "failed", f"{type(error).__name__}: {error}")
    finally:
        torch.set_num_threads(before)
    if record is None:
        return Outcome(recipe.run_id, "stopped", describe_stop(recipe, "the next sweep"))
    summary = record.summary
    how_it_ended = "{:.2f} % top-1 ({})".format(*record.top1) if record.top1 else summary["status"]
    return Outcome(recipe.run_id, "done", f"{how_it_ended}, {summary['train_seconds']:.0f} s")
