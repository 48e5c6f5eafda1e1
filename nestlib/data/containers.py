"""Sets of labelled images: `ImageSet` in memory, `FolderSet` on disk for sets like ImageNet.

Both iterate alike: the caller gives the order, the set gives batches of bytes. Normalisation, flips
and all other augmentation are the caller's, on the batch's device.

Shapes: N images, B of them in a batch, K boxes per image, H x W pixels.
"""

import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from nestlib.data.decoding import centre_crop, decode_image, decode_pixels, random_crop, squeeze
from nestlib.data.faults import Faults
from nestlib.data.fetching import CacheFull, Unreachable
from nestlib.data.opening import MAX_IMAGE_BYTES
from nestlib.data.workers import read_batches
from nestlib.files import read_regular

Triple = tuple[float, float, float]
SAMPLE = 500  # images of a folder whose content is looked at, where all would take too long


def spread(count: int) -> list[int]:
    """Up to SAMPLE of `count` indices, evenly."""
    return np.unique(np.linspace(0, count - 1, SAMPLE).astype(int)).tolist()[:count]


def check_bytes(images: Tensor, name: str) -> None:
    """Raise ValueError unless images, which the message calls `name`, are uint8 (N, 3, H, W)."""
    if not isinstance(images, Tensor):
        raise ValueError(f"{name} are a {type(images).__name__}; give a tensor, uint8 (N, 3, H, W)")
    if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(
            f"{name} are {images.dtype} of shape {tuple(images.shape)}; they must be uint8 "
            "(N, 3, H, W)"
        )


def check_batch(images: Tensor, labels: Tensor) -> None:
    """Raise ValueError unless images are uint8 (N, 3, H, W) and labels int64 (N,)."""
    check_bytes(images, "images")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}; they must be int64 "
            f"({len(images)},), one for each image"
        )


class LabelledImages:
    """What `ImageSet` and `FolderSet` share; None stands for what one of them does not have."""

    labels: Tensor
    class_names: tuple[str, ...]
    boxes = box_labels = class_ids = faults = None
    # What a fingerprint does not tell, so that a stopped run goes on with the very same images:
    # SHA-256 in hex of their order, and checksums of some of them by name.
    order_fingerprint = ""
    sampled_checksums: Mapping[str, int] = MappingProxyType({})

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def identifiers(self) -> tuple[str, ...]:
        """Unique names of the classes: their folder names, as class_names may be descriptions."""
        return self.class_ids or self.class_names

    def shuffle(self, seed: int, batch_size: int) -> Tensor:
        """A random order of all images that depends only on both arguments: (N,) int64."""
        return torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))

    def select(self, indices: Tensor) -> Self:
        """Only the images at `indices` (M,) int64, in that order."""
        names = ("images", "labels", "files", "places", "boxes", "box_labels")
        parts = {name: getattr(self, name, None) for name in names}
        return replace(self, **{k: part[indices] for k, part in parts.items() if part is not None})

    def renumber(self, numbers: Sequence[int], identifiers: tuple[str, ...]) -> Self:
        """The same images; class k becomes class `numbers[k]` of `identifiers`."""
        places, names = torch.tensor(numbers), {"class_names": identifiers}
        if self.class_ids is not None:
            words = dict(zip(self.class_ids, self.class_names))
            names |= {"class_names": tuple(words.get(name, name) for name in identifiers)}
            names |= {"class_ids": identifiers}
        if self.box_labels is not None:
            boxed = self.box_labels >= 0
            names |= {"box_labels": torch.where(boxed, places[self.box_labels], -1)}
        return replace(self, labels=places[self.labels], **names)


