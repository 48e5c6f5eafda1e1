"""Figures 7 and A3: what generators score, what they cost, and each page's sentence."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from nestbook.claims.verdict import mean_half_width
from nestbook.evaluations.generators import find_figure7
from nestbook.evaluations.standing import note_unchecked
from nestbook.paper import FIGURE7_BEST_UNSAMPLING, FIGURE7_THROUGHPUT_RATIO
from nestbook.recipes.rows import FIGURE7, FIGURE7_GENERATORS, FIGURE7_UNSAMPLINGS
from nestbook.report.cost import (
    describe_bench,
    is_smoke,
    results,
    rounds_of,
    source_of,
)
from nestbook.report.means import find_sources, join_devices, join_ids, short_device
from nestbook.report.tables import (
    NOT_RUN,
    PAPER,
    Cell,
    Number,
    Sources,
    Table,
    mean_of,
    median_of,
    median_ratio,
    significant,
)
from nestbook.report.words import begin_upper, say_counts
from nestlib.data.datasets import dataset_info
from nestlib.records import Record, Store

Scored = Mapping[str, Sequence[Record]]  # records of scores by row of FIGURE7

# By figure: what is drawn, by Inception-v3's features and by any other network's.
SCORES = {
    "figure7": ("fid", "frechet_distance"),
    "figure_a3": ("inception_score", "classifier_score"),
}
_NAMES = {
    "fid": "FID", "frechet_distance": "Fréchet distance",
    "inception_score": "inception score", "classifier_score": "classifier score",
}  # fmt: skip
BETTER = {"figure7": "lower is better", "figure_a3": "higher is better"}
# What the first of several generators does, before its score.
_FIRST = {
    "fid": "ends closest to the data, with an FID of",
    "frechet_distance": "ends closest to the data, with a Fréchet distance of",
    "inception_score": "has the highest inception score,",
    "classifier_score": "has the highest classifier score,",
}
_NETWORKS = {
    "digits": "a narrow classifier of digits", "lite0": "EfficientNet-Lite0",
    "lite0_64": "EfficientNet-Lite0 at 64x64", "inception": "Inception-v3",
}  # fmt: skip
BASE = "TransGAN"  # what the paper's ratio of speeds is over
FULL_BUDGETS = ("paper", "gpu")  # whose runs make images of 64x64, the paper's data first


class Found(NamedTuple):
    """Scores of figure 7's rows: at 64x64, and of their narrow relatives on digits."""

    full: Scored
    narrow: Scored


def find_scores(store: Store, budget: str, network: str = "") -> Found:
    """At 64x64 the scores of `budget`, or of the first other budget that has any.

    network: as `nestbook.evaluations.generators.find_figure7` takes it.
    """
    budgets = sorted(FULL_BUDGETS, key=lambda one: one != budget)
    full = (find_figure7(store, one, network) for one in budgets)
    return Found(
        next((scored for scored in full if any(scored.values())), {}),
        find_figure7(store, "quick", network),
    )


def find_drawn_bench(here: Record | None, committed: Sequence[Record]) -> Record | None:
    """The one bench that the figure draws: a GPU's if there is one, then the one of most rows."""
    return max(
        results(here, committed), default=None,
        key=lambda r: (r.environment["device_kind"] == "cuda", len(r.summary)),
    )  # fmt: skip


# What the pages show, in words


def say_figure7(found: Found, run: Record | None) -> str:
    """Who ends closest to the data, and NesT's speed over TransGAN's.

    run: the bench that the figure draws.
    """
    ratio = speed_ratio(run, "NesT") if run else None
    if ratio is None:
        speed = f"Speed is not measured here; the paper has {FIGURE7_THROUGHPUT_RATIO} times"
        return f"{_say_first(found, 'figure7')} {speed} {BASE}'s."
    return (
        f"{_say_first(found, 'figure7')} At 64x64, NesT's decoder makes {ratio.value:.2f} times as "
        f"many images per second as {BASE} ({short_device(run.environment['device'])}); in the "
        f"paper it is {FIGURE7_THROUGHPUT_RATIO} times."
    )


