"""The table of ONNX files' speed in onnxruntime, beside eager torch."""

from collections.abc import Mapping

from nestbook.report.tables import Sources, Table, median_of, median_ratio


def export_table(measured: Mapping, source: str) -> Table:
    """One row per model, batch and number of threads: images/s of both, and their ratio."""
    settings, rows = measured["settings"], measured["rows"]
    largest: dict[str, float] = {row["model"]: row["difference"] for row in rows}
    differences = ", ".join(f"{model} {value:.1g}" for model, value in largest.items())
    return Table(
        "Forward passes of NesT's ONNX files in onnxruntime, beside eager torch, fp32",
        ("Model", "Pixels", "Batch", "Threads", "eager (images/s)", "onnxruntime (images/s)",
         "onnxruntime, times as fast"),
        [_row(row, source) for row in rows],
        ["Median ± half range of the rounds, and of the rounds' own ratios; below 1 is slower",
         f"Largest difference of a logit from eager torch: {differences}"],
        Sources(f"torch {settings['torch']}, onnxruntime {settings['onnxruntime']}, "
                f"{settings['rounds']} rounds in turn",
                (f"{settings['seconds_per_round']:g} s or more per round; noise",)),
    )  # fmt: skip


def _row(row: Mapping, source: str) -> tuple:
    seconds = row["seconds"]
    rates = {way: [row["batch_size"] / s for s in rounds] for way, rounds in seconds.items()}
    return (
        row["model"], "x".join(map(str, row["image_size"])), str(row["batch_size"]),
        str(row["threads"]), median_of(rates["eager"], source),
        median_of(rates["onnxruntime"], source),
        median_ratio(seconds["eager"], seconds["onnxruntime"], source),
    )  # fmt: skip
