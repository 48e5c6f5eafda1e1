"""ImageNet in shards: plain tars that are read by index, from a folder or over the network.

A split is `<split>.json` (the shards, their SHA-256, the classes), `<split>.npz` (one row per
image: shard, offset, size, CRC-32, label, file) and `<split>-000000.tar`, ...: tars in WebDataset's
form, so that its own reader and `tar` read them too. nestlib.data.shard_maker makes them.

No library that streams shards was taken, for what they do at the points that count here (tried or
resolved beside this project, 2026-11):

- litdata 0.2.76 deals its chunks out to ranks, so a run cannot go on with another number of them:
  of 1,003 samples one rank and two ranks made 50 global batches of 20, none of them equal.
- WebDataset 1.0.2 streams whole shards to a worker, which gives ranks unequal numbers of samples;
  its author advises to draw with replacement, and leaves resuming within an epoch to others (its
  issues 75, 177, 271, 434). Its indexed reader, `wids`, is not in 1.0 any more.
- mosaicml-streaming 0.13.0 has elastic, exact orders, but wants transformers below 5 and numpy
  below 2.2; no release has followed since July 2025.

Here the trainer takes the order of an epoch, a function of (seed, epoch), cuts off the steps that
are done, and shares each global batch out among the ranks. Reading by index makes that exact;
`windowed_order` keeps it near: N images, B of them in a global batch, C streams.
"""

import hashlib
import io
import json
import math
import os
import re
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nestlib.data.containers import FolderSet
from nestlib.data.fetching import WRONG_TRIES, BadFile, Cache, is_url, read_url
from nestlib.data.folders import split_folder

FORMAT = 1
STREAMS = 16  # up to so many nodes read shards of their own in an epoch
WINDOW = 4  # shards of a stream that are open at a time, hence up to 64 of 16 streams
OPEN_FILES = 256

Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Shard:
    """One tar, or a split's table of places. sha256 is of the whole file.

    Raises:
        ValueError, TypeError: a field is of another form, or the name leads out of the folder.
    """

    name: str
    size: int
    sha256: str
    images: int = 0

    def __post_init__(self):
        for field, form in (("name", r"[\w.-]+"), ("sha256", "[0-9a-f]{64}")):
            if not re.fullmatch(form, getattr(self, field)):
                raise ValueError(f"{field} is {getattr(self, field)!r}")
        for field in ("size", "images"):
            number = getattr(self, field)
            if type(number) is not int or not 0 <= number < 2**63:
                raise ValueError(f"{field} is {number!r}")


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """What a split's two index files say, and where they were found; cache is None in a folder.

    Raises:
        ValueError: the two do not fit together.
    """

    place: str
    cache: Cache | None
    plan: str  # a hash of what decides the shards
    shards: tuple[Shard, ...]
    class_names: tuple[str, ...]
    files: np.ndarray  # (N,) byte strings, paths in a tree of class folders
    labels: np.ndarray  # (N,) int64
    places: np.ndarray  # (N, 4) int64: shard, offset, size, CRC-32

    def __post_init__(self):
        shapes = self.files.shape, self.labels.shape, self.places.shape
        N, C = len(self.files), len(self.class_names)
        if self.files.dtype.kind != "S" or shapes != ((N,), (N,), (N, 4)):
            raise ValueError(f"files, labels and places are of shapes {shapes}")
        if len(set(self.class_names)) != C:
            raise ValueError("two classes have one name")
        if not ((0 <= self.labels) & (self.labels < C)).all():
            raise ValueError(f"there are labels outside of its {C} classes")
        shard, offset, size, _ = self.places.T
        sizes = np.array([shard.size for shard in self.shards], np.int64)
        known = (0 <= shard) & (shard < len(sizes)) & (0 <= offset) & (0 <= size)
        if not (known.all() and (offset <= sizes[shard] - size).all()):
            raise ValueError("there are places outside of its shards")

    def url(self, name: str) -> str:
        """The address of a file beside the index."""
        return f"{self.place}/{name}"

    def path(self, number: int) -> Path:
        """The path of a shard, which is fetched if necessary.

        Raises:
            BadFile: it is missing or damaged; the message names it.
            Unreachable, ValueError, ImportError: see `Cache.get`.
        """
        return _locate(self.place, self.cache, self.shards[number])


