"""Figure 8, right: localization errors as printed, as measured here, and against the threshold."""

import statistics
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nestbook.evaluations.standing import note_unchecked
from nestbook.paper import FIGURE8 as PRINTED
from nestbook.paper import FIGURE8_CITED, FIGURE8_LATER
from nestbook.records import Failure
from nestbook.report.pictures import BLUE, GREEN, ORANGE, SKY, VERMILION, Picture, drawing_style
from nestbook.report.tables import NOT_RUN, PAPER, Cell, Number, Table
from nestlib.records import Record

Localized = Mapping[str, Record | str]  # by row of the figure: a record, or why there is none

TITLES = {
    "imagenet": "ImageNet, published weights",
    "tiny_imagenet": "Tiny ImageNet-100 at 64x64",
    "digits": "Lone digits on 64x64 canvases",
}
# Okabe and Ito's; dashes and marks tell the rows apart where colour does not.
STYLES = {
    "DeiT RollOut": (ORANGE, (0, (1, 1)), "v"),
    "ADL": (SKY, (0, (4, 1.5)), "s"),
    "ACoL": (GREEN, (0, (4, 1.5, 1, 1.5)), "D"),
    "R50 GradCAM++": (VERMILION, (0, (6, 2)), "^"),
    "NesT CAM": (BLUE, "-", "o"),
}


def figure8(published: Localized) -> Table:
    """The paper's table, with published weights scored here, and what later methods print."""
    rows: list[tuple[Cell, ...]] = []
    for row, printed in PRINTED.items():
        outcome = published[row]
        origin = "cited by the paper" if row in FIGURE8_CITED else "the authors' runs"
        scored = isinstance(outcome, Record)
        scores = _errors(outcome, "top1") if scored else (_why_not(outcome), "", "")
        rows.append((row, origin, Number(printed, PAPER), *scores))
    for name, (error, source) in FIGURE8_LATER.items():
        number = Number(error, source, _decimals(error))
        rows.append((name, "later, as its authors print it", number, "", "", ""))
    return Table(
        "Figure 8, right: top-1 localization error on ImageNet's 50,000 validation images (%)",
        ("Method", "Printed figure is of", "Printed", "Published weights, scored here",
         "threshold held out", "Best threshold"),
        rows,
        ["Paper: for each method the threshold that is best on the very boxes that it is scored "
         "by; number of runs not given. Held out: each half of the images at the other half's best",
         *(_describe(row, published[row]) for row in PRINTED)],
    )  # fmt: skip


def localization_table(dataset: str, results: Localized) -> Table:
    """Every row's errors on a data set, with the whole image as a box for comparison."""
    records = _records_of(results)
    rows = [_row(row, result) for row, result in results.items()]
    if records:
        rows = [_whole_image_row(records), *rows, *_ceiling_rows(records)]
    notes = [
        "Top-1: right class and IoU of 0.5 or more with a true box; GT-known: of the true class's "
        "map, whatever the model says. Best: with the threshold that is best on these images, as "
        "the paper does; held out: each half at the other half's best; ± half of Wilson's 95 % "
        "interval for the draw of images. One run a row: seeds differ by more",
        "MaxBoxAccV2: accuracy at IoU 0.3, 0.5 and 0.7, each at its best threshold, averaged "
        "(higher is better). Higher inside: images whose map is higher, on average, inside their "
        "true boxes than outside (50 by chance)",
    ]
    if dataset != "imagenet":
        notes.append(
            "Rows bear the paper's names. Quick ones are narrow relatives, named below: R50 is "
            "then a ResNet of ten layers"
        )
    notes += [_describe(row, result) for row, result in results.items()]
    notes += note_unchecked(records.values())
    return Table(
        f"Localization errors: {TITLES[dataset]} (%)",
        ("Method", "Map", "Class error", "Top-1 loc., best", "held out", "GT-known, best",
         "held out", "Best threshold", "MaxBoxAccV2", "Higher inside"),
        rows,
        notes,
    )  # fmt: skip


