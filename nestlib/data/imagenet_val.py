"""Find the classes of ImageNet's val images, which come in one folder or tar without them."""

import csv
import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from torchvision.datasets.imagenet import ARCHIVE_META, load_meta_file, parse_devkit_archive

from nestlib.data.folders import is_class
from nestlib.files import read_regular

DEVKIT = ARCHIVE_META["devkit"][0]  # image-net.org's
SOLUTION = "LOC_val_solution.csv"  # Kaggle's


def find_val_classes(folders: Sequence[Path]) -> tuple[dict[str, str], Path]:
    """The wnid of each val image, by its file name without suffix, and the table that says so.

    Raises:
        FileNotFoundError: none of the folders holds a table.
        OSError: it is damaged; the message names it.
    """
    for folder in folders:
        if (folder / SOLUTION).is_file():
            return read_solution(folder / SOLUTION), folder / SOLUTION
        if (folder / DEVKIT).is_file():
            wnids = read_ground_truth(folder / DEVKIT)
            names = (f"ILSVRC2012_val_{number:08}" for number in range(1, len(wnids) + 1))
            return dict(zip(names, wnids)), folder / DEVKIT
    raise FileNotFoundError(
        f"the classes of the val images are in {SOLUTION} (of Kaggle's archive) or {DEVKIT}; "
        f"neither is in {folders[0]}; image-net.org offers the second beside the images: put one "
        "of them there"
    )


def read_solution(table: Path) -> dict[str, str]:
    """The wnid of each val image, by its name, from Kaggle's table: ImageId,PredictionString.

    Raises:
        OSError: it is another table, or damaged.
    """
    classes: dict[str, str] = {}
    rows = csv.DictReader(io.StringIO(_decode(table), newline=""), restval="")
    try:
        for row in rows:
            image, wnid = row["ImageId"].strip(), row["PredictionString"].split()[0]
            if not image or not is_class(wnid):
                raise ValueError(f"{image!r} is of class {wnid!r}")
            if classes.setdefault(image, wnid) != wnid:
                raise ValueError(f"{image} is of {classes[image]} in an earlier line, here {wnid}")
    except (KeyError, AttributeError, IndexError, ValueError, csv.Error) as error:
        raise OSError(
            f"{table}, line {rows.line_num}, does not tell an image's class by ImageId and "
            f"PredictionString ({error!r}); fetch it again"
        ) from error
    return classes


def _decode(table: Path) -> str:
    try:
        return read_regular(table).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise OSError(f"{table} is not text in UTF-8 ({error}); fetch it again") from error


def read_ground_truth(devkit: Path) -> list[str]:
    """The wnids of the val images 1, 2, ..., from the development kit.

    Raises:
        OSError: it is damaged.
    """
    with tempfile.TemporaryDirectory() as folder:  # torchvision leaves a file beside the kit
        os.symlink(devkit.absolute(), Path(folder) / DEVKIT)
        try:
            parse_devkit_archive(folder)
        except RuntimeError as error:  # another MD5 than the official kit's
            raise OSError(f"{devkit} is damaged; fetch it again") from error
        return load_meta_file(folder)[1]
