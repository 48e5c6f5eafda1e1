"""The input side without a model, beside the training steps that it feeds."""

from collections.abc import Mapping

from nestbook.report.tables import Table, median_of


def input_table(measured: Mapping, source: str) -> Table:
    """How many times as fast as each model's training step batches are made.

    Args:
        measured: what `nestbook.profiles.input_rate.input_rates` returned.
        source: a record id.
    """
    settings = measured["settings"]
    rows = _rows(measured, source)
    if "one_thread" in measured:
        rows += [(f"{name}, one thread", *more) for name, *more in
                 _rows(measured["one_thread"], source)]  # fmt: skip
    height, width = settings["image_size"]
    return Table(
        "Batches made without a model, and whole training steps",
        ("What runs", "Images/s", "Input side, times as fast"),
        rows,
        [f"{source}: {settings['device']}, {settings['threads']} threads, models in "
         f"{settings['precision']}, torch {settings['torch']}, batch {settings['batch_size']} of "
         f"{height}x{width}, {settings['rounds']} rounds in turn of "
         f"{settings['seconds_per_round']:g} s or more; median ± half range of the rounds",
         "Input side: draw from the set in memory, crop, flip, RandAugment, normalise, erase, "
         "MixUp or CutMix, as the trainer does; a training step includes it"],
    )  # fmt: skip


def _rows(measured: Mapping, source: str) -> list[tuple]:
    alone = measured["input"]
    return [("input side alone", median_of(alone, source), "")] + [
        (name, median_of(rates, source), median_of([a / b for a, b in zip(alone, rates)], source))
        for name, rates in measured["training"].items()
    ]
