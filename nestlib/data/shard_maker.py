"""Make the shards that nestlib.data.shards reads.

A shard is written beside and moved into place when it is whole; the split's index comes last and
says what is read back from the shards. A run that was killed goes on with the shards that are not
there yet. The same images give the same bytes, however many processes write them and however often
they are killed.
"""

import hashlib
import io
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import partial
from multiprocessing import get_all_start_methods, get_context
from pathlib import Path
from typing import Annotated

import numpy as np
from tqdm import tqdm

from nestlib.arguments import MAX_PROCESSES, Range, check_argument
from nestlib.choices import check_choice
from nestlib.data.archives import TARS
from nestlib.data.fetching import Missing, is_url, read_url
from nestlib.data.folders import split_folder
from nestlib.data.layouts import TINY_PACK
from nestlib.data.shard_plan import Split, compare_classes, cut, list_split
from nestlib.data.shard_writer import GO_ON, write_shard
from nestlib.data.shards import (
    CHECKSUM,
    FORMAT,
    Shard,
    ShardIndex,
    has_shards,
    hash_index,
    load_index,
)
from nestlib.data.tars import open_tar, unpack_tar
from nestlib.files import hold, is_full, remove_unfinished, write_atomically
from nestlib.signals import when_parent_ends

NAMES = "imagenet", "tiny_imagenet", "tiny_imagenet_200"
SHARD_MB = 128  # about 1,100 of ImageNet's images: 1,155 shards
LEAST_MB, MOST_MB = 0.001, 10_000
LOCK, UNPACKED = ".lock", ".unpacked-"
# Forked where that is possible (not on Windows): a fresh interpreter would import torch first.
START = "fork" if "fork" in get_all_start_methods() else "spawn"

log_line = logging.getLogger(__name__)


def make_shards(
    name: str, source: Path, out: Path, *, splits: Sequence[str] = ("train", "test"),
    shard_mb: float = SHARD_MB, processes: int | None = None, progress: bool = True,
) -> list[Path]:  # fmt: skip
    """Make the shards of a data set's splits, or resume a call that was killed.

    Training images are shuffled once and for all before they are cut into shards, so that a few
    shards are a fair sample; the others keep their order, in which they are read. Beside each image
    stand the number of its class (.cls) and the name (.txt), as the readers of WebDataset and timm
    take them.

    Args:
        name: "imagenet" (a tree of class folders of any kind, or the official tars) or
            "tiny_imagenet" (its pack or folder).
        shard_mb: megabytes of images per shard, LEAST_MB to MOST_MB.
        processes: default: one per CPU; at most MAX_PROCESSES.

    Returns:
        The paths of the indices.

    Raises:
        FileNotFoundError, OSError: as `list_sources`; or an image went away, or a process was
            killed. The shards that are whole stay for the next call.
        ValueError: the folder holds shards of other images or lies among the images, two splits
            number their classes differently, two images would have one name, or an argument out
            of its range.
        Held: another process is making shards in the folder.
    """
    _check_request(name, splits, shard_mb, processes)
    _check_place(source, out)
    with _claimed(out), _unpacked(name, source, out) as folder:
        found = [list_split(name, folder, out, split, int(shard_mb * 1e6)) for split in splits]
        _check_classes(out, found)
        return [_make_split(one, processes, progress) for one in found]


def _check_request(
    name: str, splits: Sequence[str], shard_mb: float, processes: int | None
) -> None:
    check_choice("data set to make shards of", name, NAMES)
    if isinstance(splits, str) or not splits:
        raise ValueError(f"splits are {splits!r}; give a list of one or more of {[*TARS]}")
    for split in splits:
        check_choice("split to make shards of", split, TARS)
    if not LEAST_MB <= shard_mb <= MOST_MB:
        raise ValueError(f"shard_mb is {shard_mb}; give {LEAST_MB} to {MOST_MB:,} megabytes")
    most = Annotated[int, Range(1, MAX_PROCESSES)] | None
    check_argument("make_shards", "processes", processes, most)


def _check_place(source: Path, out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is not a folder; give a folder for the shards")
    for folder in (source / split_folder(split) for split in TARS):
        if out.resolve().is_relative_to(folder.resolve()):
            raise ValueError(
                f"{out} lies among the images, in {folder}, where it would be taken for a class; "
                "give a folder elsewhere"
            )


@contextmanager
def _claimed(out: Path) -> Iterator[None]:
    """Hold the lock of a folder, which is made; a failure that wrote no shard leaves no trace."""
    missing = [folder for folder in (out, *out.parents) if not folder.exists()]
    with hold(out / LOCK):
        for leftover in out.glob(f"{UNPACKED}*"):  # of a killed call
            shutil.rmtree(leftover, ignore_errors=True)
        try:
            yield
        except BaseException:
            if [path.name for path in out.iterdir()] == [LOCK]:
                with suppress(OSError):  # another process has come into one of the folders
                    (out / LOCK).unlink()
                    for folder in missing:
                        folder.rmdir()
            raise


@contextmanager
def _unpacked(name: str, source: Path, out: Path) -> Iterator[Path]:
    """The folder of the images; a compressed pack is unpacked for the while, as it has no places
    to read from."""
    pack = source / TINY_PACK
    if name != "tiny_imagenet" or not pack.is_file():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix=UNPACKED, dir=out) as folder:
        with _room_told(), open_tar(pack, "r:*") as archive:
            unpack_tar(archive, folder)
        yield Path(folder)


