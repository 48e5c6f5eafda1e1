"""Score trained models on a data set: find their weights, and write their records.

Published weights come from timm's repositories on the Hugging Face hub, our own from finished runs.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import LocalEntryNotFoundError
from timm.models import get_pretrained_cfg
from torch import nn

from nestbook.evaluations.published import view_of
from nestbook.evaluations.standing import NO_RECORD, why_none
from nestbook.peers import PUBLISHED
from nestbook.records import Failure, add_record, short_hash
from nestlib.data.datasets import DatasetInfo, FolderSet, ImageSet, dataset_info, load_dataset
from nestlib.data.views import View
from nestlib.metrics.accuracy import Candidate, measure_accuracy
from nestlib.metrics.cost import count_params
from nestlib.metrics.intervals import sampling_half_width
from nestlib.models import create_model
from nestlib.models.weights import hash_weights
from nestlib.precision import resolve_precision
from nestlib.recipes.named import get_recipe, list_recipes
from nestlib.recipes.recipe import GanRecipe
from nestlib.records import Record, Store, describe_environment
from nestlib.runs.subsets import take
from nestlib.runs.weights import find_run, find_weights, load_run
from nestlib.training.devices import resolve_device

WEIGHTS_FILE = "model.safetensors"  # in each of timm's repositories
IMAGENET_CLASSES = ("imagenet", "tiny_imagenet", "tiny_imagenet_200")  # sets of (some of) them
BATCH_SIZES = {"cpu": 16, "cuda": 64}

Facts = dict[str, Any]


class HubUnreachable(OSError):
    """Weights are not in the cache, and the hub cannot be reached."""


class NotScored(RuntimeError):
    """Models of a table could not be scored; the message names each and why."""


def stop_at_failures(*results: Mapping[str, Record | str]) -> None:
    """Raise NotScored if results failed: the last call of a notebook or command with their table.

    Raises:
        NotScored: there is a Failure among the results; each is named.
    """
    failed = {k: v for group in results for k, v in group.items() if isinstance(v, Failure)}
    if failed:
        listed = "".join(f"\n  {name}: {failure}" for name, failure in failed.items())
        raise NotScored(f"{len(failed)} not scored; what was scored is kept:{listed}")


@dataclass(frozen=True)
class _Request:
    """One model to be scored.

    identity is all that decides its accuracy, set_options is what `load_dataset` is given, and
    published timm's name of weights to be fetched before `build` makes the model.
    """

    name: str
    identity: Facts
    view: View
    set_options: Facts
    build: Callable[[], nn.Module]
    published: str | None = None

    @property
    def run_id(self) -> str:
        slug = re.sub(r"[^a-z0-9_]+", "-", self.name.lower())
        return f"evaluate/{self.identity['dataset']}/{slug}-{short_hash(self.identity)}"


def evaluate(
    names: Iterable[str], store: Store, *, dataset: str, data_dir: Path | None = None,
    device: str = "auto", precision: str = "fp32", batch_size: int | None = None,
    limit: int | None = None, seed: int = 0, runs_dir: Path | None = None,
    committed: bool = False, progress: bool = True, again: bool = False,
) -> dict[str, Record | str]:  # fmt: skip
    """The record of each model's accuracy on a test set, or a Failure: why there is none.

    Found records are loaded, nothing is built for them; the other models are scored together, in
    one pass over the images where memory allows. Without images that is all that can be had.

    Args:
        names: models with published weights (nestlib.models.PUBLISHED), or recipes, whose finished
            run must be in the store and its weights in `runs_dir`/<run id>/ or committed.
        batch_size: default BATCH_SIZES; it decides the time, not the accuracy.
        limit: score that many images, drawn once and for all; a check of the path, no result, so
            it is always made again, and the set may be a part of the published one.
        seed: of the recipes' runs.
        runs_dir: default runs/.
        again: score all, as where images or weights of the same name are others now.

    Returns:
        By name, a record or a Failure: no network for the weights, a checksum that differs, no such
        run, a library or images that are missing, memory that runs out.

    Raises:
        ValueError: an unknown data set, precision or name, or a model of other classes.
        DeviceError: the device cannot be used.
    """
    info, where = dataset_info(dataset), resolve_device(device)
    precision = resolve_precision(precision, where)
    if limit is not None and limit < 1:
        raise ValueError(f"limit {limit} would score nothing; use 1 or more, or no limit for all")
    how = {"dataset": dataset, "limit": limit, "precision": precision}
    names = list(dict.fromkeys(names))
    results: dict[str, Record | str] = {}
    # One pass serves all but runs on embedded data that is drawn with options of its own.
    missing: dict[str, list[_Request]] = {}
    for name in names:
        try:
            request = (
                _request_published(name, how) if name in PUBLISHED
                else _request_run(name, how, info, seed, store, runs_dir, again)
            )  # fmt: skip
        except (OSError, RuntimeError, ImportError) as error:
            results[name] = Failure.of(error)
            continue
        found = None if limit or again else store.find(request.run_id)
        if found is None and not store.read_only:
            missing.setdefault(json.dumps(request.set_options), []).append(request)
        else:
            why = why_none(request.run_id[:-8], store, runs_dir)  # the rest is the hash
            results[name] = found or why or NO_RECORD
    for together in missing.values():
        try:
            images = _load_images(info, data_dir, limit, together[0].set_options)
        except (OSError, ValueError) as error:
            results |= {request.name: Failure.of(error) for request in together}
            continue
        results |= _score(
            together, images, store, committed, device=where, precision=precision,
            batch_size=BATCH_SIZES[where.type] if batch_size is None else batch_size,
            progress=progress,
        )  # fmt: skip
    return {name: results[name] for name in names}


def evaluate_table2(
    store: Store, imagenet_dir: str = "", *, limit: int = 0, device: str = "auto",
    precision: str = "fp32",
) -> dict[str, Record | str]:  # fmt: skip
    """Table 2's rows by their published weights, as `evaluate` scores them on ImageNet.

    Args:
        imagenet_dir: the folder that holds val/; "" loads what records there are, no more.
        limit: 0 scores all images.
    """
    how = {"dataset": "imagenet", "limit": limit or None, "precision": precision}
    if imagenet_dir:
        return evaluate(PUBLISHED, store, data_dir=imagenet_dir, device=device, **how)
    found = {name: store.find(_request_published(name, how).run_id) for name in PUBLISHED}
    return {name: record for name, record in found.items() if record is not None}


def _request_published(name: str, how: Facts) -> _Request:
    if how["dataset"] not in IMAGENET_CLASSES:
        raise ValueError(
            f"{name} has published weights for ImageNet's classes, but {how['dataset']} has "
            f"others; choose one of {', '.join(IMAGENET_CLASSES)}"
        )
    weights = PUBLISHED[name]
    view = view_of(get_pretrained_cfg(weights, allow_unregistered=False))
    identity = {"name": name, "weights": weights, "view": asdict(view), **how}
    build = partial(create_model, name, pretrained=True, num_classes=1000, img_size=view.image_size)
    return _Request(name, identity, view, {}, build, weights)


def _request_run(
    name: str, how: Facts, info: DatasetInfo, seed: int, store: Store, runs_dir: Path | None,
    again: bool,
) -> _Request:  # fmt: skip
    if name not in list_recipes():
        raise ValueError(
            f"{name!r} is neither a recipe (`nest recipes`) nor a model with published weights: "
            f"{', '.join(PUBLISHED)}"
        )
    recipe = get_recipe(name, seed=seed)
    if isinstance(recipe, GanRecipe):
        raise ValueError(f"{name} trains a generator, which has no accuracy")
    if recipe.dataset != info.name:
        raise ValueError(
            f"{name} is trained on {recipe.dataset}'s classes, but {info.name} has others; score "
            f"it on {recipe.dataset}"
        )
    # The view is what the trainer itself evaluates on: images of a given size as they are, files
    # by the test protocol of nestlib.data.folders.
    any_size = not info.image_sizes
    view = View(recipe.image_size, 0.875 if any_size else 1.0, "bilinear", info.mean, info.std)
    options = {**recipe.dataset_options} | ({} if any_size else {"image_size": recipe.image_size})
    trained = find_run(recipe, store, runs_dir)
    options |= {"class_names": trained.class_names} if trained.class_names else {}
    identity = {
        "name": name, "weights": recipe.run_id,
        "weights_sha256": trained.summary["weights_sha256"], "view": asdict(view),
        "dataset_options": recipe.dataset_options, **how,
    }  # fmt: skip
    build = partial(load_run, recipe, store, runs_dir)
    scored = _Request(name, identity, view, options, build)
    found = not (again or how["limit"]) and store.find(scored.run_id) is not None
    if found or store.read_only:
        return scored  # its weights need not be here
    weights = find_weights(recipe, store, runs_dir)
    identity |= {"weights_sha256": weights.record.summary["weights_sha256"]}
    if weights.rounded:
        identity["rounded_to"] = "fp16"
    return replace(scored, identity=identity)


def fetch_weights(timm_name: str, *, offline: bool = False) -> Facts:
    """Fetch published weights into the hub's cache, and check them before anything reads them.

    Args:
        offline: look into the cache alone.

    Returns:
        weights_file, its SHA-256 as fetched (file_sha256) and as the hub states it (hub_sha256).

    Raises:
        HubUnreachable: not in the cache, and the hub does not answer.
        OSError: the checksums differ.
    """
    repo = get_pretrained_cfg(timm_name).hf_hub_id
    title = f"{repo}/{WEIGHTS_FILE}"
    try:
        path = Path(hf_hub_download(repo, WEIGHTS_FILE, local_files_only=offline))
    except LocalEntryNotFoundError as error:
        raise HubUnreachable(
            f"{title} is not in the cache and the Hugging Face hub does not answer; connect to the "
            f"network, or run `hf download {repo} {WEIGHTS_FILE}` on a machine that has one and "
            "copy its cache here"
        ) from error
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    # A large file's entity tag is its SHA-256, and by its tag the cache names a file.
    stated = path.resolve().name
    if not re.fullmatch("[0-9a-f]{64}", stated):  # a system without links
        stated = get_hf_file_metadata(hf_hub_url(repo, WEIGHTS_FILE)).etag
    if found != stated:
        raise OSError(
            f"{title} has SHA-256 {found}, but the hub states {stated}; delete {path.resolve()} "
            "and fetch it again"
        )
    return {"weights_file": title, "file_sha256": found, "hub_sha256": stated}


def _load_images(
    info: DatasetInfo, data_dir: Path | None, limit: int | None, options: Facts
) -> ImageSet | FolderSet:
    if limit is not None and info.name == "imagenet":
        options = options | {"partial": True}
    images = load_dataset(info.name, "test", data_dir=data_dir, **options)
    if limit is not None:
        return take(images, limit)
    published = options.get("num_images", info.num_images("test"))
    if len(images) != published:  # its record would be taken for one of the whole set
        raise ValueError(
            f"{info.name} has {published} test images, but {len(images)} were found; fetch the "
            f"whole set, or score a part of it with a limit of up to {len(images)} images"
        )
    return images


def _score(
    requests: list[_Request], images: ImageSet | FolderSet, store: Store, committed: bool, **how
) -> dict[str, Record | str]:
    """Build the models that can be had, score them in one pass, and write their records."""
    environment = describe_environment(how["device"])
    results: dict[str, Record | str] = {}
    built: dict[str, tuple[_Request, nn.Module, Facts]] = {}
    offline = False  # one wait of half a minute for a hub that does not answer is enough
    for request in requests:
        try:
            facts = fetch_weights(request.published, offline=offline) if request.published else {}
            built[request.name] = request, request.build(), facts
        except Exception as error:  # what hub clients and libraries raise is of a dozen types
            results[request.name] = Failure.of(error)
            offline = offline or isinstance(error, HubUnreachable)
    candidates = [
        Candidate(name, model, request.view, own=request.published is None)
        for name, (request, model, _) in built.items()
    ]
    measured = measure_accuracy(candidates, images, **how) if candidates else {}
    for name, (request, model, facts) in built.items():
        if "error" in measured[name]:
            results[name] = measured[name]["error"]
            continue
        results[name] = add_record(
            store, environment, committed=committed, images=images, kind="evaluate",
            run_id=request.run_id, recipe={**request.identity, "batch_size": how["batch_size"]},
            summary={
                **measured[name], **facts,
                "top1_half_width": sampling_half_width(measured[name]["top1"], len(images)),
                "num_params": count_params(model), "weights_sha256": hash_weights(model),
            },
        )  # fmt: skip
    return results
