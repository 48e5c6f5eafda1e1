"""The data sets by name: `load_dataset("cifar10", "train")` returns an ImageSet or a FolderSet."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from nestlib.arguments import Range, check_given
from nestlib.choices import check_choice, choose
from nestlib.data.containers import FolderSet, ImageSet, Triple
from nestlib.data.digits import IMAGE_SIZES, NUM_IMAGES, make_digits
from nestlib.data.faults import ONE_IN, Faults
from nestlib.data.fetching import is_url
from nestlib.data.folders import Arrays, number_classes
from nestlib.data.layouts import (
    DOWNLOAD_MB,
    TINY_PACK,
    find_cifar,
    find_imagenet,
    find_tiny_imagenet,
    list_imagenet,
)
from nestlib.data.shard_set import ShardSet
from nestlib.data.shards import has_shards, load_index
from nestlib.project import data_root

log_line = logging.getLogger(__name__)

SPLITS = ("train", "test")


@dataclass(frozen=True)
class DatasetInfo:
    """Facts about a data set that need no files.

    image_size is native, image_sizes lists all that can be asked for, none meaning any. mean and
    std are those of the training pixels in 0..1, per channel. options are the further arguments of
    `load_dataset`.
    """

    name: str
    title: str
    image_size: int
    image_sizes: tuple[int, ...]
    num_classes: int
    num_train: int
    num_test: int
    mean: Triple
    std: Triple
    options: tuple[str, ...] = ()

    def num_images(self, split: str) -> int:
        """The number of images in a split, as published."""
        return self.num_train if split == "train" else self.num_test


# CIFAR's and ImageNet's as in the published NesT code (libml/preprocess.py); the digits' as drawn.
_CIFAR10 = (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)
_CIFAR100 = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_DIGITS = (0.5, 0.5, 0.5), (0.24, 0.24, 0.24)

_INFOS = {
    info.name: info
    for info in (
        DatasetInfo("digits", "digits on canvases", 32, IMAGE_SIZES, 10, *NUM_IMAGES.values(),
                    *_DIGITS, ("digits_per_image", "num_images", "seed", "canvas", "digit_edges",
                               "by_form")),
        DatasetInfo("cifar10", "CIFAR-10", 32, (32,), 10, 50_000, 10_000, *_CIFAR10),
        DatasetInfo("cifar100", "CIFAR-100", 32, (32,), 100, 50_000, 10_000, *_CIFAR100),
        DatasetInfo("tiny_imagenet", "Tiny ImageNet-100, 300 images per class", 64, (64,), 100,
                    30_000, 5_000, *_IMAGENET),
        DatasetInfo("tiny_imagenet_200", "Tiny ImageNet", 64, (64,), 200, 100_000, 10_000,
                    *_IMAGENET),
        DatasetInfo("imagenet", "ImageNet", 224, (), 1000, 1_281_167, 50_000, *_IMAGENET,
                    ("num_workers", "partial", "skip_limit", "squeeze")),
    )
}  # fmt: skip


def list_datasets() -> list[str]:
    """Names that `load_dataset` knows."""
    return list(_INFOS)


def dataset_info(name: str) -> DatasetInfo:
    """Sizes, classes and normalisation of a data set; no data is needed.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    return choose("data set", name, _INFOS)


def load_dataset(
    name: str, split: str, *, data_dir: Path | str | None = None, image_size: int | None = None,
    download: bool = False, class_names: Sequence[str] | None = None, **options: Any,
) -> ImageSet | FolderSet:  # fmt: skip
    """Load one split of a data set by name; `digits` needs no files.

    Args:
        name: one of `list_datasets()`.
        split: "train" or "test"; the val images of ImageNet and Tiny ImageNet are our "test".
        data_dir: where the images are: a folder, or a folder or URL of shards that `nest shard`
            made (ImageNet, Tiny ImageNet). Default: $NESTLIB_DATA/<name>, else data/<name> in the
            project's folder.
        image_size: edge in pixels; digits 32 or 64, imagenet any, the others their own.
        download: fetch the official files if none are there; CIFAR only.
        class_names: what numbers the classes, as another split's `identifiers`. Default: the
            split's own. Folders called 0 ... are then taken for these numbers.
        options: digits: digits_per_image, num_images, seed, canvas, digit_edges, by_form, as
            `make_digits` takes them;
            imagenet: num_workers, processes that decode (default: one per CPU of this rank, 8 at
            most); partial, which takes folders of some classes alone; skip_limit, how many
            training images may be unreadable before it is an error (default: one in 1,000);
            squeeze, which resizes whole images to the square instead of cropping.

    Raises:
        ValueError: an unknown name, split, size or option, images that do not fit the set, or a
            class that is not among `class_names`.
        FileNotFoundError: no images; the message says which layouts are read and how to get them.
        OSError: a damaged image, pack or download; the message names it.
    """
    info = dataset_info(name)
    _check_request(info, split, image_size, download, options)
    size = info.image_size if image_size is None else image_size
    place = default_data_dir(name) if data_dir is None else data_dir
    images = _load(info, split, place, size, download, options)
    return images if class_names is None else _number_as(images, tuple(class_names), place)


