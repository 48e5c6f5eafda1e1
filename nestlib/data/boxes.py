"""Read boxes of images, and descriptions of classes, from the tables beside the images."""

import io
import logging
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from pathlib import Path

import numpy as np

from nestlib.data.folders import split_folder

Table = tuple[str, bytes]  # its path, and what is in it
Key = tuple[str, str]  # an image's class, and its file name without suffix
Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixel indices, both ends inside

_EDGES = ["x0", "y0", "x1", "y1"]
_COLUMNS = {
    "boxes.csv": ["split", "wnid", "file", *_EDGES],
    "val_annotations.txt": ["file", "wnid", *_EDGES],
}
_TRAIN_COLUMNS = ["file", *_EDGES]  # of train/<wnid>/<wnid>_boxes.txt

log_line = logging.getLogger(__name__)


def read_rows(table: Table) -> Iterator[tuple[str, list[str]]]:
    """Lines that are not blank, each as "<path>, line <number>" and its fields.

    Fields stand between commas in .csv files, else between tabs, or spaces in a line without tabs.
    The text is UTF-8, or else Latin-1.
    """
    path, data = table
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        if path.endswith(".csv"):
            fields = line.replace('"', "").split(",")
        else:
            fields = line.strip().split("\t" if "\t" in line.strip() else None)
        if any(map(str.strip, fields)):
            yield f"{path}, line {number}", [field.strip() for field in fields]


def read_words(table: Table) -> dict[str, str]:
    """The description of each class, from lines of a wnid and words."""
    return {wnid: " ".join(words) for _, (wnid, *words) in read_rows(table)}


def fit_box(edges: Sequence[str], right: float, bottom: float) -> tuple[float, ...]:
    """Two opposite corners of a box, in any order, as x0 <= x1 and y0 <= y1.

    What of it lies outside of 0..right and 0..bottom is cut off.

    Raises:
        ValueError: an edge that is not a finite number, or a box that lies outside as a whole.
    """
    numbers = list(map(_read_number, edges))
    if not all(map(isfinite, numbers)):
        raise ValueError(f"the box {', '.join(edges)} has an edge that is not a finite number")
    (x0, x1), (y0, y1) = sorted(numbers[::2]), sorted(numbers[1::2])
    if x1 < 0 or y1 < 0 or x0 > right or y0 > bottom:
        raise ValueError(
            f"the box {', '.join(edges)} is outside its image, 0 to {right:g} across and 0 to "
            f"{bottom:g} down"
        )
    return max(x0, 0), max(y0, 0), min(x1, right), min(y1, bottom)


def _read_number(text: str) -> float:
    if "_" in text:  # Python would take 1_0 for 10
        raise ValueError(f"could not convert string to float: {text!r}")
    return float(text)


def gather_boxes(
    tables: Iterable[Table], split: str, image_size: int
) -> dict[Key, tuple[Box, str]]:
    """The box of each image in Tiny ImageNet's tables, and the line that names it.

    Tables are known by their file names: boxes.csv (of both splits), val_annotations.txt or
    <wnid>_boxes.txt. Fractions are rounded to the nearest pixel; see `fit_box` for the rest.

    Raises:
        ValueError: a row that gives no box, or another than an earlier one gives the same image;
            the message names its file and line.
    """
    found: dict[Key, tuple[Box, str]] = {}
    for table in tables:
        for where, row in _name_fields(table, split):
            try:
                edges = fit_box([row[edge] for edge in _EDGES], image_size - 1, image_size - 1)
            except ValueError as error:
                raise ValueError(f"{where}: {error}; correct the line, or remove it") from None
            box = tuple(map(round, edges))
            other, first = found.setdefault((row["wnid"], Path(row["file"]).stem), (box, where))
            if other != box:
                raise ValueError(
                    f"{where}: {row['file']} has another box in {first}; keep one of the lines"
                )
    return found


def _name_fields(table: Table, split: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The rows of one split, each field by its column's name."""
    path = Path(table[0])
    columns, own = _COLUMNS.get(path.name, _TRAIN_COLUMNS), split_folder(split)
    for where, fields in read_rows(table):
        if [field.lower() for field in fields] == columns:
            continue
        row = {"split": own, "wnid": path.parent.name, **dict(zip(columns, fields))}
        if len(fields) != len(columns) or row["split"] not in ("train", "val"):
            raise ValueError(
                f"{where}: {', '.join(fields)!r} are not {', '.join(columns)}"
                f"{' (train or val first)' * ('split' in columns)}; correct the line, or remove it"
            )
        if row["split"] == own:
            yield where, row


def arrange_boxes(
    found: dict[Key, tuple[Box, str]], keys: Sequence[Key], part: bool = False
) -> np.ndarray:
    """The boxes of the images `keys`: (N, 1, 4) int16, -1 for an image without a box.

    One warning counts the boxes of images that are not there, unless these are `part` of a set.

    Raises:
        ValueError: none of the boxes is of one of the images.
    """
    strange = found.keys() - set(keys)
    if strange:
        wnid, file = min(strange)
        first = f"{found[wnid, file][1]}: {file} of class {wnid}"
        if len(strange) == len(found):
            raise ValueError(
                f"{first} is not an image here, and neither is any other file in the tables of "
                "boxes"
            )
        if not part:
            log_line.warning(
                "boxes of images that are not here: %d, such as %s", len(strange), first
            )  # fmt: skip
    nowhere = (-1, -1, -1, -1), ""
    return np.array([found.get(key, nowhere)[0] for key in keys], dtype=np.int16)[:, None]
