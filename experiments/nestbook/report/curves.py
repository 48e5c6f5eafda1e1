"""Training curves of all committed records, to hover and filter in a page without a kernel.

The drawing is done by page/curves.js; here the data is put together. Where scripts do not run, the
table of the same numbers is left.
"""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass

from nestbook.explorer.static import page_script, read_page
from nestlib.records import Record, Store

STYLE = "curves.css"
SCRIPTS = ("elements.js", "curves.js")
# {what an epoch holds: (label, unit, digits)}; the first is shown first.
METRICS = {
    "test/top1": ("Test accuracy, top-1", "%", 2),
    "test/loss": ("Test loss", "", 3),
    "train/loss": ("Training loss", "", 3),
    "loss/generator": ("Generator's loss", "", 3),
    "loss/discriminator": ("Discriminator's loss", "", 3),
}
FAMILIES = {"nest": "NesT", "gan_nest": "NesT decoder"}
OTHER = "others"


@dataclass(frozen=True)
class Curves:
    """Curves of records that have epochs or steps; shows itself in Jupyter and in the book.

    Raises:
        ValueError: no record with a curve.
    """

    records: Sequence[Record]
    stem: str = "curves"

    def __post_init__(self):
        if not self.records:
            raise ValueError("no record has epochs; run `nest train` and commit one")

    def _repr_html_(self) -> str:
        data = json.dumps(self.data(), separators=(",", ":")).replace("<", "\\u003c")
        return (
            f'<div class="nest-curves mathjax_ignore" id="{self.stem}" role="region" '
            f'aria-label="Training curves">\n<style>\n{read_page(STYLE)}</style>\n'
            f'<div class="nc-view"></div>\n{self._table()}\n'
            f'<script type="application/json" class="nc-data">{data}</script>\n'
            f"<script>\n{page_script(SCRIPTS)}</script>\n</div>"
        )

    def __repr__(self) -> str:
        return f"<Curves of {len(self.records)} records>"

    def data(self) -> dict:
        """What the script draws: metrics, and for each run its numbers by epoch or step."""
        metrics = [
            {"key": key, "label": label, "unit": unit, "digits": digits}
            for key, (label, unit, digits) in METRICS.items()
            if any(key in epoch for record in self.records for epoch in record.epochs)
        ]
        return {"metrics": metrics, "runs": [_run(record) for record in self.records]}

    def _table(self) -> str:
        """The first metric that each run has, epoch by epoch, in a table that opens."""
        rows = "".join(_table_row(record) for record in self.records)
        head = "".join(f'<th scope="col">{name}</th>' for name in ("Record", "What", "Values"))
        return (
            f"<details><summary>The numbers of all {len(self.records)} curves</summary>"
            f'<div style="overflow-x:auto"><table class="table"><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table></div></details>"
        )


def training_curves(store: Store) -> Curves:
    """Curves of all committed records that trained something."""
    found = [record for record in store.all_committed() if _metrics_of(record)]
    return Curves(found)


def _metrics_of(record: Record) -> list[str]:
    return [key for key in METRICS if any(key in epoch for epoch in record.epochs)]


def _unit_of(record: Record) -> str:
    return "step" if "step" in record.epochs[0] else "epoch"


def _run(record: Record) -> dict:
    unit, digits = _unit_of(record), {key: how[2] for key, how in METRICS.items()}
    dataset, _, name = record.recipe["name"].partition("/")
    return {
        "id": record.run_id,
        "dataset": dataset,
        "family": family_of(name),
        "unit": unit,
        "x": [epoch[unit] for epoch in record.epochs],
        "y": {
            key: [
                round(epoch[key], digits[key]) if key in epoch else None for epoch in record.epochs
            ]
            for key in _metrics_of(record)
        },
    }


def family_of(name: str) -> str:
    """NesT, its decoder, or another: nest_narrow_depth2 is a NesT."""
    for start in sorted(FAMILIES, key=len, reverse=True):
        if name.startswith(start):
            return FAMILIES[start]
    return OTHER


def _table_row(record: Record) -> str:
    key = _metrics_of(record)[0]
    label, unit, digits = METRICS[key]
    values = ", ".join(f"{epoch[key]:.{digits}f}" for epoch in record.epochs if key in epoch)
    by = f"{label}{f' ({unit})' if unit else ''} by {_unit_of(record)}"
    return (
        f'<tr><th scope="row">{html.escape(record.run_id)}</th><td>{by}</td><td>{values}</td></tr>'
    )
