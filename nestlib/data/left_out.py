"""Find out which files of a split are images; count the others by reason, for one warning."""

import logging
import os
from collections.abc import Iterable

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")
# Tables, boxes, scripts and notes that lie among images, and what systems leave there.
_ASIDE = (".txt", ".xml", ".csv", ".tsv", ".json", ".md", ".py", ".sh")
_OF_SYSTEMS = (".ds_store", "thumbs.db", "desktop.ini")

BESIDE_IMAGES = "beside a folder `images`, which is read instead"
DEEPER = "in folders that are not read"
LINKED = "symbolic links in a tar, which are not followed"
OTHER_SPLIT = "in the folder of the other split"
UNSORTED = "not directly in a class folder"
_HIDDEN = "hidden, their names begin with a dot"
_OTHER_KIND = f"of another kind than {', '.join(SUFFIXES)}"

log_line = logging.getLogger(__name__)


def is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")


class LeftOut:
    """How many files of a split are not read, and the first of them, for each reason."""

    def __init__(self):
        self._found: dict[str, tuple[int, str]] = {}

    def add(self, path: str, reason: str) -> None:
        """Count a file by the reason that its name gives, or else by `reason`."""
        name = os.path.basename(path)
        if name.lower().endswith(_ASIDE) or name.lower() in _OF_SYSTEMS:
            return
        if not is_image(name):
            reason = _HIDDEN if name.startswith(".") else _OTHER_KIND
        so_far, first = self._found.get(reason, (0, path))
        self._found[reason] = so_far + 1, first

    def add_folder(self, folder: str, names: Iterable[str], reason: str) -> None:
        """Count the files `names` of a folder, and the images in those that are folders."""
        names = set(names)
        if not names:
            return
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name in names and entry.is_dir():
                    self._add_deeper(entry.path)
                elif entry.name in names:
                    self.add(entry.path, reason)

    def _add_deeper(self, folder: str) -> None:
        for inner, _, names in os.walk(folder):
            for name in filter(is_image, names):
                self.add(os.path.join(inner, name), DEEPER)

    def warn(self, place: object) -> None:
        """Log what was left out of `place`, if anything was."""
        if self._found:
            total = sum(count for count, _ in self._found.values())
            reasons = "; ".join(
                f"{count} {reason} ({first})" for reason, (count, first) in self._found.items()
            )
            log_line.warning("%s: files left out, %d in all: %s", place, total, reasons)
