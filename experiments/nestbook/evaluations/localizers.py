"""Figure 8's table: each row's model, the way its maps are made, and the records of its errors."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.models import get_pretrained_cfg
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from nestbook.class_maps import class_maps
from nestbook.evaluations.classifiers import HubUnreachable, fetch_weights
from nestbook.evaluations.imagenet_boxes import load_imagenet_boxes
from nestbook.evaluations.map_checks import (
    count_contour_disagreements,
    maps_of_boxes,
    share_higher_inside,
)
from nestbook.evaluations.published import view_of
from nestbook.evaluations.standing import NO_RECORD, find_score
from nestbook.peers import PUBLISHED
from nestbook.peers.acol import ACoL
from nestbook.records import Failure, add_record, short_hash
from nestbook.sweeps.plans import plan_figure8
from nestlib.data.augment import normalize
from nestlib.data.containers import FolderSet, ImageSet
from nestlib.data.datasets import load_dataset
from nestlib.data.decoding import squeeze
from nestlib.data.views import TransformedImages, class_numbers
from nestlib.data.workers import read_batches
from nestlib.explain.localize import find_boxes
from nestlib.metrics.localization import score_localization
from nestlib.models import create_model
from nestlib.models.mode import running_mode
from nestlib.recipes.recipe import Recipe, to_dict
from nestlib.records import Record, Store, describe_environment
from nestlib.runs.subsets import take
from nestlib.runs.weights import Weights, find_weights
from nestlib.training.devices import resolve_device

METHODS = {
    "DeiT RollOut": "rollout",
    "ADL": "cam",
    "ACoL": "acol",  # the larger of its two classifiers' maps
    "R50 GradCAM++": "gradcam++",
    "NesT CAM": "cam",
}
# Rows whose weights for ImageNet are published; which DeiT and which NesT the paper does not say
# (D30). ADL's and ACoL's with a ResNet-50 are nowhere.
PUBLISHED_ROWS = {
    "DeiT RollOut": "deit_small_imagenet",
    "R50 GradCAM++": "resnet50_imagenet",
    "NesT CAM": "nest_small_imagenet",
}
NO_WEIGHTS = "there are no published weights that timm can load; the paper cites its number"
SMOKE_IMAGES = 8
BATCH = 64
CONTOUR_MAPS = 500  # that the disagreement with wsolevaluation's contours is counted on

Batches = Iterable[tuple[Tensor, Tensor]]  # images (B, 3, H, W) normalised, classes (B,)


@dataclass(frozen=True)
class _Subject:
    """One row's model with what it is shown: images of a size, and their true boxes (N, K, 4)."""

    row: str
    run_id: str
    recipe: dict[str, Any]
    model: nn.Module
    batches: Batches
    images: ImageSet | FolderSet
    size: tuple[int, int]
    boxes: np.ndarray
    weights: dict[str, str] = field(default_factory=dict)  # as a record's environment keeps it


def localize(
    store: Store, *, dataset: str = "digits", budget: str = "quick", data_dir: Path | None = None,
    device: str = "auto", **how,
) -> dict[str, Record | str]:  # fmt: skip
    """Each row's record on a data set: published weights on imagenet, else what was trained here.

    how: see `localize_imagenet` and `localize_figure8`.
    """
    if dataset == "imagenet":
        return localize_imagenet(store, data_dir or "", device=device, **how)
    where = {"dataset": dataset, "budget": budget, "data_dir": data_dir, "device": device}
    return localize_figure8(store, **where, **how)


def localize_figure8(
    store: Store, *, budget: str = "quick", dataset: str = "digits", data_dir: Path | None = None,
    runs_dir: Path | None = None, device: str = "auto", seed: int = 0, committed: bool = False,
    progress: bool = True, again: bool = False,
) -> dict[str, Record | str]:  # fmt: skip
    """Each row's record of localization on its data's test images, or one line on why there is
    none.

    Found records of the weights that the runs have are loaded, unless `again`. Others are made of
    finished runs' weights and of the images; nothing is trained. smoke takes untrained models,
    always again.

    Returns:
        By row of the figure, a record; a reason: no such run or no weights; or a Failure: no
        images, or damaged ones. Images that are missing where nobody named them are no failure of
        a smoke run.

    Raises:
        ValueError: an unknown budget, or a data set that it does not go with.
        DeviceError: the device cannot be used.
    """
    where, smoke = resolve_device(device), budget == "smoke"
    results: dict[str, Record | str] = {}
    for row, recipe in plan_figure8(budget, dataset, seed).items():
        anew = smoke or again
        found = NO_RECORD if anew else find_score(f"localize/{recipe.run_id}", store, runs_dir)
        if isinstance(found, Record) or store.read_only:
            results[row] = found
            continue
        try:
            weights = None if smoke else find_weights(recipe, store, runs_dir)
        except FileNotFoundError as error:  # not trained yet, which is no failure
            results[row] = str(error) if found == NO_RECORD else f"{found}; {error}"
            continue
        try:
            subject = _trained_here(row, recipe, weights, where, data_dir)
            results[row] = _localize(
                subject, store, where, committed and not smoke, progress and not smoke
            )
        except (OSError, ImportError) as error:
            optional = smoke and data_dir is None and isinstance(error, FileNotFoundError)
            results[row] = str(error) if optional else Failure.of(error)
    return results


