"""What a record must hold: asked whenever one is read, and takes no torch.

A `Form` says of one sort of record which values its parts may have, by shapes:

    {"images": Count, ANY: str}    an object; ANY is for every other name
    [Share]                        a list; (Share, ...) of one or more, (Share, Share) of two
    Perhaps(shape)                 the same, or null
    Annotated[int, Range(1, 9)]    a value, as nestlib.arguments takes it

A name that a shape has may be absent, as older records lack some: `Fields` answers whoever asks for
it. Forms of other records than those of training come from nestlib.extensions.
"""

import dataclasses
import math
import sys
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

from nestlib.arguments import Count, Matches, Range, check_argument
from nestlib.extensions import extended
from nestlib.recipes.recipe import GanRecipe, Recipe, hash_config

if TYPE_CHECKING:
    from nestlib.records import Record

REMEDY = "restore the file, or move it away and run it again"
ANY = "*"
Shape = Any
Place = tuple[str | int, ...]  # of a value within a record
MOST = sys.float_info.max
_WORDS = {dict: "an object", list: "a list"}


@dataclass(frozen=True)
class Perhaps:
    """A shape that may be null."""

    shape: Shape


class RecordError(ValueError):
    """A record file that cannot be read, or has not what is asked of it; the message names it."""


class Fields(dict):
    """An object of a record file. To ask for a name that is not there is a RecordError."""

    __slots__ = ("path",)

    def __missing__(self, name: str):
        if not hasattr(self, "path"):  # a copy, which no file stands behind
            raise KeyError(name)
        raise RecordError(
            f"{self.path} is not a whole record: there is no {name!r} beside "
            f"{', '.join(self)[:200] or 'nothing'}; {REMEDY}"
        )


class _Date:
    """Days, and times in UTC, as records keep them."""

    def __contains__(self, text: str) -> bool:
        try:
            return datetime.fromisoformat(f"{text}-01-01" if len(text) == 4 else text).year > 0
        except ValueError:
            return False

    def __str__(self) -> str:
        return "of a time, such as 2026-11-30T13:45:21+00:00"


Date = Annotated[str, _Date()]
Sha256 = Annotated[str, Matches("[0-9a-f]{64}", "of 64 hex digits, a SHA-256")]
Real = Annotated[float, Range(-MOST, MOST)]
Amount = Annotated[float, Range(0, 10**15)]
Positive = Annotated[float, Range(0, 10**15, "(]")]
Percent = Annotated[float, Range(0, 100)]
Whole = Annotated[int, Range(0, 10**15)]

_CALL = {
    "device": str, "device_kind": str, "threads": Count, "python": str, "cuda": str | None,
    "packages": {ANY: str | None}, "commit": str | None, "dirty": bool | None, "started": Date,
    "finished": Date, "ranks": Count, "micro_batch": Count | None, "step": str | None,
}  # fmt: skip
_ENVIRONMENT = {
    **_CALL, "earlier_calls": [_CALL], "weights": {ANY: Sha256}, "slurm": str | None,
    "probe": (Real,) * 8, "teacher": {"run_id": str, "weights_sha256": Sha256},
    "data": {ANY: {"fingerprint": str, "images": Count, "class_names": [str], "unreadable": {}}},
}  # fmt: skip
_ACCURACIES = {
    f"{split}/{name}": kind for split in ("test", "held_out")
    for name, kind in {"top1": Percent, "top5": Percent, "loss": Real | None}.items()
}  # fmt: skip
_BITS = Annotated[str, Matches("[A-Za-z0-9+/]*={0,2}", "of base64, as pack_right makes it")]
_EPOCHS = [{**_ACCURACIES, "epoch": Whole, "step": Whole, "num_samples": Whole, ANY: Real | None}]
PIXEL_DISTANCE = "sample/pixel_distance"


@dataclass(frozen=True)
class Form:
    """One sort of records.

    kind: the record's. find_fault: says what of the whole record does not fit together, or "".
    """

    kind: str
    summary: Shape = field(default_factory=dict)
    recipe: Shape = field(default_factory=dict)
    find_fault: Callable[["Record"], str] = lambda record: ""


def check_record(record: "Record") -> None:
    """Check what a record holds against the form of its kind and id.

    Raises:
        ValueError: with the field, its value and what would be valid; or a kind that its id does
            not have; or a recipe that is not the one that its id names.
    """
    form = _find_form(record)
    parts = {"recipe": form.recipe, "environment": _ENVIRONMENT, "summary": form.summary,
             "epochs": _EPOCHS}  # fmt: skip
    for name, shape in parts.items():
        _check(getattr(record, name), shape, (name,))
    if record.kind in _own() and (unknown := record.recipe.keys() - form.recipe.keys()):
        raise ValueError(f"its recipe has {', '.join(unknown)!r:.60}, which recipes do not have")
    if fault := form.find_fault(record):
        raise ValueError(fault)


def check_calls(calls: Any) -> None:
    """Raise ValueError for what are not the environments of a run's calls, as its record will keep
    them."""
    _check(calls, [_CALL], ("calls",))


def name_unfit(value: Any, place: Place = ()) -> str:
    """Where values hold a number that is not finite, in words; "" if nowhere."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for name, one in items:
        if isinstance(one, float) and not math.isfinite(one):
            return f": its {_name((*place, name))} is {one}"
        if isinstance(one, (dict, list, tuple)) and (found := name_unfit(one, (*place, name))):
            return found
    return ""


def name_run(recipe: dict[str, Any]) -> str:
    """The run id that follows from a record's recipe."""
    return f"{recipe.get('name')}-s{recipe.get('seed')}-{hash_config(recipe)}"


