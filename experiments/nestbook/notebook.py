"""Check at the top of a notebook that it can run with the parameters that it was given.

papermill itself lets an unknown name pass with a line in its log and checks no values, so a typing
error would run the notebook with its defaults. The notebook's first call compares what papermill
injected with what the `parameters` cell declares, and with what a parameter of that name may be
(`RULES`), before anything is trained or measured.
"""

import ast
import difflib
import math
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nestbook.evaluations.examples import WEIGHTS
from nestbook.evaluations.generators import NETWORKS
from nestbook.evaluations.planted import CANVASES
from nestlib.arguments import MAX_COUNT, MAX_NODES, MAX_PROCESSES, MAX_RUNS, MAX_SEED
from nestlib.data.fetching import is_url
from nestlib.precision import CHOICES
from nestlib.project import PROJECT, find_project_root, is_project, is_publishing
from nestlib.recipes.recipe import BUDGETS
from nestlib.training.devices import DeviceError, resolve_device


class ParameterError(ValueError):
    """A notebook was given a parameter that it does not take."""


@dataclass(frozen=True)
class Parameter:
    """One annotated assignment of a parameters cell: `seeds: int = 3  # how many`."""

    name: str
    type: str
    default: Any
    help: str

    def __str__(self) -> str:
        return f"{self.name}: {self.type} = {self.default!r}  ({self.help})"


_TYPES = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


def one_of(values: Collection[str], *, or_empty: bool = False) -> Callable[[str], str]:
    """A rule: the fault of a value that is not one of `values`; "" for one that is."""

    def rule(value: str) -> str:
        fits = value in values or (or_empty and not value)
        return "" if fits else f"must be one of {', '.join(values)}"

    return rule


def at_least(low: float, high: float = math.inf) -> Callable[[float], str]:
    """A rule for numbers in a range; numbers that are not finite never fit."""

    def rule(value: float) -> str:
        if low <= value <= high and value < math.inf:  # of nan no comparison holds
            return ""
        return f"must be {low} or more" if high == math.inf else f"must be {low} to {high:,}"

    return rule


def _is_there(value: str) -> str:
    try:
        found = not value or is_url(value) or Path(value).exists()
    except (OSError, ValueError) as error:  # no name that a file can have
        return f"cannot be looked for: {getattr(error, 'strerror', None) or error}"
    return "" if found else "does not exist"


def _is_usable(device: str) -> str:
    try:
        resolve_device(device)
    except (DeviceError, RuntimeError, ValueError) as error:
        return f"cannot be used: {error}"
    return ""


# What a parameter of a name may be, in every notebook that has it; any other number is not negative
# and finite. What depends on others, such as
# the data sets of a budget, the functions say that take it.
RULES: dict[str, Callable[[Any], str]] = {
    "budget": one_of(BUDGETS), "precision": one_of(CHOICES), "weights": one_of(WEIGHTS),
    "network": one_of(NETWORKS, or_empty=True), "device": _is_usable,
    "data_dir": _is_there, "imagenet_dir": _is_there, "image": _is_there,
    "seed": at_least(0, MAX_SEED), "seeds": at_least(1, MAX_RUNS),
    "processes": at_least(1, MAX_PROCESSES), "limit": at_least(0, MAX_COUNT),
    "canvas": at_least(0, CANVASES["four"]["num_images"] - 1), "count": at_least(1, MAX_COUNT),
    "images": at_least(1, MAX_COUNT), "nodes": at_least(1, MAX_NODES),
    "gpus_per_node": at_least(0, MAX_PROCESSES), "epochs": at_least(1, MAX_COUNT),
    "loader_cores": at_least(1, MAX_PROCESSES), "images_per_second": at_least(0),
    "loader_images_per_second": at_least(0), "bandwidth_gb_per_second": at_least(0.001),
    "price_per_hour": at_least(0),
}  # fmt: skip


