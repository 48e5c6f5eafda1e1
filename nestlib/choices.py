"""The error for an unknown name: it lists similar names that are valid."""

import difflib
import reprlib
from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")
MANY = 20  # valid names that a message lists in full
LONG = 100  # characters of a name that near ones are looked for: the search is slow


def check_choice(what: str, name: str, valid: Iterable[str], remedy: str = "") -> None:
    """Raise ValueError if `name` is not a valid one.

    Args:
        what: is chosen, such as "recipe".
        remedy: how to list the valid names, where they are many.
    """
    valid = list(valid)
    if name in valid:
        return
    shown, names = reprlib.repr(name), list(map(str, valid))
    near = difflib.get_close_matches(str(name)[:LONG], names, n=3, cutoff=0.4)
    hints = [f"did you mean {', '.join(near)}?"] if near else []
    if len(valid) <= MANY or not (near or remedy):
        hints.append(f"valid: {', '.join(names) or 'none'}")
    raise ValueError(" ".join([f"no {what} {shown};", *hints, *([remedy] if remedy else [])]))


def choose(what: str, name: str, choices: Mapping[str, T], remedy: str = "") -> T:
    """`choices[name]`; `check_choice` raises if there is no such name."""
    check_choice(what, name, choices, remedy)
    return choices[name]
