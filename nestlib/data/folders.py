"""Images on disk: trees of class folders, packs of such trees, and a cache of decoded images.

Samples stand in one order wherever they come from: by class, then by file name without suffix.
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from nestlib.data.decoding import decode_image
from nestlib.data.left_out import (
    BESIDE_IMAGES,
    DEEPER,
    LINKED,
    SUFFIXES,
    UNSORTED,
    LeftOut,
    is_image,
)
from nestlib.data.npz_files import read_npz
from nestlib.data.opening import MAX_IMAGE_BYTES
from nestlib.data.tars import open_tar, read_member, walk_tar
from nestlib.files import open_atomically, read_regular

MAX_TABLE_BYTES = 2**26  # of all classes' words or all images' boxes; ImageNet's have 10 MB
_CACHE_FORMAT = "4"  # raise it when the cached arrays change their meaning

log_line = logging.getLogger(__name__)
Arrays = dict[str, np.ndarray]


class ImageFile(NamedTuple):
    """One image of a tree. The path is a string: ImageNet has 1.28 million of them."""

    class_name: str
    path: str


class Entry(NamedTuple):
    """One image's bytes, from a tree or a pack; `where` names it in messages."""

    class_name: str
    file: str
    where: str
    data: bytes


def split_folder(split: str) -> str:
    """The folder of a split: the val images of ImageNet and Tiny ImageNet are our "test"."""
    return "train" if split == "train" else "val"


def sample_order(name: str) -> tuple[str, str]:
    """Sorting key that orders equal file names alike, whatever format they are stored in."""
    return os.path.splitext(name)[0], name


def class_order(names: Iterable[str]) -> list[str]:
    """The distinct classes of these folder names, in the order that numbers them.

    Names that are all whole numbers, as ImageNetV2's 0 ... 999, go by value. Others go by text, as
    torchvision's do; timm 1.0.31 sorts naturally, cat2 before cat10.
    """
    known = sorted(set(names))
    numbered = all(name.isascii() and name.isdigit() for name in known)
    return sorted(known, key=int) if numbered else known