@dataclass(frozen=True, eq=False)
class ImageSet(LabelledImages):
    """A small data set, held in memory.

    images (N, 3, H, W) uint8; labels (N,) int64; mean and std of pixels in 0..1 for normalisation.
    class_ids are the classes' folder names where class_names are words (Tiny ImageNet's wnids).
    boxes (N, K, 4) int16 or None: x0, y0, x1, y1 in pixel indices, both ends inside, -1 where an
    image has fewer than K; box_labels (N, K) int64 likewise.

    Raises:
        ValueError: images or labels of another shape or type.
    """

    name: str
    split: str
    images: Tensor
    labels: Tensor
    class_names: tuple[str, ...]
    mean: Triple
    std: Triple
    boxes: Tensor | None = None
    box_labels: Tensor | None = None
    class_ids: tuple[str, ...] | None = None

    def __post_init__(self):
        check_batch(self.images, self.labels)

    @property
    def image_size(self) -> tuple[int, int]:
        """H, W."""
        return tuple(self.images.shape[-2:])

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hex over the shapes, the pixels and the labels."""
        digest = hashlib.sha256(f"{tuple(self.images.shape)}{tuple(self.labels.shape)}".encode())
        for tensor in (self.images, self.labels):
            digest.update(tensor.cpu().contiguous().numpy())
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> "ImageSet":
        """The same set with all its tensors on `device`."""
        names = ("images", "labels", "boxes", "box_labels")
        tensors = {name: getattr(self, name) for name in names}
        return replace(self, **{k: t.to(device) for k, t in tensors.items() if t is not None})

    def read_image(self, index: int) -> Image.Image:
        """One image as it is stored."""
        return Image.fromarray(self.images[index].permute(1, 2, 0).cpu().numpy())

    def iterate(
        self, order: Tensor, batch_size: int, *, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches (images (B, 3, H, W) uint8, labels (B,) int64) in `order`, on the set's device.

        The last batch may be shorter. `seed` changes nothing here: the images are given as stored;
        `FolderSet.iterate` draws its crops from it.
        """
        order = order.to(self.images.device)
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            yield self.images[indices], self.labels[indices]


