"""A data set whose images lie in shards (nestlib.data.shards), and the order to read them in.

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
import math
import os
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from queue import Empty, SimpleQueue
from threading import Thread

import numpy as np
import torch
from torch import Tensor

from nestlib.data.containers import FolderSet
from nestlib.data.opening import MAX_IMAGE_BYTES
from nestlib.data.shards import ShardIndex

STREAMS = 16  # up to so many nodes read shards of their own in an epoch
WINDOW = 4  # shards of a stream that are open at a time, hence up to 64 of 16 streams
OPEN_FILES = 256

Batches = Iterator[tuple[Tensor, Tensor]]


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

    @property
    def order_fingerprint(self) -> str:
        """As `FolderSet.order_fingerprint`, and over the shards and the CRC-32 of the images: an
        epoch's order follows from the shards."""
        digest = hashlib.sha256(super().order_fingerprint.encode())
        digest.update(np.ascontiguousarray(self.places[:, [0, 3]]))
        return digest.hexdigest()

    @property
    def sampled_checksums(self) -> dict[str, int]:
        """None: `order_fingerprint` knows all of them."""
        return {}

    def where(self, index: int) -> str:
        shard = self.index.shards[self.places[index, 0]]
        return f"{self.index.url(shard.name)}: {os.fsdecode(self.files[index])}"

    def read_bytes(self, index: int) -> bytes:
        """As `FolderSet.read_bytes`; the CRC-32 is checked. A bad shard raises BadFile."""
        shard, offset, size, crc = self.places[index].tolist()
        if size > MAX_IMAGE_BYTES:
            raise OSError(
                f"cannot read image {self.where(index)} (it has {size:,} bytes; the limit is "
                f"{MAX_IMAGE_BYTES:,}); make its shard again without it"
            )
        file = _open_shard(self.index, shard)
        try:
            data = os.pread(file.fileno(), size, offset)
        except OSError as error:
            raise OSError(
                f"cannot read image {self.where(index)} ({error}); copy its shard again"
            ) from error
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
