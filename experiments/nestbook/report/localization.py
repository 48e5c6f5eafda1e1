"""Figure 8, right: localization errors as printed, as measured here, and against the threshold."""

import statistics
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nestbook.evaluations.standing import note_unchecked
from nestbook.paper import FIGURE8 as PRINTED
from nestbook.paper import FIGURE8_CITED, FIGURE8_LATER
from nestbook.records import Failure
from nestbook.report.means import find_sources, join_devices
from nestbook.report.pictures import BLUE, GREEN, ORANGE, SKY, VERMILION, Picture, drawing_style
from nestbook.report.tables import NOT_RUN, PAPER, Cell, Number, Sources, Table
from nestlib.records import Record

Localized = Mapping[str, Record | str]  # by row of the figure: a record, or why there is none

OURS = "NesT CAM"
TITLES = {
    "imagenet": "ImageNet, published weights",
    "tiny_imagenet": "Tiny ImageNet-100 at 64x64",
    "digits": "Lone digits on 64x64 canvases",
}
IMAGES = {
    "imagenet": "ImageNet images", "tiny_imagenet": "Tiny ImageNet images",
    "digits": "canvases with one digit",
}  # fmt: skip
MODELS = {"quick": "narrow models", "smoke": "untrained models", None: "published weights"}
COUNTS = ("none", "one", "two", "three", "four")
# Okabe and Ito's; dashes and marks tell the rows apart where colour does not.
STYLES = {
    "DeiT RollOut": (ORANGE, (0, (1, 1)), "v"),
    "ADL": (SKY, (0, (4, 1.5)), "s"),
    "ACoL": (GREEN, (0, (4, 1.5, 1, 1.5)), "D"),
    "R50 GradCAM++": (VERMILION, (0, (6, 2)), "^"),
    OURS: (BLUE, "-", "o"),
}


def say_figure8(
    budget: str, hits: Sequence[bool] | None, imagenet: Localized, tiny: Localized
) -> str:
    """What became of the paper's table, of the walks drawn, and of the table on small images.

    budget: of the models whose walks are drawn, and of tiny's.
    hits: whether each walk that is drawn ends on the object; None where that is not known.
    """
    record, here = tiny[OURS], []
    if hits is not None:
        ends = "end on their digits" if sum(hits) > 1 else "ends on its digit"
        here.append(f"{COUNTS[sum(hits)]} of the {COUNTS[len(hits)]} walks drawn {ends}")
    if isinstance(record, Record):
        here.append(say_misses(record))
    said = [_say_published(imagenet[OURS])]
    if here:
        said.append(f"With {_models(budget)}, {', and '.join(here)}.")
    return " ".join(said)


def say_misses(record: Record) -> str:
    """How often boxes from NesT's class maps miss the object of Tiny ImageNet."""
    return (
        f"boxes from NesT's class maps miss the object in {_say_error(record)} of "
        f"{record.summary['images']:,} {IMAGES['tiny_imagenet']}, {_against_whole(record)}"
    )


def _say_published(result: Record | str) -> str:
    if not isinstance(result, Record):
        return "The paper's table has not been scored on ImageNet here."
    error = result.summary["top1"]["best"]["error"]
    return (
        f"NesT's class maps are wrong for {error:.1f} % of {result.summary['images']:,} ImageNet "
        f"images here, for {PRINTED[OURS]} % in the paper."
    )


def _say_error(record: Record) -> str:
    return f"{record.summary['gt_known']['held_out']['error']:.1f} %"


def _against_whole(record: Record) -> str:
    """The error of the whole image as the box, and whether the record's interval is below it."""
    low, high = record.summary["gt_known"]["held_out"]["interval"]
    whole = record.summary["gt_known"]["errors"][0]
    word = "better than" if high < whole else "worse than" if low > whole else "no better than"
    return f"{word} the whole image as the box ({whole:.1f} %)"


def _models(budget: str | None) -> str:
    return MODELS.get(budget, "models trained here")


