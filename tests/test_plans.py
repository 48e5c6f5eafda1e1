"""Plans of figures: the paper's cells, each a possible recipe, and no run planned twice."""

from dataclasses import replace

import pytest
import yaml
from conftest import SHARED

from nestbook.recipes.narrow import STRONG_DIGITS
from nestbook.recipes.rows import TABLE1
from nestbook.sweeps.plans import EPOCHS, FIGURES, HEADS, plan, strip
from nestlib.data.augmentation import Augmentation
from nestlib.models.aggregation import AGGREGATIONS
from nestlib.recipes.named import get_recipe

REFERENCE = SHARED / "paper" / "reference.yaml"


@pytest.mark.parametrize("figure", FIGURES)
def test_quick_trains_on_digits_and_smoke_in_seconds(figure):
    quick = plan(figure, "quick", [0, 1])
    assert {r.dataset for row in quick.values() for r in row} == {"digits"}
    assert all([r.seed for r in row] == [0, 1] for row in quick.values())
    smoke = plan(figure, "smoke", [0, 1])
    assert list(smoke) == list(quick)
    assert all(len(row) == 1 and getattr(row[0], "epochs", 1) == 1 for row in smoke.values())
    assert all(row[0].budget == "smoke" for row in smoke.values())


@pytest.mark.parametrize("figure", FIGURES)
def test_bars_of_a_figure_are_different_runs(figure):
    """But for figures 4 and A2, whose two panels share bars: nothing removed, RandAugment alone."""
    bars = plan(figure, "gpu", [0])
    ids = [row[0].run_id for row in bars.values()]
    shared = {"figure_a2": 3, "figure4": 2}  # one a model
    assert len(ids) - len(set(ids)) == shared.get(figure, 0)


def test_planes_that_are_one_function_are_one_bar():
    bars = plan("figure_a1", "gpu", [0])
    for design, entry in AGGREGATIONS.items():
        planes = {plane for data, plane, name in bars if (data, name) == ("cifar10", design)}
        assert planes == ({"image", "block"} if entry.crosses else {"image"})
    assert set(plan("figure5", "gpu", [0])) < set(bars)


def test_figure6_is_the_papers_grid():
    bars = plan("figure6", "paper", [0])
    assert len(bars) == 2 * 3 * 2 * 4
    recipe = bars["cifar100", "B", "S=2", "depth 5"][0]
    assert (recipe.model, recipe.model_options) == (
        "nest_base_cifar", {"patch_size": 2, "num_hierarchies": 5}
    )  # fmt: skip
    assert recipe.batch_size == get_recipe("cifar100/nest_base").batch_size


def test_figure7_has_every_row_and_a_data_set_a_budget():
    rows = ["NesT", "TransGAN", "Convnet", "PS-C3", "C3-PS", "NN", "NN-C3", "C3-NN"]
    assert list(plan("figure7", "quick", [0])) == [(row,) for row in rows]
    for budget, dataset in (("gpu", "tiny_imagenet"), ("paper", "imagenet")):
        (row,) = plan("figure7", budget, [2], only="NN-C3").values()
        assert [(r.name, r.seed) for r in row] == [(f"{dataset}/gan_nest_nn_c3", 2)]
        assert row[0].generator_options == {"unsampling": "NN-C3"}
        assert (row[0].lr, row[0].batch_size, row[0].image_size) == (1e-4, 256, 64)  # appendix A.4
    with pytest.raises(ValueError, match=r"no bar with 'StyleGAN' and no run .*NN"):
        plan("figure7", "quick", [0], only="StyleGAN")
    (chosen,) = row
    assert plan("figure7", "paper", [0, 2], only=chosen.run_id) == {("NN-C3",): [chosen]}


def test_default_bars_are_table1s_own_recipes():
    """A record of Table 1 serves the figures too, so a default is left out of the options."""
    tiny = get_recipe("cifar10/nest_tiny")
    bar = plan("figure_a2", "paper", [0])["in sequence", "NesT-S", "none"][0]
    assert bar == get_recipe("cifar10/nest_small")
    bar = plan("figure5", "paper", [0])["cifar10", "image", "conv3x3_ln_maxpool3x3"][0]
    assert bar == tiny
    assert plan("figure6", "paper", [0])["cifar10", "T", "S=1", "depth 4"][0] == tiny
    bar = plan("table_a3", "paper", [0])["multi_query", "12"][0]
    assert bar == get_recipe("cifar10/nest_base")


