"""Which of the paper's claims hold: how each sentence stands at three scales, as a table and as a
picture; which are contradicted and by what; and the differences that narrow models measured.
"""

import math
import textwrap
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nestbook.claims.catalog import CLAIMS
from nestbook.claims.claim import NO_RECORD, Comparison, Mean, Outcome, Ruling, examine
from nestbook.claims.verdict import CONTRADICTED, SUPPORTED, UNDECIDED, Verdict
from nestbook.report.pictures import BLUE, INK, SMALL, VERMILION, YELLOW, Picture, drawing_style
from nestbook.report.tables import NOT_RUN, Sources, Table
from nestlib.choices import check_choice
from nestlib.records import Store

NOT_ASKED = "cannot be asked"
STATUSES = (SUPPORTED, CONTRADICTED, UNDECIDED, NO_RECORD)
STATUS_COLORS = {  # face, then edge
    SUPPORTED: (BLUE, BLUE), CONTRADICTED: (VERMILION, VERMILION), UNDECIDED: (YELLOW, "#8A6D00"),
    NO_RECORD: ("white", "0.45"), NOT_ASKED: ("0.85", "0.7"),
}  # fmt: skip
# Shapes, and signs in a table: colour alone tells nobody a status.
_MARKERS = {
    SUPPORTED: "s", CONTRADICTED: "X", UNDECIDED: "D", NO_RECORD: "s", NOT_ASKED: ".",
}  # fmt: skip
# The space does not break.
_CELLS = {
    SUPPORTED: "\u2713\u00a0supported", CONTRADICTED: "\u2717\u00a0contradicted",
    UNDECIDED: "?\u00a0undecided", NO_RECORD: NOT_RUN, NOT_ASKED: "",
}  # fmt: skip
_WIDTH = 7.0  # inches, of both pictures
CLAIM_IDS = tuple(claim.id for claim in CLAIMS)


def status_of_printed(outcome: Outcome) -> str:
    return outcome.claim.printed.status if outcome.claim.printed else NOT_ASKED


def status_of_small(outcome: Outcome) -> str:
    return outcome.small.status if outcome.small else NOT_ASKED


# What is asked of a sentence, and how it stands there.
SCALES: dict[str, Callable[[Outcome], str]] = {
    "Its own numbers": status_of_printed,
    "Paper's data": lambda outcome: outcome.status,
    "Small scale": status_of_small,
}


def say_status(status: str) -> str:
    """As a reader sees it."""
    return "not run" if status == NO_RECORD else status


def count_statuses(outcomes: Sequence[Outcome], status_of: Callable[[Outcome], str]) -> str:
    """Such as "3 supported, 1 contradicted", those alone that there are."""
    states = [status_of(outcome) for outcome in outcomes]
    return ", ".join(f"{states.count(s)} {say_status(s)}" for s in STATUS_COLORS if s in states)


# The page's sentence


def say_claims(store: Store) -> str:
    """How many sentences hold by the paper's own numbers, and what runs have decided."""
    outcomes = [examine(claim, store) for claim in CLAIMS]
    printed = [status_of_printed(outcome) for outcome in outcomes]
    against = [o.claim.section for o, s in zip(outcomes, printed) if s == CONTRADICTED]
    *most, last = dict.fromkeys(against)
    where = f"sections {', '.join(most)} and {last}" if most else f"section {last}"
    small = [outcome for outcome in outcomes if outcome.small]
    real_said = _say_decided(outcomes, SCALES["Paper's data"])
    small_said = _say_decided(small, status_of_small)
    return (
        f"The paper's own numbers support {printed.count(SUPPORTED)} of its {len(outcomes)} "
        f"findings and contradict {len(against)} ({where}). Runs on the paper's data have decided "
        f"{real_said}; small-scale runs have decided {small_said} of the {len(small)} that narrow "
        "models can be asked."
    )


def _say_decided(outcomes: Sequence[Outcome], status_of: Callable[[Outcome], str]) -> str:
    """Such as "3 (2 supported, 1 contradicted)"; "none"."""
    decided = [o for o in outcomes if status_of(o) in (SUPPORTED, CONTRADICTED)]
    return f"{len(decided)} ({count_statuses(decided, status_of)})" if decided else "none"


# The tables


