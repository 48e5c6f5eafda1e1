"""Carry out a recipe and leave its record: recipe -> data -> model -> training -> record."""

import json
import tempfile
import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import torch
from torch import nn

from nestlib.data.datasets import FolderSet, ImageSet, dataset_info
from nestlib.files import hold, write_atomically
from nestlib.json_files import read_json
from nestlib.metrics.cost import count_params
from nestlib.models.weights import hash_weights
from nestlib.precision import resolve_precision
from nestlib.project import find_project_root
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import GanRecipe, Recipe, to_dict
from nestlib.record_checks import check_calls
from nestlib.records import Record, Store, describe_environment, timestamp
from nestlib.runs.staleness import find_fresh, probe
from nestlib.runs.subsets import load_sets, load_split
from nestlib.runs.weights import Weights, count_classes, weights_path
from nestlib.training import classifier, gan
from nestlib.training.devices import RANK_TIMEOUT, Ranks, count_ranks, resolve_device
from nestlib.training.loop import CHECKPOINTS, RUN_WEIGHTS, TrainResult
from nestlib.training.seeding import derive_seed

Images = ImageSet | FolderSet
Trained = tuple[TrainResult, dict]  # and the run's own part of the summary
LOCK = "lock"  # in a run's folder


def carry_out(
    recipe: Recipe | GanRecipe, store: Store, *, data_dir: Path | None = None,
    runs_dir: Path | None = None, device: str = "auto", max_seconds: float | None = None,
    checkpoint_seconds: float = 300, progress_bar: bool = True, committed: bool = False,
    download: bool = False, micro_batch: int | None = None, step: str = "",
    rank_timeout: float = RANK_TIMEOUT, again: bool = False,
) -> Record | None:  # fmt: skip
    """Train a recipe to its end, or resume it, and write its record.

    A recipe that has a record is not trained again: its record is returned. Where it is stale (see
    `find_fresh`) the run starts again, and what an earlier run left in runs/ is set aside. A
    committed record stays where it is. A smoke run always runs, from nothing. A GAN that diverged
    has a record too, whose summary has the status "failed" and the reason. No run is made by two
    processes at a time.

    Args:
        again: train though there is a record, as where it is stale.
        micro_batch: at most so many images of a step go through a classifier at once.
        step: how a GPU gets a classifier's step (nestlib.training.classifier.STEPS).
        rank_timeout: seconds that ranks wait for one another before the group is lost.

    Returns:
        The record, or None when the run stopped before its end (a time limit, or one of
        nestlib.signals.STOP_SIGNALS): the same call resumes from its checkpoint, or starts a smoke
        run again.

    Raises:
        Held: another process is at this very run.
        DeviceError, NonFiniteLoss, CheckpointError, ValueError, FileNotFoundError: see there.
    """
    deadline = None if max_seconds is None else time.monotonic() + max(1.0, max_seconds)
    smoke, known = recipe.budget == "smoke", store.find_all(recipe.run_id)
    found = None if smoke or again else find_fresh(recipe, store, data_dir)
    if found is not None and count_ranks() == 1:
        return found
    where = resolve_device(device)
    resolve_precision(recipe.precision, where)  # warns where it is emulated
    how = {
        "device": where, "data_dir": data_dir, "download": download, "committed": committed,
        "deadline": deadline, "checkpoint_seconds": checkpoint_seconds,
        "progress_bar": progress_bar,
    }  # fmt: skip
    if isinstance(recipe, Recipe):
        how |= {"micro_batch": micro_batch, "step": step}
    elif micro_batch or step:
        raise ValueError(
            "micro_batch and step are for classifiers; a GAN's ranks train on their whole share "
            "in eager mode"
        )
    ranks = Ranks.join(where, rank_timeout)
    # Each rank looked by itself: another process may have ended the run between two looks.
    found, *_ = ranks.together(lambda: found)
    if found is not None:
        return found
    if smoke:
        with tempfile.TemporaryDirectory() as nowhere:
            return _run(recipe, store, runs_dir=Path(nowhere), **how)
    how["runs_dir"] = runs_dir or find_project_root() / "runs"
    return _run_alone(recipe, store, known, again, ranks, **how)


