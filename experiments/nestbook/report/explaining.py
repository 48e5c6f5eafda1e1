"""What it costs to look into a NesT, in passes of training."""

from collections.abc import Mapping

from nestbook.report.tables import Table, median_of

PASS = "forward and backward"
LIMIT = 1.3  # passes that GradCAT may cost: the aim set before it was written


def explaining_table(measured: Mapping, source: str) -> Table:
    """A row a model: seconds of a pass, and every way to explain as times that.

    Args:
        measured: what `nestbook.profiles.explaining.explaining_costs` returned.
        source: a record id.
    """
    settings, rows = measured["settings"], measured["rows"]
    ways = [step for step in rows[0]["seconds"] if step != PASS]
    return Table(
        "Looking into a NesT: its cost in forward and backward passes of the same batch",
        ("Model", "Pixels", f"{PASS} (s)", *ways, f"GradCAT at most {LIMIT}"),
        [_row(row, ways, source) for row in rows],
        [
            f"{source}: {settings['device']}, {settings['threads']} threads, "
            f"{settings['precision']}, torch {settings['torch']}, {settings['batch_size']} images "
            f"of noise, {settings['rounds']} rounds in turn; median ± half range of the rounds' "
            "own ratios",
            "The pass computes the gradients of all weights, as training does; GradCAT and "
            "Grad-CAM need those of maps alone",
        ],
    )  # fmt: skip


def _row(row: Mapping, ways: list[str], source: str) -> tuple:
    seconds = row["seconds"]
    ratios = {
        way: median_of([a / b for a, b in zip(seconds[way], seconds[PASS])], source) for way in ways
    }
    kept = "yes" if ratios["GradCAT"].value <= LIMIT else "no"
    size = "x".join(map(str, row["image_size"]))
    return row["model"], size, median_of(seconds[PASS], source), *ratios.values(), kept
