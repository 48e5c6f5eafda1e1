"""Whether a committed record still stands for its recipe, or what it measured has changed."""

import json
import warnings
import zlib
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from nestlib.data.datasets import dataset_info
from nestlib.recipes.recipe import GanRecipe, Recipe
from nestlib.records import Record, Store
from nestlib.runs.subsets import load_split

CLASSES = 8  # of a model that is probed
TOLERANCE = 1e-8  # of a probe's largest number; in float64 two machines differ by far less


def find_fresh(
    recipe: Recipe | GanRecipe, store: Store, data_dir: Path | None = None, device_kind: str = ""
) -> Record | None:
    """A recipe's record if it still stands for the recipe, the committed one first.

    A stale one is named in a warning where there is no other.

    Args:
        device_kind: "cpu" or "cuda" leaves out what another kind of device made.
    """
    reasons: list[str] = []
    for record in store.find_all(recipe.run_id):
        if device_kind and record.environment["device_kind"] != device_kind:
            continue
        found = stale_reasons(record, recipe, store, data_dir)
        if not found:
            return record
        reasons += [reason for reason in found if reason not in reasons]
    if reasons:
        warnings.warn(f"the record of {recipe.run_id} is stale: {'; '.join(reasons)}", stacklevel=2)
    return None


def find_fresh_seeds(
    recipe: Recipe | GanRecipe, store: Store, data_dir: Path | None = None
) -> list[Record]:
    """The fresh records of a recipe, whatever their seed, in the order of seeds."""
    found: list[Record | None] = []
    for record in store.find_seeds(recipe):
        run = replace(recipe, seed=record.recipe["seed"])
        stale = stale_reasons(record, run, store, data_dir)
        found.append(find_fresh(run, store, data_dir) if stale else record)  # or else a local one
    return [record for record in found if record]


def stale_reasons(
    record: Record, recipe: Recipe | GanRecipe, store: Store, data_dir: Path | None = None
) -> list[str]:
    """Reasons why a record no longer stands for its recipe; empty if it does.

    A changed recipe has another run id, so its record is another one. Beyond that a record keeps

    - a probe (`probe_model`) of what its classifier computed: changed code of a model,
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
    if "probe" in kept and not _agree(kept["probe"], probe(recipe)):
        reasons.append(f"{recipe.model} no longer computes what it computed for the record")
    for split, noted in kept.get("data", {}).items():
        then = noted.get("fingerprint")
        found = then and _fingerprint(recipe, split, data_dir, record.class_names)
        if found not in (None, then):
            reasons.append(f"the {split} images of {recipe.dataset} have changed")
    lesson = kept.get("teacher")
    teachers = store.find_all(lesson["run_id"]) if lesson else []
    known = {teacher.summary["weights_sha256"] for teacher in teachers}
    if known and lesson["weights_sha256"] not in known:
        reasons.append(f"its teacher {lesson['run_id']} was trained again to other weights")
    return reasons


_PROBES: dict[str, list[float]] = {}  # by config hash: a seed changes nothing
_FINGERPRINTS: dict[str, str | None] = {}


def probe(recipe: Recipe) -> list[float]:
    """Outputs of a recipe's model, by `probe_model`; leaves the global generators alone."""
    if recipe.config_hash not in _PROBES:
        with torch.random.fork_rng(devices=[]):
            model = recipe.build_model(CLASSES)
        _PROBES[recipe.config_hash] = probe_model(model, recipe.image_size)
    return _PROBES[recipe.config_hash]


def _fingerprint(
    recipe: Recipe | GanRecipe, split: str, data_dir: Path | None, class_names: list[str] | None
) -> str | None:
    """The fingerprint of a split's images, "" if they do not fit the recipe or the classes; None if
    they are not here or not quick to look at."""
    if not dataset_info(recipe.dataset).image_sizes:
        return None
    cut = {name: getattr(recipe, name, None) for name in ("train_subset", "held_out")}
    limit = getattr(recipe, f"{split}_limit", None)
    asked = [recipe.dataset, split, recipe.image_size, recipe.dataset_options, limit, cut]
    key = json.dumps([*asked, class_names, str(data_dir)], sort_keys=True)
    if key not in _FINGERPRINTS:
        how = {"data_dir": data_dir, "class_names": class_names}
        try:
            _FINGERPRINTS[key] = load_split(recipe, split, limit, **how).fingerprint
        except FileNotFoundError:
            _FINGERPRINTS[key] = None
        except ValueError:
            _FINGERPRINTS[key] = ""
    return _FINGERPRINTS[key]


def probe_model(model: nn.Module, image_size: int) -> list[float]:
    """Logits of one fixed image with fixed weights, in float64, evaluation mode, on the CPU.

    Weights are a function of their names and shapes, so the numbers tell of a changed architecture
    or function (another GELU, another padding), and not of a rewritten module that does the same,
    another initialisation, seed or machine. What acts in training alone (stochastic depth, dropout)
    is not seen. The model is spoilt.

    Args:
        model: with CLASSES outputs.
        image_size: edge in pixels.
    """
    model = model.double().cpu().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(_fill(name, parameter))
        edge = torch.linspace(-1, 1, image_size, dtype=torch.float64)
        image = torch.stack([torch.sin(7 * edge[:, None] * edge + k) for k in range(3)])
        return model(image[None])[0].tolist()


def _agree(one: list[float], other: list[float]) -> bool:
    """Whether two probes are of the same function."""
    scale = max(map(abs, one))
    return all(abs(a - b) <= TOLERANCE * scale for a, b in zip(one, other, strict=True))


def _fill(name: str, parameter: Tensor) -> Tensor:
    """Waves; around where biases and norms begin, and with a matrix's rows of about unit length.

    A vector that begins at random, as PyTorch's own biases do, is taken to begin at 0: its draw
    would hang on what its process drew before.
    """
    phase = zlib.crc32(name.encode()) % 1000
    waves = torch.sin(1.7 * torch.arange(parameter.numel(), dtype=torch.float64) + phase)
    waves = waves.reshape(parameter.shape)
    if parameter.ndim < 2:
        begins_alike = torch.all(parameter == parameter.flatten()[0])
        return parameter * begins_alike + 0.1 * waves
    if parameter.shape[0] == 1:  # position embeddings and tokens
        return 0.3 * waves
    return waves * (2 / parameter[0].numel()) ** 0.5
