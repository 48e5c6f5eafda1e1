"""Every committed record in one table: what ran, where, how long, and what came out."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from nestbook.report.tables import Cell, Link, Number, Table
from nestlib.records import Record, Store

FOLDER = "experiments/records"
# By their names in a record: those of any classifier's features, and Inception's.
SCORES = {
    "classifier_score": "classifier score", "inception_score": "inception score",
    "frechet_distance": "Fréchet distance", "fid": "FID",
}  # fmt: skip
WAY = "GradCAT, positive, place, normed"  # the default


def records_table(store: Store) -> Table:
    """A row a committed record; the first cell leads to its file."""
    found = store.all_committed()
    kinds = [record.kind for record in found]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    return Table(
        f"All {len(found)} committed records",
        ("Record", "Kind", "Headline", "n", "Minutes", "Hardware", "Commit", "Recipe"),
        [_row(record) for record in found],
        [f"By kind: {counts}",
         "Minutes of wall time from start to end, other work on the machine included. A headline "
         "is one number of the record; the pages show the rest and say what it is worth",
         "n: what the headline is over. A run is one seed. A commit with + had changed files"],
    )  # fmt: skip


def _row(record: Record) -> tuple[Cell, ...]:
    env, recipe = record.environment, record.recipe
    began, ended = (datetime.fromisoformat(env[key]) for key in ("started", "finished"))
    n, headline = headline_of(record)
    return (
        Link(record.run_id, f"{FOLDER}/{record.run_id}.json"),
        record.kind,
        headline,
        n,
        Number((ended - began).total_seconds() / 60, record.run_id, 1),
        env["device"],
        (env["commit"] or "unknown")[:7] + ("+" if env["dirty"] else ""),
        recipe.get("name") or recipe.get("run") or recipe.get("profile") or "-",
    )


def headline_of(record: Record) -> tuple[str, str]:
    """What a record's main number is over, and the number in words."""
    summary, recipe = record.summary, record.recipe
    if record.kind == "train":
        value, split = record.top1
        of = {"test": "test top-1", "held_out": "top-1 on training images held out"}[split]
        top1 = f"{value:.2f} % {of}, epoch {summary['reported_epoch']}"
        return f"1 run, seed {recipe['seed']}", top1
    if record.kind == "gan":
        failed = ", failed" if summary["status"] == "failed" else ""
        steps = f"generator after {summary['reported_step'] or 0} steps{failed}"
        return f"1 run, seed {recipe['seed']}", steps
    if record.kind == "score":
        found = [f"{text} {summary[name]:.2f}" for name, text in SCORES.items() if name in summary]
        text = ", ".join([*found, f"network {recipe['network']}"])
        return f"{summary['num_samples']:,} samples", text
    if record.kind == "evaluate":
        return f"{summary['images']:,} images", f"{summary['top1']:.2f} % top-1"
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