def claims_table(store: Store, ids: Collection[str] = ()) -> Table:
    """One row per claim; every status follows from records, or from the paper's numbers.

    ids: of some claims alone, for the page of their figure.

    Raises:
        ValueError: no claim has one of these ids.
    """
    for name in ids:
        check_choice("claim", name, CLAIM_IDS)
    outcomes = [examine(claim, store) for claim in CLAIMS if not ids or claim.id in ids]
    asked = {
        title: [_CELLS[status_of(outcome)] for outcome in outcomes]
        for title, status_of in SCALES.items()
        if any(status_of(outcome) != NOT_ASKED for outcome in outcomes)
    }
    rows = [
        (outcome.claim.section, outcome.claim.quote, *cells)
        for outcome, *cells in zip(outcomes, *asked.values())
    ]
    cells = {cell for column in asked.values() for cell in column} - {NOT_RUN, ""}
    notes = []
    if cells:
        notes.append(
            "Supported: the whole 95 % interval of each difference lies on the sentence's side. "
            "Contradicted: one lies wholly on the other. The paper's numbers have no spread and "
            "are compared as printed"
        )
    if any("" in column and {*column} - {NOT_RUN, ""} for column in asked.values()):
        notes.append("An empty cell: the sentence cannot be asked there")
    number = f"{len(outcomes)} sentence{'s' * (len(outcomes) > 1)}"
    return Table(
        f"The paper's findings: {number}, and what decides them",
        ("Section", "The paper says", *asked),
        rows,
        notes,
        Sources("What is asked of each sentence, the numbers and the runs",
                tuple(map(_describe, outcomes))),
    )  # fmt: skip


def contradictions_table(store: Store) -> Table:
    """One row per sentence and scale that contradicts it, with the numbers that do."""
    rows = []
    for outcome in (examine(claim, store) for claim in CLAIMS):
        numbers = {
            "Its own numbers": outcome.claim.printed.numbers if outcome.claim.printed else "",
            "Paper's data": f"{outcome.claim.test}: {_values(outcome.ruling)}",
            "Small scale": outcome.small
            and f"{outcome.claim.small_test}: {_values(outcome.small)}",
        }
        rows += [
            (outcome.claim.section, outcome.claim.quote, title, numbers[title])
            for title, status_of in SCALES.items() if status_of(outcome) == CONTRADICTED
        ]  # fmt: skip
    return Table(
        "Sentences that are contradicted",
        ("Section", "The paper says", "Contradicted by", "Numbers"),
        rows,
    )


def _describe(outcome: Outcome) -> str:
    """What is asked of a sentence and what came of it, wherever it is asked."""
    claim = outcome.claim
    parts = [f"Asked: {claim.test}"]
    if claim.printed:
        parts.append(f"Its own numbers: {claim.printed.status}; {claim.printed.numbers}")
    if outcome.ruling.runs:
        parts.append(f"Paper's data: {_say_ruling(outcome.ruling)}")
    if outcome.small:
        parts.append(f"Small scale, narrow models: {claim.small_test}")
        if outcome.small.runs:
            parts[-1] += f": {_say_ruling(outcome.small)}"
    quote = textwrap.shorten(claim.quote, 60, placeholder=" \u2026")
    return f"{claim.section} \u201c{quote}\u201d. {'. '.join(parts)}"


def _say_ruling(ruling: Ruling) -> str:
    """Its status, the differences in points, how many seeds would decide it, and the runs."""
    parts = [ruling.status, _values(ruling)]
    if ruling.status == UNDECIDED:
        parts.append(_say_needed(ruling.known))
    return "; ".join(filter(None, [*parts, _runs(ruling)]))


def _say_needed(verdicts: Sequence[Verdict]) -> str:
    undecided = [verdict for verdict in verdicts if verdict.status == UNDECIDED]
    if not undecided:
        return "runs are missing"
    if any(math.isinf(verdict.half_width) for verdict in undecided):
        return "one run on a side decides nothing"
    needed = [verdict.seeds_needed for verdict in undecided]
    if None in needed:
        return "more seeds alone would not decide it"
    return f"{max(needed)} seeds per side would decide it"


def _values(ruling: Ruling) -> str:
    """Each difference with its half-width; of many, the least and the greatest."""
    verdicts = sorted(ruling.known, key=lambda verdict: verdict.value)
    if not verdicts:
        return ""
    ends = verdicts if len(verdicts) < 3 else [verdicts[0], verdicts[-1]]
    texts = " to ".join(map(_say_difference, ends))
    return f"{texts} points ({len(verdicts)} of {len(ruling.verdicts)})"


def _runs(ruling: Ruling) -> str:
    counts: dict[str, int] = {}
    for record in ruling.runs:
        name, _, rest = record.run_id.rpartition("-s")
        recipe = f"{name}-s*-{rest.split('-')[1]}"
        counts[recipe] = counts.get(recipe, 0) + 1
    return ", ".join(f"{name} (n = {n})" for name, n in counts.items())


# The picture of statuses