def has_begun(run_dir: Path) -> bool:
    """Whether a run has left a checkpoint."""
    return any((run_dir / CHECKPOINTS).glob("step-*.pt"))


def describe_stop(
    recipe: Recipe | GanRecipe, following: str, runs_dir: Path | None = None
) -> str:  # fmt: skip
    """Say what `following` does with a run that stopped before its end."""
    if recipe.budget == "smoke":  # its folder is gone
        return f"a smoke run keeps nothing: {following} starts it again"
    if not has_begun((runs_dir or find_project_root() / "runs") / recipe.run_id):
        return f"it had no time for a step: {following} starts it again"
    return f"{following} resumes from its checkpoint"


def _run_alone(
    recipe: Recipe | GanRecipe, store: Store, known: list[Record], again: bool, ranks: Ranks, *,
    runs_dir: Path, **how,
) -> Record | None:  # fmt: skip
    """Call `_run` while no other process can make the same run. An old record is set aside; one
    that is not among the `known` was just made by another process, and is returned."""
    run_dir = runs_dir / recipe.run_id
    with ExitStack() as lock:

        def claim() -> Record | None:
            if not ranks.is_main:  # the main rank holds the run for all
                return None
            lock.enter_context(hold(run_dir / LOCK))
            standing = store.find_all(recipe.run_id)
            ended = [record for record in standing if record not in known]
            if ended and not again:
                return ended[0]
            # What a stopped run left stays: this one goes on from it.
            if standing and (store.find_local(recipe.run_id) or (run_dir / RUN_WEIGHTS).is_file()):
                set_aside(recipe.run_id, store, run_dir)
            return None

        ended, *_ = ranks.together(claim)
        return ended or _run(recipe, store, runs_dir=runs_dir, **how)


def _run(
    recipe: Recipe | GanRecipe, store: Store, *, runs_dir: Path, device: torch.device,
    data_dir: Path | None, download: bool, committed: bool, **how,
) -> Record | None:  # fmt: skip
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    run_dir, ranks = runs_dir / recipe.run_id, Ranks.join(device)
    environment = describe_environment(device) | {
        "ranks": ranks.size, "micro_batch": how.get("micro_batch"), "step": how.get("step") or None
    }  # fmt: skip
    is_gan, where = isinstance(recipe, GanRecipe), {"data_dir": data_dir, "download": download}
    sets = _load_images(recipe, **where)
    if not is_gan and recipe.distillation:
        how["teacher"], environment["teacher"] = build_teacher(
            recipe, store, runs_dir, sets[0].identifiers
        )
    # The record of the other ranks is never written.
    calls = note_call(run_dir, environment) if ranks.is_main else [environment]
    result, summary = (_train_gan if is_gan else _train_classifier)(
        recipe, *sets, run_dir=run_dir, device=device, **how
    )
    if not result.finished and not result.failure:
        return None
    record = Record(
        run_id=recipe.run_id, kind="gan" if is_gan else "train", recipe=to_dict(recipe),
        environment={
            **calls[-1],
            "finished": timestamp(),
            "earlier_calls": calls[:-1],  # a run that was stopped and resumed has several
            "data": {images.split: _describe_data(images) for images in sets},
        },
        summary=summary | _describe_end(result, device),
        epochs=result.history,
    )  # fmt: skip
    if result.is_main:
        if not is_gan and recipe.budget != "smoke":
            record.environment["probe"] = probe(recipe)
        store.add(record, committed=committed)
    return record


def _load_images(recipe: Recipe | GanRecipe, **where) -> Sequence[Images]:
    if isinstance(recipe, GanRecipe):
        return [load_split(recipe, "train", recipe.train_limit, **where)]
    return load_sets(recipe, **where)


def _train_classifier(recipe: Recipe, train_set: Images, test_set: Images, **how) -> Trained:
    """Train a classifier. Its summary has the last epoch's accuracy, not the best on test. Keys
    begin with the split that the run was evaluated on: test or held_out."""
    torch.manual_seed(derive_seed(recipe.seed, 3))  # initial weights are part of the seed
    model = recipe.build_model(train_set.num_classes)
    result = classifier.train(recipe, model, train_set, test_set, **how)
    if not result.finished:
        return result, {}
    last, split = result.history[-1], test_set.split
    summary = {
        **{key: last[key] for key in (f"{split}/top1", f"{split}/loss")},
        **({f"{split}/right": result.right} if result.right else {}),
        "reported_epoch": last["epoch"],
        "num_params": count_params(model),
    }
    return result, summary


