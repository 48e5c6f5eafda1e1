"""A table whose every number says where it is from."""

import html
import math
import os
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from nestbook.report.pictures import Picture
from nestlib.files import write_atomically
from nestlib.project import find_project_root, is_publishing

PAPER = "paper"
HERE = "this machine"
NOT_RUN = "not run yet"
NOT_RUN_MARK = "\u25cb"  # a hollow circle in each such cell; a note says once what it means
PLACES = 6  # behind the point, that are read at a glance


@dataclass(frozen=True)
class Number:
    """A value with its source ("paper", a record id, "this machine") and, if several, n and spread.

    Attributes:
        digits: how many stand after the point.
        mark: printed behind the value.
    """

    value: float
    source: str
    digits: int = 1
    n: int = 1
    spread: float | None = None
    mark: str = ""

    def __str__(self) -> str:
        form = f",.{self.digits}f"
        if self.value and not float(f"{self.value:.{self.digits}f}"):
            form = ".3g"  # what is not zero is not shown as zero
        spread = "" if self.spread is None else f" ± {self.spread:{form}}"
        return f"{self.value:{form}}{spread}{self.mark}"


def significant(value: float, source: str, n: int = 1, spread: float | None = None) -> Number:
    """A measured value with three significant digits, and its spread to the same place."""
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    digits = digits if digits <= PLACES else 4  # of less the number shows its first digits
    return Number(value, source, digits, n, spread)


def median_of(values: Sequence[float], source: str) -> Number | None:
    """Median of rounds with half their range as spread; None of nothing."""
    if not values:
        return None
    half_range = (max(values) - min(values)) / 2 if len(values) > 1 else None
    return significant(statistics.median(values), source, len(values), half_range)


def median_ratio(
    tops: Sequence[float], bottoms: Sequence[float], source: str
) -> Number | None:  # fmt: skip
    """Median of the rounds' own ratios: what slows a whole round down cancels out."""
    return median_of([top / bottom for top, bottom in zip(tops, bottoms)], source)


def mean_of(values: Sequence[float], source: str, digits: int = 1) -> Number:
    """Mean and standard deviation over runs (the sample's, n - 1)."""
    spread = statistics.stdev(values) if len(values) > 1 else None
    return Number(statistics.fmean(values), source, digits, len(values), spread)


@dataclass(frozen=True)
class Link:
    """A word that leads to a file of the project; `path` from its root.

    Markdown is written for figures/, or included from book/; HTML is a notebook's, in experiments/.
    """

    text: str
    path: str

    def __str__(self) -> str:
        return f"[{self.text}](../{self.path})"

    def to_html(self) -> str:
        target = os.path.relpath(self.path, "experiments")
        return f'<a href="{html.escape(target)}">{html.escape(self.text)}</a>'


@dataclass(frozen=True)
class Fold:
    """A word that opens to a list: links, each with what is said of it. In Markdown the word alone.

    A long list scrolls in its own box, so that a table stays short where it is opened.
    """

    text: str
    items: tuple[tuple[Link, str], ...]

    def __str__(self) -> str:
        return self.text

    def to_html(self) -> str:
        items = "".join(
            f"<li>{link.to_html()} {html.escape(said)}</li>" for link, said in self.items
        )
        style = "font-weight:normal;max-height:20em;overflow-y:auto;padding-left:1.2em"
        summary = f'<summary style="cursor:pointer">{html.escape(self.text)}</summary>'
        return f'<details>{summary}<ul style="{style}">{items}</ul></details>'


Cell = Number | Link | Fold | str


@dataclass(frozen=True)
class Sources:
    """Where the numbers of a table are from: a line that is shown, and what opens below it."""

    line: str
    details: tuple[str, ...] = ()


_PAD = "padding:0.3em 0.25em"  # ten columns fit a page