_EDGE, _STRIP = 0.1, 0.5  # inches: a strip holds a title and a row of marks


def plot_claims(store: Store) -> Picture:
    """One mark per sentence at each of SCALES, sorted by what became of it."""
    outcomes = [examine(claim, store) for claim in CLAIMS]
    tooltips: dict[str, str] = {}
    height = _STRIP * len(SCALES) + _EDGE + 0.2
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
            tooltips |= _draw_marks(axes, outcomes, title, y + 0.25, f"claims-{row}")
        axes.legend(
            handles=[_mark(status, label=say_status(status)) for status in STATUS_COLORS],
            loc="lower left", bbox_to_anchor=(0, 0, 1, 1), ncols=len(STATUS_COLORS),
            frameon=False, handletextpad=0.1, columnspacing=1.5, borderaxespad=0.1,
        )  # fmt: skip
    shown = "; ".join(f"{title}: {count_statuses(outcomes, s)}" for title, s in SCALES.items())
    description = (
        f"The paper's {len(outcomes)} findings, one mark each at three scales. {shown}. Each "
        "sentence stands in the table below."
    )
    return Picture(figure, "claims", description, tooltips)


def _mark(status: str, x: float = 0.0, y: float = 0.0, size: float = 8.0, **how) -> Line2D:
    """The shape of a status, at data coordinates; size in points of a square."""
    face, edge = STATUS_COLORS[status]
    scale = {"D": 0.85, "X": 1.15}.get(_MARKERS[status], 1.0)
    return Line2D(
        [x], [y], ls="none", marker=_MARKERS[status], mfc=face, mec=edge, mew=0.8, ms=size * scale,
        **how,
    )  # fmt: skip


def _draw_marks(
    axes: Axes, outcomes: list[Outcome], scale: str, y: float, prefix: str
) -> dict[str, str]:
    """The marks of one of SCALES, their centres at y; the tooltips by gid."""
    status_of = SCALES[scale]
    tooltips, step = {}, (_WIDTH - 2 * _EDGE) / len(outcomes)
    ordered = sorted(outcomes, key=lambda outcome: list(STATUS_COLORS).index(status_of(outcome)))
    for i, outcome in enumerate(ordered):
        status, claim = status_of(outcome), outcome.claim
        gid = f"{prefix}-{claim.id}"
        axes.add_line(_mark(status, _EDGE + (i + 0.5) * step, y, gid=gid))
        asked = claim.test
        if status_of is status_of_small:
            asked = claim.small_test
        elif status_of is status_of_printed and claim.printed:
            asked = claim.printed.numbers
        tooltips[gid] = f"{scale}: {say_status(status)}\n\u201c{claim.quote}\u201d\n{asked}".strip()
    return tooltips


# The picture of differences: a forest plot

_NAMES, _LABELS, _ROW, _SPACE, _TOP, _FOOT = 2.35, 1.3, 0.15, 0.13, 0.3, 0.45  # inches
_LETTERS, _LABEL_LETTERS = 44, 25  # of a line of names, and of a row's label
_LEAST = 2.0  # points shown on either side of zero


def plot_forest(store: Store) -> Picture:
    """One row per comparison: its difference with the 95 % interval, on grey where it is as asked.

    Claims without any record are counted in the title alone.
    """
    asked = [examine(claim, store) for claim in CLAIMS if claim.small]
    drawn = [outcome for outcome in asked if outcome.small.known]
    title = f"Narrow models can be asked {len(asked)} sentences: "
    title += count_statuses(asked, status_of_small) if drawn else "none has been run yet"
    said: dict[str, str] = {}
    with drawing_style():
        figure = _draw_forest(drawn, said) if drawn else Figure(figsize=(_WIDTH, _TOP))
        top = 1 - 0.08 / figure.get_figheight()
        figure.text(0.1 / _WIDTH, top, title, va="top", weight="bold", size=8)
    shown = "; ".join(text.replace("\n", ": ") for text in said.values())
    return Picture(figure, "forest", f"{title}. {shown}".strip(), said)


def _draw_forest(outcomes: list[Outcome], said: dict[str, str]) -> Figure:
    """Claims below one another; the tooltips go into `said`, by gid."""
    tops = _tops(outcomes)
    limits = _limits([verdict for outcome in outcomes for verdict in outcome.small.known])
    figure, axes = _forest_axes(tops[-1] + _ROW, limits)
    axes.axvline(0, color=INK, lw=0.6)
    for outcome in outcomes:
        said |= _draw_differences(axes, outcome, [top + _ROW / 2 for top in tops], limits)
        tops = tops[len(outcome.small.verdicts) :]
    return figure


