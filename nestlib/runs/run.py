"""Carry out a recipe and leave its record: recipe -> data -> model -> training -> record."""

import json
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from nestlib.data.datasets import FolderSet, ImageSet, dataset_info
from nestlib.files import hold, write_atomically
from nestlib.metrics.cost import count_params
from nestlib.models.weights import hash_weights
from nestlib.precision import resolve_precision
from nestlib.project import find_project_root
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import GanRecipe, Recipe, from_dict, to_dict
from nestlib.records import Record, Store, describe_environment, timestamp
from nestlib.runs.staleness import find_fresh, probe
from nestlib.runs.subsets import load_sets, load_split
from nestlib.runs.weights import build_run, weights_path
from nestlib.training import classifier, gan
from nestlib.training.devices import RANK_TIMEOUT, Ranks, resolve_device
from nestlib.training.loop import RUN_WEIGHTS, TrainResult
from nestlib.training.seeding import derive_seed

Sets = dict[str, ImageSet | FolderSet]  # by split
LOCK = "lock"  # in a run's folder


def carry_out(
    recipe: Recipe | GanRecipe, store: Store, *, data_dir: Path | None = None,
    runs_dir: Path | None = None, device: str = "auto", max_seconds: float | None = None,
    checkpoint_seconds: float = 300, progress_bar: bool = True, committed: bool = False,
    download: bool = False, micro_batch: int | None = None, rank_timeout: float = RANK_TIMEOUT,
    again: bool = False,
) -> Record | None:  # fmt: skip
    """Train a recipe to its end and write its record; go on where an earlier call stopped.

    A recipe that has a record is not trained again: its record is returned. Where it is stale (see
    `find_fresh`) the run begins anew, and what an earlier run left in runs/ is set aside. A
    committed record stays where it is. A smoke run always runs, from nothing. A GAN that diverged
    has a record too, whose summary has the status "failed" and the reason. No run is made by two
    processes at a time.

    Args:
        again: train though there is a record, as where it is stale.
        micro_batch: at most so many images of a step go through a classifier at once.
        rank_timeout: seconds that ranks wait for one another before the group is lost.

    Returns:
        The record, or None when the run stopped before its end (a time limit, or one of
        nestlib.signals.STOP_SIGNALS): the same call goes on from its checkpoint.

    Raises:
        Held: another process is at this very run.
        DeviceError, NonFiniteLoss, CheckpointError, ValueError, FileNotFoundError: see there.
    """
    deadline = None if max_seconds is None else time.monotonic() + max(1.0, max_seconds)
    smoke = recipe.budget == "smoke"
    found = None if smoke or again else find_fresh(recipe, store, data_dir)
    if found is not None:
        return found
    where = resolve_device(device)
    resolve_precision(recipe.precision, where)  # warns where it is emulated
    how = {
        "device": where, "data_dir": data_dir, "download": download, "committed": committed,
        "deadline": deadline, "checkpoint_seconds": checkpoint_seconds,
        "progress_bar": progress_bar,
    }  # fmt: skip
    if isinstance(recipe, Recipe):
        how["micro_batch"] = micro_batch
    elif micro_batch:
        raise ValueError("micro_batch is for classifiers; a GAN's ranks take their whole share")
    ranks = Ranks.join(where, rank_timeout)
    if smoke:
        with tempfile.TemporaryDirectory() as nowhere:
            return _run(recipe, store, runs_dir=Path(nowhere), **how)
    runs_dir = runs_dir or find_project_root() / "runs"
    run_dir = runs_dir / recipe.run_id
    if not ranks.is_main:  # the main rank holds the run for all
        return _run(recipe, store, runs_dir=runs_dir, **how)
    with hold(run_dir / LOCK):
        # Another process may have ended it just now.
        found = None if again else find_fresh(recipe, store, data_dir)
        if found is not None:
            return found
        if store.find(recipe.run_id) is not None and _has_ended(recipe.run_id, store, run_dir):
            set_aside(recipe.run_id, store, run_dir)
        return _run(recipe, store, runs_dir=runs_dir, **how)


def _run(
    recipe: Recipe | GanRecipe, store: Store, *, runs_dir: Path, device: torch.device,
    data_dir: Path | None, download: bool, committed: bool, **how,
) -> Record | None:  # fmt: skip
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    run_dir, ranks = runs_dir / recipe.run_id, Ranks.join(device)
    environment = describe_environment(device) | {
        "ranks": ranks.size, "micro_batch": how.get("micro_batch")
    }  # fmt: skip
    train_run, kind = (
        (_train_gan, "gan") if isinstance(recipe, GanRecipe) else (_train_classifier, "train")
    )
    if kind == "train" and recipe.distillation:
        num_classes = dataset_info(recipe.dataset).num_classes
        how["teacher"], environment["teacher"] = build_teacher(recipe, store, runs_dir, num_classes)
    calls = [environment]
    if ranks.is_main:  # the others' record is never written
        calls = note_call(run_dir, environment)
    result, summary, sets = train_run(
        recipe, {"data_dir": data_dir, "download": download}, run_dir=run_dir, device=device, **how
    )
    if not result.finished and not result.failure:
        return None
    record = Record(
        run_id=recipe.run_id, kind=kind, recipe=to_dict(recipe),
        environment={
            **calls[-1],
            "finished": timestamp(),
            "earlier_calls": calls[:-1],  # a run that was stopped and resumed has several
            "data": {
                split: _describe_data(images) for split, images in sets.items()
            },
        },
        summary=summary,
        epochs=result.history,
    )  # fmt: skip
    if result.is_main:
        if kind == "train" and recipe.budget != "smoke":
            record.environment["probe"] = probe(recipe)
        store.add(record, committed=committed)
    return record


