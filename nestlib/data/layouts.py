"""Where CIFAR, Tiny ImageNet and ImageNet keep their images, in every form they are handed round.

Each `find_*` looks where one split's images are and reads none; what reads them comes back, in the
order of nestlib.data.folders. FileNotFoundError says what was looked for, where, and how to get it.
"""

import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity

from nestlib.data.folders import (
    Arrays,
    ImageFile,
    decode_entries,
    list_tree,
    load_or_build,
    read_packs,
    read_tree,
    sample_order,
    split_folder,
)

OFFICIAL_CIFAR = {"cifar10": CIFAR10, "cifar100": CIFAR100}
DOWNLOAD_MB = {"cifar10": 170, "cifar100": 169}
TINY_PACK = "tiny-imagenet-100.tar.xz"
TINY_FOLDERS = ("tiny-imagenet-100", "tiny-imagenet-200")

Box = tuple[int, ...]  # x0, y0, x1, y1


def _find_root(data_dir: Path, folder: str, *subfolders: str) -> Path | None:
    """Which of `data_dir` and its subfolders holds `folder`."""
    roots = (data_dir, *(data_dir / each for each in subfolders))
    return next((root for root in roots if (root / folder).is_dir()), None)


def _missing(name: str, data_dir: Path, split: str, *layouts: str) -> FileNotFoundError:
    lines = "".join(f"\n  - {layout}" for layout in layouts)
    return FileNotFoundError(
        f"{name}: no {split} images in {data_dir.absolute()}. Expected there one of:{lines}\n"
        "If they are elsewhere, pass data_dir=..., or set the environment variable NESTLIB_DATA "
        f"to the folder that holds {name}/."
    )


def find_cifar(
    name: str, split: str, data_dir: Path, total: int, download: bool
) -> Callable[[], Arrays]:
    """CIFAR-10 or CIFAR-100 from the official pickles, a tree of class folders, or packs of one.

    `total` is the number of images to expect, for the progress bar. `download` fetches the
    official files only if nothing is there.
    """
    folder = data_dir / OFFICIAL_CIFAR[name].base_folder
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
    if download:
        return lambda: _fetch_cifar(name, split, data_dir)
    raise _missing(
        name, data_dir, split,
        f"{folder.name}/, the official files; `nest train {name}/nest_tiny --download`, or "
        f"load_dataset({name!r}, {split!r}, download=True), fetches them ({DOWNLOAD_MB[name]} MB)",
        f"{split}/<class>/<image>.png, .jpg or .webp, or {name}/{split}/...",
        f"packs of such a tree, {split}*.tar.xz",
    )  # fmt: skip


def _read_cifar_tree(title: str, root: Path, split: str) -> Arrays:
    files = list_tree(root / split)
    return load_or_build(
        title, [file.path for file in files], root,
        lambda: decode_entries(read_tree(files), 32, len(files), title),
    )  # fmt: skip


def _read_official_cifar(name: str, split: str, folder: Path) -> Arrays:
    official = OFFICIAL_CIFAR[name]
    parts = official.train_list if split == "train" else official.test_list
    meta = (official.meta["filename"], official.meta["md5"])
    for file, md5 in (*parts, meta):  # before unpickling: a pickle can run anything
        if not check_integrity(folder / file, md5):
            raise OSError(
                f"{folder / file} is missing or damaged (its MD5 is not {md5}); remove {folder} "
                f"and call load_dataset({name!r}, {split!r}, download=True)"
            )
    batches = [_unpickle(folder / file) for file, _ in parts]
    class_names = np.array(_unpickle(folder / meta[0])[official.meta["key"]])
    key = "labels" if name == "cifar10" else "fine_labels"
    labels = np.concatenate([batch[key] for batch in batches]).astype(np.int64)
    files = [file for batch in batches for file in batch["filenames"]]
    order = sorted(range(len(files)), key=lambda i: (labels[i], sample_order(files[i])))
    images = np.concatenate([batch["data"] for batch in batches]).reshape(-1, 3, 32, 32)
    return {"images": images[order], "labels": labels[order], "class_names": class_names}


def _unpickle(path: Path) -> dict:
    return pickle.loads(path.read_bytes(), encoding="latin1")


def _fetch_cifar(name: str, split: str, data_dir: Path) -> Arrays:
    """Fetch into a folder beside and move it into place, so that half a download is not found."""
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
    """Tiny ImageNet with boxes (N, 1, 4), -1 where an image has none.

    "tiny_imagenet" is the part called Tiny ImageNet-100: the first 100 classes of wnids.txt and of
    them the training images numbered 0 to 299. It comes in a pack, or is taken from the official
    folder. "tiny_imagenet_200" is the official whole.
    """
    title, pack = f"{name}-{split}", data_dir / TINY_PACK
    try:
        root = _tiny_root(name, split, data_dir)
    except FileNotFoundError:
        if name != "tiny_imagenet" or not pack.is_file():
            raise
        return lambda: load_or_build(
            title, [pack], data_dir, lambda: _read_tiny_pack(pack, split, total, title)
        )
    return lambda: _read_tiny_tree(title, root, split, part=name == "tiny_imagenet")