@dataclass(frozen=True, eq=False)
class FolderSet(LabelledImages):
    """A large data set, decoded as it is read; like `ImageSet`, but without `images`.

    root holds files (N,), byte strings: Python objects would be copied into every worker. Images
    come out crop_size square: as crops, with `squeeze` whole and of changed proportions, with
    `as_stored` as they are. `labels` stay on the CPU, batches go to `device`. What cannot be read
    goes to `faults`.
    """

    name: str
    split: str
    root: Path
    files: np.ndarray
    labels: Tensor
    class_names: tuple[str, ...]
    mean: Triple
    std: Triple
    crop_size: int
    num_workers: int
    squeeze: bool = False
    device: str | torch.device = "cpu"
    as_stored: bool = False
    faults: Faults = field(default_factory=lambda: Faults(limit=0))

    @property
    def image_size(self) -> tuple[int, int]:
        """H, W."""
        return self.crop_size, self.crop_size

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hex over the sorted relative paths and the files' sizes in bytes."""
        digest = hashlib.sha256()
        for file, size in sorted(zip(self.files.tolist(), self.sizes())):
            digest.update(b"%s %d\n" % (file, size))
        return digest.hexdigest()

    @property
    def order_fingerprint(self) -> str:
        """SHA-256 in hex over the relative paths in their order, and the labels."""
        digest = hashlib.sha256(b"\n".join(self.files.tolist()))
        digest.update(self.labels.numpy())
        return digest.hexdigest()

    @property
    def sampled_checksums(self) -> dict[str, int]:
        """CRC-32 of up to SAMPLE files, spread evenly, by relative path.

        Sizes alone do not tell two pictures of one colour each apart. What cannot be read is left
        out: it may be there the next time.
        """
        found = {}
        for index in spread(len(self)):
            with suppress(OSError):
                found[os.fsdecode(self.files[index])] = zlib.crc32(self.read_bytes(index))
        return found

    def sizes(self) -> Iterable[int]:
        """Bytes of each file; -1 for a file that does not exist."""
        root = os.fsencode(self.root)
        return (_size(os.path.join(root, file)) for file in self.files.tolist())

    def to(self, device: torch.device | str) -> "FolderSet":
        """The same set, whose batches are on `device`."""
        return replace(self, device=device)

    def where(self, index: int) -> str:
        """The name of an image in messages and records."""
        return str(self.root / os.fsdecode(self.files[index]))

    def read_bytes(self, index: int) -> bytes:
        """The encoded bytes of one image.

        Raises:
            OSError: it cannot be read; the message names it.
        """
        try:
            return read_regular(self.root / os.fsdecode(self.files[index]), MAX_IMAGE_BYTES)
        except OSError as error:
            raise OSError(
                f"cannot read image {self.where(index)} ({error}); fetch the file again"
            ) from error

    def read_image(self, index: int) -> Image.Image:
        """One RGB image in its own size; raises OSError as `read_bytes` does."""
        return decode_image(self.read_bytes(index), self.where(index))

    def iterate(
        self, order: Tensor, batch_size: int, *, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches (images (B, 3, H, W) uint8, labels (B,) int64) in `order`, on `device`.

        Training images are random crops, each drawn from (seed, its index) alone, so that a run
        resumed within an epoch sees what it would have seen; give each epoch a seed of its own.
        Test images are centre crops. With `squeeze` both are whole. The last batch may be shorter,
        and one with an image that cannot be read is: nothing takes its place, or that would count
        twice.

        Raises:
            UnreadableImages: more than `faults` allows.
            OSError: a batch of which no image can be read, and the message names one; or /dev/shm
                is too small for the workers.
        """
        loader = DataLoader(
            _Crops(self, seed), batch_size, sampler=order.tolist(), num_workers=self.num_workers,
            pin_memory=torch.device(self.device).type == "cuda", collate_fn=_keep,
            generator=torch.Generator(),  # else each epoch would draw from the global one
        )  # fmt: skip
        for images, labels, unreadable in read_batches(loader):
            if unreadable:
                self.faults.add(unreadable)
            if images is None:
                reason = next(iter(unreadable.values()))
                raise OSError(
                    f"none of the {len(unreadable)} images of a batch can be read: {reason}"
                )
            yield (
                images.to(self.device, non_blocking=True),
                labels.to(self.device, non_blocking=True),
            )


def _size(path: bytes) -> int:
    # A run that ends must get its record, though a file vanished while it trained.
    try:
        return os.stat(path).st_size
    except OSError:
        return -1


@dataclass(frozen=True)
class _Crops:
    """A DataLoader's data set, which maps the indices of a batch to the images that can be read."""

    source: FolderSet
    seed: int

    def __getitems__(self, indices: list[int]) -> tuple[Tensor | None, Tensor, dict[str, str]]:
        """Images (None if there are none), their labels, and names and reasons of the others."""
        images, read, unreadable = [], [], {}
        for index in indices:
            try:
                images.append(self._read(index))
                read.append(index)
            except (Unreachable, CacheFull):  # a server's or a disk's fault, not an image's
                raise
            except OSError as error:
                unreadable[os.fsdecode(self.source.files[index])] = str(error)
        return default_collate(images) if images else None, self.source.labels[read], unreadable

    def _read(self, index: int) -> Tensor:
        source = self.source
        if source.squeeze:
            return squeeze(source.read_image(index), source.crop_size)
        if source.split == "train" or source.as_stored:
            pixels = decode_pixels(source.read_bytes(index), source.where(index))
            if source.as_stored:
                return _check_size(pixels, source, index)
            rng = np.random.Generator(np.random.PCG64([self.seed, index]))
            return random_crop(pixels, source.crop_size, rng)
        return centre_crop(source.read_image(index), source.crop_size)


def _check_size(pixels: Tensor, source: FolderSet, index: int) -> Tensor:
    if pixels.shape[1:] != source.image_size:
        height, width = pixels.shape[1:]
        raise OSError(
            f"image {source.where(index)} is {width} x {height} pixels, expected "
            f"{source.crop_size} x {source.crop_size}; fetch the file again, or remove it"
        )
    return pixels


def _keep(batch: tuple) -> tuple:
    """In place of a collate_fn: `_Crops` gives whole batches."""
    return batch