def check_parameters(cells: Sequence[str]) -> None:
    """Stop a notebook whose injected parameters are not among those it declares, or not valid.

    Values are refused and never converted, so that the injected cell says what the notebook ran
    with. papermill 2.7 (its cli.py and translators.py) changes some before they arrive:

    - `-p` turns all that Python's int() or float() accepts into a number (1_000; 4823e91, which may
      be a hash), and only True, False and None into a constant. `-r` passes text as typed.
    - `-y`, `-f` and `-b` read YAML 1.1: 1e-3 stays text, `no` is False, 010 is 8, 12:30 is 750.
      The last two arrive as valid numbers, which no check can notice.
    - `execute_notebook(parameters=...)` turns a tuple into text, and raises TypeError for numpy's
      integers, bools and float32: give Python's own numbers.

    Args:
        cells: the notebook's cells so far, IPython's `In`. The last that papermill injected
            (it begins with "# Parameters") is held against the cell with annotated assignments.

    Raises:
        ParameterError: an unknown name, a value of another type (with what would work in each of
            papermill's ways in), or one that breaks the rule of its name; every valid one is
            listed. Any at all while publishing.
        FileNotFoundError: no project is here, so that no record could be found.
    """
    declared = next((p for p in map(declared_parameters, cells) if p), {})
    injected = next((c for c in reversed(cells) if c.startswith("# Parameters")), "")
    valid = "\n  ".join(["valid parameters:", *map(str, declared.values())])
    given = _assignments(injected)
    for name, value in given.items():
        fault = _fault_of(name, value, declared)
        if fault:
            raise ParameterError(f"{fault}; {valid}")
    if given and is_publishing():
        raise ParameterError(f"pages are published with default parameters, not {given}")
    _find_project()


def _find_project() -> None:
    """Find the project from any working directory of papermill: the clone of this nestlib."""
    root, clone = find_project_root(), find_project_root(Path(__file__).parent)
    if is_project(root):
        return
    if not is_project(clone):
        raise FileNotFoundError(
            f"{root} is not in a clone of this project, so there are no records to show; run the "
            "notebook from the clone's folder, or give it to papermill: --cwd FOLDER"
        )
    os.environ[PROJECT] = str(clone)


def _fault_of(name: str, value: Any, declared: dict[str, Parameter]) -> str:
    if name not in declared:
        near = difflib.get_close_matches(name, declared, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        return f"unknown parameter {name!r}{hint}"
    kind = declared[name].type
    fits = isinstance(value, _TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))
    if not fits:
        got = f"parameter {name!r} must be {kind}, got {value!r} ({type(value).__name__})"
        return f"{got}; {_say_what_works(value, declared[name])}"
    fault = _broken_rule(declared[name], value)
    return f"parameter {name!r} is {value!r}, which {fault}" if fault else ""


def _broken_rule(parameter: Parameter, value: Any) -> str:
    is_number = parameter.type in ("int", "float")
    rule = RULES.get(parameter.name, at_least(0) if is_number else None)
    return rule(value) if rule else ""


def _say_what_works(value: Any, parameter: Parameter) -> str:
    """A parameter in each of papermill's ways in, with what a value of another type spells."""
    name, option, shown = parameter.name, "-r", "TEXT"
    line = f'{name}: "{shown}"'
    if parameter.type != "str":
        option, shown = "-p", _meant(str(value), parameter)
        line = yaml.safe_dump({name: shown}).strip()
    return (
        f"what works: {option} {name} {shown}; -y '{line}', also as a line of a file for -f; "
        f"in Python parameters={ ({name: shown}) }"
    )


def _meant(text: str, parameter: Parameter) -> Any:
    """The valid number, True or False that a text spells; the default where it spells none."""
    kind = _TYPES[parameter.type][-1]
    text = "True" if text.lower() in ("yes", "on") else text.strip().capitalize()
    try:
        read = ast.literal_eval(text)
        found = kind(read)
    except (ValueError, TypeError, SyntaxError, OverflowError):
        return parameter.default
    is_clear = found == read and not _broken_rule(parameter, found)
    return found if is_clear else parameter.default


def declared_parameters(cell: str) -> dict[str, Parameter]:
    """The annotated assignments of a cell, with their comments as help."""
    lines = cell.splitlines()
    try:
        body = ast.parse(cell).body
    except SyntaxError:  # a cell with magics declares nothing
        return {}
    found = {}
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            name, kind = node.target.id, ast.unparse(node.annotation)
            help_text = lines[node.lineno - 1].partition("#")[2].strip()
            found[name] = Parameter(name, kind, ast.literal_eval(node.value), help_text)
    return found


def _assignments(cell: str) -> dict[str, Any]:
    return {
        node.targets[0].id: _evaluate(node.value)
        for node in ast.parse(cell).body
        if isinstance(node, ast.Assign)
    }


def _evaluate(node: ast.expr) -> Any:
    # papermill writes numbers that are no literals as calls, also within a list: float('nan').
    return eval(ast.unparse(node), {"__builtins__": {"float": float}})
