"""Read JSON that this project wrote, strictly: finite numbers, 64 bits, no name twice."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nestlib.files import read_regular


def pair_up(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object's names and values; ValueError where a name comes twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it names {twice!r:.40} twice")
    return found


def read_json(path: Path, make: Callable[[list[tuple[str, Any]]], dict] = pair_up) -> Any:
    """Read a JSON file that this project wrote.

    Raises:
        ValueError: as `parse_json`.
        OSError: it cannot be read, or is no regular file.
    """
    return parse_json(read_regular(path), make)


def parse_json(data: bytes, make: Callable[[list[tuple[str, Any]]], dict] = pair_up) -> Any:
    """The value of a JSON text.

    Args:
        make: the dictionary of an object's names and values.

    Raises:
        ValueError: no JSON, a number that is not finite or beyond 64 bits, or a name that comes
            twice in an object.
    """
    how = {"parse_constant": _refuse, "parse_float": _read_float, "parse_int": _read_int}
    try:
        return json.loads(data, object_pairs_hook=make, **how)
    except RecursionError as error:
        raise ValueError("its lists are nested too deeply") from error


def _refuse(text: str) -> None:
    raise ValueError(f"it holds {text:.40}, which is not a number that it may hold")


def _read_float(text: str) -> float:
    return number if math.isfinite(number := float(text)) else _refuse(text)


def _read_int(text: str) -> int:
    return number if len(text) < 20 and abs(number := int(text)) < 2**63 else _refuse(text)