def _speed_of_boxes(record: Record) -> tuple[Number | str, Number | str]:
    """Minutes and ratio of `boxes_table`; only records made until 2026 hold them."""
    if "boxes_timed" not in record.summary:
        return "", ""
    timed, source = record.summary["boxes_timed"], record.run_id
    pairs = zip(timed["seconds"]["ours"], timed["seconds"]["one_by_one"])
    ratios = sorted(theirs / ours for ours, theirs in pairs)
    n, ours = len(ratios), statistics.median(timed["seconds"]["ours"]) / timed["maps"]
    return (
        Number(50_000 * ours / 60, source, 1, n),
        Number(statistics.median(ratios), source, 1, n, (ratios[-1] - ratios[0]) / 2),
    )


def boxes_table(results: Localized) -> Table:
    """How fast boxes are found, beside a plain loop, and how often contours would disagree."""
    records = _records_of(results).values()
    return Table(
        "Boxes of maps at 21 thresholds, 224x224 pixels",
        ("Method", "Map", "Minutes for 50,000 maps", "Times as fast as a plain loop",
         "Other box by the largest contour (%)"),
        [_boxes_row(record) for record in records] or [(NOT_RUN, "", "", "", "")],
        [f"One process on {record.environment['device']}, {record.summary['boxes_timed']['maps']} "
         f"maps, record {record.run_id}" for record in records if "boxes_timed" in record.summary]
        + ["Plain loop: cv2.connectedComponentsWithStats of every mask, whose boxes are equal. "
           "Contours: what wsolevaluation chooses by, at the images' own size"],
    )  # fmt: skip


def _boxes_row(record: Record) -> tuple[Cell, ...]:
    return (
        record.summary["row"], _map_size(record), *_speed_of_boxes(record),
        Number(100 * record.summary["contours_disagree"], record.run_id),
    )  # fmt: skip


def plot_localization(panels: Mapping[str, Localized], stem: str) -> Picture | Table:
    """GT-known error against the threshold, a panel a data set; the best threshold is marked."""
    records = {name: _records_of(results) for name, results in panels.items()}
    shown = {name: found for name, found in records.items() if found}
    if not shown:
        return Table("Localization error against the threshold", ("Drawn",), [(NOT_RUN,)], [])
    tooltips: dict[str, str] = {}
    with drawing_style():
        figure = Figure(figsize=(7, 2.9), layout="constrained")
        axes = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
        for panel, (name, records) in zip(axes, shown.items()):
            tooltips |= _draw_errors(panel, name, records)
        axes[0].set_ylabel("GT-known localization error (%)")
        handles = {line.get_label(): line for line in axes[0].lines if line.get_label()[0] != "_"}
        figure.legend(
            handles.values(), handles, loc="outside upper center", ncols=len(handles) or 1,
            frameon=False,
        )  # fmt: skip
    best = "; ".join(
        f"{name}, {row}: {record.summary['gt_known']['best']['error']:.1f} % at "
        f"{record.summary['gt_known']['best']['threshold']:.2f}"
        for name, found in shown.items() for row, record in found.items()
    )  # fmt: skip
    text = f"GT-known localization error against the threshold; least: {best}."
    return Picture(figure, stem, text, tooltips)


def best_thresholds(results: Localized) -> dict[str, float]:
    """By row, the threshold with the least GT-known error on the images that it was scored on."""
    return {
        row: record.summary["gt_known"]["best"]["threshold"]
        for row, record in _records_of(results).items()
    }


def _records_of(results: Localized) -> dict[str, Record]:
    return {row: result for row, result in results.items() if isinstance(result, Record)}


def _why_not(result: str) -> str:
    return "failed" if isinstance(result, Failure) else NOT_RUN


def _map_size(record: Record) -> str:
    return "x".join(map(str, record.summary["map_size"]))


