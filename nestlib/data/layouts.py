"""Find the images of CIFAR, Tiny ImageNet and ImageNet in every layout that is in use.

Each `find_*` looks where one split's images are and reads none; what reads them comes back, in the
order of nestlib.data.folders. FileNotFoundError says what was looked for, where, and how to get it.
"""

import hashlib
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.imagenet import ARCHIVE_META

from nestlib.data.boxes import Table, arrange_boxes, gather_boxes, read_rows, read_words
from nestlib.data.folders import (
    Arrays,
    Entry,
    ImageFile,
    class_folders,
    decode_entries,
    is_class,
    list_flat,
    list_tree,
    load_or_build,
    read_packs,
    read_tree,
    sample_order,
    split_folder,
)
from nestlib.data.imagenet_val import DEVKIT, SOLUTION, find_val_classes
from nestlib.data.left_out import is_image
from nestlib.data.tars import DamagedTar, open_tar, read_member, walk_tar
from nestlib.files import read_regular

TARS = {"train": ARCHIVE_META["train"][0], "test": ARCHIVE_META["val"][0]}
OFFICIAL_CIFAR = {"cifar10": CIFAR10, "cifar100": CIFAR100}
DOWNLOAD_MB = {"cifar10": 170, "cifar100": 169}
MAX_CIFAR_BYTES = 2**28  # of one official file; the largest has 156 MB
KAGGLE = "ILSVRC/Data/CLS-LOC"
TINY_PACK = "tiny-imagenet-100.tar.xz"
TINY_FOLDERS = ("tiny-imagenet-100", "tiny-imagenet-200")


def _find_root(data_dir: Path, folder: str, *subfolders: str) -> Path | None:
    """Which of `data_dir` and its subfolders holds `folder`."""
    roots = (data_dir, *(data_dir / each for each in subfolders))
    return next((root for root in roots if (root / folder).is_dir()), None)


def _missing(name: str, data_dir: Path, split: str, *layouts: str) -> FileNotFoundError:
    lines = "".join(f"\n  - {layout}" for layout in layouts)
    return FileNotFoundError(
        f"{name}: no {split} images in {data_dir.absolute()}. Expected one of:{lines}\n"
        "If they are elsewhere, pass data_dir=..., or set the environment variable NESTLIB_DATA "
        f"to the folder that holds {name}/."
    )


def find_cifar(
    name: str, split: str, data_dir: Path, total: int, download: bool
) -> Callable[[], Arrays]:
    """CIFAR-10 or CIFAR-100 from the official files, a tree of class folders, or packs of one.

    `total` is the number of images to expect, for the progress bar. `download` fetches the
    official files only if nothing is there.
    """
    folder = data_dir / OFFICIAL_CIFAR[name].base_folder
    archive = data_dir / OFFICIAL_CIFAR[name].filename
    if folder.is_dir():
        return lambda: _read_official_cifar(name, split, folder)
    title = f"{name}-{split}"
    root = _find_root(data_dir, split, name)
    if root:
        return lambda: _read_cifar_tree(title, root, split)
    packs = sorted(data_dir.glob(f"{split}*.tar.xz"))
    if packs:
        return lambda: load_or_build(
            title, packs, data_dir,
            lambda: decode_entries(read_packs(packs, split, {}), 32, total, title),
        )  # fmt: skip
    if archive.is_file():
        return lambda: _read_official_cifar(name, split, archive)
    if download:
        return lambda: _fetch_cifar(name, split, data_dir)
    raise _missing(
        name, data_dir, split,
        f"{folder.name}/ or {archive.name}, the official files ({DOWNLOAD_MB[name]} MB); to fetch "
        f"them: {_describe_download(name, split)}",
        f"{split}/<class>/<image>.png, .jpg or .webp, or {name}/{split}/...",
        f"packs of such a tree, {split}*.tar.xz",
    )  # fmt: skip


def _describe_download(name: str, split: str) -> str:
    """A text: how to download CIFAR, from a terminal or from Python."""
    return (
        f"`nest train {name}/nest_tiny --download`, or load_dataset({name!r}, {split!r}, "
        "download=True)"
    )


