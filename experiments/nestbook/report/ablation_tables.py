"""What the paper prints as tables, with our numbers beside: figures 4 and 6 (right), A2 and A3.

And how far NesT is ahead by the number of training images, which the paper does not ask.
"""

import math
from collections.abc import Mapping

from nestbook.claims.verdict import judge
from nestbook.report.bars import (
    Bar,
    Bars,
    find_run_sources,
    group_title,
    our_number,
    printed_number,
)
from nestbook.report.means import join_ids
from nestbook.report.tables import HERE, NOT_RUN, Cell, Number, Table
from nestbook.sweeps.plans import DEPTHS, FIGURE4_RIGHT, HEADS, Key
from nestlib.models.blocks import fit_block_size

_IMAGE = (32, 32)  # CIFAR's
_BASE_WIDTH = 768  # d of Table A3
_WHERE_HEADS = {
    "paper": "measured", "gpu": "measured, 60 epochs", "small": "narrow, CIFAR-10",
}  # fmt: skip


def removals_table(bars: Bars) -> Table:
    """Figure 4, right: one row per augmentation removed, one column per model."""
    removed = [bar for bar in _all(bars) if bar.key[0] == "removed"]
    columns: dict[str, dict[str, Cell]] = {}
    for bar in removed:
        _, model, step = bar.key
        if bar.printed:
            columns.setdefault(f"{model}, paper", {})[step] = printed_number(bar)
        if bar.records:
            columns.setdefault(f"{model}{_where(bar)}", {})[step] = our_number(bar)
    steps = ("none", *FIGURE4_RIGHT)
    return Table(
        "Figure 4, right: top-1 (%) with one augmentation removed",
        ("Removed", *columns),
        [(step, *(column.get(step, "") for column in columns.values())) for step in steps],
        ["DeiT-B, paper: as DeiT's own paper reports it", *_say_digits(bars.quick)],
        find_run_sources(removed),
    )


def _say_digits(quick: list[Bar]) -> list[str]:
    """How removals on digits were trained, which figure 4 has beside runs of other epochs."""
    epochs = {str(bar.recipe.epochs) for bar in quick if bar.key[0] == "removed" and bar.records}
    if not epochs:
        return []
    return [
        f"Digits: {' or '.join(sorted(epochs))} epochs with strong augmentation, but for what is "
        "removed. Digits runs by number of epochs are without it, so the two do not compare"
    ]


def _where(bar: Bar) -> str:
    """What tells our column of a model from the paper's and from those of other data."""
    if bar.budget == "paper":
        return ", measured"
    return ", " + ("digits" if bar.budget == "quick" else group_title(bar.dataset))


def lengths_table() -> Table:
    """Figure 6, right: the sequence length n that a depth and a word size leave each block."""
    depths = DEPTHS[1]
    rows = [
        (f"S = {word}", *(Number(fit_block_size(_IMAGE, word, depth) ** 2, HERE, 0)
                          for depth in depths))
        for word in DEPTHS
    ]  # fmt: skip
    return Table(
        "Figure 6, right: sequence length n of a block, images of 32x32 pixels",
        ("Word size", *(f"Depth {depth}" for depth in depths)), rows,
    )  # fmt: skip


def teachers_table(bars: Bars) -> Table:
    """Table A2, left: CIFAR-100, by the teacher's augmentation."""

    def key(target: str, teacher: str, form: str) -> Key:
        lesson = ("teacher", teacher, form) if target == "-" else (target, teacher, form, "hard")
        return ("cifar100", *lesson)

    lines = {
        (teacher, target): {form.capitalize(): key(target, teacher, form) for form in
                            ("standard", "strong")}
        for target in ("-", "NesT-B") for teacher in ("PN-164-48", "PN-164-270")
    }  # fmt: skip
    title = "Table A2, left: CIFAR-100 top-1 (%) by the teacher's augmentation"
    return _as_printed(title, ("Teacher", "Target model"), lines, bars)


