"""A data set in memory: `ImageSet` if it is small, `FolderSet` if it is as large as ImageNet.

Both iterate alike: the caller gives the order, the set gives batches of bytes. Normalisation, flips
and all other augmentation are the caller's, on the batch's device.

Shapes: N images, B of them in a batch, K boxes an image, H x W pixels.
"""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from nestlib.data.folders import centre_crop, decode_image, random_crop

Triple = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A small data set, whole in memory.

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
        images, labels = self.images, self.labels
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(
                f"images are {images.dtype} of shape {tuple(images.shape)}, expected torch.uint8 "
                "(N, 3, H, W)"
            )
        if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"labels are {labels.dtype} of shape {tuple(labels.shape)}, expected torch.int64 "
                f"({len(images)},), one an image"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

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
class FolderSet:
    """A large data set, decoded as it is read; as `ImageSet`, but without `images`.

    root holds files (N,), byte strings: Python objects would be copied into every worker. Images
    come out crop_size square, as crops or, with `squeeze`, whole and of changed proportions;
    `labels` stay on the CPU, batches go to `device`.
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
    boxes: ClassVar[None] = None
    box_labels: ClassVar[None] = None
    class_ids: ClassVar[None] = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_size(self) -> tuple[int, int]:
        """H, W."""
        return self.crop_size, self.crop_size

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hex over the sorted relative paths and the files' sizes in bytes."""
        digest = hashlib.sha256()
        for file in sorted(self.files.tolist()):
            size = os.stat(os.path.join(os.fsencode(self.root), file)).st_size
            digest.update(file + f" {size}\n".encode())
        return digest.hexdigest()

    def to(self, device: torch.device | str) -> "FolderSet":
        """The same set, giving its batches on `device`."""
        return replace(self, device=device)

    def read_image(self, index: int) -> Image.Image:
        """One image, RGB, of its file's own size: nothing is cropped.

        Raises:
            OSError: it cannot be read; the message names the file.
        """
        path = self.root / os.fsdecode(self.files[index])
        try:
            data = path.read_bytes()
        except OSError as error:
            raise OSError(f"cannot read image {path} ({error}); fetch the file again") from error
        return decode_image(data, str(path))

    def iterate(
        self, order: Tensor, batch_size: int, *, seed: int
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Batches (images (B, 3, H, W) uint8, labels (B,) int64) in `order`, on `device`.

        Training images are random crops, each drawn from (seed, its index) alone, so that a run
        resumed within an epoch sees what it would have seen; give each epoch a seed of its own.
        Test images are centre crops. With `squeeze` both are whole. The last batch may be shorter.

        Raises:
            OSError: an image that cannot be read; the message names the file.
        """
        loader = DataLoader(
            _Crops(self, seed), batch_size, sampler=order.tolist(), num_workers=self.num_workers,
            pin_memory=torch.device(self.device).type == "cuda",
            generator=torch.Generator(),  # else each epoch would draw from the global one
        )  # fmt: skip
        for images, labels in loader:
            yield (
                images.to(self.device, non_blocking=True),
                labels.to(self.device, non_blocking=True),
            )


@dataclass(frozen=True)
class _Crops:
    """The map from index to (image, label) that a DataLoader's workers evaluate."""

    source: FolderSet
    seed: int

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        source = self.source
        image = source.read_image(index)
        if source.squeeze:
            image = image.resize(source.image_size, Image.Resampling.BILINEAR)
        elif source.split == "train":
            rng = np.random.Generator(np.random.PCG64([self.seed, index]))
            image = random_crop(image, source.crop_size, rng)
        else:
            image = centre_crop(image, source.crop_size)
        pixels = np.array(image).transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(pixels)), int(source.labels[index])
