"""Figures and tables of runs as data: which recipes, with which seeds, stand behind each bar.

`nest sweep figure5 --budget quick` runs a plan (nestbook.sweeps.runner). A plan maps a bar's key,
words such as ("cifar10", "image", "avgpool3x3"), to its recipes, one a seed. quick trains narrow
models on the digits and checks the path to a figure, never its result; small trains narrow models
on a part of CIFAR-10 and asks what can be asked at that scale (nestbook.sweeps.small); gpu is what
one GPU does, CIFAR-10 for 60 epochs or Tiny ImageNet; paper is what the paper ran.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from typing import Any

from nestbook.recipes.narrow import SMALL_SUBSET, STRONG, STRONG_DIGITS, small_schedule
from nestbook.recipes.rows import FIGURE7, TABLE1, TABLE2
from nestlib.data.augmentation import Augmentation
from nestlib.models import default_options
from nestlib.models.aggregation import AGGREGATIONS
from nestlib.precision import PRECISIONS
from nestlib.recipes.distillation import hard, soft
from nestlib.recipes.named import get_recipe, list_recipes
from nestlib.recipes.recipe import BUDGETS, GanRecipe, Recipe

Key = tuple[str, ...]
Plan = dict[Key, list[Recipe | GanRecipe]]
Bars = dict[Key, tuple[str, dict[str, Any]]]  # a recipe's name and its differences

EPOCHS = (30, 60, 100, 300)  # figure 4
GPU_EPOCHS = 60  # of ablations on CIFAR-10: a fifth of the paper's
FIGURE5 = ("conv3x3_ln_maxpool3x3", "conv3x3_stride2", "avgpool3x3", "patch_merge")
# Figure A1 says of ImageNet "a representative subset"; these are the ones that the text names.
FIGURE_A1_IMAGENET = (*FIGURE5, "query_sampling2x2")
FIGURE7_DATASETS = {"quick": "digits", "gpu": "tiny_imagenet", "paper": "imagenet"}  # by budget
DEPTHS = {1: (2, 3, 4, 5), 2: (2, 3, 4, 5)}  # figure 6, by word size S
HEADS = (1, 2, 3, 6, 12, 24, 48, 96)  # Table A3, at d = 768
CIFAR = ("cifar10", "cifar100")

# What figures 4 and A2 take away. MixUp alone leaves CutMix in every batch, and the reverse.
REMOVALS: dict[str, dict[str, Any]] = {
    "RandomErasing": dict(erase_prob=0.0),
    "RandAugment": dict(rand_augment_ops=0),
    "MixUp": dict(mixup_alpha=0.0),
    "CutMix": dict(cutmix_alpha=0.0),
    "CutMix&MixUp": dict(mix_prob=0.0),
}
FIGURE4_RIGHT = ("RandomErasing", "RandAugment", "CutMix&MixUp")
ALONE = ("RandomErasing", "RandAugment", "MixUp", "CutMix")  # figure A2, in its order
IN_SEQUENCE = ("RandAugment", "CutMix&MixUp", "RandomErasing")

# Digits: about half a minute of one core a run, a minute or two where S = 1.
QUICK_EPOCHS = (3, 6, 10, 30)  # a tenth of figure 4's
# Strongly augmented digits need more than the five epochs of plain ones to be learnt at all.
QUICK_STRONG = dict(augmentation=STRONG_DIGITS, epochs=10)
PRECISION_CIFAR = dict(train_limit=10_000)  # of cifar10/nest_narrow: its ten epochs in minutes
QUICK_HEADS = (1, 2, 3, 6, 12, 24)  # of d = 48
QUICK_SUBSET = 500
QUICK_DEPTHS = {1: (4, 5), 2: (2, 3, 4, 5)}

# Budget small: some ten minutes of one core a run.
SMALL_EPOCHS = (10, 30, 60, 100)
SMALL_STRONG = dict(augmentation=STRONG)
SMALL_HEADS = (1, 3, 6, 12)  # of d = 48
SMALL_DEPTHS = {1: (4,), 2: (2, 3, 4)}  # a run at S = 1 takes several times as long
SMALL_SUBSETS = (1_000, 2_500, 10_000, 50_000)
# Those of figure A1 that a finding compares, beside figure 5's.
SMALL_DESIGNS = (
    "conv5x5_ln_maxpool3x3", "maxpool3x3_conv3x3_ln", "conv3x3_stride2_ln",
    "conv3x3_ln_avgpool3x3", "query_sampling2x2", "conv1x1_ln_maxpool3x3", "conv3x3_maxpool3x3",
    "conv3x3_ln_maxpool2x2",
)  # fmt: skip
# Peak learning rates of 256 images that budget small chooses from, by optimizer.
RATES = {"adamw": (2e-3, 4e-3, 8e-3), "sgd": (0.1, 0.2, 0.4)}
RATE_HELD_OUT = 5_000  # training images that they are judged on, never the test set


def plan(
    figure: str, budget: str, seeds: Iterable[int] = (0, 1, 2), *, only: str = ""
) -> Plan:  # fmt: skip
    """The recipes of one of SWEEPS at a budget: {key of a bar: one recipe a seed}.

    smoke cuts the quick plan's recipes to seconds, and takes the first seed alone.

    Args:
        only: leave all out but the bars whose key holds this word, or but the run of this id.

    Raises:
        ValueError: an unknown figure or budget, or no such word or run.
    """
    if figure not in SWEEPS:
        raise ValueError(f"no plan {figure!r}; there are {', '.join(SWEEPS)}")
    if budget not in BUDGETS:
        raise ValueError(f"no budget {budget!r}; valid: {', '.join(BUDGETS)}")
    seeds = list(seeds)[:1] if budget == "smoke" else list(seeds)
    bars = SWEEPS[figure]("quick" if budget == "smoke" else budget)
    if not bars:
        raise ValueError(f"{figure} has no runs at budget {budget}")
    runs = {
        key: [get_recipe(name, seed=seed, **changes).at_budget(budget) for seed in seeds]
        for key, (name, changes) in bars.items()
    }  # fmt: skip
    return _pick(runs, only) if only else runs


def _pick(runs: Plan, only: str) -> Plan:
    by_run = {key: [r for r in row if r.run_id == only] for key, row in runs.items()}
    picked = {key: row for key, row in runs.items() if only in key}
    picked = picked or {key: row for key, row in by_run.items() if row}
    if not picked:
        words = sorted({word for key in runs for word in key})
        raise ValueError(f"no bar with {only!r} and no run of that id; words of bars: {words}")
    return picked


def recipe_of(figure: str, budget: str, key: Key) -> Recipe | GanRecipe:
    """The recipe of one bar, of seed 0; the others are not built.

    Raises:
        ValueError: the plan has no such bar.
    """
    bars = SWEEPS[figure](budget)
    if key not in bars:
        raise ValueError(f"{figure} has no bar {key} at budget {budget}; it has {list(bars)}")
    name, changes = bars[key]
    return get_recipe(name, **changes)


def strip(augmentation: Augmentation, removed: Iterable[str]) -> Augmentation:
    """An augmentation without some of REMOVALS."""
    changes = {field: value for name in removed for field, value in REMOVALS[name].items()}
    return replace(augmentation, **changes)


def _stripped(name: str, removed: Iterable[str], strong: dict[str, Any]) -> dict[str, Any]:
    """A recipe's differences: `strong`, or its own augmentation, without some of it."""
    whole = strong.get("augmentation") or get_recipe(name).augmentation
    return {**strong, "augmentation": strip(whole, removed)}


