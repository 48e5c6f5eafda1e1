"""Plan shards: the images of a split, their labels, and how they are cut.

Nothing is written here; nestlib.data.shard_maker does.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from nestlib.data.archives import TARS, Source, list_sources
from nestlib.data.folders import number_classes, split_folder
from nestlib.data.shards import FORMAT


@dataclass(frozen=True)
class Split:
    """A split to make: its images in their order, and their classes' numbers."""

    name: str
    split: str
    index: Path
    sources: list[Source]
    class_names: list[str]
    labels: np.ndarray  # (N,) int64
    shard_bytes: int
    plan: str  # a hash of all this


@dataclass(frozen=True)
class Job:
    """One shard to make: sources, their numbers in the split's order, and their labels."""

    path: Path
    numbers: tuple[int, ...]
    sources: tuple[Source, ...]
    labels: tuple[int, ...]


def list_split(name: str, source: Path, out: Path, split: str, shard_bytes: int) -> Split:
    """The images that a split's shards are to hold.

    Raises:
        FileNotFoundError, OSError, ValueError: as `list_sources`.
        ValueError: no image, or two that would have one name.
    """
    sources = list_sources(name, split, source)
    if not sources:
        raise ValueError(f"{source} holds no {split} image of {name}; there is nothing to pack")
    _check_names(sources)
    class_names, labels = number_classes([one.class_name for one in sources])
    index, plan = out / f"{split_folder(split)}.json", _hash_plan(sources, shard_bytes)
    return Split(name, split, index, sources, class_names, labels, shard_bytes, plan)


def compare_classes(classes: Mapping[str, Sequence[str]]) -> str:
    """How two splits number their classes differently; "" if they agree."""
    if set(classes) != set(TARS):
        return ""
    pairs = enumerate(zip_longest(classes["train"], classes["test"]))
    first = next((f"{k} is {a!r} and {b!r}" for k, (a, b) in pairs if a != b), "")
    counts = f"{len(classes['train'])} and {len(classes['test'])} classes"
    return first and f"train and val number their {counts} differently: {first}"


def _check_names(sources: Iterable[Source]) -> None:
    seen: dict[str, str] = {}
    for one in sources:
        key = os.path.splitext(member_name(one))[0]
        if seen.setdefault(key, one.file) != one.file:
            raise ValueError(
                f"{seen[key]!r} and {one.file!r} would both be sample {key!r} of a shard; rename "
                "one"
            )


def member_name(one: Source) -> str:
    """<class>/<stem>.<suffix>, as other readers find it.

    WebDataset 1.0.2 takes what follows the first dot for the suffix, and passes over folders called
    __<name>__. timm's reader looks for jpg, png and webp.
    """
    folder, (stem, suffix) = one.class_name, os.path.splitext(os.path.basename(one.file))
    if re.fullmatch("__.*__", folder):
        folder = f"_{folder.strip('_')}_"
    suffix = suffix.lower().replace(".jpeg", ".jpg")
    return f"{folder}/{stem.replace('.', '_')}{suffix}"


def labels_beside(one: Source, label: int) -> list[tuple[str, bytes]]:
    """The files beside an image: the number and the name of its class."""
    stem = os.path.splitext(member_name(one))[0]
    return [(f"{stem}.cls", b"%d" % label), (f"{stem}.txt", os.fsencode(one.class_name))]


def _hash_plan(sources: Iterable[Source], shard_bytes: int) -> str:
    digest = hashlib.sha256(f"{FORMAT} {shard_bytes}".encode())
    for one in sources:
        digest.update(os.fsencode(f"{one.class_name} {one.file} {one.size}\n"))
    return digest.hexdigest()[:16]


def cut(split: Split) -> list[Job]:
    """The shards of a split."""
    sources, count, train = split.sources, len(split.sources), split.split == "train"
    # RandomState: numpy keeps its draws as they are for ever, so that a later run can go on.
    order = np.random.RandomState(0).permutation(count) if train else np.arange(count)
    sizes = np.array([one.size for one in sources])[order]
    shards = (np.cumsum(sizes) - sizes) // split.shard_bytes
    groups = np.split(order, np.flatnonzero(np.diff(shards)) + 1)
    return [
        Job(
            split.index.with_name(f"{split.index.stem}-{number:06d}.tar"), tuple(group.tolist()),
            tuple(sources[i] for i in group), tuple(split.labels[group].tolist()),
        )
        for number, group in enumerate(groups)
    ]  # fmt: skip