def say_figure_a3(found: Found) -> str:
    """Who has the highest score, and whether figure 7's distance puts the same one first."""
    said = _say_first(found, "figure_a3")
    scored = _chosen(found)
    orders = [_order(scored, figure) for figure in ("figure_a3", "figure7")]
    if len(orders[0]) < 2:
        return said
    first, by_distance = (order[0] for order in orders)
    name = name_score(scored, "figure7")
    also = "also " if first == by_distance else ""
    return f"{said} The {name} of figure 7 {also}puts {by_distance} first."


def say_rounds(run: Record | None) -> str:
    """What a chip says of the bench that is drawn; "" without one."""
    if run is None:
        return ""
    return f"speed: measured in {run.recipe['rounds_done']} rounds, {join_devices([run])}"


def _chosen(found: Found) -> Scored:
    """What a sentence is about: 64x64 where it has scores, else digits."""
    return found.full if any(found.full.values()) else found.narrow


def _say_first(found: Found, figure: str) -> str:
    scored = _chosen(found)
    order = _order(scored, figure)
    full = any(found.full.values())
    narrow = "" if full else "narrow "
    where = f"On {dataset_of(scored)} at 64x64" if full else "No run at 64x64 has a score yet"
    if not order:
        return f"{where}, none of the three generators has a score." if full else f"{where}."
    where += ", " if full else f"; on {dataset_of(scored)}, "
    first = order[0]
    name = score_name(shown_of(scored, first)[0], figure)
    if len(order) == 1:
        mean = _say_mean(scored, first, figure)
        return f"{where}only {narrow}{first} has a score: {_NAMES[name]} {mean}."
    other = order[1] if first == "NesT" or "NesT" not in order else "NesT"
    undecided = "one run, undecided"
    again = "one run" if len(shown_of(scored, first)) == 1 else undecided
    return (
        f"{where}{narrow}{first} {_FIRST[name]} {_say_mean(scored, first, figure, undecided)}, "
        f"against {narrow}{other}'s {_say_mean(scored, other, figure, again)}."
    )


def _order(scored: Scored, figure: str) -> list[str]:
    """The generators that have a score, the best mean first."""
    means = {
        name: statistics.fmean(values_of(scored, name, figure))
        for name in FIGURE7_GENERATORS if shown_of(scored, name)
    }  # fmt: skip
    return sorted(means, key=means.get, reverse=figure == "figure_a3")


def _say_mean(scored: Scored, row: str, figure: str, single: str = "one run") -> str:
    """Such as "12.00 (n = 3)"; single: what is said of n = 1."""
    values = values_of(scored, row, figure)
    n = f"n = {len(values)}" if len(values) > 1 else single
    return f"{statistics.fmean(values):.2f} ({n})"


# Tables


def generation_tables(found: Found, figure: str) -> list[Table]:
    """A table for 64x64 and one for digits, of those that have scores.

    The last one says so where nothing at 64x64 has been scored.
    """
    tables = [generation_table(scored, figure) for scored in found if any(scored.values())]
    if tables and not any(found.full.values()):
        tables[-1].notes.append(
            f"Not run yet: the {len(FIGURE7)} generators at 64x64, so the upper panels have no "
            'scores. "nest sweep figure7 --budget gpu" trains them'
        )
    return tables


def generation_table(scored: Scored, figure: str) -> Table:
    """Every row's final score on one data set, and whether the un-samplings' order is decided.

    Figure 7's has the kernel distance too, a second measure of how far samples are from the data.
    """
    rows = [(label_of(row), *_score_cells(shown_of(scored, row), figure)) for row in FIGURE7]
    records = [record for row in FIGURE7 for record in shown_of(scored, row)]
    narrow = "narrow models on " if _is_narrow(scored) else ""
    remarks = dict.fromkeys(r.summary["note"] for r in records if "note" in r.summary)
    kernel = ["Kernel distance"] if figure == "figure7" else []
    return Table(
        f"Generators, {narrow}{dataset_of(scored)} ({BETTER[figure]})",
        ("Generator", begin_upper(name_score(scored, figure)), "95 % interval", *kernel, "n"),
        rows,
        [f"The paper prints curves without numbers and finds {FIGURE7_BEST_UNSAMPLING} the best "
         f"un-sampling. Here {compare_unsamplings(scored, figure)}",
         "Mean ± standard deviation over n runs; the interval is of the mean, by Student's t",
         *remarks, *note_unchecked(records)],
        find_score_sources(records),
    )  # fmt: skip