def _options(name: str, **options: Any) -> dict[str, Any]:
    """Model options beside those that a named recipe has. The model's own defaults are left out,
    so that a bar at all defaults is the named recipe itself, and has its record."""
    _, fields = list_recipes()[name]
    defaults = default_options(fields["model"])
    merged = {**fields.get("model_options", {}), **options}
    return {"model_options": {k: v for k, v in merged.items() if v != defaults[k]}}


def _figure4(budget: str) -> Bars:
    """Epochs at the left, one augmentation removed at the right. A run of fewer epochs keeps its
    warm-up, as the paper's schedule does not say otherwise.

    One GPU trains on Tiny ImageNet, S for all as it has no B.
    """
    if budget == "quick":
        left = {"NesT narrow": "digits/nest_narrow", "DeiT narrow": "digits/deit_narrow"}
        right, epochs, strong = left, QUICK_EPOCHS, QUICK_STRONG
    elif budget == "small":
        left = {"NesT narrow": "small/nest_narrow", "DeiT narrow": "small/deit_narrow"}
        right, epochs, strong = left, SMALL_EPOCHS, SMALL_STRONG
    elif budget == "gpu":
        left = {"NesT-S": "tiny_imagenet/nest_small", "DeiT-S": "tiny_imagenet/deit_small"}
        right, epochs, strong = left, EPOCHS, {}
    else:
        left = {"NesT-S": "imagenet/nest_small", "NesT-B": "imagenet/nest_base",
                "DeiT-S": "imagenet/deit_small", "DeiT-B": "imagenet/deit_base"}  # fmt: skip
        right = {"NesT-T": "imagenet/nest_tiny", "DeiT-B": "imagenet/deit_base"}
        epochs, strong = EPOCHS, {}
    schedule = partial(small_schedule, SMALL_SUBSET) if budget == "small" else _shorten
    bars: Bars = {
        ("epochs", model, str(number)): (name, schedule(number))
        for model, name in left.items() for number in epochs
    }  # fmt: skip
    for model, name in right.items():
        for removed in ((), *((one,) for one in FIGURE4_RIGHT)):
            key = ("removed", model, *(removed or ("none",)))
            bars[key] = (name, _stripped(name, removed, strong))
    return bars


