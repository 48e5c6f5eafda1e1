"""Carry out a recipe and leave its record: recipe -> data -> model -> training -> record."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from joblib import Parallel, delayed
from torch import nn
from tqdm import tqdm

from nestlib.data.datasets import FolderSet, ImageSet, load_dataset
from nestlib.files import write_atomically
from nestlib.measure.cost import count_params
from nestlib.models.weights import hash_weights
from nestlib.recipe import Recipe, from_dict, to_dict
from nestlib.recipes import get_recipe
from nestlib.records import (
    Record,
    Store,
    describe_environment,
    find_project_root,
    timestamp,
)  # fmt: skip
from nestlib.trained import build_run, weights_path
from nestlib.training.classifier import TrainResult, train
from nestlib.training.devices import Ranks, resolve_device
from nestlib.training.seeding import derive_seed


def carry_out(
    recipe: Recipe, store: Store, *, data_dir: Path | None = None, runs_dir: Path | None = None,
    device: str = "auto", max_seconds: float | None = None, checkpoint_seconds: float = 300,
    progress_bar: bool = True, committed: bool = False, download: bool = False,
) -> Record | None:  # fmt: skip
    """Train a recipe to its end and write its record; go on where an earlier call stopped.

    A recipe that has a record is not trained again: its record is returned. A smoke run always
    runs, from nothing.

    Returns:
        The record, or None when the run stopped before its end (time limit, SIGTERM): the same
        call goes on from its checkpoint.

    Raises:
        DeviceError, NonFiniteLoss, CheckpointError, ValueError, FileNotFoundError: see there.
    """
    deadline = None if max_seconds is None else time.monotonic() + max(1.0, max_seconds)
    smoke = recipe.budget == "smoke"
    found = None if smoke else store.find(recipe.run_id)
    if found is not None:
        return found
    where = resolve_device(device)
    if where.type == "cuda":
        torch.cuda.reset_peak_memory_stats(where)
    train_set, test_set = load_sets(recipe, data_dir=data_dir, download=download)
    torch.manual_seed(derive_seed(recipe.seed, 3))  # initial weights are part of the seed
    model = recipe.build_model(train_set.num_classes)
    with tempfile.TemporaryDirectory() as nowhere:  # a smoke run starts from nothing, always
        runs_dir = Path(nowhere) if smoke else runs_dir or find_project_root() / "runs"
        run_dir = runs_dir / recipe.run_id
        teacher, lesson = None, {}
        if recipe.distillation:
            teacher, lesson["teacher"] = build_teacher(
                recipe, store, runs_dir, train_set.num_classes
            )
        calls = [describe_environment(where) | lesson]
        if Ranks.join(where).is_main:  # the others' record is never written
            calls = note_call(run_dir, calls[0])
        result = train(
            recipe, model, train_set, test_set, run_dir=run_dir, device=where, teacher=teacher,
            deadline=deadline, checkpoint_seconds=checkpoint_seconds, progress_bar=progress_bar,
        )  # fmt: skip
    if not result.finished:
        return None
    record = Record(
        run_id=recipe.run_id, kind="train", recipe=to_dict(recipe),
        environment={
            **calls[-1],
            "finished": timestamp(),
            "earlier_calls": calls[:-1],  # a run that was stopped and resumed has several
            "data": {
                split.split: {"fingerprint": split.fingerprint, "images": len(split)}
                for split in (train_set, test_set)
            },
        },
        summary=summarize(result, count_params(model), where),
        epochs=result.history,
    )  # fmt: skip
    if result.is_main:
        store.add(record, committed=committed)
    return record


def note_call(run_dir: Path, environment: dict) -> list[dict]:
    """Keep this call's environment beside the checkpoints; returns those of all calls so far."""
    path = run_dir / "calls.json"
    calls = json.loads(path.read_text()) if path.is_file() else []
    calls.append(environment)
    write_atomically(path, json.dumps(calls, indent=1).encode())
    return calls


def collect(
    plan: Mapping[str, Sequence[Recipe]], store: Store, *, processes: int = 1,
    device: str = "auto", **how,
) -> dict[str, list[Record]]:  # fmt: skip
    """The records of each row's recipes: those that exist are loaded, the missing ones are run.

    On a CPU, missing runs go to `processes` single-threaded workers: models this small gain more
    from two runs side by side than from two threads in one. A GPU takes one run at a time. `how`
    goes to `carry_out`.
    """
    recipes = [recipe for row in plan.values() for recipe in row]
    missing = [r for r in recipes if r.budget == "smoke" or store.find(r.run_id) is None]
    on_cpu = resolve_device(device).type == "cpu"
    how |= {"device": device, "progress_bar": not on_cpu}
    jobs = [delayed(_carry_out)(recipe, store, 1 if on_cpu else None, how) for recipe in missing]
    done = Parallel(processes if on_cpu else 1, return_as="generator_unordered")(jobs)
    for _ in tqdm(done, desc="training", total=len(jobs), unit="run", disable=not jobs):
        pass
    found = {name: [store.find(recipe.run_id) for recipe in row] for name, row in plan.items()}
    return {name: [record for record in row if record] for name, row in found.items()}


def _carry_out(recipe: Recipe, store: Store, threads: int | None, how: dict) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        carry_out(recipe, store, **how)
    finally:
        torch.set_num_threads(before)


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
    record = store.find(run_id)
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


def load_sets(
    recipe: Recipe, *, data_dir: Path | None = None, download: bool = False
) -> tuple[ImageSet | FolderSet, ImageSet | FolderSet]:
    """Training and test set of a recipe, cut to its limits."""
    options = {"data_dir": data_dir, "image_size": recipe.image_size, "download": download}
    sets = []
    for split, limit in (("train", recipe.train_limit), ("test", recipe.test_limit)):
        images = load_dataset(recipe.dataset, split, **options, **recipe.dataset_options)
        sets.append(images if limit is None else take(images, limit))
    return sets[0], sets[1]


def take(images: ImageSet | FolderSet, limit: int) -> ImageSet | FolderSet:
    """`limit` images of a set, drawn once and for all: equal for every recipe and seed.

    Raises:
        ValueError: the set has fewer.
    """
    if limit > len(images):
        raise ValueError(f"{images.name} {images.split} has {len(images)} images, not {limit}")
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:limit]
    names = ("images", "labels", "files", "boxes", "box_labels")
    parts = {name: getattr(images, name, None) for name in names}
    return replace(images, **{k: part[chosen] for k, part in parts.items() if part is not None})


def summarize(result: TrainResult, num_params: int, device: torch.device) -> dict:
    """What a table shows of a run. The accuracy is the last epoch's, not the best on test."""
    last = result.history[-1]
    summary = {
        "test/top1": last["test/top1"],
        "test/loss": last["test/loss"],
        "reported_epoch": last["epoch"],
        "num_params": num_params,
        "train_seconds": round(result.train_seconds, 1),
        "weights_sha256": result.weights_sha256,
    }
    if device.type == "cuda":  # of a resumed run, its last call's
        peak = torch.cuda.max_memory_allocated(device)
        summary["peak_memory_mb"] = round(peak / 2**20, 1)
    return summary
