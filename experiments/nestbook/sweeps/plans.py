"""Plans of figures and tables: which recipes, with which seeds, are behind each bar.

`nest sweep figure5 --budget quick` runs a plan (nestbook.sweeps.runner). A plan maps a bar's key,
words such as ("cifar10", "image", "avgpool3x3"), to its recipes, one per seed. quick trains narrow
models on the digits and checks the path to a figure, never its result; small trains narrow models
on a part of CIFAR-10 and asks what can be asked at that scale (nestbook.sweeps.small); gpu is what
one GPU does, CIFAR-10 for 60 epochs or Tiny ImageNet; paper is what the paper ran.
"""

import inspect
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import Any, NamedTuple

from nestbook.recipes.narrow import SMALL_SUBSET, STRONG, STRONG_DIGITS, small_schedule
from nestbook.recipes.rows import FIGURE7, TABLE1, TABLE2
from nestlib.choices import check_choice, choose
from nestlib.data.augmentation import Augmentation
from nestlib.models.aggregation import AGGREGATIONS
from nestlib.models.nest import NEST_MODELS, NesT
from nestlib.precision import PRECISIONS
from nestlib.recipes.distillation import Distillation
from nestlib.recipes.named import get_recipe, list_recipes
from nestlib.recipes.recipe import BUDGETS, GanRecipe, Recipe

Key = tuple[str, ...]
Plan = dict[Key, list[Recipe | GanRecipe]]
Bar = tuple[str, dict[str, Any]]  # a recipe's name and its differences
Bars = dict[Key, Bar]

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

# Narrow models: digits take about half a minute of one core a run, a minute or two where S = 1; at
# small a run takes some ten minutes.
NARROW = {"quick": "digits", "small": "small"}  # by budget: the folder of its recipes
SMALL_EPOCHS = (10, 30, 60, 100)  # figure 4
SMALL_HEADS = (1, 3, 6, 12)  # Table A3, at d = 48
STRONGLY: dict[str, dict[str, Any]] = {
    # Strongly augmented digits need more than the five epochs of plain ones to be learnt at all.
    "quick": dict(augmentation=STRONG_DIGITS, epochs=10),
    "small": dict(augmentation=STRONG),
}
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
SMALL_SEEDS = {"table1": 5, "figure6": 5}  # runs per bar where it is not three (D38)


def plan(
    figure: str, budget: str, seeds: Iterable[int] = (0, 1, 2), *, only: str = ""
) -> Plan:  # fmt: skip
    """The recipes of one of SWEEPS at a budget: {key of a bar: one recipe per seed}.

    smoke cuts the quick plan's recipes to seconds, and takes the first seed alone.

    Args:
        only: leave all out but the bars whose key holds this word, or but the run of this id.

    Raises:
        ValueError: an unknown figure or budget, or no such word or run.
    """
    bars = _find_bars(figure, budget)
    if not bars:
        raise ValueError(f"{figure} has no runs at budget {budget}")
    runs = _build(bars, budget, seeds)
    return _pick(runs, only) if only else runs


def small_seeds(figure: str) -> range:
    """The seeds of each bar of a figure at budget small."""
    return range(SMALL_SEEDS.get(figure, 3))


def _find_bars(figure: str, budget: str) -> Bars:
    make = choose("plan", figure, SWEEPS)
    check_choice("budget", budget, BUDGETS)
    return make("quick" if budget == "smoke" else budget)


def _build(bars: dict[Hashable, Bar], budget: str, seeds: Iterable[int]) -> dict:
    """One recipe per seed for every bar; smoke takes only the first seed."""
    seeds = list(seeds)[:1] if budget == "smoke" else list(seeds)
    return {
        key: [get_recipe(name, seed=seed, **changes).at_budget(budget) for seed in seeds]
        for key, (name, changes) in bars.items()
    }


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
    bars = _find_bars(figure, budget)
    if key not in bars:
        raise ValueError(f"{figure} has no bar {key} at budget {budget}; it has {list(bars)}")
    name, changes = bars[key]
    return get_recipe(name, **changes)


def strip(augmentation: Augmentation, removed: Iterable[str]) -> Augmentation:
    """An augmentation without some of REMOVALS."""
    changes = {field: value for name in removed for field, value in REMOVALS[name].items()}
    return replace(augmentation, **changes)


# What the bars of several figures share


def _narrow(budget: str, *families: str) -> dict[str, str]:
    """The recipe of each family's narrow model at budget quick or small."""
    return {family: f"{NARROW[budget]}/{family.lower()}_narrow" for family in families}


