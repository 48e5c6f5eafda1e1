"""Table 2: the paper's ImageNet accuracies beside published weights and our own runs."""

from collections.abc import Mapping, Sequence

from nestlib.models import PUBLISHED
from nestlib.paper import TABLE2 as PRINTED
from nestlib.recipes import TABLE2, get_recipe
from nestlib.records import Record, Store
from nestlib.report.pictures import Picture
from nestlib.report.table1 import describe_runs, mean_top1
from nestlib.report.tables import NOT_RUN, PAPER, Cell, Number, Table
from nestlib.report.trade_off import plot_rows

Evaluated = Mapping[str, Record | str]  # by model or recipe: a record, or why there is none


def table2(store: Store, evaluated: Evaluated) -> Table:
    """Top-1 as printed, of published weights as evaluated here, and of our own trained models."""
    rows, notes = [], []
    for name, printed in PRINTED.items():
        recipe = get_recipe(TABLE2[name].recipe)
        trained = store.find_seeds(recipe)
        outcome = evaluated.get(recipe.model)
        rows.append((
            name, printed.group, str(printed.image_size), Number(printed.top1, PAPER),
            PUBLISHED[recipe.model], *_scores(outcome), mean_top1(trained, 2) or NOT_RUN,
        ))  # fmt: skip
        notes += [f"{name}: {describe_evaluation(outcome)}"] if isinstance(outcome, Record) else []
        notes += [describe_runs(name, trained)] if trained else []
    return Table(
        "Table 2, accuracy on ImageNet's 50,000 validation images (%)",
        ("Method", "Architecture", "Pixels", "Top-1, paper", "Published weights (timm)",
         "Top-1, evaluated here", "Top-5, evaluated here", "Top-1, trained here"),
        rows,
        ["Paper: number of runs and spread not given. Published weights are others' runs than the "
         "paper's but for NesT's (D27)", *(notes or ["Nothing evaluated yet: it needs ImageNet"])],
    )  # fmt: skip


def table2_own(store: Store, evaluated: Evaluated) -> Table:
    """Models trained here, scored again by the path that scores published weights."""
    rows, notes = [], []
    for name, outcome in evaluated.items():
        top1, top5 = _scores(outcome)
        trained = [r for r in store.find_seeds(get_recipe(name)) if isinstance(outcome, Record)]
        rows.append((name, mean_top1(trained, 2) or NOT_RUN, top1, top5))
        notes += [f"{name}: {describe_evaluation(outcome)}"] if isinstance(outcome, Record) else []
    return Table(
        "Tiny ImageNet-100, 300 images a class, two epochs: our own runs scored again (chance 1 %)",
        ("Recipe", "Top-1 (%), training record", "Top-1 (%), scored", "Top-5 (%), scored"),
        rows,
        notes,
    )


def _scores(outcome: Record | str | None) -> tuple[Cell, Cell]:
    if not isinstance(outcome, Record):
        return (outcome if isinstance(outcome, str) else NOT_RUN), ""
    # A part of the images is a check of the path; it must not be read as the whole.
    limit = outcome.recipe["limit"]
    mark = "" if limit is None else f" (of {limit:,} images)"
    scores = (outcome.summary[name] for name in ("top1", "top5"))
    return tuple(Number(score, outcome.run_id, 2, mark=mark) for score in scores)


def describe_evaluation(record: Record) -> str:
    """n, device, checksum and record id behind an evaluated accuracy."""
    summary = record.summary
    return (
        f"{summary['images']:,} images, sampling ± {summary['top1_half_width']:.2f}, weights "
        f"sha256 {summary['weights_sha256'][:12]}, {record.environment['device']}, record "
        f"{record.run_id}"
    )


def plot_table2(store: Store, evaluated: Evaluated, here: Record | None,
                committed: Sequence[Record]) -> Picture:  # fmt: skip
    """Accuracy against speed and parameters: as printed, and as measured here."""
    accuracies = {}
    for name, row in TABLE2.items():
        recipe = get_recipe(row.recipe)
        trained, outcome = store.find_seeds(recipe), evaluated.get(recipe.model)
        if trained:
            number = mean_top1(trained, 2)
            accuracies[name] = (number.value, describe_runs("trained here", trained))
        elif isinstance(outcome, Record) and outcome.recipe["limit"] is None:
            source = f"published weights {PUBLISHED[recipe.model]}, {describe_evaluation(outcome)}"
            accuracies[name] = (outcome.summary["top1"], source)
    printed = {name: row.top1 for name, row in PRINTED.items()}
    return plot_rows("table2", "ImageNet top-1 (%)", printed, accuracies, here, committed)
