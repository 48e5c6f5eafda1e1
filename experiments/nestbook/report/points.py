"""What a page shows, in one sentence, and a chip for each scale at which its findings are asked.

A page's module of nestbook.report words the sentence, from records alone; chips follow from the
verdicts of nestbook.claims.
"""

import html
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from nestbook.claims.catalog import CLAIMS
from nestbook.claims.claim import NO_RECORD, Outcome, examine
from nestbook.claims.verdict import CONTRADICTED, SUPPORTED, UNDECIDED
from nestbook.report.claims import (
    NOT_ASKED,
    STATUSES,
    say_status,
    status_of_printed,
    status_of_small,
)
from nestbook.report.words import say_counts
from nestlib.choices import check_choice
from nestlib.records import Record, Store

OPENING = "What this page shows."
MEASURED = "measured"
# Ground and letters; 7 to 1 in either theme, as a chip brings its own ground.
_COLORS = {
    SUPPORTED: ("#d6e9f5", "#003a5c"), CONTRADICTED: ("#fbe0d0", "#6b2a00"),
    UNDECIDED: ("#fff3c4", "#5a4500"), MEASURED: ("#d9f0e6", "#00432f"),
    NO_RECORD: ("#eeeeee", "#333333"),
}  # fmt: skip


class Chip(NamedTuple):
    """Such as "small scale: supported, n = 3". status: a verdict, NO_RECORD or MEASURED."""

    text: str
    status: str


@dataclass(frozen=True)
class Point:
    """A page's sentence and its chips; shows itself in Jupyter and as text."""

    sentence: str
    chips: tuple[Chip, ...] = ()

    def to_markdown(self) -> str:
        chips = " | ".join(chip.text for chip in self.chips)
        return f"**{OPENING}** {self.sentence}\n\n" + (f"{chips}\n\n" if chips else "")

    def _repr_html_(self) -> str:
        chips = "".join(
            '<span class="chip" style="display:inline-block;border-radius:1em;padding:0 0.7em;'
            "margin:0 0.4em 0.3em 0;font-size:0.85em;"
            f'background:{ground};color:{letters}">{html.escape(text)}</span>'
            for text, (ground, letters) in ((c.text, _COLORS[c.status]) for c in self.chips)
        )
        text = html.escape(self.sentence).replace(" %", "\u00a0%")  # never apart from its number
        sentence = f"<p><strong>{OPENING}</strong> {text}</p>"
        return f'<div class="point">{sentence}{f"<p>{chips}</p>" if chips else ""}</div>'

    def __str__(self) -> str:
        return self.to_markdown()

    __repr__ = __str__


def make_point(sentence: str, store: Store, ids: Collection[str] = ()) -> Point:
    """A page's sentence, with chips for the claims of these ids.

    Raises:
        ValueError: no claim has one of these ids.
    """
    for name in ids:
        check_choice("claim", name, [claim.id for claim in CLAIMS])
    return Point(sentence, find_chips([examine(c, store) for c in CLAIMS if c.id in ids]))


def find_chips(outcomes: Sequence[Outcome]) -> tuple[Chip, ...]:
    """At most one for the paper's own numbers, its data, and small scale."""
    if not outcomes:
        return ()
    small = [record for o in outcomes if o.small for record in o.small.runs]
    real = [record for o in outcomes for record in o.ruling.runs]
    scales = (
        ("paper's own numbers", [status_of_printed(o) for o in outcomes], ()),
        ("paper's data", [o.status for o in outcomes], real),
        ("small scale", [status_of_small(o) for o in outcomes], small),
    )
    return tuple(
        Chip(f"{scale}: {_say(states)}{_say_seeds(records)}", _one_of(states))
        for scale, states, records in scales if {*states} != {NOT_ASKED}
    )  # fmt: skip


def _say(states: Sequence[str]) -> str:
    """Such as "supported", or of several claims "2 supported, 1 not run"."""
    asked = [state for state in states if state != NOT_ASKED]
    if len({*asked}) == 1 and (len(asked) == 1 or asked[0] == NO_RECORD):
        return say_status(asked[0])
    counts = ((asked.count(status), say_status(status)) for status in STATUSES)
    return ", ".join(f"{number} {status}" for number, status in counts if number)


def _one_of(states: Sequence[str]) -> str:
    """The status that colours a chip of several: their own where they agree."""
    asked = {state for state in states if state != NOT_ASKED}
    decided = asked - {NO_RECORD}
    if len(decided) == 1:
        return decided.pop()
    return UNDECIDED if decided else NO_RECORD


def _say_seeds(records: Sequence[Record]) -> str:
    """How many runs stand behind each mean."""
    seeds: dict[str, set[str]] = {}
    for record in records:
        name, _, config = record.run_id.rpartition("-")
        seeds.setdefault(f"{name.rpartition('-')[0]} {config}", set()).add(record.run_id)
    counts = say_counts(map(len, seeds.values()))
    return f", {counts}" if counts else ""