def localize_imagenet(
    store: Store, imagenet_dir: Path | str = "", *, limit: int = 0, device: str = "auto",
    committed: bool = False, progress: bool = True, again: bool = False,
) -> dict[str, Record | str]:  # fmt: skip
    """The paper's own table: published weights on ImageNet's validation images.

    Images are resized whole to the model's square, so that no box is cut (D30), and both the class
    and the map come from one forward pass of it.

    Args:
        imagenet_dir: the folder that holds val/, or the folder or URL of shards, and the box files
            (nestbook.evaluations.imagenet_boxes; with a URL, these lie in the shards' cache); ""
            loads what records there are, no more.
        limit: only so many images, drawn once and for all (not a result). 0 takes all.
        again: score those too that have a record.

    Returns:
        By row of the figure, a record or a reason; a Failure where it was to be scored.

    Raises:
        DeviceError: the device cannot be used.
    """
    where = resolve_device(device)
    results: dict[str, Record | str] = {}
    images: FolderSet | None = None  # listed once, and not where all records are found
    boxes: dict[int, np.ndarray] = {}  # by image size: 50,000 files are read once
    offline = False
    for row in METHODS:
        if row not in PUBLISHED_ROWS:
            results[row] = NO_WEIGHTS
            continue
        identity = _identify(PUBLISHED_ROWS[row], limit)
        found = None if limit or again else store.find(_imagenet_id(identity))
        if found is not None or not imagenet_dir or store.read_only:
            results[row] = found or "needs ImageNet's validation images and boxes"
            continue
        try:
            images = images or _list_images(imagenet_dir, limit)
            model, facts = load_published_row(row, offline=offline)
            size = facts["view"]["whole_image_at"]
            if size not in boxes:
                boxes[size] = load_imagenet_boxes(images, size, progress=progress)
            subject = _published(row, model.to(where), identity | facts, images, boxes[size], where)
            results[row] = _localize(subject, store, where, committed and not limit, progress)
        except Exception as error:  # what hub clients and libraries raise is of a dozen types
            results[row] = Failure.of(error)
            offline = offline or isinstance(error, HubUnreachable)
    return results


def load_published_row(row: str, *, offline: bool = False) -> tuple[nn.Module, dict[str, Any]]:
    """A row's model with its published weights, in evaluation mode, and where these are from.

    Args:
        row: one of PUBLISHED_ROWS.
        offline: look into the hub's cache alone.

    Returns:
        The model, and its identity: weights, their file and checksums, the view of an image.

    Raises:
        HubUnreachable: not in the cache, and the hub does not answer.
        OSError: the checksums differ.
    """
    identity = _identify(PUBLISHED_ROWS[row], limit=0)
    facts = fetch_weights(identity["weights"], offline=offline)
    size = identity["view"]["whole_image_at"]
    model = create_model(identity["name"], pretrained=True, num_classes=1000, img_size=size)
    return model.eval(), {"view": identity["view"], **facts}


