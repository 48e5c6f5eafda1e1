"""Ways to compute attention, and linear layers, each beside the one that the rule takes."""

from collections.abc import Callable, Mapping

from nestbook.report.tables import Cell, Table, median_of

MODES = {"forward": "forward", "train": "training"}


def attention_table(measured: Mapping, source: str) -> Table:
    """A row a shape: the rule's choice and time, and what every way takes of it.

    Args:
        measured: what `nestbook.profiles.choices.attention_choices` returned.
        source: a record id.
    """

    def name(row: Mapping) -> tuple[str, ...]:
        form = f"{row['heads']} x {row['head_dim']}" + (", one key" if row["multi_query"] else "")
        return str(row["patches"]), form, str(row["blocks"])

    return _table(
        "Attention within blocks", ("Patches", "Heads x width", "Blocks"), name, measured, source,
        [
            "Fused: torch's scaled_dot_product_attention. Plain: two products with a softmax "
            "between, for 32 patches and fewer with the keys first and the softmax in fp32. "
            "Textbook: the same three steps as most write them",
            "Training: with the backward pass, from the heads' joined output to the output of the "
            "linear map of queries, keys and values",
        ],
    )  # fmt: skip


def products_table(measured: Mapping, source: str) -> Table:
    """A row a layer, likewise; of what `nestbook.profiles.choices.product_choices` returned."""

    def name(row: Mapping) -> tuple[str, ...]:
        words = f"{row['images']} x {row['words']:,}"
        return row["layer"], words, f"{row['width_in']} to {row['width_out']}"

    return _table(
        "Linear layers", ("Layer", "Images x words", "Width"), name, measured, source,
        ["Training: with the gradients of input, weight and bias"],
    )  # fmt: skip


def _table(
    about: str, columns: tuple[str, ...], name: Callable[[Mapping], tuple[str, ...]],
    measured: Mapping, source: str, notes: list[str],
) -> Table:  # fmt: skip
    settings, rows = measured["settings"], measured["rows"]
    choices = list(rows[0]["seconds"])
    return Table(
        f"{about}, {settings['precision']}: the rule's time, and every way's as times that",
        (*columns, "Rule", *(f"rule, {text} (ms)" for text in MODES.values()),
         *(f"{choice}, {text}" for choice in choices for text in MODES.values())),
        [(*name(row), *_cells(row, choices, source)) for row in rows],
        [
            f"{source}: {settings['device']}, {settings['threads']} threads, "
            f"{settings['precision']}, torch {settings['torch']}, {settings['rounds']} rounds in "
            f"turn of {settings['seconds_per_round']:g} s or more; median ± half range of the "
            "rounds' own ratios",
            *notes,
            *(_verdict(rows, mode, text) for mode, text in MODES.items()),
        ],
    )  # fmt: skip


def _cells(row: Mapping, choices: list[str], source: str) -> tuple[Cell, ...]:
    seconds, rule = row["seconds"], row["rule"]
    times = [median_of([1e3 * s for s in seconds[rule][mode]], source) for mode in MODES]
    ratios = [
        "1" if choice == rule else
        median_of([a / b for a, b in zip(seconds[choice][mode], seconds[rule][mode])], source)
        for choice in choices for mode in MODES
    ]  # fmt: skip
    return (rule, *(number or "" for number in (*times, *ratios)))


def _verdict(rows: list[Mapping], mode: str, text: str) -> str:
    """What it costs to keep the rule: all shapes' time under it, and under each shape's best."""
    rule = sum(_median(row, row["rule"], mode) for row in rows)
    best = sum(min(_median(row, choice, mode) for choice in row["seconds"]) for row in rows)
    return (
        f"{text.capitalize()}: the best way for each row would save "
        f"{100 * (1 - best / rule):.1f} % of these rows' time under the rule"
    )


def _median(row: Mapping, choice: str, mode: str) -> float:
    return median_of(row["seconds"][choice][mode], "").value