def label_of(row: str) -> str:
    """A row of FIGURE7 in a list: NesT's with their un-sampling."""
    unsampling = "PS" if row == "NesT" else row
    return f"NesT, {unsampling}" if unsampling in FIGURE7_UNSAMPLINGS else row


def shown_of(scored: Scored, row: str) -> list[Record]:
    """The records of a row without smoke runs."""
    return [record for record in scored.get(row, ()) if not is_smoke(record)]


def values_of(scored: Scored, row: str, figure: str) -> list[float]:
    """The final score of each run of a row."""
    return [record.summary[score_name(record, figure)] for record in shown_of(scored, row)]


def _score_cells(records: Sequence[Record], figure: str) -> tuple[Cell, ...]:
    kernel: list[Cell] = [""] if figure == "figure7" else []
    if not records:
        return NOT_RUN, "", *kernel, ""
    source, name = join_ids(records), score_name(records[0], figure)
    values = [record.summary[name] for record in records]
    if kernel:
        kernels = [record.summary[_kernel_name(record)] for record in records]
        kernel = [mean_of(kernels, source, 4)]
    return mean_of(values, source, 2), _interval(values), *kernel, str(len(values))


def find_score_sources(records: Sequence[Record]) -> Sources | None:
    """One line; below it how scores were made, once for all that were made alike."""
    found = find_sources(records, "score")
    if found is None:
        return None
    samples = " or ".join(f"{n:,}" for n in sorted({r.summary["num_samples"] for r in records}))
    networks = " and ".join(dict.fromkeys(name_network(r) for r in records))
    alike: dict[str, list[Record]] = {}
    for record in records:
        alike.setdefault(describe_making(record), []).append(record)
    details = [f"{making}: {join_ids(same)}" for making, same in alike.items()]
    line = f"{found.line}; {samples} samples each, by the features of {networks}"
    return Sources(line, tuple(details))


def runs_table(trained: Mapping[tuple[str, ...], Sequence[Record]]) -> Table:
    """How the runs themselves went, one row per generator: steps, time, and how they ended."""
    shown = {key: [r for r in found if not is_smoke(r)] for key, found in trained.items()}
    records = [record for found in shown.values() for record in found]
    failures = [
        f"{r.run_id} failed: {r.summary['failure']}" for r in records if "failure" in r.summary
    ]
    return Table(
        "How the runs went",
        ("Generator", "Runs", "Steps", "Seconds per run", "Pixel distance, first", "last"),
        [_run_cells(label_of(", ".join(key)), found) for key, found in shown.items()],
        ["Pixel distance: Fréchet's formula on 8x8 means of patches, of few samples. It shows only "
         "whether a run diverges. Seconds include other work on the same machine", *failures],
        find_sources(records),
    )  # fmt: skip


def _run_cells(label: str, records: Sequence[Record]) -> tuple[Cell, ...]:
    if not records:
        return (label, NOT_RUN, "", "", "", "")
    source, counts = join_ids(records), Counter(record.summary["status"] for record in records)
    distances = [[epoch["sample/pixel_distance"] for epoch in record.epochs] for record in records]
    steps = sorted({record.summary["reported_step"] for record in records})
    return (
        label, ", ".join(f"{count} {status}" for status, count in counts.items()),
        " or ".join(f"{step:,}" for step in steps),
        mean_of([record.summary["train_seconds"] for record in records], source, 0),
        *(mean_of([of_run[end] for of_run in distances], source, 1) for end in (0, -1)),
    )  # fmt: skip


