"""Does a committed record still stand for its recipe, or has what it measured changed since?"""

import json
import warnings
from pathlib import Path

import torch

from nestlib.data.datasets import dataset_info
from nestlib.recipes.recipe import GanRecipe, Recipe
from nestlib.records import Record, Store
from nestlib.runs.probe import CLASSES, agree, probe_model
from nestlib.runs.subsets import load_split


def find_fresh(
    recipe: Recipe | GanRecipe, store: Store, data_dir: Path | None = None
) -> Record | None:
    """A recipe's record if it still stands for the recipe, the committed one first.

    A stale one is named in a warning where there is no other.
    """
    reasons: list[str] = []
    for record in store.find_all(recipe.run_id):
        found = stale_reasons(record, recipe, store, data_dir)
        if not found:
            return record
        reasons += [reason for reason in found if reason not in reasons]
    if reasons:
        warnings.warn(f"the record of {recipe.run_id} is stale: {'; '.join(reasons)}", stacklevel=2)
    return None


def stale_reasons(
    record: Record, recipe: Recipe | GanRecipe, store: Store, data_dir: Path | None = None
) -> list[str]:
    """Why a record does not stand for its recipe any more; none where it does.

    A changed recipe has another run id, so its record is another one. Beyond that a record keeps

    - a probe (nestlib.runs.probe) of what its classifier computed: changed code of a model,
      ours or a library's, shows, code that is merely rewritten does not. Source hashes or commits
      would call every record stale at a changed comment. A GAN's record keeps none;
    - the fingerprints of its images, compared where the images are here (ImageNet's never: to list
      its files takes minutes);
    - its teacher's SHA-256, compared with the teacher's record.

    What a record does not keep is not held against it: those of before the probe stay valid. The
    training loop and the augmentation are told by the commit alone, which every record names.
    """
    reasons = []
    kept = record.environment
    if "probe" in kept and not agree(kept["probe"], probe(recipe)):
        reasons.append(f"{recipe.model} does not compute what it computed then")
    for split, noted in kept["data"].items():
        if _fingerprint(recipe, split, data_dir) not in (None, noted["fingerprint"]):
            reasons.append(f"the {split} images of {recipe.dataset} are others")
    lesson = kept.get("teacher")
    teachers = store.find_all(lesson["run_id"]) if lesson else []
    known = {teacher.summary["weights_sha256"] for teacher in teachers}
    if known and lesson["weights_sha256"] not in known:
        reasons.append(f"its teacher {lesson['run_id']} was trained again to other weights")
    return reasons


_PROBES: dict[str, list[float]] = {}  # by config hash: a seed changes nothing
_FINGERPRINTS: dict[str, str | None] = {}


def probe(recipe: Recipe) -> list[float]:
    """What a recipe's model computes, by `probe_model`; leaves the global generators alone."""
    if recipe.config_hash not in _PROBES:
        with torch.random.fork_rng(devices=[]):
            model = recipe.build_model(CLASSES)
        _PROBES[recipe.config_hash] = probe_model(model, recipe.image_size)
    return _PROBES[recipe.config_hash]


def _fingerprint(recipe: Recipe | GanRecipe, split: str, data_dir: Path | None) -> str | None:
    """Of a split's images, None where they are not here or not quick to look at."""
    if not dataset_info(recipe.dataset).image_sizes:
        return None
    cut = {name: getattr(recipe, name, None) for name in ("train_subset", "held_out")}
    limit = getattr(recipe, f"{split}_limit", None)
    asked = [recipe.dataset, split, recipe.image_size, recipe.dataset_options, limit, cut]
    key = json.dumps([*asked, str(data_dir)], sort_keys=True)
    if key not in _FINGERPRINTS:
        try:
            images = load_split(recipe, split, limit, data_dir=data_dir)
        except FileNotFoundError:
            images = None
        _FINGERPRINTS[key] = images and images.fingerprint
    return _FINGERPRINTS[key]
