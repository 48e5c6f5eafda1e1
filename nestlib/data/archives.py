"""Find the images that shards are made from, in folders or in the official tars.

Listed in the order of nestlib.data.folders: by class, then by file name without suffix.
"""

import os
import tarfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from nestlib.data.folders import ImageFile, class_order, sample_order, split_folder
from nestlib.data.imagenet_val import find_val_classes
from nestlib.data.layouts import TARS, list_imagenet, list_tiny_imagenet
from nestlib.data.left_out import LINKED, OTHER_SPLIT, UNSORTED, LeftOut, is_image
from nestlib.data.opening import MAX_IMAGE_BYTES
from nestlib.data.tars import open_tar, walk_tar
from nestlib.files import check_regular


class Source(NamedTuple):
    """One image: its class, its path in a tree of class folders, and where its bytes are."""

    class_name: str
    file: str
    path: str
    offset: int
    size: int


def list_sources(name: str, split: str, folder: Path) -> list[Source]:
    """The images of one split, from <split>/<class>/<image> or ImageNet's tars.

    The tars may be packed again: with folders, or with images in place of the tars within.

    Raises:
        FileNotFoundError: neither is there; the message says what was looked for.
        DamagedTar: a tar that breaks off, is damaged or goes on after its end.
        OSError: a file that no longer exists.
        ValueError: an image that comes twice.
    """
    tar = folder / TARS[split]
    if name == "imagenet" and tar.is_file():
        found = _list_tar(tar, split)
    elif name == "imagenet":
        found = _list_files(*list_imagenet(split, folder))
    else:
        found = _list_files(*list_tiny_imagenet(name, split, folder))
    numbers = {name: k for k, name in enumerate(class_order(one.class_name for one in found))}
    found.sort(key=lambda one: (numbers[one.class_name], *sample_order(os.path.basename(one.file))))
    for one, after in pairwise(found):
        if one.file == after.file:
            raise ValueError(
                f"{one.path} contains {one.file!r} twice; pack it again with one of them"
            )
    return found


def _list_files(root: Path, files: list[ImageFile]) -> list[Source]:
    sources, unreadable = [], []
    for class_name, path in files:
        try:
            size = check_regular(path, MAX_IMAGE_BYTES)
            sources.append(Source(class_name, os.path.relpath(path, root), path, 0, size))
        except OSError as error:
            unreadable.append(f"{error}")
    if unreadable:
        raise OSError(
            f"cannot read {len(unreadable)} of {len(files)} images ({'; '.join(unreadable[:5])}); "
            "fetch the files again, or remove them"
        )
    return sources


def _list_tar(tar: Path, split: str) -> list[Source]:
    classes, table = find_val_classes([tar.parent]) if split == "test" else ({}, None)
    found, left_out = [], LeftOut()
    own, other = (split_folder(one) for one in (split, *(TARS.keys() - {split})))
    for path, offset, size in _walk_tar(tar, left_out):
        folder, file = os.path.split(path)
        *above, class_name = folder.removesuffix("/images").split("/")  # as Tiny ImageNet's
        if other in above and own not in above:
            left_out.add(path, OTHER_SPLIT)
            continue
        if split == "test" and is_image(file):
            class_name = classes.get(os.path.splitext(file)[0])
            if class_name is None:
                raise OSError(f"{tar}: {path} has no class in {table}; fetch both again")
        if class_name and class_name[0] != "." and is_image(file):  # "." is the tar itself
            if size > MAX_IMAGE_BYTES:
                raise OSError(
                    f"{tar}: {path} has {size:,} bytes, the limit of an image is "
                    f"{MAX_IMAGE_BYTES:,}; pack it again without it"
                )
            place = f"{split_folder(split)}/{class_name}/{file}"
            found.append(Source(class_name, place, str(tar), offset, size))
        else:
            left_out.add(path, UNSORTED)
    left_out.warn(tar)
    return found


def _walk_tar(tar: Path, left_out: LeftOut) -> Iterator[tuple[str, int, int]]:
    """Path, offset and size of each file in a tar; a tar inside it counts as a folder.

    Each has its place in the whole, so none is unpacked.
    """
    with open_tar(tar) as outer:
        for name, member in _walk_files(outer, tar, left_out):
            folder, suffix = os.path.splitext(name)
            if suffix != ".tar" or os.path.basename(folder).startswith("."):
                yield name, member.offset_data, member.size
                continue
            with open_tar(f"{tar}:{name}", file=outer.extractfile(member)) as inner:
                for file, of_file in _walk_files(inner, tar, left_out):
                    path = f"{folder}/{os.path.basename(file)}"
                    yield path, member.offset_data + of_file.offset_data, of_file.size


def _walk_files(
    tar: tarfile.TarFile, where: Path, left_out: LeftOut
) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """The regular files of `walk_tar`, whose bytes lie in one piece; symbolic links are counted."""
    for name, member in walk_tar(tar):
        if member.issparse():
            raise tarfile.ReadError(
                f"{name} was packed with tar's option --sparse, so its bytes are not in one piece"
            )
        if member.isfile():
            yield name, member
        elif member.issym():
            left_out.add(f"{where}:{name}", LINKED)