def _read_cifar_tree(title: str, root: Path, split: str) -> Arrays:
    files = list_tree(root / split)
    return load_or_build(
        title, [file.path for file in files], root,
        lambda: decode_entries(read_tree(files), 32, len(files), title),
    )  # fmt: skip


def _read_official_cifar(name: str, split: str, place: Path) -> Arrays:
    """Read CIFAR from the folder of official pickles, or from its archive without unpacking it."""
    official = OFFICIAL_CIFAR[name]
    parts = official.train_list if split == "train" else official.test_list
    meta = (official.meta["filename"], official.meta["md5"])
    md5s, contents = dict([*parts, meta]), {}
    download = _describe_download(name, split)
    try:
        for file, data in _read_official(place, md5s.keys()):
            if hashlib.md5(data).hexdigest() == md5s[file]:  # others are not kept, they may be huge
                contents[file] = data
    except DamagedTar as error:
        raise DamagedTar(f"{error}; remove it before a download by {download}") from error
    for file, md5 in md5s.items():  # before unpickling: a pickle can run anything
        if file not in contents:
            raise OSError(
                f"{place / file} is missing or damaged (its MD5 is not {md5}); remove {place} "
                f"and fetch it again: {download}"
            )
    batches = [_unpickle(contents.pop(file)) for file, _ in parts]
    class_names = np.array(_unpickle(contents[meta[0]])[official.meta["key"]])
    key = "labels" if name == "cifar10" else "fine_labels"
    labels = np.concatenate([batch[key] for batch in batches]).astype(np.int64)
    files = [file for batch in batches for file in batch["filenames"]]
    order = sorted(range(len(files)), key=lambda i: (labels[i], sample_order(files[i])))
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    return {"images": images[order], "labels": labels[order], "class_names": class_names}


def _read_official(place: Path, files: Collection[str]) -> Iterator[tuple[str, bytes]]:
    """Names and contents of the official files that exist."""
    if place.is_dir():
        for file in filter(lambda file: (place / file).is_file(), files):
            yield file, read_regular(place / file, MAX_CIFAR_BYTES)
        return
    with open_tar(place, "r:*") as archive:
        for name, member in walk_tar(archive):
            file = os.path.basename(name)
            if file in files and member.isfile():
                yield file, read_member(archive, member, MAX_CIFAR_BYTES)


def _unpickle(data: bytes) -> dict:
    return pickle.loads(data, encoding="latin1")


def _fetch_cifar(name: str, split: str, data_dir: Path) -> Arrays:
    """Download into a temporary folder and then move it, so that half a download is never found."""
    official = OFFICIAL_CIFAR[name]
    print(
        f"downloading {name}, {DOWNLOAD_MB[name]} MB, from {official.url} to {data_dir.absolute()}",
        file=sys.stderr,
    )
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=data_dir) as part:
        try:
            official(part, download=True)  # verifies the checksums
        except (OSError, RuntimeError) as error:
            raise OSError(
                f"{name} could not be downloaded ({error}); nothing of it was kept. Try again, or "
                f"fetch {official.url} by other means and unpack it in {data_dir.absolute()}"
            ) from error
        os.replace(Path(part) / official.base_folder, data_dir / official.base_folder)
    return _read_official_cifar(name, split, data_dir / official.base_folder)


def find_tiny_imagenet(name: str, split: str, data_dir: Path, total: int) -> Callable[[], Arrays]:
    """Tiny ImageNet with boxes (N, 1, 4), -1 for an image without a box.

    "tiny_imagenet" is the part called Tiny ImageNet-100: the first 100 classes of wnids.txt and of
    them the training images numbered 0 to 299. It comes in a pack, or is taken from the official
    folder. "tiny_imagenet_200" is the official whole.
    """
    title, place = f"{name}-{split}", _tiny_place(name, split, data_dir)
    if place.is_file():
        return lambda: load_or_build(
            title, [place], data_dir, lambda: _read_tiny_pack(place, split, total, title)
        )
    return lambda: _read_tiny_tree(title, place, split, part=name == "tiny_imagenet")


