"""Table 2: the paper's ImageNet accuracies beside published weights and our own runs."""

import math
from collections.abc import Mapping, Sequence

from nestbook.paper import TABLE2 as PRINTED
from nestbook.peers import PUBLISHED
from nestbook.recipes.rows import TABLE2
from nestbook.report.cost import best_run, rounds_of
from nestbook.report.means import describe_runs, find_sources, join_devices, mean_top1
from nestbook.report.pictures import Picture
from nestbook.report.tables import NOT_RUN, PAPER, Cell, Number, Sources, Table, median_ratio
from nestbook.report.trade_off import name_group, plot_rows
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, Store
from nestlib.runs.staleness import find_fresh, find_fresh_seeds

Evaluated = Mapping[str, Record | str]  # by model or recipe: a record, or why there is none


def table2(store: Store, evaluated: Evaluated) -> Table:
    """The paper's table in its form, and beside it top-1 of published weights as scored here and of
    models trained here."""
    rows, notes, found = [], [], []
    for name, printed in PRINTED.items():
        recipe = get_recipe(TABLE2[name].recipe)
        trained = find_fresh_seeds(recipe, store)
        outcome = evaluated.get(recipe.model)
        rows.append((
            name, name_group(printed.group), str(printed.image_size),
            Number(printed.params_m, PAPER, 0), Number(printed.gflops, PAPER),
            Number(printed.images_per_second, PAPER), Number(printed.top1, PAPER),
            _scores(outcome)[0], mean_top1(trained),
        ))  # fmt: skip
        notes += [f"{name}: {describe_outcome(outcome)}"] if isinstance(outcome, str) else []
        found += [*([outcome] if isinstance(outcome, Record) else []), *trained]
    return Table(
        "Table 2, accuracy and cost as the paper prints them, and accuracies found here",
        ("Method", "Architecture", "Size", "Params (M)", "GFLOPs", "Images/s", "Top-1 (%)",
         "Top-1 of published weights, scored here", "Top-1, trained here"),
        rows,
        ["The paper gives no number of runs and no spread", *notes],
        find_sources(found, "record"),
    )  # fmt: skip


def weights_table(evaluated: Evaluated) -> Table:
    """Which published weights stand for each row, and their top-5 here."""
    rows, details = [], []
    for name in PRINTED:
        model = get_recipe(TABLE2[name].recipe).model
        outcome = evaluated.get(model)
        top5 = _scores(outcome)[1] if outcome is not None else NOT_RUN
        rows.append((name, PUBLISHED[model], top5))
        details += [f"{name}: {describe_outcome(outcome)}"] if isinstance(outcome, Record) else []
    scored = [outcome for outcome in evaluated.values() if isinstance(outcome, Record)]
    found = find_sources(scored, "evaluation")
    return Table(
        "Published weights of each row",
        ("Method", "Weights (timm)", "Top-5 (%), scored here"),
        rows,
        ["The weights of ResNet-50, RegNetY-4G and ViT-B/16 are of other runs than those whose "
         "figures the paper prints (D27)"],
        found and Sources(found.line, tuple(details)),
    )  # fmt: skip


def table2_own(store: Store, evaluated: Evaluated) -> Table:
    """Models trained here, scored again by the path that scores published weights."""
    rows, notes, scored = [], [], []
    for name, outcome in evaluated.items():
        trained = find_fresh(get_recipe(name), store)
        top1, top5 = _scores(outcome)
        equal = ""
        if trained is not None and isinstance(top1, Number):
            equal = "yes" if math.isclose(trained.summary["test/top1"], top1.value) else "no"
        rows.append((name, mean_top1([trained] if trained else []), top1, equal, top5))
        scored += [outcome] if isinstance(outcome, Record) else []
        notes += [f"{name}: {describe_outcome(outcome)}"] if isinstance(outcome, str) else []
    return Table(
        "Tiny ImageNet-100, 300 images per class, two epochs: models trained here, scored again "
        "(chance 1 %)",
        ("Recipe", "Top-1 (%), training record", "Top-1 (%), scored", "Equal", "Top-5 (%), scored"),
        rows,
        notes,
        find_sources(scored, "evaluation"),
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


def plot_table2(
    store: Store, evaluated: Evaluated, here: Record | None, committed: Sequence[Record]
) -> tuple[Picture, Picture]:
    """Accuracy against speed, and against parameters: as printed, and as measured here."""
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


def say_table2(
    store: Store, evaluated: Evaluated, here: Record | None, committed: Sequence[Record]
) -> str:
    """What NesT-B's accuracy costs beside Swin-B, and what of the accuracies was found here."""
    top1 = {name: row.top1 for name, row in PRINTED.items()}
    ours = top1["NesT-B"]
    second = max((name for name in top1 if not name.startswith("NesT")), key=top1.__getitem__)
    return (
        f"In the paper NesT-B leads the {len(top1) - 1} others with {ours} %, "
        f"{ours - top1[second]:.1f} points above {second} and {ours - top1['Swin-B']:.1f} above "
        f"Swin-B, at {_say_speed(here, committed)}. {_say_accuracy(store, evaluated)}"
    )


def _say_speed(here: Record | None, committed: Sequence[Record]) -> str:
    """NesT-B's inference relative to Swin-B's, as printed and as measured."""
    ours, rival = (PRINTED[name].images_per_second for name in ("NesT-B", "Swin-B"))
    printed = f"{ours / rival:.2f} times Swin-B's images per second"
    record = best_run(here, committed)
    if record is None:
        return printed
    rounds = (rounds_of(record, name, "forward") for name in ("NesT-B", "Swin-B"))
    ratio = median_ratio(*rounds, record.run_id)
    return f"{printed} ({ratio} here, {join_devices([record])})" if ratio else printed


def _say_accuracy(store: Store, evaluated: Evaluated) -> str:
    """Of NesT-B here, else how many rows have an accuracy at all."""
    recipes = {name: get_recipe(row.recipe) for name, row in TABLE2.items()}
    trained = {name: find_fresh_seeds(recipe, store) for name, recipe in recipes.items()}
    scored = {name: evaluated.get(recipe.model) for name, recipe in recipes.items()}
    whole = {
        name: outcome for name, outcome in scored.items()
        if isinstance(outcome, Record) and outcome.recipe["limit"] is None
    }  # fmt: skip
    if trained["NesT-B"]:
        top1 = mean_top1(trained["NesT-B"])
        return f"Trained here it reaches {top1} % (n = {top1.n})."
    if "NesT-B" in whole:
        return f"Its published weights score {whole['NesT-B'].summary['top1']:.2f} % here."
    others = {*whole, *(name for name, records in trained.items() if records)}
    if others:
        has = "has" if len(others) == 1 else "have"
        return f"NesT-B has no accuracy from here yet; {len(others)} of the other rows {has} one."
    return "No accuracy has been trained or scored here: that needs ImageNet."