def _shorten(epochs: int) -> dict[str, Any]:
    return {"epochs": epochs}


def _aggregations(budget: str, designs: Sequence[str]) -> Bars:
    """One bar where both planes are one function (Design.crosses), else one a plane."""
    datasets, changes = {data: f"{data}/nest_tiny" for data in CIFAR}, {}
    if budget == "quick":
        datasets = {"digits": "digits/nest_narrow"}
    elif budget == "small":
        datasets = {"cifar10": "small/nest_narrow"}
    elif budget == "gpu":
        datasets, changes = {"cifar10": "cifar10/nest_tiny_s2_depth3"}, {"epochs": GPU_EPOCHS}
    return _on_planes(designs, datasets, changes)


def _on_planes(
    designs: Sequence[str], datasets: dict[str, str], changes: dict[str, Any]
) -> Bars:  # fmt: skip
    return {
        (dataset, plane, design): (
            name, _options(name, aggregation=design, aggregation_plane=plane) | changes
        )
        for dataset, name in datasets.items()
        for design in designs
        for plane in (("image", "block") if AGGREGATIONS[design].crosses else ("image",))
    }  # fmt: skip


def _figure5(budget: str) -> Bars:
    bars = _aggregations(budget, FIGURE5)
    if budget == "paper":
        bars |= _on_planes(FIGURE5, {"imagenet": "imagenet/nest_tiny"}, {})
    return bars


def _figure_a1(budget: str) -> Bars:
    """At small the image plane alone of what figure 5 lacks: no finding compares the other."""
    if budget == "small":
        beside = _aggregations(budget, SMALL_DESIGNS)
        return _figure5(budget) | {key: bar for key, bar in beside.items() if key[1] == "image"}
    bars = _aggregations(budget, tuple(AGGREGATIONS))
    if budget == "paper":
        bars |= _on_planes(FIGURE_A1_IMAGENET, {"imagenet": "imagenet/nest_tiny"}, {})
    return bars


def _figure6(budget: str) -> Bars:
    """Depth 2 to 5 at S 1 and 2. One GPU takes T alone; digits lack S = 1 at depths 2 and 3."""
    sizes, depths = {"T": "tiny", "S": "small", "B": "base"}, DEPTHS
    names = {(d, letter): f"{d}/nest_{size}" for d in CIFAR for letter, size in sizes.items()}
    changes = {}
    if budget == "quick":
        names, depths = {("digits", "narrow"): "digits/nest_narrow"}, QUICK_DEPTHS
    elif budget == "small":
        names, depths = {("cifar10", "narrow"): "small/nest_narrow"}, SMALL_DEPTHS
    elif budget == "gpu":
        names, changes = {("cifar10", "T"): "cifar10/nest_tiny"}, {"epochs": GPU_EPOCHS}
    return {
        (*key, f"S={word}", f"depth {depth}"): (
            name, _options(name, patch_size=word, num_hierarchies=depth) | changes
        )
        for key, name in names.items() for word, numbers in depths.items() for depth in numbers
    }  # fmt: skip