def test_one_gpu_gets_shorter_runs_on_cifar10_alone():
    for figure in ("figure5", "figure6", "figure_a1", "figure_a2", "table_a3"):
        recipes = [row[0] for row in plan(figure, "gpu", [0]).values()]
        assert {(r.dataset, r.epochs) for r in recipes} == {("cifar10", 60)}, figure
    assert plan("figure5", "gpu", [0])["cifar10", "image", "avgpool3x3"][0] == get_recipe(
        "cifar10/nest_tiny_s2_depth3", epochs=60,
        model_options={"patch_size": 2, "num_hierarchies": 3, "aggregation": "avgpool3x3"},
    )  # fmt: skip


def test_removals_take_away_what_they_name():
    whole = Augmentation()
    assert strip(whole, ["RandomErasing"]) == replace(whole, erase_prob=0.0)
    assert strip(whole, ["RandAugment", "CutMix&MixUp"]) == replace(
        whole, rand_augment_ops=0, mix_prob=0.0
    )
    bars = plan("figure_a2", "gpu", [0])
    assert bars["alone", "Swin-T", "MixUp"][0].augmentation == replace(whole, mixup_alpha=0.0)
    last = bars["in sequence", "DeiT-S", "RandAugment CutMix&MixUp RandomErasing"][0].augmentation
    assert last == replace(whole, rand_augment_ops=0, mix_prob=0.0, erase_prob=0.0)
    assert STRONG_DIGITS == replace(whole, flip=0.0)


@pytest.mark.skipif(not REFERENCE.exists(), reason="no ../shared/paper here")
def test_cells_are_the_papers():
    reference = yaml.safe_load(REFERENCE.read_text())
    assert list(EPOCHS) == reference["figure4_left"]["epochs"]
    assert list(HEADS) == list(reference["table_a3"]["rows"])
    left = {key[1:] for key in plan("figure4", "paper", [0]) if key[0] == "epochs"}
    models = reference["figure4_left"]["models"]
    assert left == {(model, str(number)) for model in models for number in EPOCHS}
    right = {key[1:] for key in plan("figure4", "paper", [0]) if key[0] == "removed"}
    rows, columns = (reference["figure4_right"][part] for part in ("rows", "columns"))
    names = {"none removed": "none"}
    assert right == {(model, names.get(row, row)) for model in columns for row in rows}
    taught = plan("table_a2", "paper", [0])
    for row in reference["table_a2_left"]["rows"]:
        student, _, teacher = row.partition(" taught by ")
        for form in ("standard", "strong"):
            key = (
                ("cifar100", student, teacher, form, "hard") if teacher
                else ("cifar100", "teacher", student.removesuffix(" (teacher)"), form)
            )  # fmt: skip
            assert key in taught
    for student in reference["table_a2_right"]["rows"]:
        for dataset in ("cifar10", "cifar100"):
            assert (dataset, student, "alone") in taught
            lesson = taught[dataset, student, "PN-164-48", "standard", "hard"][0].distillation
            assert lesson.teacher == get_recipe(f"{dataset}/pyramid164_48").run_id


def test_pupils_name_teachers_of_the_same_plan():
    for budget in ("quick", "gpu", "paper"):
        recipes = [row[0] for row in plan("table_a2", budget, [0]).values()]
        taught = {r.distillation.teacher for r in recipes if r.distillation}
        assert taught <= {recipe.run_id for recipe in recipes}
    longest = plan("table_a2", "paper", [0])[
        "cifar100", "NesT-B", "PN-164-270", "standard", "hard", "1000 epochs"
    ][0]
    assert longest.epochs == 1000


def test_unknown_figures_and_budgets_list_the_known():
    with pytest.raises(ValueError, match="no plan 'figure9'; did you mean figure"):
        plan("figure9", "quick")
    with pytest.raises(ValueError, match="no budget 'fast'; valid: smoke"):
        plan("figure5", "fast")


def test_pairs_of_the_precision_plan_differ_in_nothing_else():
    """And in fp32 the quick recipes are themselves, so that their records are found."""
    runs = plan("precision", "quick", range(2))
    names = {name for name, _ in runs}
    assert names == {e.quick for e in TABLE1.values() if e.quick} | {"cifar10/nest_narrow"}
    for name in names:
        for fp32, bf16 in zip(runs[name, "fp32"], runs[name, "bf16"], strict=True):
            assert replace(bf16, precision="fp32") == fp32 and bf16.run_id != fp32.run_id
            if name.startswith("digits/"):
                assert fp32 == get_recipe(name, seed=fp32.seed)
