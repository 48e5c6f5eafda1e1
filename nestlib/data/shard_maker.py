"""Makes the shards that nestlib.data.shards reads.

A shard is written beside and moved into place when it is whole; the split's index comes last and
says what is read back from the shards. A run that was killed goes on with the shards that are not
there yet. The same images give the same bytes, however many processes write them and however often
they are killed.
"""

import hashlib
import io
import json
import os
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

Places = list[tuple[int, int, int]]  # offset, size and CRC-32 of each image of a shard


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
        return [
            _make_split(name, folder, out, split, int(shard_mb * 1e6), processes, progress)
            for split in splits
        ]


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
    remove_unfinished(out)
    jobs, shards = _cut(sources, out, prefix, shard_bytes), []
    places = np.empty((len(sources), 4), np.int64)
    # Forked: a fresh interpreter would import torch first.
    with ProcessPoolExecutor(
        processes or os.cpu_count(), get_context("fork"), _end_with_parent, (os.getpid(),)
    ) as pool, tqdm(
        desc=f"{name} {split} shards", total=len(sources), unit="image", disable=not progress
    ) as bar:  # fmt: skip
        for number, (job, (shard, of_shard)) in enumerate(zip(jobs, pool.map(_make_shard, jobs))):
            shards.append(shard)
            places[list(job.numbers)] = [(number, *place) for place in of_shard]
            bar.update(shard.images)
    _write_index(index, name, split, plan, sources, shards, places)
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


def _make_shard(job: _Job) -> tuple[Shard, Places]:
    """Write a shard, unless an earlier call did; what the index says of it."""
    path = job.folder / job.name
    made = _read_back(path, job)
    if made is None:
        with (
            open_atomically(path) as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar,
        ):
            for one in job.sources:
                name = _member_name(one)
                _add_member(tar, name, _read(one))
                _add_member(tar, f"{os.path.splitext(name)[0]}.cls", one.class_name.encode())
        made = _read_back(path, job)
    return made


def _read_back(path: Path, job: _Job) -> tuple[Shard, Places] | None:
    """What a shard holds; None if it is not there, or not of the job's images."""
    try:
        data = path.read_bytes()
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            images = [member for member in tar if not member.name.endswith(".cls")]
    except (FileNotFoundError, tarfile.TarError):
        return None
    if [(m.name, m.size) for m in images] != [(_member_name(s), s.size) for s in job.sources]:
        return None
    places = [
        (m.offset_data, m.size, zlib.crc32(data[m.offset_data : m.offset_data + m.size]))
        for m in images
    ]
    return Shard(path.name, len(data), hashlib.sha256(data).hexdigest(), len(images)), places


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
    index: Path, name: str, split: str, plan: str, sources: Sequence[Source],
    shards: Sequence[Shard], places: np.ndarray,
) -> None:  # fmt: skip
    classes, labels = np.unique([one.class_name for one in sources], return_inverse=True)
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
                with index.path(number).open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                faults.append(str(error))
                continue
            if found != shard.sha256:
                faults.append(
                    f"{index.url(shard.name)} has SHA-256 {found}, the index says {shard.sha256}"
                )
    return faults
