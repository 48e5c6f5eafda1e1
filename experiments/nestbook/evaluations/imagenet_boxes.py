"""Read ImageNet's boxes: the XML files that image-net.org offers beside the images.

N images, at most K boxes per image, s pixels along the edge of the square that images are resized
to.
"""

import logging
import os
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
from tqdm import tqdm

from nestlib.data.boxes import fit_box
from nestlib.data.containers import FolderSet, spread
from nestlib.data.folders import split_folder
from nestlib.data.opening import MAX_PIXELS, open_image
from nestlib.files import read_regular

# Where the files lie below the images' folder: as the competition's archive and the box archives
# (ILSVRC2012_bbox_val_v3.tgz) unpack, or in a folder of their own.
FOLDERS = (
    "ILSVRC/Annotations/CLS-LOC/{0}", "Annotations/CLS-LOC/{0}", "bbox/{0}", "boxes/{0}",
    "bbox_{0}", "{0}",
)  # fmt: skip
XML_BYTES = 2**20  # ImageNet's have a few thousand
MOST_BOXES = 1000  # of one class in an image, or the array of all images' boxes would be huge

log_line = logging.getLogger(__name__)


def load_imagenet_boxes(images: FolderSet, image_size: int, *, progress: bool = True) -> np.ndarray:
    """Boxes of each image's own class, in the pixels of the whole image resized to a square.

    Files give edges in the pixels of the original; `nestlib.data.boxes.fit_box` puts these right,
    then they are scaled and rounded, and a box covers one pixel at least. Objects of other classes
    are left out. Of up to SAMPLE images, spread evenly, the proportions are compared with those in
    the files. One warning counts those that differ: their boxes may be those of another picture.

    Args:
        images: in or beside whose folder lie the files, <image>.xml or <wnid>/<image>.xml in one of
            FOLDERS.
        image_size: s.

    Returns:
        (N, K, 4) int64: x0, y0, x1, y1 in pixel indices, both ends inside, -1 where an image has
        fewer than K.

    Raises:
        FileNotFoundError: no such folder, or an image without its file; the message says where
            they were looked for and how to get them.
        ValueError: a file that is no annotation, has no box of the image's class, or has one that
            lies outside of the image.
    """
    folder = _find_folder(images)
    found, others = [], []
    sample = set(spread(len(images)))
    paths = [Path(os.fsdecode(file)) for file in images.files.tolist()]
    for index, path in enumerate(
        tqdm(paths, "boxes", len(paths), False, unit="file", delay=2, disable=not progress)
    ):
        wnid = images.class_names[images.labels[index]]
        file = folder / f"{path.stem}.xml"
        if not file.is_file():
            file = folder / wnid / file.name
        boxes, told = _read_boxes(file, wnid, image_size)
        found.append(boxes)
        if index in sample and not _has_proportions(images.read_bytes(index), told):
            others.append(f"{file} is of {told[0]:g} x {told[1]:g} pixels")
    if others:
        log_line.warning(
            "boxes of images of other proportions than the pictures have: %d of %d, such as %s",
            len(others), len(sample), others[0],
        )  # fmt: skip
    boxes = np.full((len(found), max(map(len, found)), 4), -1, np.int64)
    for row, of_image in zip(boxes, found):
        row[: len(of_image)] = of_image
    return boxes


def _find_folder(images: FolderSet) -> Path:
    split = split_folder(images.split)
    roots = (images.root, *images.root.absolute().parents[:3])  # ILSVRC/Data/CLS-LOC lies deep
    folders = [root / folder.format(split) for root in roots for folder in FOLDERS]
    stem, wnid = Path(os.fsdecode(images.files[0])).stem, images.class_names[images.labels[0]]
    for folder in folders:
        if (folder / f"{stem}.xml").is_file() or (folder / wnid / f"{stem}.xml").is_file():
            return folder
    looked = "".join(f"\n  - {folder}" for folder in folders)
    raise FileNotFoundError(
        f"no box file {stem}.xml of {images.name} {images.split}; image-net.org offers "
        "ILSVRC2012_bbox_val_v3.tgz beside the images: unpack it into one of the folders that "
        f"were searched:{looked}"
    )


def _has_proportions(data: bytes, told: tuple[float, float]) -> bool:
    """Whether a picture has the width over height that is told, up to a pixel.

    True for one that cannot be opened: who reads its pixels says so.
    """
    try:
        width, height = open_image(data).size
    except Exception:  # Pillow's decoders raise a dozen types
        return True
    return abs(width * told[1] - height * told[0]) <= max(*told, width, height)


class _Plain(ET.TreeBuilder):
    """Refuses entities, whose text can be of any size; no annotation declares any."""

    def doctype(self, *_: object) -> None:
        raise ValueError("it declares a document type")


def _read_boxes(
    file: Path, wnid: str, image_size: int
) -> tuple[np.ndarray, tuple[float, float]]:  # fmt: skip
    """The boxes of one class in one file, on the resized image: (k, 4), k >= 1; and the width and
    height that the file tells."""
    try:
        data = read_regular(file)
        if len(data) > XML_BYTES:
            raise ValueError(f"it has {len(data):,} bytes, more than {XML_BYTES:,}")
        root = ET.fromstring(data, ET.XMLParser(target=_Plain()))
        width, height = _texts(root, "size", "width", "height")
        size = np.array([float(width), float(height)] * 2)
        if not (size.min() >= 1 and size[0] * size[1] <= MAX_PIXELS):
            raise ValueError(f"an image of {width} x {height} pixels")
        edges = np.array([
            fit_box(_texts(found, "bndbox", "xmin", "ymin", "xmax", "ymax"), *size[:2])
            for found in root.iter("object") if found.findtext("name", "").strip() == wnid
        ])  # fmt: skip
    except FileNotFoundError:
        raise FileNotFoundError(
            f"no box file {file}; unpack the whole of ILSVRC2012_bbox_val_v3.tgz"
        ) from None
    except (ET.ParseError, ValueError, LookupError) as error:  # Lookup: an unknown encoding
        raise ValueError(
            f"{file} is not an annotation of boxes ({error}); fetch it again"
        ) from error
    if len(edges) > MOST_BOXES:
        raise ValueError(f"{file} has {len(edges):,} boxes; the limit is {MOST_BOXES:,}")
    if not len(edges):
        raise ValueError(f"{file} has no box of its image's class {wnid}; fetch it again")
    pixels = np.rint(edges * image_size / size).astype(np.int64)
    first = pixels[:, :2].clip(max=image_size - 1)
    last = np.maximum(pixels[:, 2:] - 1, first)
    return np.concatenate([first, last], 1), (float(width), float(height))


def _texts(element: ET.Element, parent: str, *names: str) -> list[str]:
    """The texts of the elements `names` of `parent`."""
    texts = [element.findtext(f"{parent}/{name}") for name in names]
    if None in texts:
        raise ValueError(f"{parent}/{names[texts.index(None)]} is missing")
    return texts