def list_tiny_imagenet(name: str, split: str, data_dir: Path) -> tuple[Path, list[ImageFile]]:
    """The folder that holds {train,val}/, and the images of one split; a pack is to be unpacked."""
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
    annotations = root / "val" / "val_annotations.txt"
    if split == "test" and (root / "val" / "images").is_dir() and annotations.is_file():
        rows = [line.split("\t")[:2] for line in annotations.read_text().splitlines()]
        rows.sort(key=lambda row: (row[1], sample_order(row[0])))
        files = [ImageFile(wnid, str(root / "val" / "images" / file)) for file, wnid in rows]
    else:
        files = list_tree(root / split_folder(split))
    wnids = root / "wnids.txt"
    if not (part and wnids.is_file()):
        return files
    kept = set(wnids.read_text().split()[:100])
    files = [file for file in files if file.class_name in kept]
    return [f for f in files if split == "test" or int(Path(f.path).stem.split("_")[-1]) < 300]


def _read_tiny_tree(title: str, root: Path, split: str, part: bool) -> Arrays:
    files = _list_tiny(root, split, part)
    tables = [path for path in root.iterdir() if path.suffix in (".csv", ".tsv", ".txt")]
    tables += [*root.glob("train/*/*_boxes.txt"), *root.glob("val/val_annotations.txt")]

    def build() -> Arrays:
        arrays = decode_entries(read_tree(files), 64, len(files), title)
        official = "val/val_annotations.txt" if split == "test" else "train/*/*_boxes.txt"
        if (root / "boxes.csv").is_file():
            boxes = _parse_csv((root / "boxes.csv").read_text(), split)
        else:
            boxes = _parse_boxes(table.read_text() for table in root.glob(official))
        words = [p for p in (root / "classes.tsv", root / "words.txt") if p.is_file()]
        return _annotate(arrays, boxes, words[0].read_text() if words else "")

    return load_or_build(title, [*(file.path for file in files), *sorted(tables)], root, build)


def _read_tiny_pack(pack: Path, split: str, total: int, title: str) -> Arrays:
    tables = {"boxes.csv": "", "classes.tsv": ""}
    arrays = decode_entries(read_packs([pack], split_folder(split), tables), 64, total, title)
    return _annotate(arrays, _parse_csv(tables["boxes.csv"], split), tables["classes.tsv"])


def _parse_csv(text: str, split: str) -> dict[str, Box]:
    rows = (line.split(",") for line in text.splitlines())
    return {row[2]: tuple(map(int, row[3:7])) for row in rows if row[0] == split_folder(split)}


def _parse_boxes(texts: Iterable[str]) -> dict[str, Box]:
    """Official tables: file, in val the wnid, and four edges, between tabs."""
    rows = (line.split("\t") for text in texts for line in text.splitlines())
    return {row[0]: tuple(map(int, row[-4:])) for row in rows}


def _annotate(arrays: Arrays, boxes: dict[str, Box], words: str) -> Arrays:
    """Add boxes by file name, and words (wnid, tab, words a line) for wnids, kept as class_ids."""
    by_wnid = dict(line.split("\t", 1) for line in words.splitlines())
    wnids = arrays["class_ids"] = arrays["class_names"]
    arrays["class_names"] = np.array([by_wnid.get(w, w) for w in wnids.tolist()])
    if boxes:
        rows = [boxes.get(file, (-1, -1, -1, -1)) for file in arrays["files"].tolist()]
        arrays["boxes"] = np.array(rows, dtype=np.int16)[:, None]
    return arrays


def list_imagenet(split: str, data_dir: Path) -> tuple[Path, list[ImageFile]]:
    """The folder that holds {train,val}/, and the images of one split."""
    folder = find_imagenet(split, data_dir)
    return folder.parent, list_tree(folder)


def find_imagenet(split: str, data_dir: Path) -> Path:
    """The folder that holds one split's class folders; to list its images takes minutes."""
    folder = split_folder(split)
    root = _find_root(data_dir, folder, "imagenet")
    if root is None:
        raise _missing(
            "imagenet", data_dir, split,
            f"{folder}/<wnid>/<image>.JPEG, 1,000 class folders; image-net.org hands out "
            "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar on request",
        )  # fmt: skip
    return root / folder
