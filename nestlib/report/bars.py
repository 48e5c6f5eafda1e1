"""A plan's bars as a table: accuracy over seeds, and what the draw of test images alone moves."""

from collections.abc import Mapping, Sequence

from nestlib.measure.accuracy import sampling_half_width
from nestlib.records import Record
from nestlib.report.table1 import describe_runs, mean_top1
from nestlib.report.tables import NOT_RUN, Number, Table


def bars_table(title: str, found: Mapping[tuple[str, ...], Sequence[Record]]) -> Table:
    """A row a bar of a plan (nestlib.plans), from what `nestlib.sweeps.load_plan` found.

    Quick runs, narrow models on digits, are named as such: they check a figure's path.
    """
    rows, notes = [], []
    for key, records in found.items():
        name = ", ".join(key)
        if not records:
            rows.append((name, NOT_RUN, "", "", ""))
            continue
        top1, images = mean_top1(records, 2), records[0].environment["data"]["test"]["images"]
        budget = records[0].recipe["budget"]
        half = Number(sampling_half_width(top1.value, images), records[0].run_id, 2)
        rows.append((name, top1, half, str(top1.n), budget))
        notes.append(f"{describe_runs(name, records)}; {images:,} test images")
    return Table(
        title,
        ("Bar", "Top-1 (%)", "Sampling ±", "n", "Budget"),
        rows,
        ["Mean ± standard deviation over n seeds of the last epoch; sampling ± is the 95 % "
         "half-width of one such score for the draw of test images. Quick runs are narrow models "
         "on digits and no result of the paper",
         *notes],
    )  # fmt: skip
