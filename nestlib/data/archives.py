"""Where the images of a data set lie that shards are made from: folders, or the official tars.

Listed in the order of nestlib.data.folders: by class, then by file name without suffix.
"""

import os
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from torchvision.datasets.imagenet import ARCHIVE_META, load_meta_file, parse_devkit_archive

from nestlib.data.folders import ImageFile, is_image, sample_order
from nestlib.data.layouts import list_imagenet, list_tiny_imagenet

TARS = {"train": ARCHIVE_META["train"][0], "test": ARCHIVE_META["val"][0]}
DEVKIT = ARCHIVE_META["devkit"][0]


class Source(NamedTuple):
    """One image: its class, its path as a tree of class folders has it, and where its bytes are."""

    class_name: str
    file: str
    path: str
    offset: int
    size: int


def list_sources(name: str, split: str, folder: Path) -> list[Source]:
    """The images of one split, from <split>/<class>/<image> or ImageNet's tars as handed out.

    Raises:
        FileNotFoundError: neither is there; the message says what was looked for.
        OSError: a tar that breaks off or is damaged.
    """
    tar = folder / TARS[split]
    if name == "imagenet" and tar.is_file():
        found = _list_train_tar(tar) if split == "train" else _list_val_tar(tar, folder / DEVKIT)
    elif name == "imagenet":
        found = _list_files(*list_imagenet(split, folder))
    else:
        found = _list_files(*list_tiny_imagenet(name, split, folder))
    try:
        return sorted(
            found, key=lambda one: (one.class_name, *sample_order(os.path.basename(one.file)))
        )
    except tarfile.TarError as error:
        raise OSError(f"{tar} is damaged ({error}); fetch it again") from error


def _list_files(root: Path, files: list[ImageFile]) -> Iterator[Source]:
    for class_name, path in files:
        yield Source(class_name, os.path.relpath(path, root), path, 0, os.stat(path).st_size)


def _list_train_tar(tar: Path) -> Iterator[Source]:
    """A tar of tars, one a class: each image has its place in the whole, so none is unpacked."""
    with tarfile.open(tar, "r:") as outer:
        for member in outer:
            class_name = member.name.removesuffix(".tar")
            with tarfile.open(fileobj=outer.extractfile(member), mode="r:") as inner:
                for image in filter(_holds_image, inner):
                    offset = member.offset_data + image.offset_data
                    place = f"train/{class_name}/{image.name}"
                    yield Source(class_name, place, str(tar), offset, image.size)


def _list_val_tar(tar: Path, devkit: Path) -> Iterator[Source]:
    classes = read_ground_truth(devkit)
    with tarfile.open(tar, "r:") as archive:
        for image in filter(_holds_image, archive):
            number = int(Path(image.name).stem.rpartition("_")[2])
            if not 1 <= number <= len(classes):
                raise OSError(f"{tar}: {image.name} has no class in {devkit}; fetch both again")
            place = f"val/{classes[number - 1]}/{Path(image.name).name}"
            yield Source(classes[number - 1], place, str(tar), image.offset_data, image.size)


def read_ground_truth(devkit: Path) -> list[str]:
    """The wnids of the val images 1, 2, ..., from the development kit.

    Raises:
        FileNotFoundError, OSError: it is not there, or damaged.
    """
    if not devkit.is_file():
        raise FileNotFoundError(
            f"the classes of the val images stand in {devkit.name}, which is not in "
            f"{devkit.parent}; image-net.org hands it out beside the images"
        )
    with tempfile.TemporaryDirectory() as folder:  # torchvision leaves a file beside the kit
        os.symlink(devkit.absolute(), Path(folder) / DEVKIT)
        try:
            parse_devkit_archive(folder)
        except RuntimeError as error:  # another MD5 than the official kit's
            raise OSError(f"{devkit} is damaged; fetch it again") from error
        return load_meta_file(folder)[1]


def _holds_image(member: tarfile.TarInfo) -> bool:
    return member.isfile() and is_image(Path(member.name).name)
