"""Images on disk: trees of class folders, packs of such trees, and a cache of what was decoded.

Samples stand in one order wherever they come from: by class, then by file name without suffix.
"""

import hashlib
import logging
import os
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from lzma import LZMAError
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from nestlib.data.decoding import decode_image
from nestlib.files import open_atomically

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
_CACHE_FORMAT = "2"  # raise it when the cached arrays change their meaning

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


def is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


def sample_order(name: str) -> tuple[str, str]:
    """Sorting key that orders equal file names alike, whatever format they are stored in."""
    return os.path.splitext(name)[0], name


def list_tree(split_dir: Path) -> list[ImageFile]:
    """All images of `split_dir`/<class>/ (or <class>/images/), by class and file name.

    Raises:
        FileNotFoundError: no class folder at all.
        ValueError: a class folder without an image.
    """
    files = []
    for folder in sorted(p for p in split_dir.iterdir() if p.is_dir() and p.name[0] != "."):
        inner = folder / "images" if (folder / "images").is_dir() else folder
        names = sorted(filter(is_image, os.listdir(inner)), key=sample_order)
        if not names:
            raise ValueError(
                f"class folder {inner} holds no image ({', '.join(SUFFIXES)}); "
                "fetch its images again, or remove the folder if the class is not meant to be there"
            )
        files += [ImageFile(folder.name, os.path.join(inner, name)) for name in names]
    if not files:
        raise FileNotFoundError(
            f"{split_dir} holds no class folder; expected <class>/<image> in it, one folder a class"
        )
    return files


def read_tree(files: list[ImageFile]) -> Iterator[Entry]:
    for class_name, path in files:
        yield Entry(class_name, os.path.basename(path), path, Path(path).read_bytes())


def read_packs(packs: list[Path], split_dir: str, tables: dict[str, str]) -> Iterator[Entry]:
    """Images <any>/`split_dir`/<class>/<file> of tar archives, in one pass, nothing unpacked.

    Texts of the archives whose file names are keys of `tables` are filled in there on the way.

    Raises:
        OSError: an archive that breaks off or is damaged.
    """
    for pack in packs:
        try:
            with tarfile.open(pack, "r|*") as archive:
                for member in archive:
                    *_, folder, class_name, file = ("", "", *member.name.split("/"))
                    if file in tables:
                        tables[file] = archive.extractfile(member).read().decode()
                    elif folder == split_dir and is_image(file) and member.isfile():
                        data = archive.extractfile(member).read()
                        yield Entry(class_name, file, f"{pack}:{member.name}", data)
        except (tarfile.TarError, LZMAError, zlib.error, EOFError, OSError) as error:
            raise OSError(f"pack {pack} is damaged ({error}); fetch it again") from error


def decode_entries(entries: Iterable[Entry], image_size: int, total: int, title: str) -> Arrays:
    """Decode images that all are `image_size` pixels wide and high.

    Returns:
        images (N, 3, H, W) uint8, labels (N,) int64, class_names (sorted) and files (N,), text.

    Raises:
        OSError: an image that cannot be read.
        ValueError: one of another size, or none at all.
    """
    keys, pixels = [], []
    # The bar shows after two seconds, on a terminal only: logs and notebooks would keep it.
    bar = tqdm(entries, f"decoding {title}", total, False, unit="image", delay=2, disable=None)
    for entry in bar:
        image = decode_image(entry.data, entry.where)
        if image.size != (image_size, image_size):
            raise ValueError(
                f"image {entry.where} is {image.width} x {image.height} pixels, expected "
                f"{image_size} x {image_size}; fetch the file again, or remove it"
            )
        keys.append((entry.class_name, *sample_order(entry.file)))
        pixels.append(np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1)))
    if not keys:
        raise ValueError(f"{title}: the files found hold no image of this split; fetch them again")
    order = sorted(range(len(keys)), key=keys.__getitem__)
    class_names, labels = np.unique([keys[i][0] for i in order], return_inverse=True)
    return {
        "images": np.stack([pixels[i] for i in order]),
        "labels": labels.astype(np.int64),
        "class_names": class_names,
        "files": np.array([keys[i][2] for i in order]),
    }


def load_or_build(
    title: str, source: Iterable[str | Path], root: Path, build: Callable[[], Arrays]
) -> Arrays:
    """What `build` returned when it last ran on the same `source` files, else what it returns now.

    Files are the same by name, size and time. Kept as one file in `root`/.nestlib_cache, or in
    ~/.cache/nestlib where `root` is read-only. A damaged file is built anew.
    """
    lines = [_CACHE_FORMAT]
    for path in source:
        status = os.stat(path)
        lines.append(f"{os.path.relpath(path, root)} {status.st_size} {status.st_mtime_ns}")
    key = hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
    folders = [Path.home() / ".cache" / "nestlib"]
    if _is_writable(root):
        folders.insert(0, root / ".nestlib_cache")
    path = folders[0] / f"{title}-{key}.npz"
    if path.is_file():
        try:
            with np.load(path) as arrays:
                return dict(arrays)
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
