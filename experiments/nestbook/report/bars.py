"""A plan's bars: the paper's number, our records over seeds, and the reach of their test set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import NamedTuple

from nestbook.claims.claim import scores_of
from nestbook.claims.verdict import Scores, prediction_half_width
from nestbook.report.labels import name_bar
from nestbook.report.means import find_sources, join_ids
from nestbook.report.printed import Printed, find_printed
from nestbook.report.tables import NOT_RUN, PAPER, Cell, Number, Remarks, Sources, Table, mean_of
from nestbook.sweeps.plans import Key, plan, small_seeds
from nestbook.sweeps.runner import load_plan
from nestlib.data.datasets import dataset_info
from nestlib.recipes.recipe import Recipe
from nestlib.records import Record, Store

SMALL_LABEL = "narrow models on a part of CIFAR-10, no row of the paper"
QUICK_LABEL = "narrow models on digits: a check of the code, no result of the paper"


@dataclass(frozen=True)
class Bar:
    """One bar of a plan: its key there, the recipe of its first seed, what there is of it.

    figure, budget: of the plan. schedule: where it is another than the paper's on the same data.
    """

    figure: str
    budget: str
    key: Key
    recipe: Recipe
    records: tuple[Record, ...]
    printed: Printed | None
    schedule: str = ""

    @property
    def group(self) -> str:
        """What it may be drawn beside: the same data, trained by the same schedule."""
        return f"{self.dataset} ({self.schedule})" if self.schedule else self.dataset

    @property
    def label(self) -> str:
        """In the paper's words, without its data."""
        return name_bar(self.figure, self.key)

    @property
    def name(self) -> str:
        return f"{group_title(self.group)}: {self.label}"

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


def group_title(group: str) -> str:
    """Of Bar.group: the data set by its title, and the schedule where it has one."""
    dataset, opening, schedule = group.partition(" (")
    title = "digits" if dataset == "digits" else dataset_info(dataset).title.split(",")[0]
    return title + opening + schedule


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
    sweep: str, store: Store, seeds: Iterable[int] = (), data_dir: Path | None = None
) -> list[Bar]:
    """The bars of a sweep at budget small, narrow models that have no number of the paper's.

    They show all seeds that the budget plans for the sweep, and further ones of `seeds`.
    """
    bars = _find(sweep, "small", store, sorted({*seeds, *small_seeds(sweep)}), data_dir)
    subsets = {bar.recipe.train_subset for bar in bars}
    images = f", {subsets.pop():,} images" if len(subsets) == 1 else ""
    return [replace(bar, schedule=f"narrow models{images}") for bar in bars]