def _train_gan(recipe: GanRecipe, train_set: Images, **how) -> Trained:
    """How the run ended, and the last row's pixel distance. Scores of its samples are another
    measurement, made of the weights that it leaves."""
    torch.manual_seed(derive_seed(recipe.seed, 3))
    generator, discriminator = recipe.build_generator(), recipe.build_discriminator()
    result = gan.train(recipe, generator, discriminator, train_set, **how)
    last = result.history[-1] if result.history else {}
    summary = {
        "status": "failed" if result.failure else "finished",
        **({"failure": result.failure} if result.failure else {}),
        "sample/pixel_distance": last.get("sample/pixel_distance"),
        "reported_step": last.get("step"),
        "num_params": count_params(generator),
        "discriminator_params": count_params(discriminator),
    }
    return result, summary


def _describe_data(images: Images) -> dict:
    found = {
        "fingerprint": images.fingerprint, "images": len(images),
        "class_names": list(images.identifiers),
    }  # fmt: skip
    return found if images.faults is None else found | {"unreadable": images.faults.describe()}


def _describe_end(result: TrainResult, device: torch.device) -> dict:
    end = {
        "train_seconds": round(result.train_seconds, 1),
        "weights_sha256": result.weights_sha256,
    }
    if device.type == "cuda":  # of a resumed run, its last call's
        end["peak_memory_mb"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return end


def note_call(run_dir: Path, environment: dict) -> list[dict]:
    """Keep this call's environment beside the checkpoints; returns those of all calls so far.

    A damaged file is named in a warning and set aside: the run goes on without its earlier calls.
    """
    path = run_dir / "calls.json"
    calls = [*_earlier_calls(path), environment]
    write_atomically(path, json.dumps(calls, indent=1).encode())
    return calls


def _earlier_calls(path: Path) -> list[dict]:
    try:
        calls = read_json(path)
        check_calls(calls)
        return calls
    except FileNotFoundError:
        return []
    except ValueError as error:
        reason = str(error)
    aside = path.replace(path.with_name(f"{path.name}.damaged"))
    warnings.warn(
        f"{path} is damaged ({reason}): the record will not name this run's earlier calls; the "
        f"file is kept as {aside.name}",
        stacklevel=3,
    )
    return []


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
    recipe: Recipe, store: Store, runs_dir: Path, class_names: Sequence[str] = ()
) -> tuple[nn.Module, dict[str, str]]:
    """The teacher of a recipe with distillation, by its run's record; a smoke run's is untrained.

    Args:
        class_names: what the student tells apart. Default: all classes of its data set.

    Returns:
        The model, and the run id and SHA-256 of its weights, for the student's record.

    Raises:
        FileNotFoundError: its run has no record, or no weights here.
        OSError: other weights than its record names.
        ValueError: it tells other classes apart than the recipe's.
    """
    run_id = recipe.distillation.teacher
    num_classes = len(class_names) or dataset_info(recipe.dataset).num_classes
    name, seed = recipe.distillation.teacher_recipe
    if recipe.budget == "smoke":
        model = get_recipe(name, seed=seed).build_model(num_classes)
        return model, {"run_id": run_id, "weights_sha256": hash_weights(model)}
    record = store.find_local(run_id) or store.find(run_id)  # of the weights in runs/
    if record is None:
        raise FileNotFoundError(
            f"{recipe.run_id} is taught by {run_id}, which has no record; train that first: "
            f"`nest train {name} --seed {seed}`"
        )
    teacher = record.make_recipe()
    known, named = count_classes(teacher, record), record.class_names
    if known != num_classes or (named and class_names and named != list(class_names)):
        alike = " others" if known == num_classes else ""
        raise ValueError(
            f"{recipe.run_id} has {num_classes} classes and its teacher {run_id} has "
            f"{known}{alike}; take a teacher trained on the same classes of {recipe.dataset}"
        )
    model = Weights(teacher, weights_path(teacher, runs_dir), record).load()
    return model, {"run_id": run_id, "weights_sha256": record.summary["weights_sha256"]}