def _locate(place: str, cache: Cache | None, file: Shard) -> Path:
    """The path of a file of the index, which is fetched if necessary."""
    if cache:
        return cache.get(f"{place}/{file.name}", file.sha256, file.size)
    path = Path(place) / file.name
    if not path.is_file() or path.stat().st_size != file.size:
        found = f"{path.stat().st_size} bytes" if path.is_file() else "not there"
        raise BadFile(f"{path} is {found}, the index says {file.size}; make or copy it again")
    return path


def has_shards(data_dir: Path | str, split: str) -> bool:
    """Whether there is an index of the split; a URL is assumed to have one."""
    if is_url(data_dir):
        return True
    index = Path(data_dir) / f"{split_folder(split)}.json"
    if not index.is_file():
        return False
    # Beside a folder of images such a file may be somebody's list of labels.
    with index.open("rb") as file:
        return not index.with_suffix("").is_dir() or b'"format"' in file.read(200)


def load_index(data_dir: Path | str, split: str) -> ShardIndex:
    """Read the index of a split from a folder or a URL.

    Raises:
        OSError: it or its table of places is not there, or damaged; the message names it.
        ValueError: it is of another format.
    """
    place = str(data_dir).rstrip("/")
    cache = Cache.from_environment() if is_url(place) else None
    url = f"{place}/{split_folder(split)}.json"
    try:
        index = _read_json(url)
        parts = _parse_index(index) if index["format"] == FORMAT else None
        if parts and index.get("split", split) != split:
            raise ValueError(f"it is of split {index['split']}")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise OSError(f"{url} is not an index of shards ({error!r}); make it again") from error
    if parts is None:
        raise ValueError(f"{url} has format {index['format']}, this nestlib reads {FORMAT}")
    table, *said = parts
    arrays = _read_table(_locate(place, cache, table), table.sha256)
    try:
        return ShardIndex(place, cache, *said, *arrays)
    except ValueError as error:
        raise OSError(f"{url} does not fit {table.name}: {error}; make both again") from error


def _read_json(url: str) -> Any:
    """Read JSON, a second time if it is damaged: a reply without a length may break off unseen."""
    for left in reversed(range(WRONG_TRIES)):
        try:
            return json.loads(read_url(url) if is_url(url) else Path(url).read_bytes())
        except ValueError:
            if not left:
                raise


def _parse_index(index: dict[str, Any]) -> tuple[Shard, str, tuple[Shard, ...], tuple[str, ...]]:
    """The table of places; plan, shards and class_names."""
    names = index["class_names"]
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise TypeError("class_names is not a list of names")
    shards = tuple(Shard(**shard) for shard in index["shards"])
    return Shard(**index["table"]), index["plan"], shards, tuple(names)


def _read_table(path: Path, sha256: str) -> list[np.ndarray]:
    """files, labels and places."""
    data = path.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise OSError(
            f"{path} has SHA-256 {found}, the index says {sha256}; it is damaged: delete it, and "
            "copy or make it again"
        )
    try:
        with np.load(io.BytesIO(data)) as arrays:
            numbers = [arrays[name] for name in ("labels", "places")]
            return [arrays["files"], *(n.astype(np.int64, casting="same_kind") for n in numbers)]
    except Exception as error:  # numpy and zipfile raise a dozen types
        raise OSError(f"{path} is not a table of places ({error!r}); make it again") from error


