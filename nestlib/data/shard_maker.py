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
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nestlib.data.archives import TARS, Source
from nestlib.data.fetching import Missing, is_url, read_url
from nestlib.data.folders import split_folder
from nestlib.data.layouts import TINY_PACK
from nestlib.data.shard_plan import (
    Job,
    Split,
    compare_classes,
    cut,
    labels_beside,
    list_split,
    member_name,
)
from nestlib.data.shards import FORMAT, Shard, ShardIndex, has_shards, load_index
from nestlib.data.tars import DamagedTar, open_tar
from nestlib.files import hold, open_atomically, remove_unfinished, write_atomically

SHARD_MB = 128  # about 1,100 of ImageNet's images: 1,155 shards
LEAST_MB, MOST_MB = 0.001, 10_000
GO_ON = "fix this and run the same command again: finished shards are kept"

log_line = logging.getLogger(__name__)

Places = list[tuple[int, int, int]]  # offset, size and CRC-32 of each image of a shard


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
        processes: default: one per CPU.

    Returns:
        The paths of the indices.

    Raises:
        FileNotFoundError, OSError: as `list_sources`; or an image went away, or a process was
            killed. The shards that are whole stay for the next call.
        ValueError: the folder holds shards of other images, two splits number their classes
            differently, two images would have one name, or an argument out of its range.
        Held: another process is making shards in the folder.
    """
    _check_request(name, splits, shard_mb, processes)
    out.mkdir(parents=True, exist_ok=True)
    with hold(out / ".lock"), _unpacked(name, source, out) as folder:
        found = [list_split(name, folder, out, split, int(shard_mb * 1e6)) for split in splits]
        _check_classes(out, found)
        return [_make_split(one, processes, progress) for one in found]


def _check_request(
    name: str, splits: Sequence[str], shard_mb: float, processes: int | None
) -> None:
    wrong = [split for split in splits if split not in TARS]
    if wrong or not (name == "imagenet" or name.startswith("tiny_imagenet")):
        raise ValueError(
            f"cannot make shards of {name} {wrong or ''}; valid: imagenet and tiny_imagenet, train "
            "and test"
        )
    if not LEAST_MB <= shard_mb <= MOST_MB:
        raise ValueError(f"shard_mb is {shard_mb}; give {LEAST_MB} to {MOST_MB:,} megabytes")
    if processes is not None and processes < 1:
        raise ValueError(f"processes is {processes}; give 1 or more")


@contextmanager
def _unpacked(name: str, source: Path, out: Path) -> Iterator[Path]:
    """The folder of the images; a compressed pack is unpacked for the while, as it has no places
    to read from."""
    pack = source / TINY_PACK
    if name != "tiny_imagenet" or not pack.is_file():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=out) as folder:
        with open_tar(pack, "r:*") as archive:
            archive.extractall(folder, filter="data")
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
    places = np.empty((len(one.sources), 4), np.int64)
    # Forked: a fresh interpreter would import torch first.
    with _whole_pool(), ProcessPoolExecutor(
        processes or os.cpu_count(), get_context("fork"), _end_with_parent, (os.getpid(),)
    ) as pool, tqdm(
        desc=f"{one.name} {one.split} shards", total=len(one.sources), unit="image",
        disable=not progress,
    ) as bar:  # fmt: skip
        for number, (job, (shard, of_shard)) in enumerate(zip(jobs, pool.map(_make_shard, jobs))):
            shards.append(shard)
            places[list(job.numbers)] = [(number, *place) for place in of_shard]
            bar.update(shard.images)
    _write_index(one, shards, places)
    return one.index


def _check_made(one: Split) -> None:
    try:
        made = load_index(one.index.parent, one.split)
    except OSError as error:
        raise OSError(f"{error}: delete {one.index}, and make its shards again here") from error
    if (made.plan, list(made.class_names)) != (one.plan, one.class_names):
        prefix = one.index.stem
        raise ValueError(
            f"{one.index.parent} holds {prefix} shards of other images or another size; give "
            f"another folder, or delete {prefix}* in it"
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


def _make_shard(job: Job) -> tuple[Shard, Places]:
    """Write a shard unless an earlier call did, and return its entry in the index."""
    made = _read_back(job)
    if made is None:
        with (
            open_atomically(job.path) as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar,
        ):
            for one, label in zip(job.sources, job.labels):
                _add_member(tar, member_name(one), _read(one))
                for name, text in labels_beside(one, label):
                    _add_member(tar, name, text)
        made = _read_back(job)
    return made


def _read_back(job: Job) -> tuple[Shard, Places] | None:
    """A shard's entry in the index; None if it is missing or holds other images or labels."""
    try:
        with job.path.open("rb") as file, open_tar(job.path, file=file) as tar:
            members = [(m, zlib.crc32(tar.extractfile(m).read())) for m in tar if m.isfile()]
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, DamagedTar):
        return None
    images, notes = members[::3], [one for k, one in enumerate(members) if k % 3]
    named = [note for each in zip(job.sources, job.labels) for note in labels_beside(*each)]
    if [(m.name, m.size) for m, _ in images] != [(member_name(s), s.size) for s in job.sources]:
        return None
    if [(m.name, crc) for m, crc in notes] != [(name, zlib.crc32(text)) for name, text in named]:
        return None
    places = [(m.offset_data, m.size, crc) for m, crc in images]
    return Shard(job.path.name, job.path.stat().st_size, digest, len(images)), places


def _read(one: Source) -> bytes:
    try:
        with open(one.path, "rb") as file:
            data = os.pread(file.fileno(), one.size, one.offset)
            alone = one.offset == 0 and not one.path.endswith(".tar")
            changed = len(data) != one.size or (alone and file.seek(0, 2) != one.size)
    except OSError as error:
        raise OSError(f"cannot read image {one.path} ({error}); {GO_ON}") from error
    if changed:
        raise OSError(f"{one.path} changed while shards were made of it; {GO_ON}")
    return data


def _add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # owner 0, time 0: the same bytes everywhere
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


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
    write_atomically(one.index, json.dumps(text, indent=1).encode())


def _end_with_parent(parent: int) -> None:
    """End a worker with its parent: it would wait for ever, and hold the folder's lock."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


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
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            yield str(error)
            continue
        if found != shard.sha256:
            # Of a URL it is the copy in the cache, whose checksum was right when it was fetched.
            remedy = "; delete it, and it is fetched again" if index.cache else ""
            yield f"{path} has SHA-256 {found}, the index says {shard.sha256}{remedy}"