def _describe_data(images: ImageSet | FolderSet) -> dict:
    found = {"fingerprint": images.fingerprint, "images": len(images)}
    return found if images.faults is None else found | {"unreadable": images.faults.describe()}


def _train_classifier(
    recipe: Recipe, where: dict, *, device: torch.device, **how
) -> tuple[TrainResult, dict, Sets]:
    train_set, test_set = load_sets(recipe, **where)
    torch.manual_seed(derive_seed(recipe.seed, 3))  # initial weights are part of the seed
    model = recipe.build_model(train_set.num_classes)
    result = classifier.train(recipe, model, train_set, test_set, device=device, **how)
    summary = summarize(result, count_params(model), device) if result.finished else {}
    return result, summary, {images.split: images for images in (train_set, test_set)}


def _train_gan(
    recipe: GanRecipe, where: dict, *, device: torch.device, **how
) -> tuple[TrainResult, dict, Sets]:
    train_set = load_split(recipe, "train", recipe.train_limit, **where)
    torch.manual_seed(derive_seed(recipe.seed, 3))
    networks = recipe.build_generator(), recipe.build_discriminator()
    result = gan.train(recipe, *networks, train_set, device=device, **how)
    return result, summarize_gan(result, *map(count_params, networks), device), {"train": train_set}


def note_call(run_dir: Path, environment: dict) -> list[dict]:
    """Keep this call's environment beside the checkpoints; returns those of all calls so far."""
    path = run_dir / "calls.json"
    calls = json.loads(path.read_text()) if path.is_file() else []
    calls.append(environment)
    write_atomically(path, json.dumps(calls, indent=1).encode())
    return calls


def _has_ended(run_id: str, store: Store, run_dir: Path) -> bool:
    """Is what lies in the run's folder of a run to its end, and not of one that was stopped?"""
    return store.find_local(run_id) is not None or (run_dir / RUN_WEIGHTS).is_file()


def set_aside(run_id: str, store: Store, run_dir: Path) -> None:
    """Rename this checkout's record, and what its run left, to `stale-<time>`: nothing is lost."""
    mark = f"stale-{datetime.now(UTC):%Y-%m-%dT%H%M%S.%f}"
    path = store.local / f"{run_id}.json"
    if path.is_file():
        path.rename(path.with_name(f"{path.name}.{mark}"))
    left = [path for path in run_dir.iterdir() if path.name != LOCK and "stale-" not in path.name]
    for path in left:
        path.rename(run_dir / f"{mark}-{path.name}")


def build_teacher(
    recipe: Recipe, store: Store, runs_dir: Path, num_classes: int
) -> tuple[nn.Module, dict[str, str]]:
    """The teacher of a recipe with distillation, by its run's record; a smoke run's is untrained.

    Returns:
        The model, and the run id and SHA-256 of its weights, for the student's record.

    Raises:
        FileNotFoundError: its run has no record, or no weights here.
        OSError: other weights than its record names.
        ValueError: the recipe of its name is another one by now.
    """
    run_id = recipe.distillation.teacher
    name, seed = recipe.distillation.teacher_recipe
    record = store.find_local(run_id) or store.find(run_id)  # of the weights in runs/
    if recipe.budget == "smoke":
        model = get_recipe(name, seed=seed).build_model(num_classes)
        return model, {"run_id": run_id, "weights_sha256": hash_weights(model)}
    if record is None:
        raise FileNotFoundError(
            f"{recipe.run_id} is taught by {run_id}, which has no record; train that first: "
            f"`nest train {name} --seed {seed}`"
        )
    sha256 = record.summary["weights_sha256"]
    teacher = from_dict(record.recipe)
    model = build_run(teacher, num_classes, weights_path(teacher, runs_dir), sha256)
    return model, {"run_id": run_id, "weights_sha256": sha256}


def summarize(result: TrainResult, num_params: int, device: torch.device) -> dict:
    """What a table shows of a run. The accuracy is the last epoch's, not the best on test.

    Its keys begin with the split that the run was evaluated on: test or held_out.
    """
    last = result.history[-1]
    scored = next(key.partition("/")[0] for key in last if key.endswith("/top1"))
    return {
        **{key: last[key] for key in (f"{scored}/top1", f"{scored}/loss")},
        **({f"{scored}/right": result.right} if result.right else {}),
        "reported_epoch": last["epoch"],
        "num_params": num_params,
        **_describe_end(result, device),
    }


def summarize_gan(
    result: TrainResult, num_params: int, discriminator_params: int, device: torch.device
) -> dict:
    """What is said of a GAN's run: how it ended, and the last row's pixel distance.

    Scores of its samples are another measurement, made of the weights that it leaves.
    """
    last = result.history[-1] if result.history else {}
    return {
        "status": "failed" if result.failure else "finished",
        **({"failure": result.failure} if result.failure else {}),
        "sample/pixel_distance": last.get("sample/pixel_distance"),
        "reported_step": last.get("step"),
        "num_params": num_params,
        "discriminator_params": discriminator_params,
        **_describe_end(result, device),
    }


def _describe_end(result: TrainResult, device: torch.device) -> dict:
    end = {
        "train_seconds": round(result.train_seconds, 1),
        "weights_sha256": result.weights_sha256,
    }
    if device.type == "cuda":  # of a resumed run, its last call's
        end["peak_memory_mb"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return end
