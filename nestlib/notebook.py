"""What a parameterised notebook needs at its top: are its parameters known, and of their types?

papermill itself lets an unknown name pass with a line in its log and checks no types, so a typing
error would run the notebook with its defaults. The notebook's first call compares what papermill
injected with what the `parameters` cell declares.
"""

import ast
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


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


def check_parameters(cells: Sequence[str]) -> None:
    """Stop a notebook whose injected parameters are not among those it declares.

    Args:
        cells: the notebook's cells so far, IPython's `In`. The last that papermill injected
            (it begins with "# Parameters") is held against the cell with annotated assignments.

    Raises:
        ParameterError: an unknown name or a value of another type; every valid one is listed.
    """
    declared = next((p for p in map(declared_parameters, cells) if p), {})
    injected = next((c for c in reversed(cells) if c.startswith("# Parameters")), "")
    valid = "\n  ".join(["valid parameters:", *map(str, declared.values())])
    for name, value in _assignments(injected).items():
        if name not in declared:
            near = difflib.get_close_matches(name, declared, n=1)
            hint = f" (did you mean {near[0]}?)" if near else ""
            raise ParameterError(f"unknown parameter {name!r}{hint}; {valid}")
        kind = declared[name].type
        fits = isinstance(value, _TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))
        if not fits:
            raise ParameterError(
                f"parameter {name!r} must be {kind}, got {value!r} "
                f"({type(value).__name__}); {valid}"
            )


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
        node.targets[0].id: ast.literal_eval(node.value)
        for node in ast.parse(cell).body
        if isinstance(node, ast.Assign)
    }