def read_tiny_imagenet(name: str, split: str, data_dir: Path) -> Iterator[Entry]:
    """The files of one split as they are stored, wherever `find_tiny_imagenet` finds them.

    Raises:
        FileNotFoundError: no images; the message says which layouts are read.
        OSError: a damaged pack.
    """
    place = _tiny_place(name, split, data_dir)
    if place.is_file():
        return read_packs([place], split_folder(split), {})
    return read_tree(_list_tiny(place, split, part=name == "tiny_imagenet"))


def _tiny_place(name: str, split: str, data_dir: Path) -> Path:
    """The folder of {train,val}/, or the pack of it."""
    pack = data_dir / TINY_PACK
    try:
        return _tiny_root(name, split, data_dir)
    except FileNotFoundError:
        if name != "tiny_imagenet" or not pack.is_file():
            raise
        return pack


def list_tiny_imagenet(name: str, split: str, data_dir: Path) -> tuple[Path, list[ImageFile]]:
    """The folder of {train,val}/, and the images of one split; packs must be unpacked first."""
    root = _tiny_root(name, split, data_dir)
    return root, _list_tiny(root, split, part=name == "tiny_imagenet")


def _tiny_root(name: str, split: str, data_dir: Path) -> Path:
    folder = split_folder(split)
    root = _find_root(data_dir, folder, *TINY_FOLDERS)
    if root:
        return root
    raise _missing(
        name, data_dir, split,
        "tiny-imagenet-200/, as unpacked from http://cs231n.stanford.edu/tiny-imagenet-200.zip "
        "(237 MB)",
        f"{folder}/<wnid>/<image>.JPEG with, if boxes are wanted, boxes.csv beside {folder}/ "
        "(split,wnid,file,x0,y0,x1,y1)",
        *([TINY_PACK] if name == "tiny_imagenet" else []),
    )  # fmt: skip


def _list_tiny(root: Path, split: str, part: bool) -> list[ImageFile]:
    files = _list_tiny_val(root / "val") if split == "test" else list_tree(root / "train")
    wnids = root / "wnids.txt"
    if not (part and wnids.is_file()):
        return files
    first = [fields[0] for _, fields in read_rows((str(wnids), read_regular(wnids)))][:100]
    files = [file for file in files if file.class_name in first]
    if not files:
        raise ValueError(f"{wnids} names none of the class folders beside it; fetch it again")
    return [file for file in files if split == "test" or _is_first(file.path, 300)]


def _is_first(path: str, count: int) -> bool:
    """Whether a path is <wnid>_0 to <wnid>_(count - 1) of train; a stray copy has no number."""
    number = Path(path).stem.split("_")[-1]
    return number.isdecimal() and int(number) < count


def _list_tiny_val(val: Path) -> list[ImageFile]:
    """The val images as distributed, val/images/<image>, or sorted by one of the usual scripts into
    val/<wnid>/, val/<wnid>/images/ or val/images/<wnid>/."""
    table, flat = val / "val_annotations.txt", val / "images"
    if flat.is_dir() and class_folders(flat):
        return list_tree(flat)
    if table.is_file() and _holds_images(flat):
        return list_flat(flat, _read_tiny_classes(table), table)
    files = [file for file in list_tree(val) if file.class_name != "images"]
    if not files:
        raise FileNotFoundError(
            f"the classes of the images in {flat} are in {table.name}, which {val} does not hold; "
            "unpack tiny-imagenet-200.zip again"
        )
    return files


def _holds_images(folder: Path) -> bool:
    return folder.is_dir() and any(map(is_image, os.listdir(folder)))


