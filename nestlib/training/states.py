"""Check what a checkpoint holds before any of it is used: names, shapes and types must be those of
this run. A wrong shape would be resized, stretched, or met much later.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

_STEPS = torch.ones(())  # an Adam counts them for each parameter
_MOST_STEPS = 2  # of an optimiser in one step of a run: a GAN's second is that of the penalty


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
    elif isinstance(given, Tensor) and given.isnan().any():
        raise ValueError(f"{what} holds NaN, which no run saves")


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
        check_alike(given, own.state_dict(), what)
        for name, _ in own.named_parameters():
            if not given[name].isfinite().all():
                raise ValueError(f"{what}, {name} is not finite, and no run saves that")
        return
    state = own.state_dict()
    check_keys(given, state, what)
    groups = given["param_groups"]
    groups = groups if isinstance(groups, list) else []
    listed = [group.get("params") if isinstance(group, Mapping) else None for group in groups]
    if not all(isinstance(one, list) and all(type(n) is int for n in one) for one in listed):
        listed = []
    kept, parameters = given["state"], [p for group in own.param_groups for p in group["params"]]
    if listed != [g["params"] for g in state["param_groups"]] or not isinstance(kept, Mapping):
        raise ValueError(f"{what} is of other parameters than this run's")
    if (step and not kept) or not kept.keys() <= set(range(len(parameters))):
        raise ValueError(f"{what} has moments of {len(kept)} parameters, of {len(parameters)}")
    names = ["momentum_buffer"] if isinstance(own, SGD) else ["step", "exp_avg", "exp_avg_sq"]
    for index, values in kept.items():
        alike = {name: _STEPS if name == "step" else parameters[index] for name in names}
        check_alike(values, alike, f"{what}, parameter {index}")
        if "step" in alike and not 1 <= values["step"] <= _MOST_STEPS * step:
            raise ValueError(f"{what}, parameter {index}, has taken {values['step']} steps")


def check_progress(state: Mapping[str, Any], last_step: int) -> None:
    """Check the step that a checkpoint's run has come to, and its times.

    Raises:
        ValueError: a step outside of the run, or an impossible time.
    """
    step = state["step"]
    if type(step) is not int or not 0 <= step <= last_step:
        raise ValueError(f"step {step!r:.40} is not a whole number from 0 to {last_step}")
    for name in ("train_seconds", "evaluation_seconds"):
        seconds = state[name]
        if type(seconds) not in (int, float) or not 0 <= seconds < math.inf:
            raise ValueError(f"a time of {seconds!r:.40} seconds is not possible")


def check_rows(history: Any, counts: Sequence[int], keys: Sequence[str]) -> None:
    """Check a checkpoint's history.

    Args:
        counts: how many rows it may have.
        keys: of every row.

    Raises:
        ValueError: more rows or fewer, one without one of `keys`, or that holds more than numbers.
    """
    if not isinstance(history, list) or len(history) not in counts:
        raise ValueError(f"its history does not hold the {counts[-1]} rows of its steps")
    for number, row in enumerate(history):
        named = isinstance(row, Mapping) and row.keys() >= set(keys)
        texts = named and all(isinstance(key, str) for key in row)
        if not texts or not all(isinstance(value, int | float) for value in row.values()):
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
