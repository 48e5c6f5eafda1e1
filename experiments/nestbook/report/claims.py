"""Which of the paper's claims hold: a table of what decides each and what records say, a picture of
their statuses, and one of the differences that narrow models measured.
"""

import textwrap
from collections.abc import Callable, Collection, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from nestbook.claims.catalog import CLAIMS
from nestbook.claims.claim import NO_RECORD, Comparison, Mean, Outcome, Ruling, examine
from nestbook.claims.verdict import CONTRADICTED, SUPPORTED, UNDECIDED, Verdict
from nestbook.report.pictures import BLUE, INK, SMALL, VERMILION, YELLOW, Picture, drawing_style
from nestbook.report.tables import Table
from nestlib.choices import check_choice
from nestlib.records import Store

NOT_ASKED = "cannot be asked"
STATUSES = (SUPPORTED, CONTRADICTED, UNDECIDED, NO_RECORD)
STATUS_COLORS = {  # face, then edge
    SUPPORTED: (BLUE, BLUE), CONTRADICTED: (VERMILION, VERMILION), UNDECIDED: (YELLOW, "#8A6D00"),
    NO_RECORD: ("white", "0.45"), NOT_ASKED: ("0.9", "0.9"),
}  # fmt: skip
_WIDTH = 7.0  # inches, of both pictures


def status_of_printed(outcome: Outcome) -> str:
    return outcome.claim.printed.status if outcome.claim.printed else NOT_ASKED


def status_of_small(outcome: Outcome) -> str:
    return outcome.small.status if outcome.small else NOT_ASKED


# What is asked of a sentence, and where its status stands.
SCALES: dict[str, Callable[[Outcome], str]] = {
    "The paper's own printed numbers": status_of_printed,
    "Our records at the paper's scale": lambda outcome: outcome.status,
    "Our narrow models (CIFAR-10)": status_of_small,
}


def count_statuses(outcomes: Sequence[Outcome], status_of: Callable[[Outcome], str]) -> str:
    """Such as "3 supported, 1 contradicted", those alone that there are."""
    states = [status_of(outcome) for outcome in outcomes]
    return ", ".join(f"{states.count(s)} {s}" for s in STATUS_COLORS if s in states)


# The table


def claims_table(store: Store, ids: Collection[str] = ()) -> Table:
    """One row a claim; every status follows from records, or from the paper's numbers.

    ids: of some claims alone, for the page of their figure.

    Raises:
        ValueError: no claim has one of these ids.
    """
    for name in ids:
        check_choice("claim", name, [claim.id for claim in CLAIMS])
    outcomes = [examine(claim, store) for claim in CLAIMS if not ids or claim.id in ids]
    ours = [outcome.status for outcome in outcomes]
    printed = [status_of_printed(outcome) for outcome in outcomes]
    return Table(
        f"The paper's findings: {len(outcomes)} sentences, and what decides them",
        ("Section", "The paper says", "Narrow models", "Asked at the paper's scale",
         "Its own numbers", "Our records", "Difference (points)", "Records"),
        [_row(outcome) for outcome in outcomes],
        [f"By narrow models: {count_statuses(outcomes, status_of_small)}; by records at the "
         f"paper's scale: {', '.join(f'{ours.count(status)} {status}' for status in STATUSES)}; "
         f"by the paper's own numbers: {printed.count(SUPPORTED)} supported, "
         f"{printed.count(CONTRADICTED)} contradicted",
         "Narrow models of budget small (D38): what can be asked at that scale, with margins of "
         "its own, stands in their column and is never merged with the paper's scale. Accuracies "
         "as such, larger models, CIFAR-100 and ImageNet cannot be asked there",
         "A sentence is supported where the whole 95 % interval of each difference lies on its "
         "side, contradicted where one lies wholly on the other; an interval is Welch's over seeds "
         "and the draw of the test images, added in squares; image by image where the records keep "
         "which were right. The comparisons of a sentence share the 5 %. One run a side decides "
         "nothing",
         "The paper's numbers are single runs without a spread, so they are compared as printed"],
    )  # fmt: skip


def _row(outcome: Outcome) -> tuple[str, ...]:
    claim = outcome.claim
    printed = f"{claim.printed.status}: {claim.printed.numbers}" if claim.printed else "-"
    return (
        claim.section, claim.quote, _small(outcome), claim.test, printed, outcome.status,
        _values(outcome.ruling) or "-", _runs(outcome),
    )  # fmt: skip


