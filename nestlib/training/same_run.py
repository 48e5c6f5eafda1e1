"""Whether a checkpoint is of this run: of its recipe, and of the images that it began with.

On other images a run would mix two data sets, and with fewer of them, which make fewer steps, it
would never end.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nestlib.data.containers import FolderSet, ImageSet
from nestlib.training.checkpoint import CheckpointError
from nestlib.training.states import check_alike, check_keys

CHECKPOINT_FORMAT = 1
# Facts of images, by split; checkpoints of earlier versions do not have the last two.
_FORMS = {
    "fingerprint": str, "images": int, "class_names": list, "order": str, "checksums": Mapping
}  # fmt: skip
_ADDED = frozenset(("order", "checksums"))
_SHOWN = 3


def check_run(state: Mapping[str, Any], run_id: str, folder: Path) -> None:
    """Check that the state of a checkpoint in `folder` is of a run.

    Raises:
        CheckpointError: it is of another run, or of a newer nestlib.
        ValueError: it is of none.
    """
    made, found = state.get("format"), state.get("run_id")
    if type(made) is int and made > CHECKPOINT_FORMAT:
        raise CheckpointError(
            f"{folder} holds a checkpoint of a newer nestlib, format {made}; this one reads "
            f"{CHECKPOINT_FORMAT}: update nestlib"
        )
    if made != CHECKPOINT_FORMAT or type(made) is not int or not isinstance(found, str):
        raise ValueError(f"it is of run {found!r:.100} in format {made!r:.40}, which cannot be")
    if found != run_id:
        raise CheckpointError(
            f"{folder} holds a checkpoint of {found:.200}, not of {run_id}; give another run "
            "folder, or move this one away"
        )


def describe_images(sets: Sequence[ImageSet | FolderSet]) -> dict[str, dict[str, Any]]:
    """Facts that tell a run's images from others, by split, in plain values for checkpoints."""
    return {
        images.split: {
            "fingerprint": images.fingerprint, "images": len(images),
            "class_names": list(images.identifiers), "order": images.order_fingerprint,
            "checksums": dict(images.sampled_checksums),
        }
        for images in sets
    }  # fmt: skip


def check_images(
    state: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]], total_steps: int, folder: Path
) -> None:
    """Check that the state of a checkpoint in `folder` is of this run's images and length.

    Args:
        own: as `describe_images` gives it.

    Raises:
        CheckpointError: it is of other images; the message says what differs.
        ValueError: it does not say of which images it is.
    """
    if "data" not in state:
        warnings.warn(
            f"the checkpoint in {folder} is of an earlier nestlib and does not say of which images "
            "it is: make sure that they are the same",
            stacklevel=2,
        )
    found = _list_differences(state.get("data", own), own)
    steps = state.get("total_steps", total_steps)
    check_alike(steps, total_steps, "total_steps")
    if steps != total_steps:
        found.append(f"it has {steps} steps, here are {total_steps}")
    if found:
        raise CheckpointError(
            f"{folder} holds a checkpoint of a run on other images: {'; '.join(found)}. Provide "
            f"the same images, or move {folder} away to train on these from the start"
        )


def _list_differences(kept: Any, own: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not isinstance(kept, Mapping) or not all(isinstance(split, str) for split in kept):
        raise ValueError(f"data is a {type(kept).__name__}, not what is known of images by split")
    if kept.keys() != own.keys():
        return [f"it has the splits {', '.join(kept)}, here are {', '.join(own)}"]
    for split, facts in kept.items():
        check_keys(facts, _FORMS, f"data, {split}", _ADDED)
        for name, fact in facts.items():
            if not isinstance(fact, _FORMS[name]):
                raise ValueError(f"data, {split}, {name} is a {type(fact).__name__}")
    return [one for split in own for one in _compare(split, kept[split], own[split])]


def _compare(split: str, kept: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    if kept["images"] != own["images"]:
        yield f"it has {kept['images']} {split} images, here are {own['images']}"
    if kept["class_names"] != own["class_names"]:
        yield (
            f"its {len(kept['class_names'])} classes of {split} include "
            f"{_show(kept['class_names'], own['class_names'])}, here "
            f"{len(own['class_names'])} include {_show(own['class_names'], kept['class_names'])}"
        )
    if kept["fingerprint"] != own["fingerprint"]:
        yield (
            f"its {split} images have fingerprint {kept['fingerprint'][:12]}..., here it is "
            f"{own['fingerprint'][:12]}..."
        )
    elif kept.get("order", own["order"]) != own["order"]:
        yield f"the {split} images stand in another order or shards here, or have other labels"
    there, here = kept.get("checksums", {}), own["checksums"]
    changed = [name for name in here if there.get(name, here[name]) != here[name]]
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        yield f"{split} images with another content here: {', '.join(changed[:_SHOWN])}{more}"


def _show(names: Sequence[Any], others: Sequence[Any]) -> str:
    """The first names that the others do not have, or that stand elsewhere."""
    known = set(map(str, others))
    new = [name for name in map(str, names) if name not in known] or list(map(str, names))
    return ", ".join(new[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
