"""A table whose every number says where it is from."""

import html
import math
import os
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nestbook.report.pictures import Picture
from nestlib.files import write_atomically
from nestlib.project import find_project_root, is_publishing

PAPER = "paper"
HERE = "this machine"
NOT_RUN = "not run yet"
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


Cell = Number | Link | str
_PAD = "padding:0.3em 0.25em"  # ten columns fit a page


@dataclass(frozen=True)
class Table:
    """Rows of cells under a caption, with notes below; shows itself in Jupyter and as text.

    Raises:
        ValueError: a row with another number of cells than there are columns.
    """

    caption: str
    columns: tuple[str, ...]
    rows: list[tuple[Cell, ...]]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self):
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"{len(row)} cells under {len(self.columns)} columns: {row}")

    def to_markdown(self) -> str:
        """GitHub's Markdown, columns aligned so that it reads well in a terminal too."""
        cells = [[_in_one_cell(str(cell)) for cell in row] for row in (self.columns, *self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        right = [self._is_numeric(i) for i in range(len(self.columns))]

        def line(row):
            padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right))
            return f"| {' | '.join(padded)} |"

        rule = ["-" * (w - 1) + (":" if r else "-") for w, r in zip(widths, right)]
        notes = [f"- {note}" for note in self.notes]
        table = [line(cells[0]), f"| {' | '.join(rule)} |", *map(line, cells[1:])]
        return "\n".join([f"**{self.caption}**", "", *table, "", *notes, ""])

    def _is_numeric(self, column: int) -> bool:
        return any(isinstance(row[column], Number) for row in self.rows)

    def _repr_html_(self) -> str:
        head = "".join(
            f'<th scope="col" style="{_PAD}">{html.escape(name)}</th>' for name in self.columns
        )
        body = "".join(f"<tr>{self._html_row(row)}</tr>" for row in self.rows)
        notes = "".join(f"<li>{html.escape(note)}</li>" for note in self.notes)
        return (
            '<div style="overflow-x:auto;font-size:0.85em"><table class="table">'
            f'<caption style="caption-side:top;text-align:left">{html.escape(self.caption)}'
            f"</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
            f'<ul style="font-size:0.85em">{notes}</ul>'
        )

    def _html_row(self, row: tuple[Cell, ...]) -> str:
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


def _to_html(cell: Cell) -> str:
    return cell.to_html() if isinstance(cell, Link) else html.escape(str(cell))


def save(stem: str, budget: str, tables: Sequence[Table], *pictures: Picture) -> None:
    """Write tables to <stem>.md, pictures by their own stems as .svg; print the paths.

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