def maps_of(
    method: str, model: nn.Module, batches: Batches, total: int, *, progress: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Maps (N, h, w) float32 of every image's own class, and whether the model's first class is it.

    Args:
        method: "acol" for a nestlib ACoL, else one of `nestlib.explain.class_maps.METHODS`.
        batches: on the model's device.
        total: N, for the progress bar.
    """
    maps, right = [], []
    with tqdm(total=total, desc=f"maps: {method}", unit="img", disable=not progress) as bar:
        for images, classes in batches:
            with running_mode(model, training=False), torch.no_grad():
                right.append((model(images).argmax(1) == classes).cpu().numpy())
            if isinstance(model, ACoL):
                found = model.class_maps(images, classes)
            else:
                found = class_maps(method, model, images, classes)
            maps.append(found.detach().float().cpu().numpy())
            bar.update(len(images))
    return np.concatenate(maps), np.concatenate(right)


def _localize(
    subject: _Subject, store: Store, device: torch.device, committed: bool, progress: bool
) -> Record:
    environment = describe_environment(device) | {"weights": subject.weights}
    method, N = METHODS[subject.row], len(subject.boxes)
    started = time.perf_counter()
    maps, right = maps_of(method, subject.model, subject.batches, N, progress=progress)
    mapped = time.perf_counter()
    boxes = find_boxes(maps, subject.size)
    boxed = time.perf_counter()
    perfect = maps_of_boxes(subject.boxes, subject.size, maps.shape[1:])
    ceiling = score_localization(find_boxes(perfect, subject.size), subject.boxes, right)
    return add_record(
        store, environment, committed=committed, images=subject.images, kind="explain",
        run_id=subject.run_id, recipe=subject.recipe,
        summary={
            "row": subject.row, "method": method, "map_size": list(maps.shape[1:]),
            "image_size": list(subject.size), "top1_error": 100 * float((~right).mean()),
            **score_localization(boxes, subject.boxes, right),
            "true_boxes_at_map_size": ceiling["gt_known"],
            "higher_inside": share_higher_inside(maps, subject.boxes, subject.size),
            "contours_disagree": count_contour_disagreements(maps[:CONTOUR_MAPS], subject.size),
            "seconds": {"maps": mapped - started, "boxes": boxed - mapped},
        },
    )  # fmt: skip


def _trained_here(
    row: str, recipe: Recipe, weights: Weights | None, device: torch.device, data_dir: Path | None
) -> _Subject:
    smoke = recipe.budget == "smoke"
    images = load_dataset(
        recipe.dataset, "test", data_dir=data_dir, image_size=recipe.image_size,
        class_names=weights.record.class_names if weights else None, **recipe.dataset_options,
    )  # fmt: skip
    images = take(images, SMOKE_IMAGES) if smoke else images
    model = weights.load() if weights else recipe.build_model(images.num_classes)
    boxes = images.boxes.numpy().astype(int)
    return _Subject(
        row, f"localize/{recipe.run_id}",
        to_dict(recipe) | ({"rounded_to": "fp16"} if weights and weights.rounded else {}),
        model.eval().to(device),
        _batches_of(images, device), images, images.image_size, boxes,
        {recipe.run_id: weights.record.summary["weights_sha256"]} if weights else {},
    )  # fmt: skip


def _batches_of(images: ImageSet, device: torch.device) -> Batches:
    for batch, classes in images.iterate(torch.arange(len(images)), BATCH, seed=0):
        yield normalize(batch.to(device), images.mean, images.std), classes.to(device)


def _identify(name: str, limit: int) -> dict[str, Any]:
    """Everything that decides the errors of published weights."""
    view = view_of(get_pretrained_cfg(PUBLISHED[name], allow_unregistered=False))
    return {
        "name": name, "weights": PUBLISHED[name], "dataset": "imagenet", "limit": limit or None,
        "view": {"whole_image_at": view.image_size, "interpolation": view.interpolation,
                 "mean": view.mean, "std": view.std},
    }  # fmt: skip


def _imagenet_id(identity: dict[str, Any]) -> str:
    own = {key: identity[key] for key in ("name", "weights", "dataset", "limit", "view")}
    return f"localize/imagenet/{identity['name']}-{short_hash(own)}"


def _list_images(place: Path | str, limit: int) -> FolderSet:
    options = {"partial": True} if limit else {}
    images = load_dataset("imagenet", "test", data_dir=place, **options)
    return take(images, limit) if limit else images


def _published(
    row: str, model: nn.Module, identity: dict[str, Any], images: FolderSet,
    boxes: np.ndarray, device: torch.device,
) -> _Subject:  # fmt: skip
    view = identity["view"]
    size = view["whole_image_at"]
    whole = partial(squeeze, size=size, interpolation=view["interpolation"])
    numbers = class_numbers(images, 1000)

    def batches() -> Batches:
        loader = DataLoader(
            TransformedImages(images, [whole]), BATCH,
            num_workers=images.num_workers, pin_memory=device.type == "cuda",
        )  # fmt: skip
        for (batch,), labels in read_batches(loader):
            batch = normalize(batch.to(device, non_blocking=True), view["mean"], view["std"])
            yield batch, numbers[labels].to(device)

    return _Subject(
        row, _imagenet_id(identity), identity, model, batches(), images, (size, size), boxes
    )  # fmt: skip