def _small(outcome: Outcome) -> str:
    """Its status, what was asked, the differences, and how many seeds would decide it."""
    if outcome.small is None:
        return NOT_ASKED
    text, values = outcome.small.status, _values(outcome.small)
    if values:
        text += f": {values}"
    if outcome.small.status == UNDECIDED:
        text += f"; {_say_needed(outcome.small.known)}"
    return f"{text}. Asked: {outcome.claim.small_test}"


def _say_needed(verdicts: Sequence[Verdict]) -> str:
    undecided = [verdict.seeds_needed for verdict in verdicts if verdict.status == UNDECIDED]
    if not undecided:
        return "runs are missing"
    if None in undecided:
        return "more seeds alone would not decide it"
    return f"{max(undecided)} seeds a side would decide it"


def _values(ruling: Ruling) -> str:
    """Each difference with its half-width; of many, the least and the greatest."""
    verdicts = sorted(ruling.known, key=lambda verdict: verdict.value)
    if not verdicts:
        return ""
    ends = verdicts if len(verdicts) < 3 else [verdicts[0], verdicts[-1]]
    texts = [f"{v.value:+.2f} ± {v.half_width:.2f}" for v in ends]
    return f"{' to '.join(texts)} ({len(verdicts)} of {len(ruling.verdicts)})"


def _runs(outcome: Outcome) -> str:
    runs = [*outcome.ruling.runs, *(outcome.small.runs if outcome.small else ())]
    counts: dict[str, int] = {}
    for record in runs:
        name, _, rest = record.run_id.rpartition("-s")
        recipe = f"{name}-s*-{rest.split('-')[1]}"
        counts[recipe] = counts.get(recipe, 0) + 1
    return ", ".join(f"{name} (n = {n})" for name, n in counts.items()) or "-"


# The picture of statuses

_EDGE, _STRIP, _SQUARE = 0.1, 0.52, 0.14  # inches: a strip holds a title and a row of squares


def plot_claims(store: Store) -> Picture:
    """A square a sentence, at each of SCALES, sorted by what became of it."""
    outcomes = [examine(claim, store) for claim in CLAIMS]
    tooltips: dict[str, str] = {}
    height = _STRIP * len(SCALES) + _EDGE
    with drawing_style():
        figure = Figure(figsize=(_WIDTH, height))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, _WIDTH), ylim=(height, 0))
        axes.axis("off")
        for row, (title, status_of) in enumerate(SCALES.items()):
            y = _EDGE + row * _STRIP
            count = count_statuses(outcomes, status_of)
            axes.text(_EDGE, y + 0.06, title, weight="bold", va="center", size=8)
            axes.text(_WIDTH - _EDGE, y + 0.06, count, va="center", ha="right")
            tooltips |= _draw_squares(axes, outcomes, status_of, y + 0.17, f"claims-{row}")
    shown = "; ".join(f"{title}: {count_statuses(outcomes, s)}" for title, s in SCALES.items())
    description = (
        f"The paper's {len(outcomes)} findings, a square each. {shown}. Each sentence stands in "
        "the table below."
    )
    return Picture(figure, "claims", description, tooltips)


def _draw_squares(
    axes: Axes, outcomes: list[Outcome], status_of: Callable[[Outcome], str], y: float, prefix: str
) -> dict[str, str]:
    """One scale's squares, their upper edges at y; the tooltips by gid."""
    tooltips, step = {}, (_WIDTH - 2 * _EDGE) / len(outcomes)
    ordered = sorted(outcomes, key=lambda outcome: list(STATUS_COLORS).index(status_of(outcome)))
    for i, outcome in enumerate(ordered):
        status, claim = status_of(outcome), outcome.claim
        face, edge = STATUS_COLORS[status]
        axes.add_patch(Rectangle(
            (_EDGE + i * step, y), _SQUARE, _SQUARE, fc=face, ec=edge, lw=0.8,
            gid=f"{prefix}-{claim.id}",
        ))  # fmt: skip
        asked = claim.small_test if status_of is status_of_small else claim.test
        tooltips[f"{prefix}-{claim.id}"] = f"{status}\n“{claim.quote}”\n{asked}"
    return tooltips


# The picture of differences: a forest plot

_NAMES, _ROW, _SPACE, _TOP, _FOOT = 2.75, 0.15, 0.13, 0.3, 0.45  # inches
_LETTERS = 46  # of a line of names
_LEAST = 2.0  # points shown on either side of zero


