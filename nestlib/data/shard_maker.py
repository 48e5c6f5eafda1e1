"""Makes the shards that nestlib.data.shards reads.

A shard is written beside and moved into place when it is whole; then a note of it is, and the
split's index comes last. A run that was killed goes on with the shards that have no note yet. The
same images give the same bytes, however many processes write them and however often they are
killed.
"""

import functools
import hashlib
import io
import json
import os
import shutil
import tarfile
import tempfile
import threading
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nestlib.data.archives import TARS, Source, list_sources
from nestlib.data.folders import split_folder
from nestlib.data.layouts import TINY_PACK
from nestlib.data.shards import FORMAT, Shard, has_shards, load_index
from nestlib.files import hold, open_atomically, remove_unfinished, write_atomically

SHARD_MB = 128  # about 1,100 of ImageNet's images: 1,155 shards
NOTES = ".making"  # in the shards' folder, of what is not finished
BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class _Job:
    """One shard to make: sources, and their numbers in the split's order."""

    folder: Path
    name: str
    numbers: tuple[int, ...]
    sources: tuple[Source, ...]


def make_shards(
    name: str, source: Path, out: Path, *, splits: Sequence[str] = ("train", "test"),
    shard_mb: float = SHARD_MB, processes: int | None = None, progress: bool = True,
) -> list[Path]:  # fmt: skip
    """Make the shards of a data set's splits, or go on where an earlier call was killed.

    Training images are shuffled once and for all before they are cut into shards, so that a few
    shards are a fair sample; the others keep their order, in which they are read.

    Args:
        name: "imagenet" (a tree of class folders of any kind, or the official tars) or
            "tiny_imagenet" (its pack or folder).
        processes: default: one a CPU.

    Returns:
        The paths of the indices.

    Raises:
        FileNotFoundError, OSError: as `list_sources`.
        ValueError: the folder holds shards of other images, or two images would have one name.
        Held: another process is making shards in the folder.
    """
    wrong = [split for split in splits if split not in TARS]
    if wrong or not (name == "imagenet" or name.startswith("tiny_imagenet")):
        raise ValueError(
            f"no shards are made of {name} {wrong or ''}; there are imagenet and tiny_imagenet, "
            "train and test"
        )
    out.mkdir(parents=True, exist_ok=True)
    with hold(out / ".lock"), _unpacked(name, source, out) as folder:
        made = [
            _make_split(name, folder, out, split, int(shard_mb * 1e6), processes, progress)
            for split in splits
        ]
        shutil.rmtree(out / NOTES, ignore_errors=True)
        return made


@contextmanager
def _unpacked(name: str, source: Path, out: Path) -> Iterator[Path]:
    """The folder of the images; a compressed pack is unpacked for the while, as it has no places
    to read from."""
    pack = source / TINY_PACK
    if name != "tiny_imagenet" or not pack.is_file():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix=".unpacked-", dir=out) as folder:
        with tarfile.open(pack) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder)


def _make_split(
    name: str, source: Path, out: Path, split: str, shard_bytes: int, processes: int | None,
    progress: bool,
) -> Path:  # fmt: skip
    sources = list_sources(name, split, source)
    prefix = split_folder(split)
    _check_names(sources)
    plan = _hash_plan(sources, shard_bytes)
    index = out / f"{prefix}.json"
    if index.is_file():
        if json.loads(index.read_text())["plan"] != plan:
            raise ValueError(
                f"{out} holds {prefix} shards of other images or another size; give another "
                f"folder, or delete {prefix}* in it"
            )
        return index
    notes = out / NOTES / f"{prefix}-{plan}"
    notes.mkdir(parents=True, exist_ok=True)
    remove_unfinished(out)
    jobs = _cut(sources, out, prefix, shard_bytes)
    missing = [job for job in jobs if not _is_made(job, notes)]
    total = sum(len(job.numbers) for job in jobs)
    bar = tqdm(
        desc=f"{name} {split} shards", total=total, unit="image", disable=not progress,
        initial=total - sum(len(job.numbers) for job in missing),
    )  # fmt: skip
    # Forked: a fresh interpreter would import torch first.
    with bar, ProcessPoolExecutor(
        processes or os.cpu_count(), get_context("fork"), _end_with_parent, (os.getpid(),)
    ) as pool:  # fmt: skip
        for job in pool.map(functools.partial(_make_shard, notes=notes), missing):
            bar.update(job)
    _write_index(name, split, sources, jobs, notes, plan, index)
    return index


def _check_names(sources: Iterable[Source]) -> None:
    seen: dict[str, str] = {}
    for one in sources:
        key = os.path.splitext(_member_name(one))[0]
        if seen.setdefault(key, one.file) != one.file:
            raise ValueError(
                f"{seen[key]} and {one.file} would be one sample {key} of a shard; rename one"
            )


def _member_name(one: Source) -> str:
    """<class>/<stem>.<suffix>; WebDataset takes what follows the first dot for the suffix."""
    stem, suffix = os.path.splitext(os.path.basename(one.file))
    return f"{one.class_name}/{stem.replace('.', '_')}{suffix.lower()}"


