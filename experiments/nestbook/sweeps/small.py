"""Budget small as a whole: the order of its runs, its learning rates, and its progress.

`nest sweep --all --budget small` runs what is missing, most wanted first: the learning rates, then
the rest where a recipe has the best rate of its family.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nestbook.recipes.rows import TABLE1
from nestbook.sweeps.forecast import Forecast
from nestbook.sweeps.plans import SMALL_SEEDS, plan
from nestbook.sweeps.runner import STATES, Outcome, state_of, sweep
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import Recipe
from nestlib.records import Store
from nestlib.runs.staleness import find_fresh


@dataclass(frozen=True)
class Line:
    """One line of the order: a plan of nestbook.sweeps.plans, or the bars of one word in it."""

    sweep: str
    seeds: int = 3
    only: str = ""

    @property
    def name(self) -> str:
        more = f"{self.seeds} seeds" if self.seeds > 3 else ""
        return ", ".join(filter(None, [self.sweep, self.only, more]))

    @property
    def runs(self) -> list[Recipe]:
        """The runs, each once, seed by seed: a stopped sweep leaves equally many seeds per bar."""
        bars = plan(self.sweep, "small", range(self.seeds), only=self.only).values()
        found = {recipe.run_id: recipe for row in bars for recipe in row}
        return sorted(found.values(), key=lambda recipe: recipe.seed)


ORDER = (
    Line("learning_rates", seeds=1),
    Line("table1"),
    Line("figure5"),
    Line("flagship", seeds=1),
    Line("figure6", only="S=2"),
    Line("figure6", only="S=1", seeds=2),
    Line("training_images"),
    Line("table1", seeds=SMALL_SEEDS["table1"]),
    Line("figure6", only="S=2", seeds=SMALL_SEEDS["figure6"]),
    Line("figure4", only="epochs"),
    Line("figure4", only="removed"),
    Line("figure_a2"),
    Line("table_a3"),
    Line("figure_a1", seeds=2),
    Line("table_a2"),
)


def runs_by_line() -> dict[Line, list[Recipe]]:
    """The runs of each line that no earlier line has."""
    found: dict[Line, list[Recipe]] = {}
    seen: set[str] = set()
    for line in ORDER:
        found[line] = [recipe for recipe in line.runs if recipe.run_id not in seen]
        seen |= {recipe.run_id for recipe in found[line]}
    return found


def sweep_small(store: Store, **how) -> list[Outcome]:
    """Run what is missing, line by line; `how` goes to `nestbook.sweeps.runner.sweep`.

    The learning rates come first. A run whose family has no best rate yet, or whose recipe has
    another one, is not begun: its outcome says which rate to set.
    """
    lines = runs_by_line()
    outcomes = sweep(_each_alone(lines.pop(ORDER[0])), store, **how)
    if any(outcome.state == "stopped" for outcome in outcomes):
        return outcomes
    unsettled, ready = find_unsettled(store), []
    for recipe in [recipe for runs in lines.values() for recipe in runs]:
        lesson = recipe.distillation
        names = {recipe.name, lesson.teacher_recipe[0]} if lesson else {recipe.name}
        reasons = [unsettled[name] for name in sorted(names) if name in unsettled]
        if reasons and find_fresh(recipe, store) is None:
            outcomes.append(Outcome(recipe.run_id, "failed", f"not started: {'; '.join(reasons)}"))
        elif not reasons:
            ready.append(recipe)
    return [*outcomes, *sweep(_each_alone(ready), store, in_order=True, **how)]


def _each_alone(runs: list[Recipe]) -> dict[str, list[Recipe]]:
    return {recipe.run_id: [recipe] for recipe in runs}


# Learning rates


class Rates(NamedTuple):
    """A family's learning rates per 256 images, with the accuracy (%) of each on the training
    images held out; `chosen` is its recipe's."""

    scores: Mapping[float, float]
    chosen: float

    @property
    def best(self) -> float:
        return max(self.scores, key=self.scores.__getitem__)


def find_rates(store: Store) -> dict[str, Rates]:
    """By row of Table 1; a family whose runs are not all recorded is left out."""
    found: dict[str, dict[float, float]] = {}
    bars = plan("learning_rates", "small", [0])
    for (row, _), (recipe,) in bars.items():
        record = find_fresh(recipe, store)
        if record:
            scores = found.setdefault(row, {})
            scores[recipe.lr_per_256] = record.summary["held_out/top1"]
    asked = {row: sum(key[0] == row for key in bars) for row in found}
    return {
        row: Rates(scores, get_recipe(TABLE1[row].small).lr_per_256)
        for row, scores in found.items() if len(scores) == asked[row]
    }  # fmt: skip


def find_unsettled(store: Store) -> dict[str, str]:
    """Recipes that may not be run yet, by name, and why: no best rate of their family is recorded,
    or they have another."""
    found, reasons = find_rates(store), {}
    for row, name in {row: entry.small for row, entry in TABLE1.items() if entry.small}.items():
        rates = found.get(row)
        if rates is None:
            reasons[name] = f"{name} has no record of each of its learning rates"
        elif rates.best != rates.chosen:
            reasons[name] = (
                f"{name} has lr_per_256={rates.chosen:g} ({rates.scores[rates.chosen]:.2f} % of "
                f"the held-out images), but {rates.best:g} is better "
                f"({rates.scores[rates.best]:.2f} %); set it in nestbook/recipes/narrow.py"
            )
    return reasons


# Where it stands


def show_small(store: Store, runs_dir: Path, processes: int = 2) -> str:
    """One row per line: a sign per run, and the core hours that all its runs and the missing ones
    take, by records of this make of processor, else by steps timed now."""
    forecast, lines = Forecast(store), runs_by_line()
    forecast.prepare(recipe for runs in lines.values() for recipe in runs)
    rows, total = [], [0.0, 0.0]
    for line, runs in lines.items():
        states = [state_of(recipe, store, runs_dir) for recipe in runs]
        hours = [forecast.seconds(recipe) / 3600 for recipe in runs]
        left = sum(h for h, state in zip(hours, states, strict=True) if state != "done")
        signs = "".join(STATES[state] for state in states)
        rows.append(f"{line.name:<24}{len(runs):>4}{sum(hours):>8.1f}{left:>8.1f}  {signs}")
        total = [total[0] + sum(hours), total[1] + left]
    head = f"{'':<24}{'runs':>4}{'hours':>8}{'left':>8}"
    signs = ", ".join(f"{sign} {state}" for state, sign in STATES.items())
    return "\n".join([
        head, *rows, f"{'all':<28}{total[0]:>8.1f}{total[1]:>8.1f}  ({signs})",
        f"Hours are of one core, without evaluations; {processes} parallel processes take "
        f"{total[1] / processes:.1f} hours for what is left.",
    ])  # fmt: skip
