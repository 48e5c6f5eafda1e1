"""A claim: a sentence of the paper, the comparisons that decide it, and what records say.

`examine` asks the records of the recipes that a comparison names; without them the status is "no
record". The paper's own printed numbers are asked too, apart: a sentence may fail them already.
Which claims there are stands in catalog.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nestbook.claims.verdict import (
    CONTRADICTED,
    SUPPORTED,
    UNDECIDED,
    Scores,
    Verdict,
    judge,
)
from nestbook.recipes.rows import TABLES
from nestbook.sweeps.plans import Key, recipe_of
from nestlib.metrics.accuracy import unpack_right
from nestlib.metrics.intervals import CONFIDENCE
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import Recipe, with_overrides
from nestlib.records import Record, Store
from nestlib.runs.staleness import find_fresh_seeds

NO_RECORD = "no record"


class Mean(NamedTuple):
    """Mean top-1 (%) over the seeds of a recipe: that of a plan's bar at a budget; of a row of
    table1 or table2, with its data set; or of source "recipe": a name, then `field=value` changes.
    """

    source: str
    key: Key
    budget: str = "paper"

    def recipe(self) -> Recipe:
        if self.source in TABLES and self.budget == "paper":
            dataset, row = self.key
            return get_recipe(TABLES[self.source][row].on(dataset))
        if self.source == "recipe":
            return with_overrides(get_recipe(self.key[0]), list(self.key[1:]))
        return recipe_of(self.source, self.budget, self.key)


class Comparison(NamedTuple):
    """low < sum of coefficient * mean < high."""

    terms: tuple[tuple[float, Mean], ...]
    low: float = 0.0
    high: float = math.inf


class OwnNumbers(NamedTuple):
    """Whether a sentence holds in the numbers that the paper prints, and by which."""

    holds: bool
    numbers: str

    @property
    def status(self) -> str:
        return SUPPORTED if self.holds else CONTRADICTED


@dataclass(frozen=True)
class Claim:
    """A sentence of the paper. quote: its words; section: where; test: what is compared, in words.

    comparisons: all must hold, or one where `one_suffices`. None: no kind of record of ours decides
        it yet, and `test` says what would.
    small_test, small: likewise by narrow models at budget small, with margins of their own. Without
        them the sentence cannot be asked at that scale: it is of an accuracy, of larger models or
        of another data set.
    """

    id: str
    section: str
    quote: str
    test: str
    comparisons: tuple[Comparison, ...] = ()
    one_suffices: bool = False
    printed: OwnNumbers | None = None
    small_test: str = ""
    small: tuple[Comparison, ...] = ()


@dataclass(frozen=True)
class Ruling:
    """What records say of comparisons. verdicts: one each, None if records are missing; runs: the
    records that exist."""

    status: str
    verdicts: tuple[Verdict | None, ...]
    runs: tuple[Record, ...]

    @property
    def known(self) -> list[Verdict]:
        """The verdicts that there are."""
        return [verdict for verdict in self.verdicts if verdict]


@dataclass(frozen=True)
class Outcome:
    """What became of a claim: by records at the paper's scale, and by those of budget small (None:
    it cannot be asked there). Neither is merged with the other, nor with `claim.printed`."""

    claim: Claim
    ruling: Ruling
    small: Ruling | None

    @property
    def status(self) -> str:
        return self.ruling.status


def examine(claim: Claim, store: Store) -> Outcome:
    """Judge a claim by the fresh records of its means.

    Its comparisons share the 5 % of error: each of k is judged at confidence 1 - 0.05 / k. The
    claim is supported where all are (or one, where one suffices), contradicted where one is (or
    all), and undecided where records are there and neither holds. At budget small both sides of a
    comparison count by the seeds that both have: a bar that several figures share has more.
    """
    small = None
    if claim.small:
        small = _rule(claim.small, claim.one_suffices, store, equal_seeds=True)
    return Outcome(claim, _rule(claim.comparisons, claim.one_suffices, store), small)


def _rule(
    comparisons: Sequence[Comparison], one_suffices: bool, store: Store, equal_seeds: bool = False
) -> Ruling:
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(comparisons))
    verdicts: list[Verdict | None] = []
    runs: dict[str, Record] = {}
    for comparison in comparisons:
        found = [find_fresh_seeds(mean.recipe(), store) for _, mean in comparison.terms]
        if not all(found):
            verdicts.append(None)
            continue
        found = _keep_shared_seeds(found) if equal_seeds else found
        terms = [(c, scores_of(records)) for (c, _), records in zip(comparison.terms, found)]
        verdicts.append(judge(terms, comparison.low, comparison.high, confidence=confidence))
        runs |= {record.run_id: record for records in found for record in records}
    status = _together([verdict and verdict.status for verdict in verdicts], one_suffices)
    return Ruling(status, tuple(verdicts), tuple(runs.values()))


def _keep_shared_seeds(found: list[list[Record]]) -> list[list[Record]]:
    """Of each side's records those of the seeds that all sides have; all where they share none."""
    seeds = [{record.recipe["seed"] for record in records} for records in found]
    shared = set.intersection(*seeds) or set.union(*seeds)
    return [[r for r in records if r.recipe["seed"] in shared] for records in found]


def _together(states: list[str | None], one_suffices: bool) -> str:
    """One status of several; None is a comparison without records."""
    if not any(states):
        return NO_RECORD
    by_all, by_one = (CONTRADICTED, SUPPORTED) if one_suffices else (SUPPORTED, CONTRADICTED)
    if by_one in states:
        return by_one
    return by_all if set(states) == {by_all} else UNDECIDED


def scores_of(records: Sequence[Record]) -> Scores:
    """Last epochs' accuracies of one recipe's records, and the images that they are right on."""
    data = [record.environment["data"]["test"] for record in records]
    images = {one["images"] for one in data}
    if len(images) > 1:
        raise ValueError(f"{records[0].run_id} and its like are scored on {sorted(images)} images")
    values = tuple(record.summary["test/top1"] for record in records)
    (count,), prints = images, {one["fingerprint"] for one in data}
    packed = [record.summary.get("test/right") for record in records]
    if len(prints) > 1 or not all(packed):  # records did not always keep single images
        return Scores(values, count)
    right = np.mean([unpack_right(text, count) for text in packed], axis=0)
    return Scores(values, count, prints.pop(), right)
