"""Sweeps: run what a plan is missing, cheapest first, each run once, until all have a record.

The state of a sweep is on the disk alone: a run with a record is done, one whose lock is held is
running, one with checkpoints has begun. So a sweep may be killed at any moment and started again,
or be started twice, on several machines of one file system: each run is made by one process.
"""

import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from nestbook.sweeps.cost import estimate_cost
from nestbook.sweeps.devices import free_device, list_devices
from nestbook.sweeps.plans import Key
from nestbook.sweeps.plans import plan as plan_figure
from nestbook.sweeps.worker import RUNNING, begin_worker, end_when_late, note_signal, tell_workers
from nestbook.sweeps.worker import TOLD_TO_STOP as _TOLD_TO_STOP
from nestlib.data.datasets import find_dataset
from nestlib.files import Held, is_held
from nestlib.project import find_project_root
from nestlib.recipes.recipe import GanRecipe, Recipe
from nestlib.records import Record, Store
from nestlib.runs.run import LOCK, carry_out, describe_stop, has_begun
from nestlib.runs.staleness import find_fresh
from nestlib.signals import stop_signal

K = TypeVar("K", bound=Hashable)
Plan = Mapping[K, Sequence[Recipe | GanRecipe]]
POLL_SECONDS = 5.0  # between looks at runs that other processes hold
LEFT = "not started: the time is over, or a signal came"
KILLED = (
    "its process was killed, perhaps because memory ran out; free some and run the same command "
    "again: it resumes from the last checkpoint"
)
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
        ValueError: fewer than one process.
    """
    if type(processes) is not int or processes < 1:
        raise ValueError(f"processes is {processes!r}, must be a whole number, 1 or more")
    runs_dir = runs_dir or find_project_root() / "runs"
    # All processes of a machine share this clock, and nobody can set it.
    begun = time.monotonic()
    deadline = None if max_seconds is None else begun + max_seconds
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
        initializer=begin_worker,
    )  # fmt: skip
    attempt = delayed(
        partial(
            _attempt, store=store, devices=devices, threads=threads, begun=begun, deadline=deadline,
            how=how,
        )
    )  # fmt: skip
    outcomes: list[Outcome] = []
    said: set[str] = set()  # missing or damaged images fail many runs for one reason
    bar = tqdm(
        desc="sweep", total=len(wanted), initial=len(wanted) - len(pending), unit="run",
        disable=not progress,
    )  # fmt: skip
    with stop_signal(tell_workers), bar:
        while pending:
            ready = [recipe for recipe in pending if _has_teacher(recipe, store)]
            if not ready:
                return outcomes + [_without_teacher(recipe) for recipe in pending]
            ended = []
            for outcome in _attempt_all(ready, attempt, workers, begun):
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
    return "begun" if has_begun(run_dir) else "waiting"


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


def _has_teacher(recipe: Recipe | GanRecipe, store: Store) -> bool:
    lesson = getattr(recipe, "distillation", None)  # a GAN's has no such field
    return not lesson or recipe.budget == "smoke" or store.find(lesson.teacher) is not None


def _without_teacher(recipe: Recipe) -> Outcome:
    return Outcome(
        recipe.run_id, "failed", f"its teacher {recipe.distillation.teacher} has no record"
    )


def _attempt_all(
    ready: Sequence[Recipe | GanRecipe], attempt: Callable, workers: Parallel, begun: float
) -> Iterator[Outcome]:
    """The outcomes of attempts, as they end.

    Where a worker is killed joblib ends the others with it. Then the runs that they were at are
    tried alone, one after another: memory that two took may be enough for one. A run whose worker
    is killed again has failed. The rest is left to the next call. New workers have not heard the
    signals that came before, so nothing is begun after one.
    """
    if _is_told(begun):
        yield from (Outcome(recipe.run_id, "stopped", LEFT) for recipe in ready)
        return
    left = {recipe.run_id: recipe for recipe in ready}
    try:
        for outcome in workers(map(attempt, ready)):
            del left[outcome.run_id]
            yield outcome
        return
    except BrokenProcessPool:
        suspects = list(left.values())[: workers.n_jobs]  # they were begun in this order
    for recipe in suspects:
        if _is_told(begun):
            return
        try:
            yield from workers([attempt(recipe)])
        except BrokenProcessPool:
            yield Outcome(recipe.run_id, "failed", KILLED)


def _is_told(begun: float) -> bool:
    """Whether this process was told to stop since the sweep was begun."""
    return bool(_TOLD_TO_STOP) and _TOLD_TO_STOP[-1] >= begun


def _attempt(
    recipe: Recipe | GanRecipe, store: Store, devices: list[str], threads: int, begun: float,
    deadline: float | None, how: dict,
) -> Outcome:  # fmt: skip
    """Carry out one run, in a worker process if there are several at a time."""
    left = None if deadline is None else deadline - time.monotonic()
    if _is_told(begun) or (left is not None and left < 1):
        return Outcome(recipe.run_id, "stopped", LEFT)
    before = torch.get_num_threads()
    try:
        with (
            stop_signal(note_signal), end_when_late(left), free_device(devices) as device, RUNNING
        ):  # fmt: skip
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
        following = describe_stop(recipe, "the next sweep", how["runs_dir"])
        return Outcome(recipe.run_id, "stopped", following)
    summary = record.summary
    how_it_ended = "{:.2f} % top-1 ({})".format(*record.top1) if record.top1 else summary["status"]
    return Outcome(recipe.run_id, "done", f"{how_it_ended}, {summary['train_seconds']:.0f} s")