def _figure7(budget: str) -> Bars:
    """A key a generator and un-sampling, as the figure names them; NesT is pixel shuffle too.
    Nothing at small: two cores train no generator whose FID would decide anything."""
    if budget == "small":
        return {}
    dataset = FIGURE7_DATASETS[budget]
    narrow = "_narrow" if dataset == "digits" else ""
    return {(row,): (f"{dataset}/{name}{narrow}", {}) for row, name in FIGURE7.items()}


def _figure_a2(budget: str) -> Bars:
    if budget == "quick":
        names = {"DeiT": "digits/deit_narrow", "Swin": "digits/swin_narrow",
                 "NesT": "digits/nest_narrow"}  # fmt: skip
        strong = QUICK_STRONG
    elif budget == "small":
        names = {"DeiT": "small/deit_narrow", "Swin": "small/swin_narrow",
                 "NesT": "small/nest_narrow"}  # fmt: skip
        strong = SMALL_STRONG
    else:
        names = {"DeiT-S": "cifar10/deit_small", "Swin-T": "cifar10/swin_tiny",
                 "NesT-S": "cifar10/nest_small"}  # fmt: skip
        strong = {"epochs": GPU_EPOCHS} if budget == "gpu" else {}
    sequence = list(accumulate(([one] for one in IN_SEQUENCE), initial=[]))
    steps = {
        **{("alone", one): [one] for one in ALONE},
        **{("in sequence", " ".join(taken) or "none"): taken for taken in sequence},
    }
    return {
        (way, model, step): (name, _stripped(name, taken, strong))
        for model, name in names.items() for (way, step), taken in steps.items()
    }  # fmt: skip


def _table_a2(budget: str) -> Bars:
    """Teachers (seed 0 teaches every seed of a student), and students taught hard, as DeiT does;
    soft beside it for the smaller teacher. Digits check the code and are never shown as this table.
    """
    if budget == "quick":
        teachers = {"standard": "digits/pyramid_narrow", "strong": "digits/pyramid_narrow_strong"}
        return _taught("digits", {"PN": teachers}, {"NesT": "digits/nest_narrow"}, QUICK_STRONG)
    if budget == "small":
        pupils = {"NesT": "small/nest_narrow", "DeiT": "small/deit_narrow"}
        bars = _taught("cifar10", {"PN": {"standard": "small/pyramid_narrow"}}, pupils)
        return {key: bar for key, bar in bars.items() if key[-1] != "soft"}
    small = {"standard": "cifar100/pyramid164_48", "strong": "cifar100/pyramid164_48_strong"}
    large = {"standard": "cifar100/pyramid164_270", "strong": "cifar100/pyramid164_270_strong"}
    bars = _taught("cifar100", {"PN-164-48": small, "PN-164-270": large},
                   {"NesT-B": "cifar100/nest_base"})  # fmt: skip
    standard = {"standard": "cifar100/pyramid164_48"}
    bars |= _taught("cifar100", {"PN-164-48": standard}, {"DeiT-B": "cifar100/deit_base"})
    students = {"DeiT-B": "cifar10/deit_base", "NesT-B": "cifar10/nest_base"}
    bars |= _taught("cifar10", {"PN-164-48": {"standard": "cifar10/pyramid164_48"}}, students)
    if budget == "paper":  # "even 86.1% with 1000 epoch"; its teacher is not said, so as with 84.9
        teacher = hard(get_recipe(large["standard"]).run_id)
        bars["cifar100", "NesT-B", "PN-164-270", "standard", "hard", "1000 epochs"] = (
            "cifar100/nest_base",
            {"distillation": teacher, "epochs": 1000},
        )
    return bars