def number_classes(names: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The classes in `class_order`, and the number (N,) int64 of each of `names`."""
    known = class_order(names)
    numbers = {name: number for number, name in enumerate(known)}
    return known, np.array([numbers[name] for name in names], dtype=np.int64)


def is_class(name: str) -> bool:
    """Whether a table's name of a class could be a class folder's; it becomes part of paths."""
    return bool(name) and name[0] != "." and not set(name) & {"/", "\\", "\0"}


def list_tree(split_dir: Path) -> list[ImageFile]:
    """All images of `split_dir`/<class>/ (or <class>/images/), by class and file name.

    One warning counts the files that are left out.

    Raises:
        FileNotFoundError: no class folder at all.
        ValueError: a class folder without an image.
    """
    files, left_out = [], LeftOut()
    folders = class_folders(split_dir)
    left_out.add_folder(split_dir, set(os.listdir(split_dir)).difference(folders), UNSORTED)
    for class_name in folders:
        paths = _list_class(os.path.join(split_dir, class_name), left_out)
        files += [ImageFile(class_name, path) for path in paths]
    if not files:
        raise FileNotFoundError(
            f"{split_dir} contains no class folder; expected <class>/<image>, one folder per class"
        )
    left_out.warn(split_dir)
    return files


def class_folders(split_dir: Path) -> list[str]:
    """The class folders of a split in `class_order`, without hidden ones or an empty `images`.

    Scripts that sort Tiny ImageNet's val leave that behind.
    """
    with os.scandir(split_dir) as entries:
        names = {entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."}
    if "images" in names and not any(map(is_image, os.listdir(os.path.join(split_dir, "images")))):
        names.remove("images")
    return class_order(names)


def _list_class(folder: str, left_out: LeftOut) -> list[str]:
    """Paths of a class folder's images, or of those in its folder `images`, by file name."""
    names, inner = os.listdir(folder), os.path.join(folder, "images")
    if "images" in names and os.path.isdir(inner) and any(map(is_image, os.listdir(inner))):
        left_out.add_folder(folder, set(names) - {"images"}, BESIDE_IMAGES)
        folder, names = inner, os.listdir(inner)
    images = sorted(filter(is_image, names), key=sample_order)
    if not images:
        raise ValueError(
            f"class folder {folder} holds no image ({', '.join(SUFFIXES)}); "
            "fetch its images again, or remove the folder if the class is not meant to be there"
        )
    if len(images) < len(names):
        left_out.add_folder(folder, set(names).difference(images), DEEPER)
    return [os.path.join(folder, name) for name in images]


def list_flat(folder: Path, classes: dict[str, str], table: Path) -> list[ImageFile]:
    """The images of one folder, by class and file name.

    Args:
        classes: the class of each image, by its file name without suffix.
        table: where they stand, for messages. An image that it does not name is left out.

    Raises:
        ValueError: the table names none of the images.
    """
    names, left_out = os.listdir(folder), LeftOut()
    known = [n for n in names if is_image(n) and os.path.splitext(n)[0] in classes]
    left_out.add_folder(folder, set(names).difference(known), f"not named in {table}")
    if not known:
        raise ValueError(f"{table} names none of the images in {folder}; fetch both again")
    left_out.warn(folder)
    class_names = [classes[os.path.splitext(name)[0]] for name in known]
    numbers = number_classes(class_names)[1].tolist()
    order = sorted(range(len(known)), key=lambda i: (numbers[i], *sample_order(known[i])))
    return [ImageFile(class_names[i], os.path.join(folder, known[i])) for i in order]


def read_tree(files: list[ImageFile]) -> Iterator[Entry]:
    for class_name, path in files:
        yield Entry(class_name, os.path.basename(path), path, read_regular(path, MAX_IMAGE_BYTES))


def read_packs(packs: list[Path], split_dir: str, tables: dict[str, bytes]) -> Iterator[Entry]:
    """Read images <any>/`split_dir`/<class>/<file> of tar archives, in one pass, without unpacking.

    Files of the archives whose names are keys of `tables` are filled in there on the way.

    One warning counts the files that are left out.

    Raises:
        DamagedTar: an archive that breaks off, is damaged or goes on after its end.
    """
    left_out = LeftOut()
    for pack in packs:
        with open_tar(pack, "r:*") as archive:
            for name, member in walk_tar(archive):
                *_, folder, class_name, file = ("", "", *name.split("/"))
                if file in tables and member.isfile():
                    tables[file] = read_member(archive, member, MAX_TABLE_BYTES)
                elif folder == split_dir and is_image(file) and member.isfile():
                    data = read_member(archive, member, MAX_IMAGE_BYTES)
                    yield Entry(class_name, file, f"{pack}:{name}", data)
                elif not member.isdir() and split_dir in name.split("/")[:-1]:
                    reason = UNSORTED if member.isfile() else LINKED
                    left_out.add(f"{pack}:{name}", reason)
    left_out.warn(split_dir)


def decode_entries(entries: Iterable[Entry], image_size: int, total: int, title: str) -> Arrays:
    """Decode images, which must all be `image_size` pixels wide and high.

    Returns:
        images (N, 3, H, W) uint8, labels (N,) int64, class_names (in `class_order`) and files
        (N,), text.

    Raises:
        OSError: an image that cannot be read.
        ValueError: one of another size, one that comes twice, or none at all.
    """
    keys, pixels = {}, []  # where each image was found, by class and file name
    # The bar shows after two seconds, on a terminal only: logs and notebooks would keep it.
    bar = tqdm(entries, f"decoding {title}", total, False, unit="image", delay=2, disable=None)
    for entry in bar:
        image = decode_image(entry.data, entry.where)
        if image.size != (image_size, image_size):
            raise ValueError(
                f"image {entry.where} is {image.width} x {image.height} pixels, expected "
                f"{image_size} x {image_size}; fetch the file again, or remove it"
            )
        key = (entry.class_name, *sample_order(entry.file))
        if key in keys:
            raise ValueError(
                f"image {entry.file} of class {entry.class_name} comes twice, in {keys[key]} and "
                f"in {entry.where}; remove one, or the pack that is there twice"
            )
        keys[key] = entry.where
        pixels.append(np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)))
    if not keys:
        raise ValueError(f"{title}: the files found hold no image of this split; fetch them again")
    names, *_, files = zip(*keys)
    class_names, labels = number_classes(names)
    order = sorted(range(len(keys)), key=lambda i: (labels[i], sample_order(files[i])))
    return {
        "images": np.stack([pixels[i] for i in order]),
        "labels": labels[order],
        "class_names": np.array(class_names),
        "files": np.array([files[i] for i in order]),
    }


def load_or_build(
    title: str, source: Iterable[str | Path], root: Path, build: Callable[[], Arrays]
) -> Arrays:
    """The cached result of `build` on the same `source` files, or else a new one.

    Files are the same by name, size and time. Kept as one file in `root`/.nestlib_cache, or in
    ~/.cache/nestlib where `root` is read-only. A damaged file is built again.
    """
    lines = [_CACHE_FORMAT]
    for path in source:
        try:
            status = os.stat(path)
        except OSError as error:
            raise OSError(f"cannot read {path} ({error}); fetch it again, or remove it") from error
        lines.append(f"{os.path.relpath(path, root)} {status.st_size} {status.st_mtime_ns}")
    key = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    folders = [Path.home() / ".cache" / "nestlib"]
    if _is_writable(root):
        folders.insert(0, root / ".nestlib_cache")
    path = folders[0] / f"{title}-{key}.npz"
    if path.is_file():
        try:
            return read_npz(path, path.stat().st_size)  # it is not compressed
        except Exception as error:  # damage shows in many ways, with one remedy
            log_line.warning("%s is damaged (%s): decoding the images again", path, error)
    arrays = build()
    try:
        with open_atomically(path) as file:
            np.savez(file, **arrays)
    except OSError as error:  # a full disk must not cost the images just decoded
        log_line.warning("cannot keep the decoded images in %s (%s)", path, error)
    return arrays


def _is_writable(folder: Path) -> bool:
    # Asked of the mode too: root may write where the owner allowed nobody to.
    return bool(folder.stat().st_mode & 0o222) and os.access(folder, os.W_OK)
