"""What this package adds to nestlib, by name: see nestlib.extensions."""

from collections.abc import Callable

from nestbook import paper, record_forms
from nestbook.cli.benchmarks import bench, profile
from nestbook.cli.evaluations import evaluate, explain, inspect, score
from nestbook.cli.run_plan import evidence
from nestbook.cli.sweeps import SWEEP_NAMES, queue_sweep, sweep
from nestbook.recipes.narrow import NARROW_RECIPES
from nestbook.recipes.rivals import RIVALS
from nestbook.recipes.rows import TABLE1, TABLE2
from nestlib.record_checks import Form


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
    from nestbook.peers import PUBLISHED_RIVALS

    return PUBLISHED_RIVALS


def recipes() -> dict[str, tuple[str, dict]]:
    """The rivals' recipes, and narrow ones of the book's own."""
    return NARROW_RECIPES | RIVALS


def expected() -> dict[str, str]:
    """Accuracies of the paper's tables and text, by the recipes that repeat them."""
    table1 = {
        row.on(dataset): getattr(paper.TABLE1[name], dataset)
        for name, row in TABLE1.items() for dataset in ("cifar10", "cifar100")
    }  # fmt: skip
    others = {row.recipe: paper.TABLE2[name].top1 for name, row in TABLE2.items()}
    others["cifar10/nest_tiny_s2_depth3"], _ = paper.FIGURE6_NEST3_TINY
    _, others["cifar100/pyramid164_48_strong"] = paper.TABLE_A2_TEACHERS["PN-164-48"]
    large = ("cifar100/pyramid164_270", "cifar100/pyramid164_270_strong")
    others |= zip(large, paper.TABLE_A2_TEACHERS["PN-164-270"])
    return {
        **{name: f"paper {percent:.2f} %" for name, percent in table1.items()},
        **{name: f"paper {percent:.1f} %" for name, percent in others.items()},
    }


def commands() -> dict[str, Callable]:
    """Commands of `nest` beside nestlib's own."""
    found = (sweep, evidence, bench, profile, evaluate, score, explain, inspect)
    return {command.__name__: command for command in found}


def queues() -> dict[str, Callable]:
    """What `nest submit` queues beside recipes: a figure's runs."""
    return dict.fromkeys(SWEEP_NAMES.split(", "), queue_sweep)


def records() -> dict[str, Form]:
    """What the records of the book's own measurements hold, by the beginning of their ids."""
    return record_forms.records()