def _row(row: str, result: Record | str) -> tuple[Cell, ...]:
    if not isinstance(result, Record):
        return (row, _why_not(result), *[""] * 8)
    summary, source = result.summary, result.run_id
    *top1, _ = _errors(result, "top1")
    return (
        row, f"{summary['method']}, {_map_size(result)}",
        Number(summary["top1_error"], source), *top1,
        *_errors(result, "gt_known"), Number(summary["max_box_acc_v2"], source),
        Number(100 * summary["higher_inside"], source),
    )  # fmt: skip


def _errors(record: Record, score: str) -> tuple[Number, Number, Number]:
    """Best and held-out error with their intervals' half widths, and the best threshold."""
    found, n = record.summary[score], record.summary["images"]
    limit = record.recipe.get("limit")
    mark = "" if limit is None else f" (of {limit:,} images)"
    errors = [
        Number(found[way]["error"], record.run_id, 1, n,
               (found[way]["interval"][1] - found[way]["interval"][0]) / 2, mark)
        for way in ("best", "held_out")
    ]  # fmt: skip
    return *errors, Number(found["best"]["threshold"], record.run_id, 2)


def _whole_image_row(records: Mapping[str, Record]) -> tuple[Cell, ...]:
    """At threshold 0 every map's box is the whole image, so any record has this row's error."""
    record = next(iter(records.values()))
    assert record.summary["thresholds"][0] == 0
    error = Number(record.summary["gt_known"]["errors"][0], record.run_id)
    return ("the whole image", "no map", "", "", "", error, "", "", "", "")


def _ceiling_rows(records: Mapping[str, Record]) -> list[tuple[Cell, ...]]:
    """A row a size of map: the error that is left if a map were the true boxes themselves."""
    rows = {}
    for record in records.values():
        best = record.summary["true_boxes_at_map_size"]["best"]
        error = Number(best["error"], record.run_id)
        threshold = Number(best["threshold"], record.run_id, 2)
        places = _map_size(record)
        rows[places] = ("the true box itself", places, "", "", "", error, "", threshold, "", "")
    return list(rows.values())


def _describe(row: str, record: Record | str) -> str:
    if not isinstance(record, Record):
        return f"{row}: {record}"
    seconds, what = record.summary["seconds"], record.recipe
    trained = what["weights"] if "weights" in what else f"{what['name']}, {what['epochs']} epochs"
    trained += ", weights in fp16" if "rounded_to" in what else ""
    return (
        f"{row}: {trained}; {record.summary['images']:,} images, maps {seconds['maps']:.0f} s, "
        f"boxes {seconds['boxes']:.0f} s, {record.environment['device']}, record {record.run_id}"
    )


def _decimals(value: float) -> int:
    """How many its author printed."""
    return len(str(value).partition(".")[2])


def _draw_errors(axes: Axes, name: str, records: Mapping[str, Record]) -> dict[str, str]:
    tooltips = {}
    axes.set_title(TITLES[name], loc="left")
    axes.set(xlabel="threshold (share of a map's range)", xlim=(-0.02, 1.02), ylim=(0, 103))
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    for row, record in records.items():
        color, dashes, marker = STYLES[row]
        found = record.summary["gt_known"]
        best = found["best"]
        gid = f"{name}-{row}".lower().replace(" ", "-").replace("+", "p")
        axes.plot(
            record.summary["thresholds"], found["errors"], color=color, ls=dashes, lw=1.2,
            marker=marker, ms=6, markevery=[record.summary["thresholds"].index(best["threshold"])],
            mec="white", mew=0.6, label=row, gid=gid,
        )  # fmt: skip
        tooltips[gid] = (
            f"{row}: {best['error']:.1f} % at threshold {best['threshold']:.2f}, held out "
            f"{found['held_out']['error']:.1f} %\n{record.summary['images']:,} images, record "
            f"{record.run_id}"
        )
    return tooltips
