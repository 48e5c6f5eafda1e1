"""Small pieces of sentences that several pages share."""

from collections.abc import Iterable


def join_words(words: Iterable[str]) -> str:
    """Such as "a, b and c"."""
    *others, last = words
    return f"{', '.join(others)} and {last}" if others else last


def say_counts(counts: Iterable[int]) -> str:
    """Numbers of runs, such as "n = 3" or "n = 1 to 3"; "" of none."""
    ordered = sorted(counts)
    return f"n = {say_ends(ordered[0], ordered[-1])}" if ordered else ""


def say_ends(low: object, high: object) -> str:
    """A range, such as "1 to 3"; "3" if both ends are equal."""
    return str(low) if low == high else f"{low} to {high}"


def begin_upper(text: str) -> str:
    """With an upper-case first letter, the rest as it is (`str.capitalize` lowers it)."""
    return text[:1].upper() + text[1:]
