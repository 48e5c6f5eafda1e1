"""Ways to attend within blocks, beside the rule."""

from collections.abc import Mapping

from nestlib.report.tables import Cell, Table, median_of

RULE = "fused"
MODES = {"forward": "forward", "train": "training"}


def attention_table(measured: Mapping, source: str) -> Table:
    """A row a shape: the rule's time, and what every other way takes of it.

    Args:
        measured: what `nestlib.measure.attention.attention_choices` returned.
        source: a record id.
    """
    settings, rows = measured["settings"], measured["rows"]
    others = [choice for choice in rows[0]["seconds"] if choice != RULE]
    batches = ", ".join(f"{name} {size}" for name, size in settings["batch_sizes"].items())
    return Table(
        f"Attention within blocks: time of the rule ({RULE}), and of other ways as times that",
        ("Model", "Level", "Blocks", "Patches", "Heads x width",
         *(f"{RULE}, {text} (ms)" for text in MODES.values()),
         *(f"{choice}, {text}" for choice in others for text in MODES.values())),
        [_row(row, others, source) for row in rows],
        [
            f"{source}: {settings['device']}, {settings['threads']} threads, "
            f"{settings['precision']}, torch {settings['torch']}, {settings['rounds']} rounds in "
            f"turn of {settings['seconds_per_round']:g} s or more; batch: {batches}; median ± half "
            "range of the rounds' own ratios",
            "Training: with the backward pass, from the heads' joined output to the output of the "
            "linear map of queries, keys and values",
            *(_verdict(rows, mode, text) for mode, text in MODES.items()),
        ],
    )  # fmt: skip


def _row(row: Mapping, others: list[str], source: str) -> tuple[Cell, ...]:
    seconds = row["seconds"]
    form = f"{row['heads']} x {row['head_dim']}" + (", one key" if row["multi_query"] else "")
    times = [median_of([1e3 * s for s in seconds[RULE][mode]], source) for mode in MODES]
    ratios = [
        median_of([a / b for a, b in zip(seconds[choice][mode], seconds[RULE][mode])], source)
        for choice in others for mode in MODES
    ]  # fmt: skip
    names = (row["model"], *(str(row[key]) for key in ("level", "blocks", "patches")), form)
    return (*names, *(number or "" for number in (*times, *ratios)))


def _verdict(rows: list[Mapping], mode: str, text: str) -> str:
    """What it costs to keep one rule: all shapes' time under it, and under each shape's best."""
    rule = sum(_median(row, RULE, mode) for row in rows)
    best = sum(min(_median(row, choice, mode) for choice in row["seconds"]) for row in rows)
    return (
        f"{text.capitalize()}: the best way for each shape would save "
        f"{100 * (1 - best / rule):.1f} % of these shapes' time under the one rule"
    )


def _median(row: Mapping, choice: str, mode: str) -> float:
    return median_of(row["seconds"][choice][mode], "").value
