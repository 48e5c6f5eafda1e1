"""The pages of the book: what a notebook shows is what it leaves in figures/."""

from dataclasses import replace

from IPython.display import display

from nestbook.report.bars import (
    QUICK_LABEL,
    SMALL_LABEL,
    bars_table,
    find_bars,
    make_remarks,
)
from nestbook.report.claims import claims_table
from nestbook.report.pictures import Picture
from nestbook.report.points import MEASURED, Chip, Point, make_point
from nestbook.report.tables import Remarks, Table, save
from nestbook.report.words import begin_upper
from nestbook.sweeps.runner import collect_figure
from nestlib.records import open_store


class Page:
    """What a notebook has shown, and the store of its records.

    Args:
        stem: names the file of the texts, such as "table1"; pictures have stems of their own.
        budget: the notebook's.
    """

    def __init__(self, stem: str, budget: str):
        self.stem, self.budget, self.store = stem, budget, open_store()
        self.shown: list[Table | Remarks | Point | Picture] = []

    def show(self, *items: Table | Remarks | Point | Picture) -> None:
        """Display items and keep them for `save`, once each if a cell is run again."""
        self.keep(*items)
        display(*items)

    def keep(self, *items: Table | Remarks | Point | Picture) -> None:
        """Keep items for `save` that the page does not show, such as a table's every row."""
        self.shown += [item for item in items if item not in self.shown]

    def save(self) -> None:
        """Write all that was shown, in its order (`nestbook.report.tables.save`)."""
        pictures = [item for item in self.shown if isinstance(item, Picture)]
        texts = [item for item in self.shown if not isinstance(item, Picture)]
        save(self.stem, self.budget, texts, *pictures)

    def show_point(
        self, picture: Picture | None, sentence: str, *claims: str, measured: str = ""
    ) -> None:
        """Show the page's picture, if it has one, and below it what the page shows.

        claims: ids of those that the page asks; each scale has a chip.
        measured: what one more chip says of measurements that no claim asks for; "" for none.
        """
        point = make_point(sentence, self.store, claims)
        if measured:
            point = replace(point, chips=(*point.chips, Chip(measured, MEASURED)))
        self.show(*filter(None, [picture]), point)

    def show_claims(self, *ids: str) -> None:
        """The claims of these ids: which hold, and by which records."""
        self.show(claims_table(self.store, ids))


class AblationPage(Page):
    """The page of a figure or table whose bars are runs: figures 4 to 6, A1, A2, tables A2, A3.

    bars: what there is of each, by budget.

    Args:
        figure: the plan's name, and the page's stem.
        seeds: how many runs of each bar.
        data_dir: where the data set lies; "" is the default.
        how: for `nestbook.sweeps.runner.collect_figure`: train, device, processes.
    """

    def __init__(self, figure: str, budget: str, seeds: int, data_dir: str = "", **how):
        super().__init__(figure, budget)
        folder = data_dir or None
        collect_figure(figure, budget, self.store, seeds=seeds, data_dir=folder, **how)
        self.bars = find_bars(figure, self.store, range(seeds), folder)

    def show_bars(self, title: str = "", only: str = "") -> None:
        """Tables of the bars that have a number: budget small's, the paper's and gpu's, quick's.

        Below them stands once how to read them, and what is not run yet.

        Args:
            title: of the paper's bars. Without one they are shown only where they were run, as the
                page has the paper's own table.
            only: of the paper's bars those whose key holds this word, likewise.
        """
        small, real, quick = self.bars.small, self.bars.real, self.bars.quick
        if not title:
            title, real = "The paper's bars as measured", [bar for bar in real if bar.records]
        real = [bar for bar in real if bar.records or only in ("", *bar.key)]
        titled = (begin_upper(SMALL_LABEL), small), (title, real), (begin_upper(QUICK_LABEL), quick)
        tables = [bars_table(*words) for words in titled]
        remarks = make_remarks([*small, *self.bars.real, *quick])
        self.show(*filter(None, [*tables, remarks]))
