"""Write the record of what the book measures when the measurement has ended, or say why not."""

import hashlib
import json
import textwrap
from typing import TYPE_CHECKING, Any

from nestlib.records import Record, Store, timestamp

if TYPE_CHECKING:
    from nestlib.data.containers import FolderSet, ImageSet

FAILURE_LENGTH = 500  # characters


def add_record(
    store: Store, environment: dict[str, Any], *, committed: bool,
    images: "ImageSet | FolderSet | None" = None, **parts: Any,
) -> Record:  # fmt: skip
    """Write the record of a measurement that has just ended, and return it.

    Args:
        environment: `describe_environment` as it was when the measurement began.
        images: what was measured on; the record describes them by split.
        parts: the other fields of a Record.
    """
    ended: dict[str, Any] = {"finished": timestamp()}
    if images is not None:
        ended["data"] = describe_images(images)
    record = Record(environment=environment | ended, **parts)
    store.add(record, committed=committed)
    return record


def describe_images(*sets: "ImageSet | FolderSet") -> dict[str, dict[str, Any]]:
    """What a record keeps of its images, by split."""
    return {
        images.split: {"fingerprint": images.fingerprint, "images": len(images)} for images in sets
    }


def short_hash(identity: dict[str, Any]) -> str:
    """Eight hex digits of everything that decides a record's numbers, for its id."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


class Failure(str):
    """Why a model could not be scored: one line of a table's notes, in place of a result.

    A plain string there is no failure: it says what is not run yet.
    """

    @classmethod
    def of(cls, error: Exception) -> "Failure":
        text = str(error) or type(error).__name__
        return cls(textwrap.shorten(text, FAILURE_LENGTH, placeholder=" ..."))