def _read_tiny_classes(table: Path) -> dict[str, str]:
    """The wnid of each val image, by its file name without suffix."""
    classes: dict[str, str] = {}
    for where, (file, *rest) in read_rows((str(table), read_regular(table))):
        wnid, stem = (*rest, "")[0], Path(file).stem
        if (file.lower(), wnid.lower()) == ("file", "wnid"):  # a heading
            continue
        if not stem or not is_class(wnid) or stem in classes:
            shown = " ".join([file, *rest])
            fault = f"names {file} again" if stem in classes else f"{shown!r} is no file and wnid"
            raise ValueError(f"{where}: {fault}; unpack tiny-imagenet-200.zip again")
        classes[stem] = wnid
    return classes


def _read_tiny_tree(title: str, root: Path, split: str, part: bool) -> Arrays:
    files = _list_tiny(root, split, part)
    tables = [path for path in root.iterdir() if path.suffix in (".csv", ".tsv", ".txt")]
    tables += [*root.glob("train/*/*_boxes.txt"), *root.glob("val/val_annotations.txt")]

    def build() -> Arrays:
        arrays = decode_entries(read_tree(files), 64, len(files), title)
        official = "val/val_annotations.txt" if split == "test" else "train/*/*_boxes.txt"
        boxes = _read_tables(root, "boxes.csv") or _read_tables(root, official)
        words = _read_tables(root, "classes.tsv") or _read_tables(root, "words.txt")
        return _annotate(arrays, split, boxes, words, part)

    return load_or_build(title, [*(file.path for file in files), *sorted(tables)], root, build)


def _read_tables(root: Path, pattern: str) -> list[Table]:
    return [(str(path), read_regular(path)) for path in sorted(root.glob(pattern))]


def _read_tiny_pack(pack: Path, split: str, total: int, title: str) -> Arrays:
    tables = {"boxes.csv": b"", "classes.tsv": b""}
    arrays = decode_entries(read_packs([pack], split_folder(split), tables), 64, total, title)
    boxes, words = ((f"{pack}/{name}", data) for name, data in tables.items())
    return _annotate(arrays, split, [boxes], [words])


def _annotate(
    arrays: Arrays, split: str, boxes: Sequence[Table], words: Sequence[Table], part: bool = False
) -> Arrays:
    """Add the images' boxes and the words for their wnids, which are kept as class_ids."""
    by_wnid = {wnid: name for table in words for wnid, name in read_words(table).items()}
    wnids = arrays["class_ids"] = arrays["class_names"]
    arrays["class_names"] = np.array([by_wnid.get(w) or w for w in wnids.tolist()])
    found = gather_boxes(boxes, split, arrays["images"].shape[-1])
    if found:
        stems = (os.path.splitext(file)[0] for file in arrays["files"].tolist())
        keys = list(zip(wnids[arrays["labels"]].tolist(), stems))
        arrays["boxes"] = arrange_boxes(found, keys, part)
    return arrays


def list_imagenet(split: str, data_dir: Path) -> tuple[Path, list[ImageFile]]:
    """The folder that holds {train,val}/, and the images of one split."""
    folder = find_imagenet(split, data_dir)
    if split == "train" or class_folders(folder) or not _holds_images(folder):
        return folder.parent, list_tree(folder)
    # As handed out: the table lies beside val/, or where Kaggle's archive was unpacked.
    classes, table = find_val_classes([folder.parent, folder, *folder.absolute().parents[1:4]])
    return folder.parent, list_flat(folder, classes, table)


def find_imagenet(split: str, data_dir: Path) -> Path:
    """The folder that holds one split's class folders; listing their images takes minutes."""
    folder = split_folder(split)
    root = _find_root(data_dir, folder, "imagenet", KAGGLE, KAGGLE.partition("/")[2])
    if root is None:
        raise _missing(
            "imagenet", data_dir, split,
            f"{folder}/<wnid>/<image>.JPEG, 1,000 class folders",
            f"{KAGGLE}/{folder}/, as Kaggle's archive unpacks",
            *([f"val/<image>.JPEG with {SOLUTION} or {DEVKIT} beside val/"] * (split == "test")),
            f"shards, which `nest shard imagenet --source FOLDER --out OUT` makes of "
            f"{TARS['train']} and {TARS['test']}; image-net.org hands these out on request",
        )  # fmt: skip
    return root / folder
