"""Whether a score of trained weights still stands for its run: it does if it is of the weights that
the run's record names; a run that was trained again has others.

Records of maps keep {run id: SHA-256 of the run's weights} as "weights" in their environment, those
of accuracies and of generators one such sum where they always have.
"""

import warnings
from collections.abc import Iterable
from pathlib import Path

from nestlib.records import Record, Store
from nestlib.runs.weights import record_of

NO_RECORD = "no committed record"


def weights_of(record: Record) -> dict[str, str]:
    """SHA-256 of the weights that a record scores, by run id; {} if it keeps none."""
    if "weights" in record.environment:
        return record.environment["weights"]
    if record.kind == "evaluate":
        sha256, run_id = record.recipe.get("weights_sha256"), record.recipe.get("weights")
    else:
        sha256, run_id = record.summary.get("generator_weights_sha256"), record.recipe.get("run")
    return {run_id: sha256} if sha256 else {}


def why_outdated(record: Record, store: Store, runs_dir: Path | None = None) -> str:
    """Why a score no longer stands for its run, in a line; "" if it does.

    What a score does not keep, and a run without a record, is not held against it.
    """
    for run_id, sha256 in weights_of(record).items():
        run = record_of(run_id, store, runs_dir)
        if run and run.summary.get("weights_sha256") != sha256:
            return (
                f"{record.run_id} is of weights {sha256[:12]}..., which {run_id} no longer has: it "
                "was trained again; score it again"
            )
    return ""


def find_score(run_id: str, store: Store, runs_dir: Path | None = None) -> Record | str:
    """A score that stands for its run, the committed one first, or one line on why there is none.

    run_id: the score's own.
    """
    reasons = []
    for record in store.find_all(run_id):
        reason = why_outdated(record, store, runs_dir)
        if not reason:
            return record
        reasons.append(reason)
    return reasons[0] if reasons else NO_RECORD


def why_none(beginning: str, store: Store, runs_dir: Path | None = None) -> str:
    """Why a committed score whose id has this beginning does not stand; "" if there is none."""
    reasons = (why_outdated(r, store, runs_dir) for r in store.find_committed(beginning))
    return next(filter(None, reasons), "")


def keep_records(found: Iterable[Record | str]) -> list[Record]:
    """The records of what `find_score` found; a warning names each score that is outdated."""
    found = list(found)
    for reason in found:
        if isinstance(reason, str) and reason != NO_RECORD:
            warnings.warn(reason, stacklevel=2)
    return [record for record in found if isinstance(record, Record)]


def note_unchecked(records: Iterable[Record]) -> list[str]:
    """A table's note on scores of runs that keep no SHA-256 of their weights; [] without any."""
    ids = [r.run_id for r in records if not weights_of(r) and "weights" not in r.recipe]
    said = (
        "These records do not keep the SHA-256 of the weights that they score, so it is unknown "
        "whether the runs were trained again since"
    )
    return [f"{said}: {', '.join(ids)}"] if ids else []