def generators_table(here: Record | None, committed: Sequence[Record]) -> Table:
    """Figure 7, right: parameters and speed of the three generators, and the paper's ratio."""
    runs = results(here, committed)
    several = len(runs) > 1
    rows = [
        (
            name,
            *([_name_machine(run)] if several else []),
            *_measured_cells(run, name, source_of(run, here)),
            _printed_ratio(name),
        )
        for run in runs
        for name in FIGURE7_GENERATORS
    ] or [(name, NOT_RUN, "", "", "", _printed_ratio(name)) for name in FIGURE7_GENERATORS]
    rounds = " or ".join(sorted({str(run.recipe["rounds_done"]) for run in runs}))
    measured = f"Median of {rounds} rounds ± half of their range, which is no standard deviation"
    return Table(
        "Figure 7, right: generators at 64x64",
        ("Generator", *(["Machine"] if several else []), "Params (M)", "GFLOPs per image",
         "Images/s", f"Over {BASE}", "Paper"),
        rows,
        [f"Paper: {FIGURE7_THROUGHPUT_RATIO} times in its text, bars without numbers in its "
         "figure; it names neither GPU, batch size nor precision (D23)",
         *([measured] if runs else [])],
        _bench_sources(runs, here),
    )  # fmt: skip


def _name_machine(run: Record) -> str:
    return f"{short_device(run.environment['device'])}, {run.recipe['precision']}"


def _bench_sources(runs: Sequence[Record], here: Record | None) -> Sources | None:
    found = find_sources(runs, "bench")
    if found is None:
        return None
    return Sources(found.line, tuple(describe_bench(source_of(run, here), run) for run in runs))


def _measured_cells(run: Record, name: str, source: str) -> list[Cell]:
    row, rounds = run.summary.get(name, {}), rounds_of(run, name, "forward")
    counts: list[Cell] = ["", ""]
    if "params" in row:
        counts = [Number(row["params"] / 1e6, source, 2), Number(row["gflops"], source, 2)]
    ratio = speed_ratio(run, name, source) if name != BASE else None
    base = Number(1, source, 0) if name == BASE and rounds else ""
    return [*counts, median_of(rounds, source) or row.get("error", NOT_RUN), ratio or base]


def speed_ratio(run: Record, name: str, source: str = "") -> Number | None:
    """A generator's images/s over TransGAN's: median and half range of the rounds' own ratios."""
    tops, bottoms = (rounds_of(run, row, "forward") for row in (name, BASE))
    return median_ratio(tops, bottoms, source or run.run_id)


def _printed_ratio(name: str) -> Cell:
    ratios = {"NesT": FIGURE7_THROUGHPUT_RATIO, BASE: 1}
    return Number(ratios[name], PAPER, 0) if name in ratios else "no number"


def opinions_tables(scored: Scored, other: Scored) -> list[Table]:
    """The curve of one run of NesT by the features of two networks; [] where one alone judged."""
    by_run = {record.recipe["run"]: record for record in shown_of(scored, "NesT")}
    pairs = [
        (by_run[r.recipe["run"]], r) for r in shown_of(other, "NesT") if r.recipe["run"] in by_run
    ]
    pairs = [(a, b) for a, b in pairs if a.run_id != b.run_id and a.epochs and b.epochs]
    if not pairs:
        return []
    few = " or ".join(f"{n:,}" for n in sorted({row["num_samples"] for row in pairs[0][0].epochs}))
    return [Table(
        "One run of narrow NesT, judged by the features of two networks: its distance to the data",
        ("Features of", "First", "Highest", "at step", "Last", "Final score"),
        [_opinion(record) for record in pairs[0]],
        [f"First, highest and last are points of the curve, of {few} samples each; the final score "
         "is of more"],
        find_score_sources(pairs[0]),
    )]  # fmt: skip


def _opinion(record: Record) -> tuple[Cell, ...]:
    name, source = score_name(record, "figure7"), record.run_id
    highest = max(record.epochs, key=lambda row: row[name])
    first, top, last, final = (
        Number(value, source, 1)
        for value in (record.epochs[0][name], highest[name], record.epochs[-1][name],
                      record.summary[name])
    )  # fmt: skip
    return name_network(record), first, top, f"{highest['step']:,}", last, final