def lessons_table(bars: Bars) -> Table:
    """Table A2, right: each student alone and taught by PN-164-48 of standard augmentation."""
    data = {"C10": "cifar10", "C100": "cifar100"}
    lessons = {"alone": ("alone",), "taught": ("PN-164-48", "standard", "hard")}
    lines = {
        (student,): {
            f"{short}, {how}": (name, student, *lesson)
            for how, lesson in lessons.items() for short, name in data.items()
        }
        for student in ("DeiT-B", "NesT-B")
    }  # fmt: skip
    title = "Table A2, right: top-1 (%) alone and taught by PN-164-48"
    return _as_printed(title, ("Student",), lines, bars)


def _as_printed(
    title: str, heads: tuple[str, ...], lines: Mapping[Key, Mapping[str, Key]], bars: Bars
) -> Table:
    """A column of the paper's numbers for each word of a line, and ours beside once it is run.

    lines: by what stands first in a row, the bar in each column.
    """
    found = {bar.key: bar for bar in bars.real}
    columns: dict[str, list[Cell]] = {}
    for words in next(iter(lines.values())):
        shown = [found[keys[words]] for keys in lines.values()]
        columns[words] = [printed_number(bar) for bar in shown]
        if any(bar.records for bar in shown):
            columns[f"{words}: measured"] = [our_number(bar) for bar in shown]
    rows = [(*line, *cells) for line, cells in zip(lines, zip(*columns.values()))]
    used = [found[key] for keys in lines.values() for key in keys.values()]
    return Table(title, (*heads, *columns), rows, sources=find_run_sources(used))


def heads_table(bars: Bars) -> Table:
    """Table A3: one row per number of heads, one column per model and kind of attention."""
    columns: dict[str, dict[str, Cell]] = {}
    for bar in _all(bars):
        attention, heads = bar.key
        if bar.printed:
            columns.setdefault("Paper", {})[heads] = printed_number(bar)
        if not bar.records:
            continue
        where = _WHERE_HEADS.get(bar.budget, group_title(bar.dataset))
        name = f"{where}, {attention.replace('_', '-')}"
        columns.setdefault(name, {})[heads] = our_number(bar)
    rows = [
        (str(heads), Number(_BASE_WIDTH // heads, HERE, 0),
         *(column.get(str(heads), "") for column in columns.values()))
        for heads in HEADS
    ]  # fmt: skip
    return Table(
        "Table A3: top-1 (%) by number of heads, of NesT-B on CIFAR-10 and of narrow models",
        ("Heads", "Head width, NesT-B", *columns), rows, sources=find_run_sources(_all(bars)),
    )  # fmt: skip


def _all(bars: Bars) -> list[Bar]:
    """The paper's bars first, as its tables have them."""
    real = sorted(bars.real, key=lambda bar: bar.budget == "gpu")
    return [*real, *bars.small, *bars.quick]


# Training images: how far NesT is ahead


def gaps_table(bars: list[Bar]) -> Table | None:
    """How far NesT is ahead of each other model, by number of training images; None if no runs."""
    found = {bar.key: bar for bar in bars}
    others = list(dict.fromkeys(model for model, _ in found if model != "NesT narrow"))
    numbers = dict.fromkeys(number for _, number in found)
    rows = [
        (number, *(_gap(found["NesT narrow", number], found[other, number]) for other in others))
        for number in numbers
    ]
    if not any(isinstance(cell, Number) for row in rows for cell in row):
        return None
    return Table(
        "How far narrow NesT is ahead, in points of top-1",
        ("Training images", *(f"of {other}" for other in others)),
        rows,
        ["±: half of the 95 % interval over seeds (Welch's) and over the draw of the test images, "
         "added in squares; not known of a single run"],
    )  # fmt: skip


def _gap(ours: Bar, theirs: Bar) -> Cell:
    if not ours.scores or not theirs.scores:
        return NOT_RUN
    verdict = judge([(1, ours.scores), (-1, theirs.scores)])
    source = join_ids([*ours.records, *theirs.records])
    known = verdict.half_width if math.isfinite(verdict.half_width) else None  # of single runs
    return Number(verdict.value, source, 2, ours.scores.n, known)