def say_figure_a4(dataset: str, results: Localized, shown: Sequence[str]) -> str:
    """On how many images NesT's map is higher on the object than around it, and its rivals' are.

    shown: the rows whose maps are drawn, NesT's among them.
    """
    records = {row: record for row, record in _records_of(results).items() if row in shown}
    if OURS not in records:
        return f"No class map of NesT has been scored on {IMAGES[dataset]} here."
    shares = {row: 100 * record.summary["higher_inside"] for row, record in records.items()}
    ours, images = shares.pop(OURS), records[OURS].summary["images"]
    others = " and ".join(f"{row}'s in {share:.1f} %" for row, share in shares.items())
    compared = f" ({others})" if others else ""
    end = ""
    if shares and ours < min(shares.values()):
        end = " The paper shows the opposite on three birds."
    return (
        f"NesT's class map is higher on the object than around it in {ours:.1f} % of {images:,} "
        f"{IMAGES[dataset]}{compared}.{end}"
    )


def say_measured(results: Localized) -> str:
    """What the records were measured on, for a chip; "" of none."""
    records = [*_records_of(results).values()]
    if not records:
        return ""
    models = _models(records[0].recipe.get("budget"))
    return f"measured: {models}, n = 1, {join_devices(records)}"


def printed_beside(imagenet: Localized, tiny: Localized) -> Table:
    """The paper's small table, with the same methods scored here where there are records."""
    columns = {"ImageNet, paper": {row: Number(error, PAPER) for row, error in PRINTED.items()}}
    for title, results in (("ImageNet, here", imagenet), ("Tiny ImageNet, here", tiny)):
        found = {
            row: Number(record.summary["top1"]["best"]["error"], record.run_id)
            for row, record in _records_of(results).items()
        }
        columns |= {title: found} if found else {}
    rows = [(_mark_own(row), *(c.get(row, "") for c in columns.values())) for row in PRINTED]
    return Table("Top-1 localization error (%)", ("Method", *columns), rows)


def _mark_own(row: str) -> str:
    """As the paper marks the rows that it has run itself."""
    return row if row in FIGURE8_CITED else f"{row} §"


def figure8(published: Localized) -> Table:
    """The paper's table, with published weights scored here, and what later methods print."""
    rows: list[tuple[Cell, ...]] = []
    for row, printed in PRINTED.items():
        outcome = published[row]
        scored = isinstance(outcome, Record)
        scores = _errors(outcome, "top1") if scored else (_why_not(outcome), NOT_RUN, NOT_RUN)
        rows.append((_mark_own(row), Number(printed, PAPER), *scores))
    for name, (error, source) in FIGURE8_LATER.items():
        rows.append((name, Number(error, source, _decimals(error)), "", "", ""))
    return Table(
        "Figure 8, right: top-1 localization error on ImageNet's 50,000 validation images (%)",
        ("Method", "Printed", "Scored here", "Here, held out", "Here, threshold"),
        rows,
        ["§: run by the paper's authors, who cite the other two rows. Later methods: as their own "
         "authors print them",
         *_reasons(published)],
        _sources(published),
    )  # fmt: skip


def localization_table(dataset: str, results: Localized, *, explain: bool = True) -> Table:
    """Every row's errors on a data set, with the whole image as a box for comparison.

    explain: say in notes what the columns are; once on a page.
    """
    records = _records_of(results)
    rows = [_row(row, result) for row, result in results.items()]
    if records:
        rows = [_whole_image_row(records), *rows, *_ceiling_rows(records)]
    explained = [
        "Top-1: the class is right, and the box overlaps a true box with an IoU of 0.5 or more. "
        "GT-known: the map is that of the true class, whatever the model predicts. Best: at the "
        "threshold that is best on these images, as in the paper. Held out: each half of the "
        "images at the other half's best threshold",
        "MaxBoxAccV2: accuracy at an IoU of 0.3, 0.5 and 0.7, averaged (higher is better). Higher "
        "inside: images whose map is higher inside their true boxes than outside. First and last "
        "row: what a map that says nothing, and a perfect map of this size, would score",
        "One run per row. ± is half of the 95 % interval for the draw of images; seeds differ by "
        "more" + ("" if dataset == "imagenet" else ". The models are narrow relatives of those "
                  "named: R50 is a ResNet of ten layers"),
    ]  # fmt: skip
    return Table(
        f"Localization errors (%): {TITLES[dataset]}",
        ("Method", "Class error", "Top-1, best", "Top-1, held out", "GT-known, best",
         "GT-known, held out", "Threshold", "MaxBoxAccV2", "Higher inside"),
        rows,
        (explained if explain else []) + _reasons(results),
        _sources(results),
    )  # fmt: skip


