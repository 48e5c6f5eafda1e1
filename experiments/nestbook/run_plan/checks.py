"""Find, without a GPU, what the GPU's machine would refuse of the run plan."""

import shlex
from collections.abc import Sequence
from functools import cache

import torch
import typer

from nestbook.benchmarks.bench import check_bench
from nestbook.profiles.registry import check_profile
from nestbook.run_plan.entries import PROFILES, Entry
from nestlib.cli.main import app
from nestlib.data.datasets import dataset_info
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import Recipe, with_overrides
from nestlib.records import Store, open_store


def check_entries(
    entries: Sequence[Entry], device_type: str = "cuda", store: Store | None = None
) -> list[str]:  # fmt: skip
    """One line for each entry that cannot be carried out as it stands; empty if all can.

    Networks are built on the meta device, so nothing is allocated.

    Args:
        device_type: "cuda" or "cpu"; none need be here.
        store: whose records stand for a teacher's training; default: the project's.
    """
    store, taught, faults = store or open_store(), set(), []
    for entry in entries:
        try:
            _check(entry, device_type, taught, store)
        except Exception as error:  # whatever it is, it would end the entry there too
            faults.append(f"{entry.name}: {error}")
        taught.add(entry.name)
    return faults


def _check(entry: Entry, device_type: str, earlier: set[str], store: Store) -> None:
    asked = parse_command(entry.command)
    if entry.recipe is None:
        _check_bench(entry, device_type)
        _check_same("precision", asked["precision"], entry.precision)
        return
    made = with_overrides(get_recipe(asked["recipe"], seed=asked["seed"]), asked["set_"])
    _check_same("run", made.run_id, entry.recipe.run_id)
    _ = entry.minutes  # builds the networks and passes one image through them
    if isinstance(entry.recipe, Recipe) and entry.recipe.distillation:
        _check_teacher(entry.recipe, earlier, store)


def parse_command(command: str) -> dict:
    """The parameters that `nest` reads from a command line, which is not carried out.

    Raises:
        ValueError: it is none that `nest` takes.
    """
    program, name, *words = shlex.split(command)
    commands = _nest().commands
    if program != "nest" or name not in commands:
        raise ValueError(f"`{command}` is not a command; `nest` has {', '.join(commands)}")
    try:
        return commands[name].make_context(name, words).params
    except Exception as error:  # click's own, which typer may carry under another name
        raise ValueError(f"`{command}` is not taken: {error}") from error


@cache
def _nest():
    return typer.main.get_command(app)


def _check_same(what: str, made: str, wanted: str) -> None:
    if made != wanted:
        raise ValueError(f"its command makes {what} {made}, not {wanted}")


def _check_bench(entry: Entry, device_type: str) -> None:
    if entry.bench in PROFILES:
        check_profile(entry.bench, entry.precision, device_type)
        return
    contenders = check_bench(entry.bench, "full", entry.precision, device_type)
    if entry.bench != "speed":
        return  # rows are recipes, each of which has built its networks by now
    with torch.device("meta"):
        for contender in contenders:
            contender.build()


def _check_teacher(recipe: Recipe, earlier: set[str], store: Store) -> None:
    """Raise ValueError if the teacher will not have been trained, or on other classes."""
    lesson = recipe.distillation
    name, seed = lesson.teacher_recipe
    teacher = get_recipe(name, seed=seed)
    if lesson.teacher not in earlier and store.find(lesson.teacher) is None:
        raise ValueError(
            f"its teacher {lesson.teacher} has no record and is not an earlier entry; put it before"
        )
    classes = [dataset_info(one.dataset).num_classes for one in (recipe, teacher)]
    if classes[0] != classes[1]:
        raise ValueError(f"it has {classes[0]} classes and its teacher {name} has {classes[1]}")