def plot_forest(store: Store) -> Picture:
    """A row a comparison: its difference with the 95 % interval, on grey where it is as asked.

    Claims without any record are counted in the title alone.
    """
    asked = [examine(claim, store) for claim in CLAIMS if claim.small]
    drawn = [outcome for outcome in asked if outcome.small.known]
    tops = _tops(drawn)
    verdicts = [verdict for outcome in drawn for verdict in outcome.small.known]
    reach = max([_LEAST, *(abs(v.value) + min(v.half_width, 10) for v in verdicts)])
    counts = count_statuses(asked, status_of_small)
    said: dict[str, str] = {}
    with drawing_style():
        figure, axes = _forest_axes(tops[-1] + _ROW, reach)
        figure.text(
            0.1 / _WIDTH, 1 - 0.08 / figure.get_figheight(), f"Narrow models: {counts}", va="top",
            weight="bold", size=8,
        )  # fmt: skip
        if drawn:
            axes.axvline(0, color=INK, lw=0.6)
        else:
            axes.axis("off")
        for outcome in drawn:
            said |= _draw_differences(axes, outcome, [top + _ROW / 2 for top in tops], reach)
            tops = tops[len(outcome.small.verdicts) :]
    shown = "; ".join(text.replace("\n", ": ") for text in said.values())
    description = (
        f"What narrow models say of {len(asked)} findings: {counts}. {shown or 'No record yet'}."
    )
    return Picture(figure, "forest", description, said)


def _tops(outcomes: list[Outcome]) -> list[float]:
    """Where each row begins, in inches; a space between claims, which take two lines at least."""
    tops, first = [], 0.05
    for outcome in outcomes:
        if tops:
            first = max(tops[-1] + _ROW, first + 2 * _ROW - 0.04) + _SPACE
        tops += [first + i * _ROW for i in range(len(outcome.small.verdicts))]
    return tops or [0.0]


def _forest_axes(rows_height: float, reach: float) -> tuple[Figure, Axes]:
    height = _TOP + rows_height + _FOOT
    figure = Figure(figsize=(_WIDTH, height))
    across, up = 1 - (_NAMES + 0.15) / _WIDTH, 1 - (_TOP + _FOOT) / height
    axes = figure.add_axes((_NAMES / _WIDTH, _FOOT / height, across, up))
    axes.set(xlim=(-reach, reach), ylim=(rows_height, 0), yticks=[])
    axes.set_xlabel("difference in points of top-1, with its 95 % interval; grey: as asked")
    return figure, axes


def _draw_differences(
    axes: Axes, outcome: Outcome, places: Sequence[float], reach: float
) -> dict[str, str]:
    """A claim's name and comparisons, at the first of `places`; the tooltips by gid."""
    name, tooltips = textwrap.fill(outcome.claim.small_test, _LETTERS, max_lines=2), {}
    axes.annotate(
        name, (0, places[0]), xycoords=("axes fraction", "data"), xytext=(-6, 4), ha="right",
        va="top", textcoords="offset points", size=SMALL, annotation_clip=False,
    )  # fmt: skip
    pairs = zip(outcome.claim.small, outcome.small.verdicts)
    for i, ((comparison, verdict), y) in enumerate(zip(pairs, places)):
        low, high = np.clip((comparison.low, comparison.high), -reach, reach)
        axes.fill_betweenx([y - 0.4 * _ROW, y + 0.4 * _ROW], low, high, color="0.85", lw=0)
        if verdict:
            gid = f"forest-{outcome.claim.id}-{i}"
            _draw_verdict(axes, verdict, y, reach, gid)
            tooltips[gid] = (
                f"{_name(comparison)}\n"
                f"{verdict.value:+.2f} ± {verdict.half_width:.2f} points, {verdict.status}"
            )
    return tooltips


def _draw_verdict(axes: Axes, verdict: Verdict, y: float, reach: float, gid: str) -> None:
    face, edge = STATUS_COLORS[verdict.status]
    ends = np.clip(verdict.value + np.array([-1, 1]) * verdict.half_width, -reach, reach)
    axes.plot(ends, [y, y], color=edge, lw=1.2, solid_capstyle="butt")
    axes.plot([verdict.value], [y], "o", mfc=face, mec=edge, ms=4, gid=gid)


def _name(comparison: Comparison) -> str:
    words = [f"{'+' if c > 0 else '-'} {_say_mean(mean)}" for c, mean in comparison.terms]
    return " ".join(words).removeprefix("+ ")


def _say_mean(mean: Mean) -> str:
    return ", ".join(word for word in mean.key if word != "cifar10")