def differ(record: "Record", own: str) -> str:
    """The fault of a record whose recipe belongs to the run `own`, or "" where that is its id."""
    if record.run_id == own:
        return ""
    return f"its recipe is that of another run, {own:.200}: its recipe or its name was changed"


def differ_from_run(record: "Record", own: str) -> str:
    """As `differ`, of a run's recipe that the record keeps: of a name alone none can be told."""
    kept = record.recipe.keys() & {"model", "generator", "dataset"}
    return differ(record, own) if kept else ""


def _find_run_fault(record: "Record") -> str:
    return differ_from_run(record, name_run(record.recipe)) or _find_bits_fault(record)


def _find_bits_fault(record: "Record") -> str:
    """Of which images a classifier has right: of as many as the record says that there are."""
    for split, noted in record.environment.get("data", {}).items():
        packed, images = record.summary.get(f"{split}/right"), noted.get("images")
        if packed and images and len(packed) != 4 * math.ceil(math.ceil(images / 8) / 3):
            return f"its {split}/right is not of the {images} images that its environment names"
    return ""


def _find_gan_fault(record: "Record") -> str:
    found = [record.summary.get(name, 0) for name in ("reported_step", PIXEL_DISTANCE)]
    if record.summary.get("status") == "finished" and None in found:
        return "its summary has no last row, but the status finished"
    return differ_from_run(record, name_run(record.recipe))


def _shape_of(recipe: type) -> Shape:
    """What the fields of a recipe may be; its parts are objects."""
    hints = typing.get_type_hints(recipe, include_extras=True)
    return {one.name: hints[one.name] for one in dataclasses.fields(recipe)}


@cache
def _own() -> dict[str, Form]:
    ended = {"num_params": Count, "train_seconds": Amount, "weights_sha256": Sha256,
             "peak_memory_mb": Amount}  # fmt: skip
    train = {**_ACCURACIES, **ended, "reported_epoch": Whole, "test/right": _BITS,
             "held_out/right": _BITS}  # fmt: skip
    gan = {**ended, "discriminator_params": Count, "failure": str, "reported_step": Whole | None,
           PIXEL_DISTANCE: Amount | None,
           "status": Annotated[str, Matches("finished|failed", "finished or failed")]}  # fmt: skip
    return {
        "train": Form("train", train, _shape_of(Recipe), _find_run_fault),
        "gan": Form("gan", gan, _shape_of(GanRecipe), _find_gan_fault),
    }


@cache
def _forms() -> dict[str, Form]:
    """The extensions' forms by the beginning of a record's id, the longest first."""
    found = extended({}, "records")
    return {name: found[name] for name in sorted(found, key=len, reverse=True)}


@cache
def _named_kinds() -> set[str]:
    return {form.kind for form in _forms().values()}


def _find_form(record: "Record") -> Form:
    """The form that a record's id asks for; nothing is said of kinds that nobody here writes.

    Raises:
        ValueError: the record has another kind.
    """
    forms, own = _forms(), _own()
    named = next((form for name, form in forms.items() if record.run_id.startswith(name)), None)
    if named is not None:
        kinds = [named.kind]
    elif record.run_id == name_run(record.recipe) or (
        record.kind in _named_kinds() and not record.run_id.startswith(f"{record.kind}/")
    ):
        kinds = list(own)
    else:
        kinds = [record.kind]
    if record.kind not in kinds:
        raise ValueError(
            f"its kind is {record.kind!r:.40}, must be {' or '.join(kinds)} of such a run id"
        )
    return named or own.get(record.kind) or Form(record.kind)


def _check(value: Any, shape: Shape, place: Place) -> None:
    """Raise ValueError if a value, or one in it, does not have its shape."""
    if isinstance(shape, Perhaps):
        if value is not None:
            _check(value, shape.shape, place)
    elif isinstance(shape, dict):
        _check_type(value, dict, place)
        other = shape.get(ANY)
        for name, one in value.items():
            if (inner := shape.get(name, other)) is not None:
                _check(one, inner, (*place, name))
    elif isinstance(shape, (list, tuple)):
        _check_type(value, list, place)
        many = isinstance(shape, list) or shape[-1] is ...
        if isinstance(shape, tuple) and (not value if many else len(value) != len(shape)):
            needed = "one or more" if many else len(shape)
            raise ValueError(f"its {_name(place)} has {len(value)} items, must have {needed}")
        for number, one in enumerate(value):
            _check(one, shape[0 if many else number], (*place, number))
    else:
        limits = _limits_of(shape).get(type(value))
        if limits is not None:
            for limit in limits:
                if value not in limit:
                    break
            else:
                return
        check_argument("the record", _name(place), value, shape)


def _check_type(value: Any, kind: type, place: Place) -> None:
    if not isinstance(value, kind):
        raise ValueError(f"its {_name(place)} is {value!r:.40}, must be {_WORDS[kind]}")


def _name(place: Place) -> str:
    return ", ".join(map(str, place))[:200]


_LIMITS: dict[int, tuple[Any, dict[type, tuple]]] = {}  # by an annotation's id; hashes are slow


def _limits_of(hint: Any) -> dict[type, tuple]:
    """The types of JSON's values that an annotation takes, with the limits of each."""
    if id(hint) not in _LIMITS:
        _LIMITS[id(hint)] = hint, _read_hint(hint)
    return _LIMITS[id(hint)][1]


def _read_hint(hint: Any) -> dict[type, tuple]:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        return {kind: (*own, *hint.__metadata__) for kind, own in _read_hint(inner[0]).items()}
    if origin in (typing.Union, types.UnionType):
        return {kind: own for one in inner for kind, own in _read_hint(one).items()}
    if origin is dict or dataclasses.is_dataclass(hint):
        return {dict: (), Fields: ()}
    return {float: (), int: ()} if hint is float else {origin or hint: ()}
