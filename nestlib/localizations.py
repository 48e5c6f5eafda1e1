"""Figure 8's table: each row's model, the way its maps are made, and the records of its errors."""

import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from nestlib.data.augment import normalize
from nestlib.data.containers import ImageSet
from nestlib.data.datasets import load_dataset
from nestlib.explain.baselines import class_maps
from nestlib.explain.localize import find_boxes
from nestlib.measure.localization import (
    boxes_one_by_one,
    count_contour_disagreements,
    score_localization,
)
from nestlib.models.peers.acol import ACoL
from nestlib.recipe import Recipe, to_dict
from nestlib.recipes import plan_figure8
from nestlib.records import Record, Store, describe_environment, timestamp
from nestlib.trained import build_run, weights_path
from nestlib.training.devices import resolve_device

METHODS = {
    "DeiT RollOut": "rollout",
    "ADL": "cam",
    "ACoL": "acol",  # the larger of its two classifiers' maps
    "R50 GradCAM++": "gradcam++",
    "NesT CAM": "cam",
}
SMOKE_IMAGES = 8
BATCH = 64
# Boxes are timed on maps of the first images, cut as 224-pixel images are, in alternation.
TIMED_MAPS, TIMED_SIZE, ALTERNATIONS = 200, (224, 224), 5


def localize_figure8(
    store: Store, *, budget: str = "quick", dataset: str = "digits", data_dir: Path | None = None,
    runs_dir: Path | None = None, device: str = "auto", seed: int = 0, committed: bool = False,
    progress: bool = True,
) -> dict[str, Record | str]:  # fmt: skip
    """Each row's record of localization on its data's test images, or one line on why none.

    Found records are loaded. Others are made of finished runs whose weights are in `runs_dir`, and
    of the images; nothing is trained. smoke takes untrained models and digits, always anew.

    Returns:
        By row of the figure, a record or a reason: no such run, no weights, no images.

    Raises:
        ValueError: an unknown budget.
        DeviceError: the device cannot be used.
    """
    where = resolve_device(device)
    results: dict[str, Record | str] = {}
    for row, recipe in plan_figure8(budget, dataset, seed).items():
        found = None if budget == "smoke" else store.find(f"localize/{recipe.run_id}")
        try:
            results[row] = found or _localize(
                row, recipe, store, where, data_dir, runs_dir, committed, progress
            )
        except (OSError, ImportError) as error:
            results[row] = " ".join(str(error).split())
    return results


def maps_of(method: str, model: nn.Module, images: ImageSet, *, progress: bool = True) -> tuple:
    """Maps (N, h, w) float32 of every image's own class, and whether the model's first class is it.

    Args:
        method: "acol" for a nestlib ACoL, else one of `nestlib.explain.baselines.METHODS`.
    """
    device = next(model.parameters()).device
    maps, right = [], []
    for start in tqdm(
        range(0, len(images), BATCH), desc=f"maps: {method}", unit="batch", disable=not progress
    ):
        part = slice(start, start + BATCH)
        batch = normalize(images.images[part].to(device), images.mean, images.std)
        labels = images.labels[part].to(device)
        with torch.no_grad():
            right.append((model(batch).argmax(1) == labels).cpu().numpy())
        if isinstance(model, ACoL):
            found = model.class_maps(batch, labels)
        else:
            found = class_maps(method, model, batch, labels)
        maps.append(found.detach().float().cpu().numpy())
    return np.concatenate(maps), np.concatenate(right)


def time_boxes(maps: np.ndarray) -> dict:
    """Seconds of `find_boxes` and of OpenCV's plain loop on the same maps, one after the other.

    Raises:
        AssertionError: they do not agree, so that a rate would be of something else.
    """
    maps = maps[np.ptp(maps, axis=(1, 2)) > 0][:TIMED_MAPS]
    seconds: dict[str, list[float]] = {"ours": [], "one_by_one": []}
    for _ in range(ALTERNATIONS):
        start = time.perf_counter()
        ours = find_boxes(maps, TIMED_SIZE)
        middle = time.perf_counter()
        theirs = boxes_one_by_one(maps, TIMED_SIZE)
        seconds["ours"].append(middle - start)
        seconds["one_by_one"].append(time.perf_counter() - middle)
        assert (ours == theirs).all()
    return {"maps": len(maps), "image_size": list(TIMED_SIZE), "seconds": seconds}


def _localize(
    row: str, recipe: Recipe, store: Store, device: torch.device, data_dir: Path | None,
    runs_dir: Path | None, committed: bool, progress: bool,
) -> Record:  # fmt: skip
    smoke = recipe.budget == "smoke"
    trained = None if smoke else store.find(recipe.run_id)
    if trained is None and not smoke:
        raise FileNotFoundError(f"no finished run {recipe.run_id}")
    images = _load_images(recipe, data_dir)
    if smoke:
        model = recipe.build_model(images.num_classes).eval()
    else:
        path = weights_path(recipe, runs_dir)
        sha256 = trained.summary["weights_sha256"]
        model = build_run(recipe, images.num_classes, path, sha256).eval()
    model.to(device)
    started = time.perf_counter()
    maps, right = maps_of(METHODS[row], model, images, progress=progress and not smoke)
    mapped = time.perf_counter()
    size = tuple(images.images.shape[-2:])
    boxes = find_boxes(maps, size)
    boxed = time.perf_counter()
    record = Record(
        run_id=f"localize/{recipe.run_id}", kind="explain", recipe=to_dict(recipe),
        environment=describe_environment(device) | {
            "finished": timestamp(),
            "data": {images.split: {"fingerprint": images.fingerprint, "images": len(images)}},
        },
        summary={
            "row": row, "method": METHODS[row], "map_size": list(maps.shape[1:]),
            "top1_error": 100 * float((~right).mean()),
            **score_localization(boxes, images.boxes.numpy().astype(int), right),
            "contours_disagree": count_contour_disagreements(maps[:500], size),
            "seconds": {"maps": mapped - started, "boxes": boxed - mapped},
            "boxes_timed": time_boxes(maps),
        },
    )  # fmt: skip
    store.add(record, committed=committed and not smoke)
    return record


def _load_images(recipe: Recipe, data_dir: Path | None) -> ImageSet:
    if recipe.budget == "smoke":
        return load_dataset(
            "digits", "test", image_size=recipe.image_size, canvas="plain",
            num_images=SMOKE_IMAGES, digit_edges=(0.3, 0.5),
        )  # fmt: skip
    return load_dataset(recipe.dataset, "test", data_dir=data_dir, image_size=recipe.image_size)