def _find(
    figure: str, budget: str, store: Store, seeds: Iterable[int], data_dir: Path | None
) -> list[Bar]:
    recipes = plan(figure, budget, seeds)
    records = load_plan(recipes, store, data_dir)
    return [
        Bar(figure, budget, key, first, tuple(records[key]), find_printed(figure, first, key))
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


# Tables


def bars_table(title: str, bars: Sequence[Bar]) -> Table | None:
    """One row per bar that has a number, ours or the paper's; None where no bar has one.

    Bars that are one and the same run share a row.
    """
    shown: dict[tuple[str, str], Bar] = {}
    for bar in bars:
        if bar.records or bar.printed:
            shown.setdefault((bar.group, bar.recipe.run_id), bar)
    rows = list(shown.values())
    if not rows:
        return None
    several = len({bar.group for bar in rows}) > 1
    columns = ["Bar"]
    columns += ["Paper (%)"] if any(bar.printed for bar in rows) else []
    if any(bar.records for bar in rows):
        columns += ["Measured (%)", "n", "Sampling ±", "One more run"]
    cells = [{"Bar": bar.name if several else bar.label, **_cells(bar)} for bar in rows]
    found = [tuple(row.get(column, "") for column in columns) for row in cells]
    return Table(title, tuple(columns), found, sources=find_run_sources(rows))


def _cells(bar: Bar) -> dict[str, Cell]:
    """What there is of a bar, by column."""
    cells: dict[str, Cell] = {"Measured (%)": NOT_RUN}
    if bar.printed:
        cells["Paper (%)"] = printed_number(bar)
    if bar.scores:
        source = join_ids(bar.records)
        cells |= {
            "Measured (%)": mean_of(bar.scores.values, source, 2), "n": str(bar.scores.n),
            "Sampling ±": Number(bar.scores.half_width, source, 2),
            "One more run": _predict(bar.scores, 100 / dataset_info(bar.dataset).num_classes),
        }  # fmt: skip
    return cells


def printed_number(bar: Bar | None) -> Cell:
    """The paper's number of a bar; "" where it prints none."""
    if bar is None or bar.printed is None:
        return ""
    return Number(bar.printed.value, f"{PAPER}, {bar.printed.where}", bar.printed.digits)


def our_number(bar: Bar | None, digits: int = 1) -> Cell:
    """The mean of a bar's runs; "not run yet" without any, "" where the plan has no such bar."""
    if bar is None:
        return ""
    return mean_of(bar.scores.values, join_ids(bar.records), digits) if bar.scores else NOT_RUN


def _predict(scores: Scores, chance: float) -> str:
    """Where 95 % of further seeds fall; "-" where that tells nothing.

    chance: the accuracy (%) of a guess.
    """
    if scores.n < 2:
        return ""
    half = prediction_half_width(scores.values)
    low, high = max(0, scores.mean - half), min(100, scores.mean + half)
    learned_nothing = max(scores.values) - scores.half_width <= chance
    return "-" if learned_nothing or (low <= chance and high == 100) else f"{low:.1f} to {high:.1f}"


def find_run_sources(bars: Iterable[Bar]) -> Sources | None:
    """One line of how many runs stand behind these bars, where they ran and how long they took."""
    runs = {record.run_id: record for bar in bars for record in bar.records}.values()
    found = find_sources(runs)
    if found is None:
        return None
    seconds = [record.summary["train_seconds"] for record in runs]
    typical, longest, together = median(seconds), max(seconds), sum(seconds)
    each = f"{typical:.0f} seconds per run"
    if round(longest) > round(typical):
        each += f" (median, at most {longest:.0f})"
    hours = f"{together / 60:.0f} min" if together < 2 * 3600 else f"{together / 3600:.1f} h"
    return replace(found, line=f"{found.line}, {each}, {hours} in all")


def is_quick(bars: Sequence[Bar]) -> bool:
    """Are these narrow models on digits?"""
    return all(bar.dataset == "digits" for bar in bars)


# What a page says once of all its bars


def make_remarks(bars: Sequence[Bar]) -> Remarks:
    """How to read the tables of these bars, and which bars are not run yet."""
    lines = []
    if any(bar.records for bar in bars):
        lines.append(
            "Measured: mean ± standard deviation of the last epoch's top-1 over n seeds. Sampling "
            "±: 95 % half-width of one score for the draw of the test images. One more run: where "
            "95 % of further seeds fall, by Student's t. A dash stands where all seeds are at "
            "chance, or where the range goes from chance to 100"
        )
    if any(bar.printed for bar in bars):
        lines.append(
            "Paper: single runs. A bar that is also a row of Table 1 or 2 has that row's number"
        )
    return Remarks((*lines, *_say_missing(bars)))


def _say_missing(bars: Sequence[Bar]) -> list[str]:
    """How many bars of each budget have no record, and the command that makes one."""
    counts: dict[str, list[bool]] = {}
    for bar in bars:
        counts.setdefault(bar.budget, []).append(not bar.records)
    missing = {budget: (sum(lack), len(lack)) for budget, lack in counts.items() if any(lack)}
    if not missing:
        return []
    listed = ", ".join(f"{lack} of {of} bars of {budget}" for budget, (lack, of) in missing.items())
    if "paper" in missing and "gpu" not in counts:  # find_bars leaves out what both have
        listed += " (those of gpu are among paper's)"
    budget = next(iter(missing))
    return [
        f'Not run yet, by budget: {listed}. "nest sweep {bars[0].figure} --budget {budget}" runs '
        f"those of {budget}; with --board it shows where each run stands"
    ]