@dataclass(frozen=True, eq=False, kw_only=True)
class ShardSet(FolderSet):
    """A `FolderSet` that is read from shards; `root` is their folder, or the cache's.

    places (N, 4) int64: shard, offset, size and CRC-32 of each image.
    """

    index: ShardIndex
    places: np.ndarray

    def sizes(self) -> Iterator[int]:
        """Bytes of each image: the fingerprint is that of the folder that was sharded."""
        return iter(self.places[:, 2].tolist())

    def where(self, index: int) -> str:
        shard = self.index.shards[self.places[index, 0]]
        return f"{self.index.url(shard.name)}: {os.fsdecode(self.files[index])}"

    def read_bytes(self, index: int) -> bytes:
        """As `FolderSet.read_bytes`; the CRC-32 is checked. A bad shard raises BadFile."""
        shard, offset, size, crc = self.places[index].tolist()
        data = os.pread(_open_shard(self.index, shard).fileno(), size, offset)
        if zlib.crc32(data) != crc:
            copy = f"delete {self.index.path(shard)}, which is fetched again, or "
            raise OSError(
                f"image {self.where(index)} is damaged, its CRC-32 is {zlib.crc32(data):08x}, not "
                f"{crc:08x}; {copy if self.index.cache else ''}make or copy its shard again"
            )
        return data

    def shuffle(self, seed: int, batch_size: int) -> Tensor:
        """As `ImageSet.shuffle`, but with few shards read at a time; see `windowed_order`."""
        return windowed_order(self.places[:, 0], batch_size, seed)

    def iterate(self, order: Tensor, batch_size: int, *, seed: int) -> Batches:
        """As `FolderSet.iterate`; shards are fetched ahead."""
        batches = super().iterate(order, batch_size, seed=seed)
        if self.index.cache is None or not self.num_workers:
            yield from batches
            return
        plan = _plan_fetches(self.index, self.places[order.numpy(), 0])
        wanted: SimpleQueue[int | None] = SimpleQueue()
        try:
            for count, batch in enumerate(batches, 1):
                if count == 1:  # not sooner: the workers are forked by now, without this thread
                    Thread(target=_fetch_wanted, args=(self.index, wanted), daemon=True).start()
                while plan and plan[0][0] <= count * batch_size:
                    wanted.put(plan.popleft()[1])
                yield batch
        finally:
            with suppress(Empty):
                while True:
                    wanted.get_nowait()
            wanted.put(None)  # within a fetch the thread ends later, by itself


@lru_cache(OPEN_FILES)
def _open_shard(index: ShardIndex, number: int) -> io.FileIO:
    while True:
        path = index.path(number)
        try:
            file = path.open("rb", buffering=0)
            if index.cache:
                os.utime(path)  # used last now
            return file
        except FileNotFoundError:  # another process made room in the cache just now
            if not index.cache:
                raise


def windowed_order(shards: np.ndarray, batch_size: int, seed: int) -> Tensor:
    """A random order of all images that reads few shards at a time: (N,) int64.

    A function of its arguments alone, so the same for any number of ranks. Shards are laid in a
    random order, the images within each too, and the whole is cut into C equal streams, each
    shuffled within windows of WINDOW shards. A global batch takes B / C images of each stream in
    turn, so that of up to C ranks each reads streams, hence shards, of its own. The N mod B images
    that fill no batch come last: other ones in each epoch.
    """
    generator = torch.Generator().manual_seed(seed)
    count, num_shards = len(shards), int(shards.max(initial=0)) + 1
    place = torch.randperm(num_shards, generator=generator).numpy()
    draws = torch.rand(2, count, generator=generator, dtype=torch.float64).numpy()
    laid = np.lexsort((draws[0], place[shards]))
    used = count // batch_size * batch_size
    if not used:
        return torch.from_numpy(laid)
    streams = math.gcd(batch_size, STREAMS)
    length = used // streams
    window = max(1, WINDOW * count // num_shards)
    # Streams change their windows at different times, so that shards are fetched one by one.
    begin = np.arange(streams)[:, None] * window // streams
    windows = (np.arange(length) + begin) // window  # (C, N / C)
    shuffled = np.lexsort((draws[1, :used].reshape(streams, length), windows))
    parts = np.take_along_axis(laid[:used].reshape(streams, length), shuffled, 1)
    batches = parts.reshape(streams, -1, batch_size // streams).swapaxes(0, 1)
    return torch.from_numpy(np.concatenate([batches.ravel(), laid[used:]]))


def _plan_fetches(index: ShardIndex, shards: np.ndarray) -> deque[tuple[int, int]]:
    """When to fetch each shard of an order: the images read by then, and the shard's number."""
    numbers, first = np.unique(shards, return_index=True)
    order = first.argsort()
    # Half of what the cache holds, so that nothing in use makes room for what is not yet.
    largest = max(shard.size for shard in index.shards)
    most = max(1, min(index.cache.limit_bytes // largest // 2, WINDOW * STREAMS))
    begin = first[order][np.maximum(np.arange(len(order)) - most, 0)]
    return deque(zip(begin.tolist(), numbers[order].tolist()))


def _fetch_wanted(index: ShardIndex, wanted: "SimpleQueue[int | None]") -> None:
    for shard in iter(wanted.get, None):
        with suppress(Exception):  # whoever needs the shard meets the same, and says so
            index.path(shard)