def _stripped(name: str, removed: Iterable[str], budget: str, **changes: Any) -> Bar:
    """A bar whose augmentation, strong at quick and small, is without some of it."""
    changes = {**STRONGLY.get(budget, {}), **changes}
    whole = changes.get("augmentation") or get_recipe(name).augmentation
    return name, {**changes, "augmentation": strip(whole, removed)}


def _optioned(name: str, budget: str, **options: Any) -> Bar:
    """A bar with model options beside those that the named recipe has. The model's own defaults are
    left out, so that a bar at all defaults is the named recipe itself, and has its record."""
    _, fields = list_recipes()[name]
    defaults = _default_options(fields["model"])
    merged = {**fields.get("model_options", {}), **options}
    changed = {k: v for k, v in merged.items() if v != defaults[k]}
    return name, {"model_options": changed, **({"epochs": GPU_EPOCHS} if budget == "gpu" else {})}


def _default_options(name: str) -> dict:
    """The default options of a NesT, its family's and its own included."""
    build, defaults = NEST_MODELS[name]
    own, general = (inspect.signature(f).parameters.values() for f in (build, NesT.__init__))
    known = {p.name: p.default for p in (*general, *own) if p.default is not p.empty}
    return {**known, **defaults}


# The figures


def _figure4(budget: str) -> Bars:
    """Epochs at the left, one augmentation removed at the right. A run of fewer epochs keeps its
    warm-up, as the paper's schedule does not say otherwise.

    One GPU trains on Tiny ImageNet, S for all as it has no B.
    """
    if budget in NARROW:
        names = _narrow(budget, "NesT", "DeiT")
        left = right = {f"{family} narrow": name for family, name in names.items()}
    elif budget == "gpu":
        left = {"NesT-S": "tiny_imagenet/nest_small", "DeiT-S": "tiny_imagenet/deit_small"}
        right = left
    else:
        left = {"NesT-S": "imagenet/nest_small", "NesT-B": "imagenet/nest_base",
                "DeiT-S": "imagenet/deit_small", "DeiT-B": "imagenet/deit_base"}  # fmt: skip
        right = {"NesT-T": "imagenet/nest_tiny", "DeiT-B": "imagenet/deit_base"}
    numbers = {"quick": (3, 6, 10, 30), "small": SMALL_EPOCHS}.get(budget, EPOCHS)
    epochs = {
        ("epochs", model, str(number)): (
            name, small_schedule(SMALL_SUBSET, number) if budget == "small" else {"epochs": number}
        )
        for model, name in left.items() for number in numbers
    }  # fmt: skip
    removals = {"none": [], **{one: [one] for one in FIGURE4_RIGHT}}
    return epochs | {
        ("removed", model, title): _stripped(name, removed, budget)
        for model, name in right.items() for title, removed in removals.items()
    }  # fmt: skip


def _aggregations(
    budget: str, designs: Sequence[str], on_imagenet: Sequence[str] = FIGURE5
) -> Bars:  # fmt: skip
    """One bar if both planes are one function (Design.crosses), else one per plane."""
    names = {
        "quick": {"digits": "digits/nest_narrow"}, "small": {"cifar10": "small/nest_narrow"},
        "gpu": {"cifar10": "cifar10/nest_tiny_s2_depth3"},
    }.get(budget, {data: f"{data}/nest_tiny" for data in CIFAR})  # fmt: skip
    rows = [(dataset, name, designs) for dataset, name in names.items()]
    if budget == "paper":
        rows.append(("imagenet", "imagenet/nest_tiny", on_imagenet))
    return {
        (dataset, plane, design): _optioned(
            name, budget, aggregation=design, aggregation_plane=plane
        )
        for dataset, name, shown in rows
        for design in shown
        for plane in (("image", "block") if AGGREGATIONS[design].crosses else ("image",))
    }


def _figure5(budget: str) -> Bars:
    return _aggregations(budget, FIGURE5)


def _figure_a1(budget: str) -> Bars:
    """Figure A1's bars; small takes only the image plane of what figure 5 does not have."""
    if budget != "small":
        return _aggregations(budget, tuple(AGGREGATIONS), FIGURE_A1_IMAGENET)
    beside = _aggregations(budget, SMALL_DESIGNS)
    return _figure5(budget) | {key: bar for key, bar in beside.items() if key[1] == "image"}