def score_table(record: Record) -> Table:
    """One run's three scores, and its curve."""
    s, source = record.summary, record.run_id
    names = [name for pair in SCORES.values() for name in pair if name in s]
    names.append(_kernel_name(record))
    rows = [
        (name, significant(s[name], source),
         significant(s[f"{name}_std"], source) if f"{name}_std" in s else "")
        for name in names
    ]  # fmt: skip
    curve = " ".join(f"{row['step']}: {row[names[0]]:.3g};" for row in record.epochs)
    remark = f"; {s['note']}" if "note" in s else ""
    return Table(
        f"Scores of {record.recipe['run']}",
        ("Score", "Value", "± over splits or subsets"),
        rows,
        [f"{describe_making(record)}; record {record.run_id}{remark}",
         f"{names[0]} by step: {curve or 'the samples of the run are not on this machine'}"],
    )  # fmt: skip


def compare_unsamplings(scored: Scored, figure: str) -> str:
    """Which un-sampling is best, if three seeds or more of all of them say so."""
    values = {
        unsampling: values_of(scored, "NesT" if unsampling == "PS" else unsampling, figure)
        for unsampling in FIGURE7_UNSAMPLINGS
    }
    if min(map(len, values.values())) < 3:
        return "this is undecided, as there are not three seeds of each un-sampling"
    sign = -1 if figure == "figure_a3" else 1
    means = {name: sign * statistics.fmean(found) for name, found in values.items()}
    best = min(means, key=means.get)
    reach = {name: mean_half_width(found) for name, found in values.items()}
    if all(means[best] + reach[best] < means[name] - reach[name] for name in means if name != best):
        return f"{best} is best, and its interval meets no other"
    return f"this is undecided: {best} has the best mean, but its interval meets another"


def score_name(record: Record, figure: str) -> str:
    """The figure's score under the name that the record's network gives it."""
    return next(name for name in SCORES[figure] if name in record.summary)


def name_network(record: Record) -> str:
    """Whose features a score is by, in short."""
    return _NETWORKS.get(record.recipe["network"], record.summary["feature_network"])


def name_score(scored: Scored, figure: str) -> str:
    """What the figure's score is called with these records; without any, as in the paper."""
    records = _all_of(scored)
    return _NAMES[score_name(records[0], figure) if records else SCORES[figure][0]]


def describe_making(record: Record) -> str:
    """How a score was made, but for its run: equal for all that compare."""
    s = record.summary
    points = {row["num_samples"] for row in record.epochs}
    curve = f", {min(points):,} per point of a curve" if points else ""
    return (
        f"{s['num_samples']:,} samples{curve}, against {s['num_reference']:,} of {s['reference']} "
        f"({s['reference_fingerprint'][:8]}), features of {s['feature_network']} "
        f"({s['feature_weights_sha256'][:8]}), resize {s['resize']}, seed {s['seed']}"
    )


def _all_of(scored: Scored) -> list[Record]:
    return [record for row in scored for record in shown_of(scored, row)]


def dataset_of(scored: Scored) -> str:
    """The data set that the records' runs are of, by its short title; "" without records."""
    records = _all_of(scored)
    if not records:
        return ""
    name = records[0].recipe["run"].split("/")[0]
    return name if name == "digits" else dataset_info(name).title.split(",")[0]


def _is_narrow(scored: Scored) -> bool:
    return any("_narrow" in record.recipe["run"] for record in _all_of(scored))


def join_runs(scored: Scored, rows: Iterable[str]) -> str:
    """How many runs a mark is the mean of: "n = 3", "n = 1 to 3"; "" of none."""
    return say_counts({len(shown_of(scored, row)) for row in rows} - {0})


def _kernel_name(record: Record) -> str:
    return "kid" if "kid" in record.summary else "kernel_distance"


def _interval(values: Sequence[float]) -> str:
    if len(values) < 2:
        return "one run"
    middle, reach = statistics.fmean(values), mean_half_width(values)
    return f"{middle - reach:.2f} to {middle + reach:.2f}"
