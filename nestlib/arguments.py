"""Check arguments against their annotations: a recipe's fields, a model's options.

    epochs: Annotated[int, Range(1, 100_000)]

A whole number passes where a number is wanted, a list where a tuple is. NaN and infinity are no
values of a number.

A number or text of numpy's is refused, as a tensor is. The Hub's config.json would leave most of
them out without a word, and torch.load(weights_only=True) refuses a checkpoint that holds one.
"""

import dataclasses
import functools
import inspect
import math
import re
import reprlib
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Annotated, Any, TypeVar

F = TypeVar("F", bound=Callable)


class UnknownOption(TypeError):
    """An argument that a function does not take; the message lists those it takes."""


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from low to high; a round bracket in `ends` excludes that end."""

    low: float
    high: float = math.inf
    ends: str = "[]"

    def __contains__(self, value: float) -> bool:
        inside = self.low < value < self.high
        at_low, at_high = self.ends[0] == "[", self.ends[1] == "]"
        return inside or (at_low and value == self.low) or (at_high and value == self.high)

    def __str__(self) -> str:
        text = f"{'of at least' if self.ends[0] == '[' else 'of more than'} {self.low:,}"
        if self.high < math.inf:
            text += f" and {'at most' if self.ends[1] == ']' else 'less than'} {self.high:,}"
        return text


@dataclasses.dataclass(frozen=True)
class Matches:
    """Texts that match a pattern as a whole; `words` describe them in messages."""

    pattern: str
    words: str

    def __contains__(self, value: str) -> bool:
        return re.fullmatch(self.pattern, value) is not None

    def __str__(self) -> str:
        return self.words


# Bounds from above are far beyond what anybody runs; what lies beyond would never end.
MAX_COUNT, MAX_BATCH = 10**9, 2**16
MAX_SEED = 2**63 - 1  # torch's and numpy's generators take these
MAX_RUNS, MAX_PROCESSES, MAX_NODES = 1000, 1024, 10_000  # of one row, on one machine, of one job
Count = Annotated[int, Range(1, MAX_COUNT)]
Width = Annotated[int, Range(1, 2**14)]  # channels, heads
MAX_LAYERS = 300
MAX_PARAMS = 500_000_000  # numbers of a network's weights
Layers = Annotated[int, Range(1, MAX_LAYERS)]
Pixels = Annotated[int, Range(1, 4096)]
Size = Pixels | tuple[Pixels, Pixels]  # of an image: both edges, or height and width
NumClasses = Annotated[int, Range(0, 10**6)]
Seed = Annotated[int, Range(0, MAX_SEED)]
Ratio = Annotated[float, Range(0.1, 64)]  # of a hidden layer's width to its input's
DropRate = Annotated[float, Range(0, 1, "[)")]
Share = Annotated[float, Range(0, 1)]
NAME = r"(?!.*\.\.)[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}(?:/[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}){0,4}"
Name = Annotated[str, Matches(NAME, "of letters, digits and _ - + . with / between, without ..")]

_WORDS = {
    int: "a whole number", float: "a number", bool: "true or false", str: "a text",
    dict: "a dictionary", type(None): "None",
}  # fmt: skip
_TYPES = {int: int, float: (int, float)}


def check_argument(what: str, name: str, value: Any, hint: Any) -> None:
    """Raise ValueError if a value does not fit an annotation; `what` takes the argument."""
    if not _fits(value, hint):
        shown = reprlib.repr(value)
        raise ValueError(f"{what}: {name} is {shown}, must be {_describe(hint)}{_remedy(value)}")


def check_fields(instance: Any, what: str) -> None:
    """`check_argument` for each field of a dataclass."""
    for name, hint in _hints(type(instance)).items():
        check_argument(what, name, getattr(instance, name), hint)


def checked(call: F) -> F:
    """Decorate a function or constructor so that it checks its arguments first.

    Raises:
        ValueError: a value that is not what its annotation says.
        UnknownOption: an argument that it does not take.
    """
    signature = inspect.signature(call)
    parameters = signature.parameters
    what = f"{call.__module__.split('.')[-1]}.{call.__qualname__.removesuffix('.__init__')}"
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    takes = [name for name in parameters if name != "self"]

    @functools.wraps(call)
    def checking(*args, **kwargs):
        unknown = [] if open_ended else [name for name in kwargs if name not in parameters]
        if unknown:
            raise UnknownOption(f"{what} has no option {unknown}; it takes {takes}")
        check_given(what, signature.bind(*args, **kwargs).arguments, call)
        return call(*args, **kwargs)

    hints = typing.get_type_hints(call)  # without ranges: what `help` and the reference show
    shown = [p.replace(annotation=hints.get(name, p.annotation)) for name, p in parameters.items()]
    checking.__signature__, checking.__annotations__ = signature.replace(parameters=shown), hints
    return checking


def check_given(what: str, given: Mapping[str, Any], call: Callable) -> None:
    """`check_argument` for each argument that is given to a function."""
    parameters = inspect.signature(inspect.unwrap(call)).parameters
    for name, value in given.items():
        check_argument(what, name, value, parameters[name].annotation)


@functools.cache
def _hints(owner: type) -> dict[str, Any]:
    hints = typing.get_type_hints(owner, include_extras=True)
    return {field.name: hints[field.name] for field in dataclasses.fields(owner)}


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return _fits(value, inner[0]) and all(value in limit for limit in hint.__metadata__)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin in (tuple, list, Sequence):
        return isinstance(value, (list, tuple)) and _items_fit(value, origin, inner)
    if origin in (dict, Mapping):
        return isinstance(value, dict) and all(isinstance(key, str) for key in value)
    if not isinstance(hint, type) or hint is inspect.Parameter.empty:
        return True  # nothing is said, or more than is understood here
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint in (int, float, str) and _is_array(value):  # numpy's float64 is a float, too
        return False
    number = hint is not float or not isinstance(value, float) or math.isfinite(value)
    return isinstance(value, _TYPES.get(hint, hint)) and number


def _is_array(value: Any) -> bool:
    return type(value).__module__ in ("numpy", "torch") and hasattr(value, "tolist")


def _remedy(value: Any) -> str:
    items = value if isinstance(value, (list, tuple)) else [value]
    return "; give a plain value, by .tolist()" * any(map(_is_array, items))


def _items_fit(value: Collection, origin: type, inner: tuple) -> bool:
    if origin is tuple and Ellipsis not in inner:
        return len(value) == len(inner) and all(map(_fits, value, inner))
    return all(_fits(item, inner[0]) for item in value)


def _describe(hint: Any) -> str:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return " ".join([_describe(inner[0]), *map(str, hint.__metadata__)])
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(map(_describe, inner))
    if origin is tuple and Ellipsis not in inner:
        return f"a list of {len(inner)} items, each {_describe(inner[0])}"
    if origin in (tuple, list, Sequence):
        return f"a list of items, each {_describe(inner[0])}"
    hint = origin or hint
    return _WORDS.get(hint) or f"of type {hint.__name__}"
