"""Accuracy against the number of training images, a figure of ours on the paper's claim of data
efficiency: budget small alone."""

from nestbook.claims.verdict import judge
from nestbook.report.ablations import log_place, style_of_model
from nestbook.report.bands import Band, group_title, plot_bands
from nestbook.report.bars import Bar
from nestbook.report.panels import Panel
from nestbook.report.pictures import Picture
from nestbook.report.tables import NOT_RUN, Cell, Number, Table, join_ids

_OURS = "NesT narrow"


def plot_training_images(bars: list[Bar]) -> Picture:
    """A line a model, over the number of training images; all see equally many in all."""
    by_number = {(bar.key[1], bar.key[0]): bar for bar in bars}
    panel = Panel("", by_number, style_of_model, log_place, "training images (log scale)")
    about = "Top-1 over the number of training images, equally many images seen"
    return plot_bands("training_images", about, [Band(group_title(bars[0].group), [panel])])


def gaps_table(bars: list[Bar]) -> Table:
    """How far NesT is ahead of each other model, by the number of training images."""
    found = {bar.key: bar for bar in bars}
    others = list(dict.fromkeys(model for model, _ in found if model != _OURS))
    numbers = dict.fromkeys(number for _, number in found)
    rows = [
        (number, *(_gap(found[_OURS, number], found[other, number]) for other in others))
        for number in numbers
    ]
    return Table(
        "How far narrow NesT is ahead, in points of top-1",
        ("Training images", *(f"of {other}" for other in others)),
        rows,
        ["±: half of the 95 % interval over seeds (Welch's) and over the draw of the test images "
         "(image by image), added in squares; one run a side has none"],
    )  # fmt: skip


def _gap(ours: Bar, theirs: Bar) -> Cell:
    if not ours.scores or not theirs.scores:
        return NOT_RUN
    verdict = judge([(1, ours.scores), (-1, theirs.scores)])
    source = join_ids([*ours.records, *theirs.records])
    return Number(verdict.value, source, 2, ours.scores.n, verdict.half_width)