def _check_classes(out: Path, found: Sequence[Split]) -> None:
    """Compare the classes of all splits in the folder, old and new, before anything is packed."""
    classes = {one.split: one.class_names for one in found}
    for split in set(TARS) - set(classes):
        if has_shards(out, split):
            classes[split] = load_index(out, split).class_names
    if differ := compare_classes(classes):
        raise ValueError(
            f"{differ}; add the class folders that are missing, remove those that do not belong "
            "there, or make each split's shards in a folder of their own"
        )


def _make_split(one: Split, processes: int | None, progress: bool) -> Path:
    if one.index.is_file():
        _check_made(one)
        return one.index
    remove_unfinished(one.index.parent)
    jobs, shards = cut(one), []
    processes = min(processes or os.cpu_count() or 1, len(jobs))
    places = np.empty((len(one.sources), 4), np.int64)
    with _room_told(), _whole_pool(), ProcessPoolExecutor(
        processes, get_context(START), _end_with_parent, (os.getpid(),)
    ) as pool, tqdm(
        desc=f"{one.name} {one.split} shards", total=len(one.sources), unit="image",
        disable=not progress,
    ) as bar:  # fmt: skip
        for number, (job, (shard, of_shard)) in enumerate(zip(jobs, pool.map(write_shard, jobs))):
            shards.append(shard)
            places[list(job.numbers)] = [(number, *place) for place in of_shard]
            bar.update(shard.images)
    _write_index(one, shards, places)
    return one.index


def _check_made(one: Split) -> None:
    try:
        made = load_index(one.index.parent, one.split)
    except OSError as error:
        raise OSError(
            f"{error}: give another folder, or move {one.index} away, and its shards are made again"
        ) from error
    if (made.plan, list(made.class_names)) != (one.plan, one.class_names):
        prefix = one.index.stem
        raise ValueError(
            f"{one.index.parent} holds {prefix} shards of other images or another size; give "
            f"another folder, or move {prefix}* away"
        )


@contextmanager
def _whole_pool() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise OSError(
            "a process that made shards was killed, perhaps because memory ran out; run the "
            "command again with fewer processes: finished shards are kept"
        ) from error


@contextmanager
def _room_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        reason = f"{error.strerror}; make room, or give a folder on a larger disk; {GO_ON}"
        raise OSError(error.errno, reason, error.filename) from error


def _write_index(one: Split, shards: Sequence[Shard], places: np.ndarray) -> None:
    table, path = io.BytesIO(), one.index.with_suffix(".npz")
    files = np.array([os.fsencode(source.file) for source in one.sources])
    np.savez_compressed(table, files=files, labels=one.labels.astype(np.int32), places=places)
    data = table.getvalue()
    write_atomically(path, data)
    text = {
        "format": FORMAT, "name": one.name, "split": one.split, "plan": one.plan,
        "images": len(one.sources), "class_names": one.class_names,
        "table": {"name": path.name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()},
        "shards": [asdict(shard) for shard in shards],
    }  # fmt: skip
    text[CHECKSUM] = hash_index(text)
    write_atomically(one.index, json.dumps(text, indent=1).encode())


def _end_with_parent(parent: int) -> None:
    """End a worker with its parent, whose folder's lock it would hold."""
    when_parent_ends(parent, partial(os._exit, 1))


def verify_shards(place: Path | str, *, progress: bool = True) -> list[str]:
    """Compare the shards in a folder or at a URL with their checksums; return one line per fault.

    A split that is not there is no fault, but logged.

    Raises:
        FileNotFoundError: no index there.
    """
    faults, classes, absent = [], {}, []
    for split in TARS:
        try:
            if not _holds_index(place, split):
                absent.append(f"{split_folder(split)}.json")
                continue
            index = load_index(place, split)
        except (OSError, ValueError) as error:  # what is there of the other split is still checked
            faults.append(str(error))
            continue
        classes[split] = index.class_names
        faults += _compare_sums(index, f"{split} shards", progress)
    if len(absent) == len(TARS):
        raise FileNotFoundError(
            f"there are no shards in {place}: it has neither train.json nor val.json"
        )
    for name in absent:
        log_line.warning("%s has no %s; only the other split is checked", place, name)
    differ = compare_classes(classes)
    return [*faults, f"{place}: {differ}; make both again"] if differ else faults


def _holds_index(place: Path | str, split: str) -> bool:
    if is_url(place):
        with suppress(Missing):
            return bool(read_url(f"{str(place).rstrip('/')}/{split_folder(split)}.json"))
        return False
    return has_shards(place, split)


def _compare_sums(index: ShardIndex, title: str, progress: bool) -> Iterator[str]:
    shards = range(len(index.shards))
    for number in tqdm(shards, title, unit="shard", disable=not progress):
        shard = index.shards[number]
        try:
            path = index.path(number)
        except (OSError, ValueError) as error:
            yield str(error)
            continue
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:  # a disk's, which names no file
            yield f"{path} cannot be read ({error}); copy it again"
            continue
        if found != shard.sha256:
            # Of a URL it is the copy in the cache, whose checksum was right when it was fetched.
            remedy = "; delete it, and it is fetched again" if index.cache else ""
            yield f"{path} has SHA-256 {found}, the index says {shard.sha256}{remedy}"