def _limits(verdicts: Iterable[Verdict]) -> tuple[float, float]:
    """Both sides of zero, with room beyond the intervals; a very wide interval is cut."""
    widths = [(v.value, min(v.half_width, 10)) for v in verdicts]
    low = min([-_LEAST, *(value - width for value, width in widths)])
    high = max([_LEAST, *(value + width for value, width in widths)])
    room = 0.03 * (high - low)
    return low - room, high + room


def _tops(outcomes: list[Outcome]) -> list[float]:
    """Where each row begins, in inches; a space between claims, which take two lines at least."""
    tops, first = [], 0.05
    for outcome in outcomes:
        if tops:
            first = max(tops[-1] + _ROW, first + 2 * _ROW - 0.04) + _SPACE
        tops += [first + i * _ROW for i in range(len(outcome.small.verdicts))]
    return tops


def _forest_axes(rows_height: float, limits: tuple[float, float]) -> tuple[Figure, Axes]:
    height, left = _TOP + rows_height + _FOOT, _NAMES + _LABELS
    figure = Figure(figsize=(_WIDTH, height))
    across, up = 1 - (left + 0.15) / _WIDTH, 1 - (_TOP + _FOOT) / height
    axes = figure.add_axes((left / _WIDTH, _FOOT / height, across, up))
    axes.set(xlim=limits, ylim=(rows_height, 0), yticks=[])
    axes.set_xlabel("difference (points of top-1), 95 % interval")
    return figure, axes


def _draw_differences(
    axes: Axes, outcome: Outcome, places: Sequence[float], limits: tuple[float, float]
) -> dict[str, str]:
    """A claim's name and comparisons, at the first of `places`; the tooltips by gid."""
    comparisons, tooltips = outcome.claim.small, {}
    name = textwrap.fill(outcome.claim.small_test, _LETTERS, max_lines=2, placeholder=" \u2026")
    left = -72 * (_NAMES + _LABELS - 0.1)  # points
    _write(axes, name, places[0], (left, 4), ha="left", va="top")
    rows = zip(comparisons, outcome.small.verdicts, _label(comparisons), places)
    for i, (comparison, verdict, label, y) in enumerate(rows):
        _write(axes, label, y, (-6, 0), ha="right", va="center", color=INK)
        low, high = np.clip((comparison.low, comparison.high), *limits)
        axes.fill_betweenx([y - 0.4 * _ROW, y + 0.4 * _ROW], low, high, color="0.85", lw=0)
        if verdict:
            gid = f"forest-{outcome.claim.id}-{i}"
            _draw_verdict(axes, verdict, y, limits, gid)
            tooltips[gid] = (
                f"{_name(comparison)}\n{_say_difference(verdict)} points, {verdict.status}"
            )
    return tooltips


def _write(axes: Axes, text: str, y: float, offset: tuple[float, float], **how) -> None:
    """Left of the axis: offset in points from where it meets the row at y."""
    axes.annotate(
        text, (0, y), xycoords=("axes fraction", "data"), xytext=offset,
        textcoords="offset points", size=SMALL, annotation_clip=False, **how,
    )  # fmt: skip


def _draw_verdict(
    axes: Axes, verdict: Verdict, y: float, limits: tuple[float, float], gid: str
) -> None:
    ends = np.clip(verdict.value + np.array([-1, 1]) * verdict.half_width, *limits)
    axes.plot(ends, [y, y], color=STATUS_COLORS[verdict.status][1], lw=1.2, solid_capstyle="butt")
    axes.add_line(_mark(verdict.status, verdict.value, y, 4.5, gid=gid))


def _label(comparisons: Sequence[Comparison]) -> list[str]:
    """What tells each comparison of a claim from the others; nothing of a single one."""
    words = [[word for _, mean in c.terms for word in mean.key] for c in comparisons]
    common = set.intersection(*map(set, words))
    labels = [", ".join(dict.fromkeys(w for w in own if w not in common)) for own in words]
    return [textwrap.shorten(label, _LABEL_LETTERS, placeholder=" \u2026") for label in labels]


def _name(comparison: Comparison) -> str:
    words = [f"{'+' if c > 0 else '-'} {_say_mean(mean)}" for c, mean in comparison.terms]
    return " ".join(words).removeprefix("+ ")


def _say_mean(mean: Mean) -> str:
    return ", ".join(word for word in mean.key if word != "cifar10")


def _say_difference(verdict: Verdict) -> str:
    """One run on a side tells no interval."""
    width = "" if math.isinf(verdict.half_width) else f" ± {verdict.half_width:.2f}"
    return f"{verdict.value:+.2f}{width}"