def _reasons(results: Localized) -> list[str]:
    """Why rows have no record, each reason once."""
    rows: dict[str, list[str]] = {}
    for row, result in results.items():
        if not isinstance(result, Record):
            rows.setdefault(result, []).append(row)
    return [f"{', '.join(names)}: {reason}" for reason, names in rows.items()]


def _sources(results: Localized) -> Sources | None:
    records = _records_of(results)
    sources = find_sources(records.values(), "score")
    if sources is None:
        return None
    details = [_describe(row, record) for row, record in records.items()]
    return Sources(sources.line, (*details, *note_unchecked(records.values())))


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
    records, title = _records_of(results), "Boxes of maps at 21 thresholds, 224x224 pixels"
    if not records:
        return Table(title, ("Method",), [(NOT_RUN,)])
    timed = [r for r in records.values() if "boxes_timed" in r.summary]
    maps = " or ".join(sorted({str(r.summary["boxes_timed"]["maps"]) for r in timed}))
    sources = find_sources(timed, "score")
    return Table(
        title,
        ("Method", "Minutes per 50,000 maps", "Times as fast as a plain loop",
         "Other box by contours (%)"),
        [_boxes_row(record) for record in records.values()],
        ["Plain loop: cv2.connectedComponentsWithStats of every mask; its boxes are equal. "
         "Contours: wsolevaluation chooses by them, at the images' own size"],
        sources and Sources(f"{sources.line}, one process, {maps} maps", sources.details),
    )  # fmt: skip


def _boxes_row(record: Record) -> tuple[Cell, ...]:
    return (
        record.summary["row"], *_speed_of_boxes(record),
        Number(100 * record.summary["contours_disagree"], record.run_id),
    )  # fmt: skip


def plot_localization(panels: Mapping[str, Localized], stem: str) -> Picture | Table:
    """GT-known error against the threshold, one panel per data set; the best one is marked."""
    records = {name: _records_of(results) for name, results in panels.items()}
    shown = {name: found for name, found in records.items() if found}
    if not shown:
        return Table("Localization error against the threshold", ("Drawn",), [(NOT_RUN,)])
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
        return (row, _why_not(result), *[""] * 7)
    summary, source = result.summary, result.run_id
    *top1, _ = _errors(result, "top1")
    return (
        row, Number(summary["top1_error"], source), *top1,
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
    return ("whole image", "", "", "", error, "", "", "", "")


def _ceiling_rows(records: Mapping[str, Record]) -> list[tuple[Cell, ...]]:
    """One row per size of map: the error that is left if a map were the true boxes themselves."""
    rows = {}
    for record in records.values():
        best = record.summary["true_boxes_at_map_size"]["best"]
        error = Number(best["error"], record.run_id)
        threshold = Number(best["threshold"], record.run_id, 2)
        places = _map_size(record)
        rows[places] = (f"true box as {places} map", "", "", "", error, "", threshold, "", "")
    return list(rows.values())


def _describe(row: str, record: Record) -> str:
    seconds, what = record.summary["seconds"], record.recipe
    trained = what["weights"] if "weights" in what else f"{what['name']}, {what['epochs']} epochs"
    trained += ", weights in fp16" if "rounded_to" in what else ""
    return (
        f"{row}: {record.summary['method']}, {_map_size(record)}; {trained}; "
        f"{record.summary['images']:,} images, maps {seconds['maps']:.0f} s, boxes "
        f"{seconds['boxes']:.0f} s, {record.environment['device']}, record {record.run_id}"
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