def _in_shards(info: DatasetInfo, place: Path | str, split: str) -> bool:
    """Whether a split is read from shards; other sets may have a train.json of another kind."""
    possible = is_url(place) or info.name.startswith(("imagenet", "tiny"))
    return possible and has_shards(place, split)


def _load(
    info: DatasetInfo, split: str, place: Path | str, size: int, download: bool,
    options: dict[str, Any],
) -> ImageSet | FolderSet:  # fmt: skip
    if info.name == "digits":
        return _load_digits(info, split, size, options)
    if _in_shards(info, place, split):
        return _load_shards(info, split, place, size, **options)
    if info.name == "imagenet":
        return _load_imagenet(info, split, Path(place), size, **options)
    return _to_set(info, split, Path(place), _find_arrays(info, split, Path(place), download)())


def find_dataset(name: str, split: str, data_dir: Path | str | None = None) -> None:
    """Check that a split's images exist, without reading them.

    Raises:
        ValueError, FileNotFoundError: as `load_dataset`.
    """
    info = dataset_info(name)
    place = default_data_dir(name) if data_dir is None else data_dir
    if name == "digits" or _in_shards(info, place, split):
        return
    if name == "imagenet":
        find_imagenet(split, Path(place))
    else:
        _find_arrays(info, split, Path(place), download=False)


def check_same_classes(
    images: ImageSet | FolderSet, class_names: Sequence[str], whose: str
) -> None:
    """Check that a set numbers its classes as, say, a run does.

    Args:
        class_names: as `identifiers` of a set, and as records keep them.
        whose: what has these classes, for the message.

    Raises:
        ValueError: a class has another number, or is on one side only; the first are named.
    """
    own = images.identifiers
    if own != tuple(class_names) and not _are_numbers(own, class_names):
        pairs = enumerate(zip_longest(own, class_names))
        others = [f"{k} is {name!r}, not {want!r}" for k, (name, want) in pairs if name != want]
        raise ValueError(
            f"the {images.split} images of {images.name} have other classes than {whose}, "
            f"{len(others)} in all: {'; '.join(others[:5])}; give a folder with the same classes"
        )


def _are_numbers(names: Sequence[str], class_names: Sequence[str]) -> bool:
    """Whether folder names are numbers of classes with other names, as ImageNetV2's 0 to 999."""
    if not all(map(str.isdecimal, names)) or not set(names).isdisjoint(class_names):
        return False
    return [*map(int, names)] == [*range(len(class_names))]


def _number_as(
    images: ImageSet | FolderSet, class_names: tuple[str, ...], place: Path | str
) -> ImageSet | FolderSet:
    """The same images, with labels that index `class_names`, the classes of other images."""
    own, numbers = images.identifiers, {name: k for k, name in enumerate(class_names)}
    strange = [name for name in own if name not in numbers]
    numbered = _are_numbers(own, class_names)
    if strange and not numbered:
        missing = sorted(numbers.keys() - own, key=numbers.get)
        raise ValueError(
            f"the {images.split} images of {images.name} in {place} have classes that its training "
            f"images do not have: {_list(strange)}; only in train: {_list(missing) or 'none'}; "
            "give both the same class folders, or remove the folders of other classes"
        )
    return images.renumber(range(len(own)) if numbered else [numbers[n] for n in own], class_names)


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:5]))  # quoted, as they may differ by a space
    return shown + (f", ... ({len(names)} in all)" if len(names) > 5 else "")


def _find_arrays(
    info: DatasetInfo, split: str, data_dir: Path, download: bool
) -> Callable[[], Arrays]:
    """Find a small set's images, and return the function that reads them."""
    if info.name.startswith("cifar"):
        return find_cifar(info.name, split, data_dir, info.num_images(split), download)
    return find_tiny_imagenet(info.name, split, data_dir, info.num_images(split))


def _check_request(
    info: DatasetInfo, split: str, image_size: int | None, download: bool, options: dict[str, Any]
) -> None:
    check_choice(f"split of {info.name}", split, SPLITS, "(val images are given as test)")
    sizes = info.image_sizes
    if image_size is not None and (image_size not in sizes if sizes else image_size < 1):
        valid = " or ".join(map(str, sizes)) or "1 or more"
        raise ValueError(f"{info.name}: image_size={image_size} is not possible; choose {valid}")
    if download and info.name not in DOWNLOAD_MB and info.name != "digits":
        raise ValueError(
            f"{info.name} cannot be downloaded here, only {' and '.join(DOWNLOAD_MB)} can; fetch "
            "it yourself and pass data_dir=..."
        )
    check_options(info.name, options)


