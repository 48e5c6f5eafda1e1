"""Accuracy against the number of training images, a figure of ours on the paper's claim of data
efficiency: budget small alone."""

import math
from collections.abc import Iterable
from pathlib import Path

from nestbook.claims.verdict import judge
from nestbook.report.ablations import style_of_model
from nestbook.report.bands import Band, group_title, plot_bands
from nestbook.report.bars import Bar, find_small_bars
from nestbook.report.panels import Panel
from nestbook.report.pictures import Picture
from nestbook.report.tables import NOT_RUN, Number, Table
from nestlib.records import Store

SWEEP = "training_images"
_OURS = "NesT narrow"


def find_training_images(
    store: Store, seeds: Iterable[int] = (0, 1, 2), data_dir: Path | None = None
) -> list[Bar]:
    """Its bars with their fresh records; nothing is run."""
    return find_small_bars(SWEEP, store, list(seeds), data_dir)


def plot_training_images(bars: list[Bar]) -> Picture:
    """A line a model, over the number of training images; all see equally many in all."""
    panel = Panel(
        "", {(bar.key[1], bar.key[0]): bar for bar in bars},
        lambda number: math.log(int(number.replace(",", ""))), "training images (log scale)",
    )  # fmt: skip
    about = "Top-1 over the number of training images, equally many images seen"
    return plot_bands(SWEEP, about, [Band(group_title(bars[0].group), [panel])], style_of_model)


def gaps_table(bars: list[Bar]) -> Table:
    """How far NesT is ahead of each other model, by the number of training images."""
    found = {bar.key: bar for bar in bars}
    others = list(dict.fromkeys(model for model, _ in found if model != _OURS))
    rows = []
    for number in dict.fromkeys(number for _, number in found):
        ours = found[_OURS, number]
        row: list[str | Number] = [number]
        for other in others:
            theirs = found[other, number]
            if not ours.scores or not theirs.scores:
                row.append(NOT_RUN)
                continue
            verdict = judge([(1, ours.scores), (-1, theirs.scores)])
            ids = ", ".join(record.run_id for record in (*ours.records, *theirs.records))
            row.append(Number(verdict.value, ids, 2, ours.scores.n, verdict.half_width))
        rows.append(tuple(row))
    return Table(
        "How far narrow NesT is ahead, in points of top-1",
        ("Training images", *(f"of {other}" for other in others)),
        rows,
        ["±: half of the 95 % interval over seeds (Welch's) and over the draw of the test images "
         "(image by image), added in squares; one run a side has none"],
    )  # fmt: skip
