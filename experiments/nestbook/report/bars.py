"""A plan's bars: the paper's number, our records over seeds, and the reach of their test set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from nestbook.claims.claim import scores_of
from nestbook.claims.verdict import Scores, prediction_half_width
from nestbook.report.means import join_devices, join_ids
from nestbook.report.printed import Printed, find_printed
from nestbook.report.tables import NOT_RUN, PAPER, Cell, Number, Table, mean_of
from nestbook.sweeps.plans import Key, plan
from nestbook.sweeps.runner import load_plan
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import Recipe
from nestlib.records import Record, Store

SMALL_LABEL = "narrow models on a part of CIFAR-10, by two cores; no row of the paper"
QUICK_LABEL = "narrow models on digits: checks the path, no result of the paper"
_LISTED = 64  # letters: bars without any number are named in their row if they fit, else counted


@dataclass(frozen=True)
class Bar:
    """One bar of a plan: its key there, the recipe of its first seed, what there is of it."""

    key: Key
    recipe: Recipe
    records: tuple[Record, ...]
    printed: Printed | None
    schedule: str = ""  # where it is another than the paper's on the same data

    @property
    def series(self) -> Key:
        """Its data set and schedule, and all of its key but the last word."""
        words = self.key[1:] if self.key[0] == self.dataset else self.key
        return (self.group, *words[:-1])

    @property
    def group(self) -> str:
        """What it may be drawn beside: the same data, trained by the same schedule."""
        return f"{self.dataset} ({self.schedule})" if self.schedule else self.dataset

    @property
    def name(self) -> str:
        return ", ".join((*self.series, self.key[-1]))

    @property
    def dataset(self) -> str:
        return self.recipe.dataset

    @cached_property
    def scores(self) -> Scores | None:
        """Last epochs' accuracies; None without a record."""
        return scores_of(list(self.records)) if self.records else None

    @property
    def ids(self) -> str:
        """The records' ids, with a star for the seed."""
        return f"{self.recipe.name}-s*-{self.recipe.config_hash}"


class Bars(NamedTuple):
    """A figure's bars: of the budgets gpu and paper, and apart from these of small and of quick.

    gpu's shorter runs on the paper's data are real and of a schedule of their own.
    """

    real: list[Bar]
    quick: list[Bar]
    small: list[Bar]


def find_bars(
    figure: str, store: Store, seeds: Iterable[int] = (0, 1, 2), data_dir: Path | None = None
) -> Bars:
    """Every bar of a figure with its fresh records; nothing is run."""
    where = store, list(seeds), data_dir
    gpu, paper = (_find(figure, budget, *where) for budget in ("gpu", "paper"))
    papers = {(bar.key, bar.dataset): bar.recipe for bar in paper}
    run_ids = {recipe.run_id for recipe in papers.values()}
    apart = [
        _set_apart(bar, papers.get((bar.key, bar.dataset)))
        for bar in gpu if bar.recipe.run_id not in run_ids
    ]  # fmt: skip
    return Bars(apart + paper, _find(figure, "quick", *where), find_small_bars(figure, *where))


def find_small_bars(
    sweep: str, store: Store, seeds: Iterable[int] = (0, 1, 2), data_dir: Path | None = None
) -> list[Bar]:
    """The bars of a sweep at budget small, narrow models that have no number of the paper's."""
    bars = _find(sweep, "small", store, seeds, data_dir)
    subsets = {bar.recipe.train_subset for bar in bars}
    images = f", {subsets.pop():,} images" if len(subsets) == 1 else ""
    return [replace(bar, schedule=f"narrow models{images}") for bar in bars]


def _find(
    figure: str, budget: str, store: Store, seeds: Iterable[int], data_dir: Path | None
) -> list[Bar]:
    recipes = plan(figure, budget, seeds)
    records = load_plan(recipes, store, data_dir)
    return [
        Bar(key, first, tuple(records[key]), find_printed(figure, first, key))
        for key, (first, *_) in recipes.items()
    ]


def _set_apart(bar: Bar, paper: Recipe | None) -> Bar:
    """A bar of budget gpu, apart from the paper's of the same key and data where there is one."""
    if paper is None:
        return bar
    words = ["one GPU", f"{bar.recipe.epochs} epochs"]
    if bar.recipe.name != paper.name:
        words.insert(1, bar.recipe.name.partition("/")[2])
    return replace(bar, printed=None, schedule=", ".join(words))