def _hash_plan(sources: Iterable[Source], shard_bytes: int) -> str:
    digest = hashlib.sha256(f"{FORMAT} {shard_bytes}".encode())
    for one in sources:
        digest.update(f"{one.class_name} {one.file} {one.size}\n".encode())
    return digest.hexdigest()[:16]


def _cut(sources: Sequence[Source], out: Path, prefix: str, shard_bytes: int) -> list[_Job]:
    count = len(sources)
    # RandomState: numpy keeps its draws as they are for ever, so that a later run can go on.
    order = np.random.RandomState(0).permutation(count) if prefix == "train" else np.arange(count)
    sizes = np.array([one.size for one in sources])[order]
    shards = (np.cumsum(sizes) - sizes) // shard_bytes
    groups = np.split(order, np.flatnonzero(np.diff(shards)) + 1)
    return [
        _Job(
            out, f"{prefix}-{number:06d}.tar", tuple(group.tolist()),
            tuple(sources[i] for i in group),
        )
        for number, group in enumerate(groups)
    ]  # fmt: skip


def _is_made(job: _Job, notes: Path) -> bool:
    note, path = notes / f"{job.name}.json", job.folder / job.name
    if not (note.is_file() and path.is_file()):
        return False
    return path.stat().st_size == json.loads(note.read_text())["size"]


def _make_shard(job: _Job, notes: Path) -> int:
    """Write a shard and, when it is in place, its note."""
    path = job.folder / job.name
    with (
        open_atomically(path) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        places = [_add(tar, one) for one in job.sources]
    note = {"size": path.stat().st_size, "sha256": _hash_file(path), "places": places}
    write_atomically(notes / f"{job.name}.json", json.dumps(note).encode())
    return len(job.numbers)


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _add(tar: tarfile.TarFile, one: Source) -> tuple[int, int, int]:
    """Add an image and its class; its offset, size and CRC-32."""
    data = _read(one)
    name = _member_name(one)
    _add_member(tar, name, data)
    offset = tar.offset - -(-len(data) // BLOCK) * BLOCK
    _add_member(tar, f"{os.path.splitext(name)[0]}.cls", one.class_name.encode())
    return offset, len(data), zlib.crc32(data)


def _read(one: Source) -> bytes:
    with open(one.path, "rb") as file:
        data = os.pread(file.fileno(), one.size, one.offset)
        longer = one.offset == 0 and not one.path.endswith(".tar") and file.seek(0, 2) != one.size
    if len(data) != one.size or longer:
        raise OSError(f"{one.path} changed while shards were made of it; begin again")
    return data


def _add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # owner 0, time 0: the same bytes everywhere
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _write_index(
    name: str, split: str, sources: Sequence[Source], jobs: Sequence[_Job], notes: Path,
    plan: str, index: Path,
) -> None:  # fmt: skip
    classes, labels = np.unique([one.class_name for one in sources], return_inverse=True)
    places = np.empty((len(sources), 4), np.int64)
    shards = []
    for number, job in enumerate(jobs):
        note = json.loads((notes / f"{job.name}.json").read_text())
        places[list(job.numbers), 0] = number
        places[list(job.numbers), 1:] = note["places"]
        shards.append(Shard(job.name, note["size"], note["sha256"], len(job.numbers)))
    table = io.BytesIO()
    files = np.array([os.fsencode(one.file) for one in sources])
    np.savez_compressed(table, files=files, labels=labels.astype(np.int32), places=places)
    data, path = table.getvalue(), index.with_suffix(".npz")
    write_atomically(path, data)
    text = {
        "format": FORMAT, "name": name, "split": split, "plan": plan,
        "images": len(sources), "class_names": classes.tolist(),
        "table": {"name": path.name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()},
        "shards": [asdict(shard) for shard in shards],
    }  # fmt: skip
    write_atomically(index, json.dumps(text, indent=1).encode())


def _end_with_parent(parent: int) -> None:
    """A worker whose parent is killed would wait for ever, and hold the folder's lock."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def verify_shards(place: Path | str, *, progress: bool = True) -> list[str]:
    """Compare the shards of a folder, or at a URL, with their checksums; what is wrong, one a line.

    Raises:
        FileNotFoundError: no index there.
    """
    splits = [split for split in ("train", "test") if has_shards(place, split)]
    if not splits:
        raise FileNotFoundError(f"{place} holds no train.json and no val.json; no shards are there")
    faults = []
    for split in splits:
        index = load_index(place, split)
        shards = range(len(index.shards))
        for number in tqdm(shards, f"{split} shards", unit="shard", disable=not progress):
            shard = index.shards[number]
            try:
                found = _hash_file(index.path(number))
            except OSError as error:
                faults.append(str(error))
                continue
            if found != shard.sha256:
                faults.append(
                    f"{index.url(shard.name)} has SHA-256 {found}, the index says {shard.sha256}"
                )
    return faults
