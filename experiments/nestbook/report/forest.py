"""The differences that budget small measured, beside what each finding asks of them: a forest."""

import textwrap
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nestbook.claims.finding import Bar, Comparison, Finding, examine
from nestbook.claims.findings import CLAIMS
from nestbook.claims.verdict import Verdict
from nestbook.report.claims import STATUS_COLORS, count_statuses, status_of_small
from nestbook.report.panels import INK, SMALL
from nestbook.report.pictures import Picture, drawing_style
from nestlib.records import Store

_WIDTH, _NAMES, _ROW, _SPACE, _TOP, _FOOT = 7.0, 2.75, 0.15, 0.13, 0.3, 0.45  # inches
_LETTERS = 46  # of a line of names
_ASKED = "0.85"  # the grey of what is asked for
_LEAST = 2.0  # points shown on either side of zero


def plot_forest(store: Store) -> Picture:
    """A row a comparison: its difference with the 95 % interval, on grey where it is as asked.

    Findings without any record are counted in the title alone.
    """
    asked = [examine(claim, store) for claim in CLAIMS if claim.small]
    rows = [(f, i, c) for f in asked if f.small.verdicts for i, c in enumerate(f.claim.small)]
    verdicts = [finding.small.by_comparison[i] for finding, i, _ in rows]
    tops = _tops([finding for finding, *_ in rows])
    height = _TOP + tops[-1] + _ROW + _FOOT
    tooltips: dict[str, str] = {}
    reach = max([_LEAST, *(abs(v.value) + min(v.half_width, 10) for v in verdicts if v)])
    with drawing_style():
        figure = Figure(figsize=(_WIDTH, height))
        across = 1 - (_NAMES + 0.15) / _WIDTH
        place = _NAMES / _WIDTH, _FOOT / height, across, 1 - (_TOP + _FOOT) / height
        axes = figure.add_axes(place)
        axes.set(xlim=(-reach, reach), ylim=(tops[-1] + _ROW, 0), yticks=[])
        axes.set_xlabel("difference in points of top-1, with its 95 % interval; grey: as asked")
        if rows:
            axes.axvline(0, color=INK, lw=0.6)
        else:
            axes.axis("off")
        for (finding, i, comparison), verdict, top in zip(rows, verdicts, tops, strict=bool(rows)):
            y = top + _ROW / 2
            gid = f"forest-{finding.claim.id}-{i}"
            _draw_asked(axes, comparison, y, reach)
            if i == 0:
                name = textwrap.fill(finding.claim.small_test, _LETTERS, max_lines=2)
                axes.annotate(
                    name, (0, y), xycoords=("axes fraction", "data"), xytext=(-6, 4), ha="right",
                    va="top", textcoords="offset points", size=SMALL, annotation_clip=False,
                )  # fmt: skip
            if verdict:
                _draw_verdict(axes, verdict, y, reach, gid)
                tooltips[gid] = f"{_name(comparison)}\n{_say(verdict)}"
        title = f"Narrow models: {count_statuses(asked, status_of_small)}"
        figure.text(0.1 / _WIDTH, 1 - 0.08 / height, title, va="top", weight="bold", size=8)
    shown = "; ".join(
        f"{_name(comparison)}: {_say(verdict)}" for (*_, comparison), verdict in zip(rows, verdicts)
        if verdict
    )  # fmt: skip
    description = (
        f"What narrow models say of {len(asked)} findings: "
        f"{count_statuses(asked, status_of_small)}. {shown or 'No record yet'}."
    )
    return Picture(figure, "forest", description, tooltips)


def _tops(findings: list[Finding]) -> list[float]:
    """Where each row begins, in inches; a space between findings, which take two lines at least."""
    if not findings:
        return [0.0]
    tops, first = [0.05], 0.05
    for before, after in pairwise(findings):
        if after is before:
            tops.append(tops[-1] + _ROW)
        else:
            first = max(tops[-1] + _ROW, first + 2 * _ROW - 0.04) + _SPACE
            tops.append(first)
    return tops


def _draw_asked(axes: Axes, comparison: Comparison, y: float, reach: float) -> None:
    low, high = np.clip((comparison.low, comparison.high), -reach, reach)
    axes.fill_betweenx([y - 0.4 * _ROW, y + 0.4 * _ROW], low, high, color=_ASKED, lw=0)


def _draw_verdict(axes: Axes, verdict: Verdict, y: float, reach: float, gid: str) -> None:
    face, edge = STATUS_COLORS[verdict.status]
    ends = np.clip(verdict.value + np.array([-1, 1]) * verdict.half_width, -reach, reach)
    axes.plot(ends, [y, y], color=edge, lw=1.2, solid_capstyle="butt")
    axes.plot([verdict.value], [y], "o", mfc=face, mec=edge, ms=4, gid=gid)


def _name(comparison: Comparison) -> str:
    words = [f"{'+' if c > 0 else '-'} {_say_bar(bar)}" for c, bar in comparison.terms]
    return " ".join(words).removeprefix("+ ")


def _say_bar(bar: Bar) -> str:
    return ", ".join(word for word in bar.key if word != "cifar10")


def _say(verdict: Verdict) -> str:
    return f"{verdict.value:+.2f} ± {verdict.half_width:.2f} points, {verdict.status}"
