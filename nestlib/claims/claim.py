"""What a claim is: a sentence of the paper, the comparison that decides it, and what records say.

`examine` asks the records of the recipes that a comparison names; without them the status is "no
record". The paper's own printed numbers are asked too, apart: a sentence may fail them already.
Which claims there are stands in findings.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from nestlib.measure.verdict import (
    CONFIDENCE,
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    Scores,
    Verdict,
    judge,
)
from nestlib.recipes.named import TABLES, get_recipe
from nestlib.recipes.plans import Key, recipe_of
from nestlib.recipes.recipe import Recipe, with_overrides
from nestlib.records import Record, Store
from nestlib.runs.freshness import find_fresh

NO_RECORD = "no record"


class Bar(NamedTuple):
    """Where a mean comes from: a plan's bar at budget paper; a row of table1 or table2, with its
    data set; or source "recipe": a name, then `field=value` changes."""

    source: str
    key: Key

    def recipe(self) -> Recipe:
        if self.source in TABLES:
            dataset, row = self.key
            return get_recipe(TABLES[self.source][row].on(dataset))
        if self.source == "recipe":
            return with_overrides(get_recipe(self.key[0]), list(self.key[1:]))
        return recipe_of(self.source, "paper", self.key)


class Comparison(NamedTuple):
    """low < sum of coefficient * mean top-1 (%) of bars < high."""

    terms: tuple[tuple[float, Bar], ...]
    low: float = 0.0
    high: float = math.inf


@dataclass(frozen=True)
class Claim:
    """A finding. quote: the paper's words; section: where; test: what is compared, in words.

    comparisons: all must hold, or one where `one_suffices`. None: no kind of record of ours decides
        it yet, and `test` says what would.
    printed: does it hold in the paper's own numbers, and by which.
    """

    id: str
    section: str
    quote: str
    test: str
    comparisons: tuple[Comparison, ...] = ()
    one_suffices: bool = False
    printed: Callable[[], tuple[bool, str]] | None = None


@dataclass(frozen=True)
class Finding:
    """What became of a claim: its status by records, and by the paper's own numbers.

    verdicts: of the comparisons whose records are there; runs: their records.
    """

    claim: Claim
    status: str
    verdicts: tuple[Verdict, ...]
    runs: tuple[Record, ...]
    printed: str | None
    printed_by: str


def examine(claim: Claim, store: Store) -> Finding:
    """Judge a claim by the fresh records of its bars.

    Its comparisons share the 5 % of error: each of k is judged at confidence 1 - 0.05 / k. The
    claim is supported where all are (or one, where one suffices), contradicted where one is (or
    all), and undecided where records are there and neither holds.
    """
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(claim.comparisons))
    verdicts, runs = [], {}
    for comparison in claim.comparisons:
        rows = [_find(bar.recipe(), store) for _, bar in comparison.terms]
        if all(rows):
            terms = [(c, scores_of(row)) for (c, _), row in zip(comparison.terms, rows)]
            verdicts.append(judge(terms, comparison.low, comparison.high, confidence=confidence))
            runs |= {record.run_id: record for row in rows for record in row}
    printed, printed_by = None, ""
    if claim.printed:
        holds, printed_by = claim.printed()
        printed = SUPPORTED if holds else CONTRADICTED
    status = _together(claim, [verdict.status for verdict in verdicts])
    return Finding(claim, status, tuple(verdicts), tuple(runs.values()), printed, printed_by)


def scores_of(records: list[Record]) -> Scores:
    """Last epochs' accuracies of one recipe's records."""
    images = {record.environment["data"]["test"]["images"] for record in records}
    if len(images) > 1:
        raise ValueError(f"{records[0].run_id} and its like are scored on {sorted(images)} images")
    return Scores(tuple(record.summary["test/top1"] for record in records), images.pop())


def _find(recipe: Recipe, store: Store) -> list[Record]:
    """All seeds' records, unless they are stale."""
    records = store.find_seeds(recipe)
    return records if records and find_fresh(recipe, store) else []


def _together(claim: Claim, states: list[str]) -> str:
    if not states:
        return NO_RECORD
    complete = len(states) == len(claim.comparisons)
    decisive, other = SUPPORTED, CONTRADICTED
    if claim.one_suffices:
        decisive, other = CONTRADICTED, SUPPORTED
    if other in states:
        return other
    if complete and all(state == decisive for state in states):
        return decisive
    return UNDECIDED
