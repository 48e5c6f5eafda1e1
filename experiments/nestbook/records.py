"""The record of what the book measures, written when the measurement has ended."""

import hashlib
import json
from typing import Any

from nestlib.data.containers import FolderSet, ImageSet
from nestlib.records import Record, Store, timestamp


def add_record(
    store: Store, environment: dict[str, Any], *, committed: bool,
    images: ImageSet | FolderSet | None = None, **parts: Any,
) -> Record:  # fmt: skip
    """Write the record of a measurement that has just ended, and return it.

    Args:
        environment: `describe_environment` as it was when the measurement began.
        images: what was measured on; the record describes them by split.
        parts: the other fields of a Record.
    """
    ended: dict[str, Any] = {"finished": timestamp()}
    if images is not None:
        found = {"fingerprint": images.fingerprint, "images": len(images)}
        ended["data"] = {images.split: found}
    record = Record(environment=environment | ended, **parts)
    store.add(record, committed=committed)
    return record


def short_hash(identity: dict[str, Any]) -> str:
    """Eight hex digits of all that decides a record's numbers, for its id."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
