"""Check what a checkpoint holds before any of it is used: names, shapes and types must be those of
this run. A wrong shape would be resized, stretched, or met much later.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

_STEPS = torch.ones(())  # an Adam counts them for each parameter


def check_alike(given: Any, own: Any, what: str) -> None:
    """Check that a value of a checkpoint has the form of this run's `own`.

    Raises:
        ValueError: another type than `own`, a tensor of another shape, or a mapping of other keys.
    """
    if isinstance(own, Mapping):
        check_keys(given, own, what)
        for key, value in own.items():
            check_alike(given[key], value, f"{what}, {key}")
    elif _form(given) != _form(own):
        raise ValueError(f"{what} is {_form(given)}, not {_form(own)}")


def check_keys(given: Any, own: Mapping, what: str, optional: frozenset[str] = frozenset()) -> None:
    """Check that a checkpoint's mapping has the keys of this run's `own`.

    Raises:
        ValueError: no mapping, or one without keys of `own`, or that has others.
    """
    if not isinstance(given, Mapping):
        raise ValueError(f"{what} is a {type(given).__name__}, not a mapping")
    missing, unknown = own.keys() - given.keys() - optional, given.keys() - own.keys()
    for title, keys in (("is missing", missing), ("has unknown keys", unknown)):
        if keys:
            raise ValueError(f"{what} {title} {', '.join(sorted(map(str, keys))[:5])}")


def check_part(given: Any, own: nn.Module | Optimizer, what: str, step: int) -> None:
    """As `check_alike`, of the state of a model or an optimiser after `step` steps."""
    if isinstance(own, nn.Module):
        return check_alike(given, own.state_dict(), what)
    state = own.state_dict()
    check_keys(given, state, what)
    groups = given["param_groups"]
    groups = groups if isinstance(groups, list) else []
    listed = [isinstance(group, Mapping) and group.get("params") for group in groups]
    kept, parameters = given["state"], [p for group in own.param_groups for p in group["params"]]
    if listed != [g["params"] for g in state["param_groups"]] or not isinstance(kept, Mapping):
        raise ValueError(f"{what} is of other parameters than this run's")
    if (step and not kept) or not kept.keys() <= set(range(len(parameters))):
        raise ValueError(f"{what} has moments of {len(kept)} parameters, of {len(parameters)}")
    names = ["momentum_buffer"] if isinstance(own, SGD) else ["step", "exp_avg", "exp_avg_sq"]
    for index, values in kept.items():
        alike = {name: _STEPS if name == "step" else parameters[index] for name in names}
        check_alike(values, alike, f"{what}, parameter {index}")
        if "step" in alike and not values["step"] >= 1:
            raise ValueError(f"{what}, parameter {index}, has taken {values['step']} steps")


def check_rows(history: list, keys: Sequence[str]) -> None:
    """Check the rows of a checkpoint's history.

    Raises:
        ValueError: a row without one of `keys`, or that holds more than numbers.
    """
    for number, row in enumerate(history):
        named = isinstance(row, Mapping) and row.keys() >= set(keys)
        if not named or not all(isinstance(value, int | float) for value in row.values()):
            raise ValueError(f"row {number} of its history does not hold numbers for {keys}")


def load_part(own: nn.Module | Optimizer, given: Mapping) -> None:
    """Put a checked state back; an optimiser keeps its own settings, which the recipe says."""
    if isinstance(own, Optimizer):
        given = {**given, "param_groups": own.state_dict()["param_groups"]}
    own.load_state_dict(given)


def _form(value: Any) -> str:
    if not isinstance(value, Tensor) or value.layout != torch.strided:
        return f"a {type(value).__name__}"
    return f"{value.dtype} of shape {tuple(value.shape)}"