def _taught(
    dataset: str, teachers: dict[str, dict[str, str]], students: dict[str, str],
    strong: dict[str, Any] | None = None,
) -> Bars:  # fmt: skip
    """Keys: (dataset, "teacher", teacher, its augmentation), (dataset, student, "alone") and
    (dataset, student, teacher, its augmentation, kind)."""
    own = strong or {}
    bars: Bars = {(dataset, student, "alone"): (name, own) for student, name in students.items()}
    for title, forms in teachers.items():
        for form, name in forms.items():
            bars[dataset, "teacher", title, form] = (name, {})
            run_id = get_recipe(name).run_id
            lessons = {"hard": hard(run_id)}
            if title != "PN-164-270" and form == "standard":
                lessons["soft"] = soft(run_id)
            for student, recipe in students.items():
                for kind, lesson in lessons.items():
                    key = (dataset, student, title, form, kind)
                    bars[key] = (recipe, {**own, "distillation": lesson})
    return bars


def _table_a3(budget: str) -> Bars:
    """Multi-head keeps the parameters constant; multi-query, the published code's, beside it."""
    name, heads, changes = "cifar10/nest_base", HEADS, {}
    attentions = ("multi_head", "multi_query")
    if budget == "quick":
        name, heads = "digits/nest_narrow", QUICK_HEADS
    elif budget == "small":
        name, heads, attentions = "small/nest_narrow", SMALL_HEADS, ("multi_head",)
    elif budget == "gpu":
        changes = {"epochs": GPU_EPOCHS}
    return {
        (attention, str(number)): (
            name, _options(name, num_heads=number, attention=attention) | changes
        )
        for attention in attentions for number in heads
    }  # fmt: skip


FIGURES: dict[str, Callable[[str], Bars]] = {
    "figure4": _figure4, "figure5": _figure5, "figure6": _figure6, "figure7": _figure7,
    "figure_a1": _figure_a1, "figure_a2": _figure_a2, "table_a2": _table_a2, "table_a3": _table_a3,
}  # fmt: skip


def _precision(budget: str) -> Bars:
    """Does bf16 learn as well as fp32? Every quick recipe, and a narrow NesT on a part of CIFAR-10:
    (recipe, precision). The same at every budget, as it is asked of the CPU's runs."""
    names = {entry.quick: {} for entry in TABLE1.values() if entry.quick}
    names["cifar10/nest_narrow"] = PRECISION_CIFAR
    return {
        (name, precision): (name, {**changes, "precision": precision})
        for name, changes in names.items() for precision in PRECISIONS
    }  # fmt: skip


# The rest is asked at budget small.


def _learning_rates(budget: str) -> Bars:
    """Which rate is each family's? (row of Table 1, rate). A recipe's own rate must be the best of
    its three (tests/test_small.py)."""
    return {
        (row, f"{rate:g}"): (name, {"lr_per_256": rate, "held_out": RATE_HELD_OUT})
        for row, name in _families(budget).items() for rate in RATES[get_recipe(name).optimizer]
    }  # fmt: skip


def _table1(budget: str) -> Bars:
    """The rows that have a narrow relative: (data set, row), as `plan_table1` has them."""
    return {("cifar10", row): (name, {}) for row, name in _families(budget).items()}


def _training_images(budget: str) -> Bars:
    """Accuracy against the number of training images: (model, number). Digits check the path."""
    schedules: dict[str, dict[int, dict[str, Any]]] = {
        "quick": {QUICK_SUBSET: {"train_subset": QUICK_SUBSET}},
        "small": {subset: small_schedule(subset) for subset in SMALL_SUBSETS},
    }
    folder = "digits" if budget == "quick" else "small"
    return {
        (f"{family} narrow", f"{subset:,}"): (f"{folder}/{family.lower()}_narrow", schedule)
        for family in ("NesT", "DeiT", "WRN")
        for subset, schedule in schedules.get(budget, {}).items()
    }


def _flagship(budget: str) -> Bars:
    """A model of the paper at its full width, for two cores."""
    return {("NesT3-T", "S=2"): ("cifar10/nest_flagship", {})} if budget == "small" else {}


def _families(budget: str) -> dict[str, str]:
    """The recipe of each row of Table 1 at budget small; none at others."""
    rows = TABLE1.items() if budget == "small" else ()
    return {row: entry.small for row, entry in rows if entry.small}


# What can be swept by name: the paper's figures, and our own questions.
SWEEPS = {
    **FIGURES, "precision": _precision, "table1": _table1, "learning_rates": _learning_rates,
    "training_images": _training_images, "flagship": _flagship,
}  # fmt: skip