def _figure6(budget: str) -> Bars:
    """Depth 2 to 5 at S 1 and 2. One GPU takes only T; digits skip S = 1 at depths 2 and 3."""
    sizes = {"T": "tiny", "S": "small", "B": "base"}
    names = {
        "quick": {("digits", "narrow"): "digits/nest_narrow"},
        "small": {("cifar10", "narrow"): "small/nest_narrow"},
        "gpu": {("cifar10", "T"): "cifar10/nest_tiny"},
    }.get(budget, {(d, size): f"{d}/nest_{sizes[size]}" for d in CIFAR for size in sizes})
    # A run at S = 1 takes several times as long.
    depths = {
        "quick": {1: (4, 5), 2: (2, 3, 4, 5)}, "small": {1: (4,), 2: (2, 3, 4)}
    }.get(budget, DEPTHS)  # fmt: skip
    return {
        (*key, f"S={word}", f"depth {depth}"): _optioned(
            name, budget, patch_size=word, num_hierarchies=depth
        )
        for key, name in names.items()
        for word, numbers in depths.items()
        for depth in numbers
    }


def _figure7(budget: str) -> Bars:
    """One key per generator and un-sampling, as the figure names them; NesT is pixel shuffle too.
    Nothing at small: two cores cannot train a generator whose FID would decide anything."""
    if budget == "small":
        return {}
    dataset = FIGURE7_DATASETS[budget]
    narrow = "_narrow" if dataset == "digits" else ""
    return {(row,): (f"{dataset}/{name}{narrow}", {}) for row, name in FIGURE7.items()}


def _figure_a2(budget: str) -> Bars:
    names = (
        _narrow(budget, "DeiT", "Swin", "NesT") if budget in NARROW
        else {"DeiT-S": "cifar10/deit_small", "Swin-T": "cifar10/swin_tiny",
              "NesT-S": "cifar10/nest_small"}
    )  # fmt: skip
    changes = {"epochs": GPU_EPOCHS} if budget == "gpu" else {}
    sequence = list(accumulate(([one] for one in IN_SEQUENCE), initial=[]))
    steps = {
        **{("alone", one): [one] for one in ALONE},
        **{("in sequence", " ".join(taken) or "none"): taken for taken in sequence},
    }
    return {
        (way, model, step): _stripped(name, taken, budget, **changes)
        for model, name in names.items() for (way, step), taken in steps.items()
    }  # fmt: skip


def _table_a2(budget: str) -> Bars:
    """Teachers (seed 0 teaches every seed of a student), and students taught hard, as DeiT does;
    soft beside it for the smaller teacher. Digits check the code and are never shown as this table.
    """
    if budget == "quick":
        teachers = {"standard": "digits/pyramid_narrow", "strong": "digits/pyramid_narrow_strong"}
        return _taught("digits", {"PN": teachers}, _narrow(budget, "NesT"), STRONGLY[budget])
    if budget == "small":
        teachers = {"PN": {"standard": "small/pyramid_narrow"}}
        bars = _taught("cifar10", teachers, _narrow(budget, "NesT", "DeiT"))
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
    name = f"{NARROW[budget]}/nest_narrow" if budget in NARROW else "cifar10/nest_base"
    heads = {"quick": (1, 2, 3, 6, 12, 24), "small": SMALL_HEADS}.get(budget, HEADS)
    attentions = ("multi_head",) if budget == "small" else ("multi_head", "multi_query")
    return {
        (attention, str(number)): _optioned(name, budget, num_heads=number, attention=attention)
        for attention in attentions
        for number in heads
    }


FIGURES: dict[str, Callable[[str], Bars]] = {
    "figure4": _figure4, "figure5": _figure5, "figure6": _figure6, "figure7": _figure7,
    "figure_a1": _figure_a1, "figure_a2": _figure_a2, "table_a2": _table_a2, "table_a3": _table_a3,
}  # fmt: skip


# Tables of rows, and what the paper does not ask


def _table1(budget: str) -> Bars:
    """(data set, row): narrow relatives at quick and small, where a row has one, else the rows."""
    if budget in NARROW:
        dataset = "digits" if budget == "quick" else "cifar10"
        names = {(dataset, row): getattr(entry, budget) for row, entry in TABLE1.items()}
    else:
        names = {(data, row): entry.on(data) for data in CIFAR for row, entry in TABLE1.items()}
    return {key: (name, {}) for key, name in names.items() if name}


def _precision(budget: str) -> Bars:
    """Whether bf16 learns as well as fp32: every quick recipe, and a narrow NesT on a part of
    CIFAR-10: (recipe, precision). The same at every budget, as it is asked of the CPU's runs."""
    names = {name: {} for name, _ in _table1("quick").values()}
    names["cifar10/nest_narrow"] = {"train_limit": 10_000}  # its ten epochs in minutes
    return {
        (name, precision): (name, {**changes, "precision": precision})
        for name, changes in names.items() for precision in PRECISIONS
    }  # fmt: skip