def check_options(name: str, options: dict[str, Any]) -> None:
    """Raise ValueError if `load_dataset` does not take these options of a data set."""
    info = dataset_info(name)
    for option in options:
        check_choice(f"option of {name}", option, info.options)
    check_given(name, options, make_digits if name == "digits" else _folder_set_facts)


def default_data_dir(name: str) -> Path:
    """Where `load_dataset` looks for a set if no place is given."""
    root = data_root()
    # This pack is handed round as one file, so it may lie in the folder without one of its own.
    pack_alone = name == "tiny_imagenet" and (root / TINY_PACK).is_file()
    return root if pack_alone and not (root / name).is_dir() else root / name


def _load_digits(info: DatasetInfo, split: str, size: int, options: dict[str, Any]) -> ImageSet:
    drawn = make_digits(split, image_size=size, **options)
    return ImageSet(
        info.name, split, torch.from_numpy(drawn.images), torch.from_numpy(drawn.labels),
        tuple(map(str, range(info.num_classes))), info.mean, info.std,
        torch.from_numpy(drawn.boxes), torch.from_numpy(drawn.box_labels),
    )  # fmt: skip


def _load_imagenet(
    info: DatasetInfo, split: str, data_dir: Path, size: int, **options: Any
) -> FolderSet:
    root, files = list_imagenet(split, data_dir)
    class_names, labels = number_classes([file.class_name for file in files])
    paths = np.array([os.fsencode(os.path.relpath(file.path, root)) for file in files])
    facts = _folder_set_facts(info, split, root, class_names, labels, **options)
    return FolderSet(root=root, files=paths, crop_size=size, **facts)


def _load_shards(
    info: DatasetInfo, split: str, place: Path | str, size: int, **options: Any
) -> ShardSet:
    if not (info.name == "imagenet" or info.name.startswith("tiny")):
        raise ValueError(f"{info.name} is not read from shards; give the folder of its files")
    index = load_index(place, split)
    return ShardSet(
        root=index.cache.folder if index.cache else Path(index.place), files=index.files,
        crop_size=size, index=index, places=index.places,
        # A set of one size is augmented as it is; ImageNet's images are cropped as they are read.
        as_stored=bool(info.image_sizes),
        **_folder_set_facts(info, split, place, index.class_names, index.labels, **options),
    )  # fmt: skip


def _folder_set_facts(
    info: DatasetInfo, split: str, place: Path | str, class_names: Sequence[str],
    labels: np.ndarray, *, num_workers: Annotated[int, Range(0, 1024)] | None = None,
    partial: bool = False, skip_limit: Annotated[int, Range(0, 10**9)] | None = None,
    squeeze: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """The fields of a FolderSet that follow from its labels and the options of `load_dataset`."""
    if not partial:
        _check_content(info, split, place, class_names, len(labels))
    limit = len(labels) // ONE_IN if skip_limit is None else skip_limit
    return {
        "name": info.name, "split": split, "labels": torch.from_numpy(labels),
        "class_names": tuple(class_names), "mean": info.mean, "std": info.std, "squeeze": squeeze,
        "num_workers": _count_workers() if num_workers is None else num_workers,
        # Of the test images all count: an accuracy of fewer is another number.
        "faults": Faults(limit if split == "train" else 0),
    }  # fmt: skip


def _count_workers() -> int:
    """One worker per CPU that this process may use, shared with the machine's other ranks."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(8, max(1, (cpus or 1) // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))


def _to_set(info: DatasetInfo, split: str, data_dir: Path, arrays: Arrays) -> ImageSet:
    class_names = tuple(arrays["class_names"].tolist())
    labels = torch.from_numpy(arrays["labels"])
    _check_content(info, split, data_dir, class_names, len(labels))
    boxes = box_labels = None
    class_ids = tuple(arrays["class_ids"].tolist()) if "class_ids" in arrays else None
    if "boxes" in arrays:
        boxes = torch.from_numpy(arrays["boxes"])  # (N, 1, 4)
        box_labels = torch.where(boxes[..., 0] < 0, -1, labels[:, None])
    return ImageSet(
        info.name, split, torch.from_numpy(arrays["images"]), labels, class_names,
        info.mean, info.std, boxes, box_labels, class_ids,
    )  # fmt: skip


def _check_content(
    info: DatasetInfo, split: str, folder: Path | str, class_names: Sequence[str], count: int
) -> None:
    # A tree half unpacked, or one pack of two, would give the classes other numbers.
    if len(class_names) != info.num_classes:
        raise ValueError(
            f"{info.name} has {info.num_classes} classes, but the {split} images in {folder} have "
            f"{len(class_names)} ({_list(class_names)}); add the class folders or packs that are "
            "missing, remove those that do not belong there"
        )
    if count != info.num_images(split):
        log_line.warning(
            "%s: %s holds %d %s images, the published set %d; results are not comparable",
            info.name, folder, count, split, info.num_images(split),
        )  # fmt: skip
