"""The 29 rows of Tables 1 and 2 as they stand here: what each model is, counts, and trains by."""

import torch

from nestbook.peers import library_of
from nestbook.recipes.rows import TABLES
from nestbook.report.cost import PRINTED, TITLES, best_run, find_bench_sources, rounds_of
from nestbook.report.tables import HERE, NOT_RUN, PAPER, Cell, Number, Table, median_of
from nestlib.data.augmentation import Augmentation
from nestlib.data.datasets import dataset_info
from nestlib.metrics.cost import count_params
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import Recipe
from nestlib.records import Record, Store

TOLERANCE = 0.02  # of the printed parameter count
# Rows whose count is further from the printed one, and where the reason stands.
DEVIATIONS = {
    "table1": {"NesT-T": "D15", "NesT-S": "D15", "PVT-T": "D24"},
    "table2": {"ResNet-50": "D26", "Swin-T": "D26"},
}

_DATASETS = {"table1": "cifar10", "table2": "imagenet"}
_SETTINGS_NOTES = {
    "table1": [
        "Peak rate: at the batch given; it scales with the batch. Warm-up: epochs. "
        "Clip: largest gradient norm. sgd: Nesterov momentum 0.9. full: crops, flips, RandAugment, "
        "random erasing, MixUp or CutMix, label smoothing",
        "CIFAR-100 has the same recipes, cifar100/...; only the peak rate of CCT-7/3x1 differs: "
        f"{get_recipe('cifar100/cct7_3x1').peak_lr:.3g}",
    ],
    "table2": [],
}


def rows_table(table: str, store: Store) -> Table:
    """The rows of "table1" or "table2": parameters printed and here, one forward pass, one training
    step, and whose code the model is."""
    rows, run = [], best_run(None, store.find_benches(table))
    for name, printed in PRINTED[table].items():
        recipe = get_recipe(TABLES[table][name].recipe)
        params = count_recipe_params(recipe) / 1e6
        seconds = [_seconds(run, name, m) for m in ("forward", "train")] if run else [NOT_RUN, ""]
        rows.append((
            name,
            Number(printed.params_m, PAPER, 1 if table == "table1" else 0),
            Number(params, HERE, 2),
            _difference(table, name, params / printed.params_m - 1),
            *seconds,
            library_of(recipe.model),
        ))  # fmt: skip
    return Table(
        f"Every row of {TITLES[table]}",
        ("Row", "Params (M), printed", "here", "Difference", "Forward pass (s)",
         "Training step (s)", "Model from"),
        rows,
        ["Seconds of one batch, median ± half range of rounds; a training step is forward, "
         "cross-entropy, backward and AdamW"] if table == "table1" else [],
        find_bench_sources([run] if run else []),
    )  # fmt: skip


def say_rows() -> str:
    """How many rows count what the paper prints, and how far off the others are."""
    total, off, worst = 0, [], 0.0
    for table, printed_rows in PRINTED.items():
        total += len(printed_rows)
        names = []
        for name, printed in printed_rows.items():
            params = count_recipe_params(get_recipe(TABLES[table][name].recipe)) / 1e6
            share = abs(params / printed.params_m - 1)
            if share > TOLERANCE:
                names.append(name)
                worst = max(worst, share)
        off += [(table, names)] if names else []
    count = sum(len(names) for _, names in off)
    listed = "; ".join(f"of {TITLES[table]}, {', '.join(names)}" for table, names in off)
    return (
        f"{total - count} of the {total} rows have the printed number of parameters within "
        f"{100 * TOLERANCE:g} %. The other {count} are up to {100 * worst:.1f} % off: {listed}."
    )


def count_recipe_params(recipe: Recipe) -> int:
    """Parameters of a recipe's model with its data set's classes."""
    with torch.device("meta"):
        return count_params(recipe.build_model(dataset_info(recipe.dataset).num_classes))


def _difference(table: str, name: str, share: float) -> str:
    percent = round(100 * share, 1) + 0.0  # no -0.0
    reason = "" if abs(share) <= TOLERANCE else f" ({DEVIATIONS[table].get(name, 'unexplained')})"
    return f"{percent:+.1f} %{reason}"


def _seconds(run: Record, name: str, mode: str) -> Cell:
    row = run.summary.get(name, {})
    seconds = [row["batch_size"] / speed for speed in rounds_of(run, name, mode)]
    return median_of(seconds, run.run_id) or row.get("error", NOT_RUN)


def settings_table(table: str) -> Table:
    """How each row of "table1" or "table2" is trained here."""
    rows = []
    for name, row in TABLES[table].items():
        recipe = get_recipe(row.recipe)
        clip = recipe.clip_grad_norm
        rows.append((
            name, row.recipe.partition("/")[2], recipe.optimizer, f"{recipe.peak_lr:.3g}",
            str(recipe.batch_size), str(recipe.epochs), f"{recipe.warmup_epochs:g}",
            f"{recipe.weight_decay:g}", f"{recipe.drop_path_rate:g}",
            "-" if clip is None else f"{clip:g}", _name_augmentation(recipe.augmentation),
        ))  # fmt: skip
    return Table(
        f"How the rows of {TITLES[table]} are trained here",
        ("Row", f"Recipe: {_DATASETS[table]}/", "By", "Peak rate", "Batch", "Epochs",
         "Warm-up", "Decay", "Drop path", "Clip", "Augmentation"),
        rows,
        _SETTINGS_NOTES[table],
    )  # fmt: skip


def _name_augmentation(augmentation: Augmentation) -> str:
    if augmentation.rand_augment_ops == 0:
        return "crops, flips"
    changes = ["no erasing"] * (augmentation.erase_prob == 0)
    changes += ["colour jitter"] * (augmentation.color_jitter > 0)
    return ", ".join(["full", *changes])