@dataclass(frozen=True)
class Table:
    """Rows of cells under a caption, with notes below; shows itself in Jupyter and as text.

    A cell that is "not run yet" is shown as a mark that one note explains. Columns of nothing else
    are left out, and the note names them.

    Raises:
        ValueError: a row with another number of cells than there are columns.
    """

    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    notes: list[str] = field(default_factory=list)
    sources: Sources | None = None

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(row)} cells under {len(self.columns)} columns: {row}")

    def to_markdown(self) -> str:
        """GitHub's Markdown, columns aligned so that it reads well in a terminal too."""
        shown, notes = self._shown
        cells = [[_in_one_cell(_mark(row[i])) for i in shown] for row in (self.columns, *self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells)]
        right = [self._is_numeric(i) for i in shown]

        def line(row):
            padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right))
            return f"| {' | '.join(padded)} |"

        rule = ["-" * (w - 1) + (":" if r else "-") for w, r in zip(widths, right)]
        below = [f"- {note}" for note in notes]
        if self.sources:
            below.append(f"- {self.sources.line}")
            below += [f"  - {detail}" for detail in self.sources.details]
        table = [line(cells[0]), f"| {' | '.join(rule)} |", *map(line, cells[1:])]
        return "\n".join([f"**{self.caption}**", "", *table, "", *below, ""])

    @property
    def _shown(self) -> tuple[list[int], list[str]]:
        """The columns that are shown, and the notes with what is said of missing runs."""
        columns = [[row[i] for row in self.rows] for i in range(len(self.columns))]
        empty = [i for i, cells in enumerate(columns) if i and {*cells} <= {NOT_RUN, ""}]
        lacking = [i for i in empty if NOT_RUN in columns[i]]
        if not lacking or len(empty) == len(columns) - 1:
            empty, lacking = [], []
        shown = [i for i in range(len(columns)) if i not in empty]
        notes = list(self.notes)
        if lacking:
            names = "; ".join(self.columns[i] for i in lacking)
            notes.append(f"Columns left out until they are run: {names}")
        if any(cell == NOT_RUN for i in shown for cell in columns[i]):
            notes.append(f"{NOT_RUN_MARK}: {NOT_RUN}")
        return shown, notes

    def _is_numeric(self, column: int) -> bool:
        return any(isinstance(row[column], Number) for row in self.rows)

    def _repr_html_(self) -> str:
        shown, lines = self._shown
        head = "".join(
            f'<th scope="col" style="{_PAD}">{html.escape(self.columns[i])}</th>' for i in shown
        )
        body = "".join(f"<tr>{self._html_row([row[i] for i in shown])}</tr>" for row in self.rows)
        notes = f'<ul style="font-size:0.85em">{_items(lines)}</ul>' if lines else ""
        return (
            '<div style="overflow-x:auto;font-size:0.85em"><table class="table">'
            f'<caption style="caption-side:top;text-align:left">{html.escape(self.caption)}'
            f"</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
            f"{notes}{self._html_sources()}"
        )

    def _html_sources(self) -> str:
        if not self.sources:
            return ""
        line = html.escape(self.sources.line)
        if not self.sources.details:
            return f'<p class="sources" style="font-size:0.85em">{line}</p>'
        return (
            f'<details class="sources" style="font-size:0.85em"><summary>{line}</summary>'
            f"<ul>{_items(self.sources.details)}</ul></details>"
        )

    def _html_row(self, row: Sequence[Cell]) -> str:
        first, *others = row
        cells = [f'<th scope="row" style="text-align:left;{_PAD}">{_to_html(first)}</th>']
        for cell in others:
            align = "right;white-space:nowrap" if isinstance(cell, Number) else "left"
            title = f' title="{html.escape(cell.source)}"' if isinstance(cell, Number) else ""
            cells.append(f'<td style="text-align:{align};{_PAD}"{title}>{_to_html(cell)}</td>')
        return "".join(cells)

    def __str__(self) -> str:
        return self.to_markdown()

    __repr__ = __str__


def _in_one_cell(text: str) -> str:
    """Markdown that ends no cell and no row: bars escaped, with backslashes before them, on one
    line."""
    return re.sub(r"(\\*)\|", r"\1\1\\|", " ".join(text.split("\n")))


def _mark(cell: Cell) -> str:
    return NOT_RUN_MARK if cell == NOT_RUN else str(cell)


def _items(lines: Iterable[str]) -> str:
    return "".join(f"<li>{html.escape(line)}</li>" for line in lines)


def _to_html(cell: Cell) -> str:
    if cell == NOT_RUN:
        return f'<span title="{NOT_RUN}">{NOT_RUN_MARK}</span>'
    return cell.to_html() if isinstance(cell, Link | Fold) else html.escape(str(cell))


@dataclass(frozen=True)
class Remarks:
    """Lines that hold for all tables of a page; shows itself in Jupyter and as text."""

    lines: tuple[str, ...]

    def to_markdown(self) -> str:
        return "".join(f"- {line}\n" for line in self.lines)

    def _repr_html_(self) -> str:
        return f'<ul style="font-size:0.85em">{_items(self.lines)}</ul>'

    def __str__(self) -> str:
        return self.to_markdown()

    __repr__ = __str__


class Text(Protocol):
    """A table, or a page's point."""

    def to_markdown(self) -> str: ...


def save(stem: str, budget: str, tables: Sequence[Text], *pictures: Picture) -> None:
    """Write tables and the like to <stem>.md, pictures by their own stems as .svg; print the paths.

    They go to runs/figures; a smoke run's, which are no result, to runs/smoke/figures. Only
    `make notebooks` writes the committed ones in figures/.
    """
    root = find_project_root()
    runs = root / "runs" / "smoke" if budget == "smoke" else root / "runs"
    folder = (root if is_publishing() else runs) / "figures"
    written = []
    if tables:
        text = "\n".join(table.to_markdown() for table in tables)
        text = text.replace("](../", f"]({os.path.relpath(root, folder)}/")
        write_atomically(folder / f"{stem}.md", text.encode())
        written.append(folder / f"{stem}.md")
    for picture in pictures:
        path = folder / f"{picture.stem}.svg"
        write_atomically(path, picture.to_svg())
        written.append(path)
    inside = Path.cwd().is_relative_to(root)
    print("wrote", ", ".join(str(path.relative_to(root) if inside else path) for path in written))
