"""Carry out a recipe and leave its record: recipe -> data -> model -> training -> record."""

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from joblib import Parallel, delayed
from tqdm import tqdm

from nestlib.data.datasets import FolderSet, ImageSet, load_dataset
from nestlib.files import write_atomically
from nestlib.measure.cost import count_params
from nestlib.recipe import GanRecipe, Recipe, to_dict
from nestlib.records import (
    Record,
    Store,
    describe_environment,
    find_project_root,
    timestamp,
)  # fmt: skip
from nestlib.training import classifier, gan
from nestlib.training.devices import Ranks, resolve_device
from nestlib.training.loop import TrainResult
from nestlib.training.seeding import derive_seed

Sets = dict[str, ImageSet | FolderSet]  # by split


def carry_out(
    recipe: Recipe | GanRecipe, store: Store, *, data_dir: Path | None = None,
    runs_dir: Path | None = None, device: str = "auto", max_seconds: float | None = None,
    checkpoint_seconds: float = 300, progress_bar: bool = True, committed: bool = False,
    download: bool = False,
) -> Record | None:  # fmt: skip
    """Train a recipe to its end and write its record; go on where an earlier call stopped.

    A recipe that has a record is not trained again: its record is returned. A smoke run always
    runs, from nothing. A GAN that diverged has a record too, whose summary has the status "failed"
    and the reason; delete it to try again.

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
    train_run = _train_gan if isinstance(recipe, GanRecipe) else _train_classifier
    with tempfile.TemporaryDirectory() as nowhere:  # a smoke run starts from nothing, always
        runs_dir = Path(nowhere) if smoke else runs_dir or find_project_root() / "runs"
        run_dir = runs_dir / recipe.run_id
        calls = [describe_environment(where)]
        if Ranks.join(where).is_main:  # the others' record is never written
            calls = note_call(run_dir, calls[0])
        result, summary, sets = train_run(
            recipe, {"data_dir": data_dir, "download": download}, run_dir=run_dir, device=where,
            deadline=deadline, checkpoint_seconds=checkpoint_seconds, progress_bar=progress_bar,
        )  # fmt: skip
    if not result.finished and not result.failure:
        return None
    record = Record(
        run_id=recipe.run_id, kind="gan" if isinstance(recipe, GanRecipe) else "train",
        recipe=to_dict(recipe),
        environment={
            **calls[-1],
            "finished": timestamp(),
            "earlier_calls": calls[:-1],  # a run that was stopped and resumed has several
            "data": {
                split: {"fingerprint": images.fingerprint, "images": len(images)}
                for split, images in sets.items()
            },
        },
        summary=summary,
        epochs=result.history,
    )  # fmt: skip
    if result.is_main:
        store.add(record, committed=committed)
    return record


def _train_classifier(
    recipe: Recipe, where: dict, *, device: torch.device, **how
) -> tuple[TrainResult, dict, Sets]:
    train_set, test_set = load_sets(recipe, **where)
    torch.manual_seed(derive_seed(recipe.seed, 3))  # initial weights are part of the seed
    model = recipe.build_model(train_set.num_classes)
    result = classifier.train(recipe, model, train_set, test_set, device=device, **how)
    summary = summarize(result, count_params(model), device) if result.finished else {}
    return result, summary, {"train": train_set, "test": test_set}


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


def collect(
    plan: Mapping[str, Sequence[Recipe | GanRecipe]], store: Store, *, processes: int = 1,
    device: str = "auto", **how,
) -> dict[str, list[Record]]:  # fmt: skip
    """The records of each row's recipes: those that exist are loaded, the missing ones are run.

    On a CPU, missing runs go to `processes` single-threaded workers: models this small gain more
    from two runs side by side than from two threads in one. A GPU takes one run at a time. A run
    that is missing alone has all threads, and its own progress bar. `how` goes to `carry_out`.
    """
    recipes = [recipe for row in plan.values() for recipe in row]
    missing = [r for r in recipes if r.budget == "smoke" or store.find(r.run_id) is None]
    side_by_side = resolve_device(device).type == "cpu" and len(missing) > 1
    how |= {"device": device, "progress_bar": not side_by_side}
    threads = 1 if side_by_side else None
    jobs = [delayed(_carry_out)(recipe, store, threads, how) for recipe in missing]
    done = Parallel(processes if side_by_side else 1, return_as="generator_unordered")(jobs)
    for _ in tqdm(done, desc="training", total=len(jobs), unit="run", disable=not jobs):
        pass
    found = {name: [store.find(recipe.run_id) for recipe in row] for name, row in plan.items()}
    return {name: [record for record in row if record] for name, row in found.items()}


def _carry_out(recipe: Recipe | GanRecipe, store: Store, threads: int | None, how: dict) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        carry_out(recipe, store, **how)
    finally:
        torch.set_num_threads(before)


def load_sets(
    recipe: Recipe, *, data_dir: Path | None = None, download: bool = False
) -> tuple[ImageSet | FolderSet, ImageSet | FolderSet]:
    """Training and test set of a recipe, cut to its limits."""
    options = {"data_dir": data_dir, "download": download}
    return (
        load_split(recipe, "train", recipe.train_limit, **options),
        load_split(recipe, "test", recipe.test_limit, **options),
    )


def load_split(
    recipe: Recipe | GanRecipe, split: str, limit: int | None = None, *,
    data_dir: Path | None = None, download: bool = False,
) -> ImageSet | FolderSet:  # fmt: skip
    """One split of a recipe's data, cut to `limit` images where one is given."""
    images = load_dataset(
        recipe.dataset, split, data_dir=data_dir, image_size=recipe.image_size, download=download,
        **recipe.dataset_options,
    )  # fmt: skip
    return images if limit is None else take(images, limit)


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
    return {
        "test/top1": last["test/top1"],
        "test/loss": last["test/loss"],
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
