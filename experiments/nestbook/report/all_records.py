"""Every committed record: what ran, where, how long, what came out; each alone and in families."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from nestbook.claims.claim import NO_RECORD
from nestbook.report.inspections import say_inspection
from nestbook.report.means import join_devices, short_device
from nestbook.report.points import MEASURED, Chip, Point
from nestbook.report.tables import Cell, Fold, Link, Number, Table, significant
from nestbook.report.words import say_ends
from nestlib.records import Record, Store

FOLDER = "experiments/records"
# By their names in a record: those of any classifier's features, and Inception's.
SCORES = {
    "classifier_score": "classifier score", "inception_score": "inception score",
    "frechet_distance": "Fréchet distance", "fid": "FID",
}  # fmt: skip
WAY = "GradCAT, positive, place, normed"  # the default
# One of each kind, and several; in the order in which a reader looks for them.
KINDS = {
    "train": ("classifier", "classifiers trained"), "gan": ("generator", "generators trained"),
    "score": ("score of samples", "scores of samples"), "evaluate": ("evaluation", "evaluations"),
    "explain": ("class maps", "scores of class maps"), "bench": ("timing", "timings"),
    "faults": ("fault test", "fault tests"),
    "inspect": ("inspection of data", "inspections of data"),
}  # fmt: skip
_NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


# The page's sentence


def point_of(store: Store) -> Point:
    """How many records there are, of what, how many hours, on what; how many are the paper's runs.

    Those are what was trained at budget paper: the paper's model, data and length.
    """
    found = store.all_committed()
    kinds = [record.kind for record in found]
    names = {kind: KINDS.get(kind, (kind, kind)) for kind in [*KINDS, *kinds]}
    counts = ", ".join(
        f"{kinds.count(kind)} {many if kinds.count(kind) > 1 else one}"
        for kind, (one, many) in names.items() if kind in kinds
    )  # fmt: skip
    papers = sum(
        record.kind in ("train", "gan") and record.recipe["budget"] == "paper" for record in found
    )
    whose = f"{papers or 'None'} of them {'train' if papers > 1 else 'trains'}"
    hours, devices = significant(sum(map(minutes_of, found)) / 60, FOLDER), join_devices(found)
    sentence = (
        f"{len(found)} records stand behind this book: {counts}. They took {hours} hours on "
        f"{devices}. {whose} one of the paper's models on its data at its length."
    )
    measured = Chip(f"measured: {len(found)} records, {devices}", MEASURED)
    runs = f"{papers} run{'s' * (papers > 1)}" if papers else "not run"
    real = Chip(f"paper's data: {runs}", MEASURED if papers else NO_RECORD)
    return Point(sentence, (measured, real))


# The tables


def families_table(store: Store) -> Table:
    """One row per recipe or bench, of all seeds and variants; its name opens to the records."""
    families: dict[tuple[str, str], list[Record]] = {}
    for record in store.all_committed():
        families.setdefault((record.kind, name_family(record)), []).append(record)
    order = list(KINDS)
    found = sorted(
        families.items(),
        key=lambda item: (order.index(item[0][0]) if item[0][0] in KINDS else len(order), item[0]),
    )
    return Table(
        f"{sum(map(len, families.values()))} committed records, by what was run",
        ("Records of", "Records", "Result", "Minutes", "Hardware"),
        [_family_row(name, records) for (_, name), records in found],
        ["A name opens to its records, and each of those to its file. Result: the least to the "
         "greatest. Minutes are wall time, other work on the machine included"],
    )  # fmt: skip


def name_family(record: Record) -> str:
    """What a record shares with those of other seeds, variants and machines."""
    if record.kind in ("train", "gan"):
        return record.recipe["name"]
    if record.kind == "score":
        return f"score by {record.recipe['network']}"
    folder, _, rest = record.run_id.partition("/")
    if "/" in rest:
        return f"{folder}/{rest.partition('/')[0]}"
    return re.sub(r"-(full|quick|smoke)-.*", "", record.run_id)


def _family_row(name: str, records: Sequence[Record]) -> tuple[Cell, ...]:
    minutes = significant(sum(map(minutes_of, records)), f"{len(records)} records of {name}")
    return (
        Fold(name, tuple((_link(record), _say_result(record)) for record in records)),
        Number(len(records), FOLDER, 0),
        merge_headlines([headline_of(record)[1] for record in records]),
        minutes,
        ", ".join(sorted({_processor_of(record) for record in records})),
    )


def _processor_of(record: Record) -> str:
    """Such as "Xeon" of "Intel(R) Xeon(R) Processor, 2 cores": the page's sentence has the rest."""
    return short_device(record.environment["device"]).partition(",")[0]