# Tables and figures of rows, whose data set is a choice: not swept by name, their notebooks ask


@dataclass(frozen=True)
class Localizer:
    """A row of figure 8: its recipe on Tiny ImageNet, and narrow relatives on two data sets."""

    recipe: str
    narrow: str
    digits: str


FIGURE8: dict[str, Localizer] = {
    "DeiT RollOut": Localizer(
        "tiny_imagenet/deit_small", "tiny_imagenet/deit_narrow", "digits/deit_planted"
    ),
    "ADL": Localizer("tiny_imagenet/adl", "tiny_imagenet/adl_narrow", "digits/adl_planted"),
    "ACoL": Localizer("tiny_imagenet/acol", "tiny_imagenet/acol_narrow", "digits/acol_planted"),
    "R50 GradCAM++": Localizer(
        "tiny_imagenet/resnet50", "tiny_imagenet/resnet_narrow", "digits/resnet_planted"
    ),
    "NesT CAM": Localizer(
        "tiny_imagenet/nest_small", "tiny_imagenet/nest_narrow_depth2",
        "digits/nest_planted_depth2",
    ),
}  # fmt: skip
FIGURE8_NARROW_EPOCHS = 6  # an hour for all five on two cores


def plan_table1(budget: str, dataset: str, seeds: Iterable[int]) -> dict[str, list[Recipe]]:
    """The recipes of Table 1's rows that run at a budget: {row: one a seed}.

    quick and smoke train the narrow relatives on the digits (smoke with the first seed alone),
    small on a part of CIFAR-10, gpu and paper the rows themselves.

    Raises:
        ValueError: an unknown budget, or a data set that the budget does not train on.
    """
    on_digits = _is_quick(budget)
    valid = ("digits",) if on_digits else CIFAR[:1] if budget == "small" else CIFAR
    if dataset not in valid:
        raise ValueError(
            f"budget {budget} does not train on {dataset!r}; digits go with smoke and quick, "
            "cifar10 with small, gpu and paper, cifar100 with gpu and paper"
        )
    names = {
        row: entry.quick if on_digits else entry.small if budget == "small" else entry.on(dataset)
        for row, entry in TABLE1.items()
    }
    return _each_seed({row: name for row, name in names.items() if name}, budget, seeds)


def plan_table2(seeds: Iterable[int] = (0,)) -> dict[str, list[Recipe]]:
    """The recipe of each of Table 2's rows: ImageNet, 300 epochs, for a cluster."""
    return _each_seed({row: entry.recipe for row, entry in TABLE2.items()}, "paper", seeds)


def plan_figure8(budget: str, dataset: str, seed: int = 0) -> dict[str, Recipe]:
    """The recipe of each of figure 8's rows on a data set at a budget.

    smoke, quick and small take narrow relatives, on the digits or on Tiny ImageNet; gpu and paper
    the rows themselves, on Tiny ImageNet.

    Raises:
        ValueError: an unknown budget, or a data set that the budget does not train on.
    """
    narrow = _is_quick(budget) or budget == "small"
    if dataset not in (("digits", "tiny_imagenet") if narrow else ("tiny_imagenet",)):
        raise ValueError(
            f"budget {budget} localizes nothing on {dataset!r}; digits go with smoke, quick and "
            "small, tiny_imagenet with all"
        )
    form = "recipe" if not narrow else "digits" if dataset == "digits" else "narrow"
    changes = {"epochs": FIGURE8_NARROW_EPOCHS} if form == "narrow" else {}
    return {
        row: get_recipe(getattr(entry, form), seed=seed, **changes).at_budget(budget)
        for row, entry in FIGURE8.items()
    }


def _is_quick(budget: str) -> bool:
    if budget not in BUDGETS:
        raise ValueError(f"no budget {budget!r}; valid: {', '.join(BUDGETS)}")
    return budget in ("smoke", "quick")


def _each_seed(names: Mapping[str, str], budget: str, seeds: Iterable[int]) -> dict[str, list]:
    """One recipe a seed for every row; smoke takes the first seed alone."""
    seeds = list(seeds)[:1] if budget == "smoke" else list(seeds)
    return {
        row: [get_recipe(name, seed=seed).at_budget(budget) for seed in seeds]
        for row, name in names.items()
    }
