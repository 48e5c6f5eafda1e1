"""What this package adds to nestlib, by name: see nestlib.extensions."""

from collections.abc import Callable

from nestbook.cli.benchmarks import bench, profile
from nestbook.cli.evaluations import evaluate, explain, score
from nestbook.cli.sweeps import SWEEP_NAMES, evidence, queue_sweep, sweep
from nestbook.recipes.rivals import RIVALS


def models() -> dict[str, Callable]:
    """The rivals' builders, those of weakly supervised localization included."""
    from nestbook.peers import LOCALIZERS, PEERS

    return PEERS | LOCALIZERS


def generators() -> dict[str, Callable]:
    """Figure 7's rivals."""
    from nestbook.peers import GENERATORS

    return GENERATORS


def published() -> dict[str, str]:
    """Names in timm of published weights, by the model's name here."""
    from nestbook.peers import PUBLISHED

    return PUBLISHED


def recipes() -> dict[str, tuple[str, dict]]:
    """The rivals' recipes."""
    return RIVALS


def commands() -> dict[str, Callable]:
    """What `nest` can do beside nestlib's own commands."""
    found = (sweep, evidence, bench, profile, evaluate, score, explain)
    return {command.__name__: command for command in found}


def queues() -> dict[str, Callable]:
    """What `nest submit` queues beside recipes: a figure's runs."""
    return dict.fromkeys(SWEEP_NAMES.split(", "), queue_sweep)