def _say_result(record: Record) -> str:
    n, headline = headline_of(record)
    return headline if n == "-" or record.kind in ("train", "gan") else f"{headline} ({n})"


def merge_headlines(texts: Sequence[str]) -> str:
    """Texts that differ in numbers alone become one: "9.7 to 60.6 % test top-1, epoch 3 to 10"."""
    forms: dict[str, list[list[str]]] = {}
    for text in texts:
        forms.setdefault(_NUMBER.sub("{}", text), []).append(_NUMBER.findall(text))
    return "; ".join(
        form.format(*(_say_range(numbers) for numbers in zip(*found)))
        for form, found in forms.items()
    )


def _say_range(numbers: Sequence[str]) -> str:
    ordered = sorted(numbers, key=lambda number: float(number.replace(",", "")))
    return say_ends(ordered[0], ordered[-1])


def minutes_of(record: Record) -> float:
    """Of wall time, from start to end."""
    began, ended = (
        datetime.fromisoformat(record.environment[key]) for key in ("started", "finished")
    )
    return (ended - began).total_seconds() / 60


def _link(record: Record) -> Link:
    return Link(record.run_id, f"{FOLDER}/{record.run_id}.json")


def records_table(store: Store) -> Table:
    """One row per committed record; the first cell leads to its file."""
    found = store.all_committed()
    return Table(
        f"All {len(found)} committed records",
        ("Record", "Kind", "Headline", "n", "Minutes", "Hardware", "Commit", "Recipe"),
        [_row(record) for record in found],
        ["A headline is one number of the record; the pages show the rest and say what it is worth",
         "n: what the headline is over. A run is one seed. A commit with + had changed files"],
    )  # fmt: skip


def _row(record: Record) -> tuple[Cell, ...]:
    env, recipe = record.environment, record.recipe
    n, headline = headline_of(record)
    return (
        _link(record),
        record.kind,
        headline,
        n,
        Number(minutes_of(record), record.run_id, 1),
        env["device"],
        (env["commit"] or "unknown")[:7] + ("+" if env["dirty"] else ""),
        recipe.get("name") or recipe.get("run") or recipe.get("profile") or "-",
    )


def headline_of(record: Record) -> tuple[str, str]:
    """What a record's main number is over, and the number in words."""
    summary, recipe = record.summary, record.recipe
    if record.kind == "train":
        value, split = record.top1
        of = {"test": "test top-1", "held_out": "held-out top-1"}[split]
        top1 = f"{value:.2f} % {of}, epoch {summary['reported_epoch']}"
        return f"1 run, seed {recipe['seed']}", top1
    if record.kind == "gan":
        failed = ", failed" if summary["status"] == "failed" else ""
        steps = f"generator after {summary['reported_step'] or 0:,} steps{failed}"
        return f"1 run, seed {recipe['seed']}", steps
    if record.kind == "score":
        found = [f"{text} {summary[name]:.2f}" for name, text in SCORES.items() if name in summary]
        text = ", ".join([*found, f"network {recipe['network']}"])
        return f"{summary['num_samples']:,} samples", text
    if record.kind == "evaluate":
        return f"{summary['images']:,} images", f"{summary['top1']:.2f} % top-1"
    if record.kind == "inspect":
        images = sum(part["images"] for part in record.environment["data"].values())
        return f"{images:,} images", say_inspection(record)
    if "gt_known" in summary:
        error = summary["top1"]["best"]["error"]
        return f"{summary['images']:,} images", f"{error:.1f} % top-1 localization error, best cut"
    if "together" in summary:
        four = summary["together"]["four"]
        rate = 100 * four["ways"][WAY]["quadrant"]["rate"]
        return f"{four['queries']:,} queries", f"GradCAT finds {rate:.1f} % of quadrants"
    if "ways" in summary:
        rate = 100 * summary["ways"][WAY]["rate"]
        text = f"blanking GradCAT's block costs more in {rate:.1f} %"
        return f"{summary['images']:,} images", text
    return _timed(summary, recipe)


def _timed(summary: Mapping[str, Any], recipe: Mapping[str, Any]) -> tuple[str, str]:
    """Of a bench or profile: how many things were timed, and in how many rounds."""
    rounds = f"{recipe['rounds']} rounds" if "rounds" in recipe else "-"
    for name in ("rows", "lines", "parts"):
        if isinstance(summary.get(name), list):
            return rounds, f"{len(summary[name])} {name} timed"
    rows = [row for row in summary.values() if isinstance(row, dict) and "params" in row]
    return rounds, f"{len(rows)} models timed" if rows else "see its page"