def bars_table(title: str, bars: Sequence[Bar]) -> Table:
    """A row a bar. Those of a series without any number, ours or the paper's, share a row."""
    groups: dict[tuple[Key, Key | None], list[Bar]] = {}
    for bar in bars:
        key = bar.key if bar.records or bar.printed else None
        groups.setdefault((bar.series, key), []).append(bar)
    with_paper = any(bar.printed for bar in bars)
    columns = ("Bar", *(["Paper (%)"] if with_paper else []), "Our records (%)")
    if any(bar.records for bar in bars):
        columns += ("Sampling ±", "One more run", "n", "Seconds a run", "Records")
    label = QUICK_LABEL if is_quick(bars) else ""
    if all(bar.recipe.budget == "small" for bar in bars):
        label = SMALL_LABEL
    return Table(
        f"{title}: {label}" if label else title,
        columns,
        [_row(group, with_paper)[: len(columns)] for group in groups.values()],
        _notes(bars, with_paper),
    )


def is_quick(bars: Sequence[Bar]) -> bool:
    """Are these narrow models on digits?"""
    return all(bar.dataset == "digits" for bar in bars)


def _row(bars: Sequence[Bar], with_paper: bool) -> tuple[Cell, ...]:
    """Of one bar, or of several without any number."""
    bar, name = bars[0], bars[0].name
    if len(bars) > 1:
        ends = ", ".join(bar.key[-1] for bar in bars)
        name = ", ".join(bar.series) + f": {ends if len(ends) <= _LISTED else f'{len(bars)} bars'}"
    paper: list[Cell] = [""] if with_paper else []
    if bar.printed:
        source = f"{PAPER}, {bar.printed.where}"
        paper = [Number(bar.printed.value, source, bar.printed.digits)]
    if not bar.scores:
        return (name, *paper, NOT_RUN, "", "", "", "", "")
    source, seconds = join_ids(bar.records), [r.summary["train_seconds"] for r in bar.records]
    return (
        name, *paper, mean_of(bar.scores.values, source, 2),
        Number(bar.scores.half_width, source, 2), _predict(bar.scores), str(bar.scores.n),
        mean_of(seconds, source, 0), bar.ids,
    )  # fmt: skip


def _predict(scores: Scores) -> str:
    if scores.n < 2:
        return ""
    half = prediction_half_width(scores.values)
    return f"{scores.mean - half:.1f} to {scores.mean + half:.1f}"


def _notes(bars: Sequence[Bar], with_paper: bool) -> list[str]:
    notes = [
        "Our records: mean ± standard deviation over n seeds of the last epoch's top-1, not the "
        "best on test; sampling ±: 95 % half-width of one such score for the draw of the test "
        "images; one more run: where 95 % of further seeds fall, by Student's t"
    ]
    if with_paper:
        notes.append("Paper: single runs without a spread; rest the mouse on a number for where it "
                     "stands. A figure without numbers has those of Tables 1 and 2 where a bar is "
                     "a row of theirs")  # fmt: skip
    for bar in bars:
        recipe = bar.recipe
        if recipe.budget == "small" and recipe.run_id == get_recipe(recipe.name).run_id:
            notes.append(f"One more seed of {recipe.name}: nest train {recipe.name} --seed 3 "
                         "--data-dir DATA (DATA holds CIFAR-10)")  # fmt: skip
            break
    time = describe_time(bars)
    return [*notes, *_say_processors(bars), time[0].upper() + time[1:]]


def _say_processors(bars: Sequence[Bar]) -> list[str]:
    """Which bars were run on which make of processor, where there are several."""
    found: dict[str, list[str]] = {}
    for bar in bars:
        for device in sorted({record.environment["device"] for record in bar.records}):
            found.setdefault(device, []).append(bar.name)
    if len(found) < 2:
        return []
    listed = "; ".join(f"{device}: {', '.join(names)}" for device, names in found.items())
    return [f"Not all runs are of one make of processor: {listed}"]


def describe_time(bars: Sequence[Bar]) -> str:
    """How many runs there are, on what, of how many test images, and their wall time."""
    runs = {record.run_id: record for bar in bars for record in bar.records}.values()
    if not runs:
        return "no record of these recipes yet"
    seconds = [record.summary["train_seconds"] for record in runs]
    images = sorted({record.environment["data"]["test"]["images"] for record in runs})
    lacking, together = sum(not bar.records for bar in bars), sum(seconds)
    hours = f"{together / 60:.0f} min" if together < 2 * 3600 else f"{together / 3600:.1f} h"
    return (
        f"runs: {len(runs)}, on {join_devices(runs)}, {' or '.join(f'{n:,}' for n in images)} "
        f"test images; seconds a run by the records: {min(seconds):.0f} to {max(seconds):.0f}, "
        f"together {hours}" + (f"; {lacking} of {len(bars)} bars not run yet" if lacking else "")
    )
