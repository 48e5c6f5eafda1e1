"""Table 2: the paper's ImageNet accuracies beside published weights and our own runs."""

import math
from collections.abc import Mapping, Sequence

from nestbook.paper import TABLE2 as PRINTED
from nestbook.peers import PUBLISHED
from nestbook.recipes.rows import TABLE2
from nestbook.report.means import describe_runs, mean_top1
from nestbook.report.pictures import Picture
from nestbook.report.tables import NOT_RUN, PAPER, Cell, Number, Table
from nestbook.report.trade_off import plot_rows
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, Store
from nestlib.runs.staleness import find_fresh, find_fresh_seeds

Evaluated = Mapping[str, Record | str]  # by model or recipe: a record, or why there is none


def table2(store: Store, evaluated: Evaluated) -> Table:
    """Top-1 as printed, of published weights as evaluated here, and of our own trained models."""
    rows, notes = [], []
    for name, printed in PRINTED.items():
        recipe = get_recipe(TABLE2[name].recipe)
        trained = find_fresh_seeds(recipe, store)
        outcome = evaluated.get(recipe.model)
        rows.append((
            name, printed.group, str(printed.image_size), Number(printed.top1, PAPER),
            PUBLISHED[recipe.model], *_scores(outcome), mean_top1(trained),
        ))  # fmt: skip
        notes += [f"{name}: {describe_outcome(outcome)}"] if outcome is not None else []
        notes += [describe_runs(name, trained)] if trained else []
    return Table(
        "Table 2, accuracy on ImageNet's 50,000 validation images (%)",
        ("Method", "Architecture", "Pixels", "Top-1, paper", "Published weights (timm)",
         "Top-1, scored here", "Top-5, scored here", "Top-1, trained here"),
        rows,
        ["Paper: number of runs and spread not given. The weights of ResNet-50, RegNetY-4G and "
         "ViT-B/16 are of other runs than those whose figures are printed (D27)",
         *(notes or ["Nothing scored yet: it needs ImageNet"])],
    )  # fmt: skip


def table2_own(store: Store, evaluated: Evaluated) -> Table:
    """Models trained here, scored again by the path that scores published weights."""
    rows, notes = [], []
    for name, outcome in evaluated.items():
        trained = find_fresh(get_recipe(name), store)
        top1, top5 = _scores(outcome)
        equal = ""
        if trained is not None and isinstance(top1, Number):
            equal = "yes" if math.isclose(trained.summary["test/top1"], top1.value) else "no"
        rows.append((name, mean_top1([trained] if trained else []), top1, equal, top5))
        notes.append(f"{name}: {describe_outcome(outcome)}")
    return Table(
        "Tiny ImageNet-100, 300 images a class, two epochs: our own runs scored again (chance 1 %)",
        ("Recipe", "Top-1 (%), training record", "Top-1 (%), scored", "Equal", "Top-5 (%), scored"),
        rows,
        notes,
    )


def _scores(outcome: Record | str | None) -> tuple[Cell, Cell]:
    if not isinstance(outcome, Record):
        return (NOT_RUN if outcome is None else "not scored"), ""
    # A part of the images is a check of the path; it must not be read as the whole.
    limit = outcome.recipe["limit"]
    mark = "" if limit is None else f" (of {limit:,} images)"
    scores = (outcome.summary[name] for name in ("top1", "top5"))
    return tuple(Number(score, outcome.run_id, 2, mark=mark) for score in scores)


def describe_outcome(outcome: Record | str) -> str:
    """n, device, checksum and record id behind a scored accuracy, or why there is none."""
    if isinstance(outcome, str):
        return f"not scored: {outcome}"
    summary = outcome.summary
    return (
        f"{summary['images']:,} images, sampling ± {summary['top1_half_width']:.2f}, weights "
        f"sha256 {summary['weights_sha256'][:12]}, {outcome.environment['device']}, record "
        f"{outcome.run_id}"
    )


def plot_table2(store: Store, evaluated: Evaluated, here: Record | None,
                committed: Sequence[Record]) -> Picture:  # fmt: skip
    """Accuracy against speed and parameters: as printed, and as measured here."""
    trained_here, published = {}, {}
    for name, row in TABLE2.items():
        recipe = get_recipe(row.recipe)
        trained, outcome = find_fresh_seeds(recipe, store), evaluated.get(recipe.model)
        if trained:
            source = describe_runs("trained here", trained)
            trained_here[name] = (mean_top1(trained).value, source)
        elif isinstance(outcome, Record) and outcome.recipe["limit"] is None:
            source = f"published weights {PUBLISHED[recipe.model]}, {describe_outcome(outcome)}"
            published[name] = (outcome.summary["top1"], source)
    return plot_rows("table2", "ImageNet top-1 (%)", "top1", trained_here, here, committed,
                     published)  # fmt: skip