def _learning_rates(budget: str) -> Bars:
    """Each family's learning rate: (row of Table 1, rate). A recipe's own rate must be the best of
    its three (tests/test_small.py)."""
    families = _table1(budget) if budget == "small" else {}
    return {
        (row, f"{rate:g}"): (name, {"lr_per_256": rate, "held_out": RATE_HELD_OUT})
        for (_, row), (name, _) in families.items() for rate in RATES[get_recipe(name).optimizer]
    }  # fmt: skip


def _training_images(budget: str) -> Bars:
    """Accuracy against the number of training images: (model, number). Digits check the path."""
    names = _narrow(budget, "NesT", "DeiT", "WRN") if budget in NARROW else {}
    subsets = (500,) if budget == "quick" else SMALL_SUBSETS
    return {
        (f"{family} narrow", f"{subset:,}"): (
            name, {"train_subset": subset} if budget == "quick" else small_schedule(subset)
        )
        for family, name in names.items() for subset in subsets
    }  # fmt: skip


def _flagship(budget: str) -> Bars:
    """A model of the paper at its full width, for two cores."""
    return {("NesT3-T", "S=2"): ("cifar10/nest_flagship", {})} if budget == "small" else {}


# What can be swept by name: the paper's figures and Table 1, and our own questions.
SWEEPS = {
    **FIGURES, "precision": _precision, "table1": _table1, "learning_rates": _learning_rates,
    "training_images": _training_images, "flagship": _flagship,
}  # fmt: skip


# By row, for notebooks whose data set is a choice


class Localizer(NamedTuple):
    """A row of figure 8: its recipe on Tiny ImageNet, and narrow relatives on two data sets."""

    large: str
    narrow: str
    digits: str


FIGURE8: dict[str, Localizer] = {
    "DeiT RollOut": Localizer("deit_small", "deit_narrow", "deit_planted"),
    "ADL": Localizer("adl", "adl_narrow", "adl_planted"),
    "ACoL": Localizer("acol", "acol_narrow", "acol_planted"),
    "R50 GradCAM++": Localizer("resnet50", "resnet_narrow", "resnet_planted"),
    "NesT CAM": Localizer("nest_small", "nest_narrow_depth2", "nest_planted_depth2"),
}
FIGURE8_NARROW_EPOCHS = 6  # an hour for all five on two cores


def plan_table1(budget: str, dataset: str, seeds: Iterable[int]) -> dict[str, list[Recipe]]:
    """Recipes of Table 1's rows on one data set, as `plan` has them: {row: one recipe per seed}.

    Raises:
        ValueError: an unknown budget, or a data set that the budget does not train on.
    """
    bars = _find_bars("table1", budget)
    rows = {row: bar for (data, row), bar in bars.items() if data == dataset}
    if not rows:
        raise ValueError(
            f"budget {budget} does not train on {dataset!r}; digits have smoke and quick, cifar10 "
            "has small, gpu and paper, cifar100 has gpu and paper"
        )
    return _build(rows, budget, seeds)


def plan_table2(seeds: Iterable[int] = (0,)) -> dict[str, list[Recipe]]:
    """The recipe of each of Table 2's rows: ImageNet, 300 epochs, for a cluster."""
    return _build({row: (entry.recipe, {}) for row, entry in TABLE2.items()}, "paper", seeds)


def plan_figure8(budget: str, dataset: str, seed: int = 0) -> dict[str, Recipe]:
    """The recipe of each of figure 8's rows on a data set at a budget.

    smoke, quick and small take narrow relatives, on the digits or on Tiny ImageNet; gpu and paper
    the rows themselves, on Tiny ImageNet.

    Raises:
        ValueError: an unknown budget, or a data set that the budget does not train on.
    """
    check_choice("budget", budget, BUDGETS)
    narrow = budget not in ("gpu", "paper")
    if dataset not in (("digits", "tiny_imagenet") if narrow else ("tiny_imagenet",)):
        raise ValueError(
            f"budget {budget} does not localize on {dataset!r}; digits have smoke, quick and "
            "small, tiny_imagenet has all budgets"
        )
    form = "large" if not narrow else "digits" if dataset == "digits" else "narrow"
    changes = {"epochs": FIGURE8_NARROW_EPOCHS} if form == "narrow" else {}
    bars = {row: (f"{dataset}/{getattr(entry, form)}", changes) for row, entry in FIGURE8.items()}
    return {row: recipe for row, (recipe,) in _build(bars, budget, [seed]).items()}


def hard(teacher: str) -> Distillation:
    """DeiT's hard-label distillation: half the loss is the teacher's."""
    return Distillation(teacher, "hard", weight=0.5)


def soft(teacher: str) -> Distillation:
    """Soft distillation by the values that DeiT takes for it: weight 0.1, temperature 3."""
    return Distillation(teacher, "soft", weight=0.1, temperature=3.0)
