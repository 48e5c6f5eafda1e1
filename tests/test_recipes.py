import dataclasses
from dataclasses import replace

import numpy as np
import pytest
from test_cli import ROOT, run

from nestbook import paper
from nestbook.extension import expected
from nestbook.recipes.rows import FIGURE7_GENERATORS, FIGURE7_UNSAMPLINGS, TABLE1, TABLE2
from nestlib.data.augmentation import MAX_LAYERS
from nestlib.data.rand_augment import OPS
from nestlib.recipes.named import get_recipe, list_recipes
from nestlib.recipes.recipe import (
    ADDED_FIELDS,
    GanRecipe,
    Recipe,
    from_dict,
    to_dict,
    with_overrides,
)  # fmt: skip
from nestlib.records import open_store


@pytest.mark.parametrize("name", list_recipes())
def test_named_recipes_are_possible_and_round_trip(name):
    recipe = get_recipe(name)
    assert recipe.name == name
    assert from_dict(to_dict(recipe)) == recipe


def test_run_id_changes_with_every_field_but_seed_is_named():
    recipe = get_recipe("cifar10/nest_tiny")
    assert recipe.run_id == f"cifar10/nest_tiny-s0-{recipe.config_hash}"
    assert replace(recipe, seed=3).config_hash == recipe.config_hash
    for change in ({"epochs": 30}, {"budget": "paper"}, {"model_options": {"patch_size": 2}}):
        assert replace(recipe, **change).config_hash != recipe.config_hash


def test_fields_added_later_leave_old_records_theirs():
    """The committed run of 2026-11-22 was made before recipes had an optimizer or clipping."""
    recipe = get_recipe("cifar10/nest_narrow")
    assert recipe.run_id == "cifar10/nest_narrow-s0-8a3e1ba5"
    assert replace(recipe, optimizer="sgd").config_hash != recipe.config_hash
    assert replace(recipe, clip_grad_norm=1.0).config_hash != recipe.config_hash
    fields = {f.name: f.default for f in dataclasses.fields(Recipe)}
    assert {name: fields[name] for name in ADDED_FIELDS} == ADDED_FIELDS


def test_every_row_has_a_recipe_on_its_data():
    for row in TABLE1.values():
        ten, hundred = (get_recipe(row.on(name)) for name in ("cifar10", "cifar100"))
        assert (ten.dataset, hundred.dataset) == ("cifar10", "cifar100")
        assert ten.model == hundred.model and ten.image_size == 32
    for name, row in TABLE2.items():
        recipe = get_recipe(row.recipe)
        assert (recipe.dataset, recipe.image_size) == ("imagenet", paper.TABLE2[name].image_size)


def test_methods_own_settings():
    """Swin's rate and batch as the authors gave them (issue 4); convnets by cifar_cnn.py."""
    for size, batch in (("tiny", 128), ("small", 64), ("base", 32)):
        swin = get_recipe(f"cifar10/swin_{size}")
        assert swin.batch_size == 2 * batch
        assert swin.peak_lr == pytest.approx(5e-4 * swin.batch_size / 512)
    wrn = get_recipe("cifar10/wrn28_10")
    assert (wrn.optimizer, wrn.weight_decay, wrn.epochs, wrn.warmup_epochs) == ("sgd", 5e-4, 200, 5)
    assert wrn.peak_lr == pytest.approx(0.2 * 128 / 256)
    cct = get_recipe("cifar10/cct7_3x1")
    assert cct.peak_lr == pytest.approx(55e-5) and cct.weight_decay == 0.06
    assert get_recipe("cifar100/cct7_3x1").peak_lr == pytest.approx(6e-4)


def test_published_learning_rate():
    """2.5e-4 for 256 images, scaled by the batch (configs/cifar_nest.py, train.py)."""
    assert get_recipe("cifar10/nest_tiny").peak_lr == pytest.approx(2.5e-4 * 192 / 256)
    assert get_recipe("imagenet/nest_base").peak_lr == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "nest_tiny_cifra"}, "no model 'nest_tiny_cifra'; did you mean nest_tiny_cifar"),
        ({"dataset": "cifar"}, "cifar10"),
        ({"budget": "fast"}, "no budget 'fast'; .*valid: smoke, quick, small, gpu, paper"),
        ({"precision": "fp16"}, "no precision 'fp16'.*valid: fp32, bf16"),
        ({"epochs": 0}, "epochs is 0, must be a whole number of at least 1"),
        ({"warmup_epochs": 300}, "warmup_epochs is 300, must be less than epochs"),
        ({"optimizer": "adam"}, "no optimizer 'adam'; did you mean adamw"),
        ({"clip_grad_norm": 0}, "clip_grad_norm is 0, must be a number of more than 0 .*, or None"),
        ({"drop_path_rate": 1.0}, "drop_path_rate is 1.0, must be a number .* less than 1"),
        # As a learning rate it would end in each checkpoint, which torch would then not load.
        ({"lr_per_256": np.float64(1e-3)}, r"lr_per_256 is np.float64.*a plain value, by"),
        ({"image_size": 30}, "30x30 pixels do not divide into blocks"),
        ({"model_options": {"depth": 3}}, r"no option \['depth'\]; it takes"),
    ],
)
def test_impossible_recipes_say_what_would_be_possible(changes, message):
    with pytest.raises(ValueError, match=message):
        get_recipe("cifar10/nest_tiny", **changes)


def test_overrides_are_typed():
    recipe = get_recipe("cifar10/nest_tiny")
    changed = with_overrides(
        recipe, ["epochs=30", "lr_per_256=1e-3", "ema_decay=None", "augmentation.flip=0",
                 "model_options.patch_size=2", "model_options.num_hierarchies=3", "compile=True"]
    )  # fmt: skip
    assert (changed.epochs, changed.lr_per_256, changed.compile) == (30, 1e-3, True)
    assert changed.augmentation.flip == 0
    assert changed.model_options == {"patch_size": 2, "num_hierarchies": 3}


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("epoch=3", "no recipe field 'epoch'; did you mean epochs"),
        ("epochs=2.5", "epochs is 2.5, must be a whole number"),
        ("compile=yes", "compile is 'yes', must be true or false"),
        ("epochs", "'epochs' is not an assignment; write field=value"),
        ("model_options=3", "names no option; write model_options.option=value"),
        ("augmentation.flips=1", "no augmentation field 'flips'; did you mean flip"),
    ],
)
def test_bad_overrides_are_refused(assignment, message):
    with pytest.raises(ValueError, match=message):
        with_overrides(get_recipe("cifar10/nest_tiny"), [assignment])


GAN_FIELDS = {
    "generator": "transgan", "generator_options": {"unsampling": "NN"}, "lr": 2e-4, "steps": 1000,
    "discriminator_options": {"max_channels": 64}, "r1_gamma": 1.0, "r1_every": 8, "ema_decay": 0.9,
    "flip": False, "diff_augment": "color", "num_samples": 64, "precision": "fp32",
    "train_limit": 512, "budget": "paper", "image_size": 32, "batch_size": 128,
    "steps_per_row": 500, "dataset": "imagenet", "dataset_options": {"partial": True},
}  # fmt: skip


def test_a_gans_identity_is_all_of_its_fields():
    recipe = get_recipe("tiny_imagenet/gan_nest")
    assert isinstance(recipe, GanRecipe)
    assert replace(recipe, seed=1).run_id == f"tiny_imagenet/gan_nest-s1-{recipe.config_hash}"
    fields = {f.name for f in dataclasses.fields(GanRecipe)} - {"name", "seed"}
    assert fields == set(GAN_FIELDS)
    # A data set's options go with it.
    changes = {name: {name: value} for name, value in GAN_FIELDS.items()}
    changes["dataset_options"]["dataset"] = "imagenet"
    hashes = {replace(recipe, **change).config_hash for change in changes.values()}
    assert len(hashes | {recipe.config_hash}) == 1 + len(fields)


def test_appendix_a4s_settings():
    """Adam's rate 1e-4 for both networks, mini-batches of 256; images of 64x64."""
    for name in ("gan_nest", "gan_transgan", "gan_convnet", "gan_nest_c3_ps"):
        recipe = get_recipe(f"tiny_imagenet/{name}")
        assert (recipe.lr, recipe.batch_size, recipe.image_size) == (1e-4, 256, 64)
    assert {f"tiny_imagenet/{name}" for name in FIGURE7_UNSAMPLINGS.values()} <= set(list_recipes())
    assert {f"tiny_imagenet/{name}" for name in FIGURE7_GENERATORS.values()} <= set(list_recipes())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"generator": "stylegan"}, "no generator 'stylegan'; .*valid: nest_decoder, transgan"),
        ({"steps": 1500}, "steps is 1500, must be a multiple of steps_per_row"),
        ({"diff_augment": "colour"}, "no augmentation 'colour'"),
        ({"ema_decay": 1.0}, "ema_decay is 1.0, must be a number .* less than 1"),
        (
            {"generator_options": {"unsampling": "bilinear"}},
            "no unsampling 'bilinear'; .*valid: PS, PS-C3",
        ),
        ({"generator_options": {"dim": 3}}, r"has no option \['dim'\]; it takes .*'latent_dim'"),
        ({"discriminator_options": {"channel_base": 8}}, "channel_base 8 must be at least"),
        ({"image_size": 48}, "make images of 16, 32, 64 pixels"),
        (
            {"generator": "sagan_convnet", "image_size": 128, "num_samples": 100_000},
            "num_samples is 100000, must be at most 30,517 of image_size 128",
        ),
    ],
)
def test_impossible_gans_say_what_would_be_possible(changes, message):
    with pytest.raises(ValueError, match=message):
        get_recipe("tiny_imagenet/gan_nest", **changes)


def test_a_gans_overrides_are_typed():
    recipe = get_recipe("tiny_imagenet/gan_nest")
    changed = with_overrides(recipe, ["steps=2000", "lr=1", "generator_options.latent_dim=32"])
    assert (changed.steps, changed.lr, changed.generator_options) == (2000, 1, {"latent_dim": 32})
    with pytest.raises(ValueError, match="no recipe field 'epochs'"):
        with_overrides(recipe, ["epochs=3"])


def test_unknown_name_lists_near_ones():
    with pytest.raises(ValueError, match=r"no recipe 'cifar10/nest'; did you mean .*cifar10/nest_"):
        get_recipe("cifar10/nest")


@pytest.mark.parametrize(
    ("name", "assignment", "message"),
    [
        ("digits/nest_narrow", "train_limit=-5", "train_limit is -5, must be a whole number"),
        ("digits/nest_narrow", "test_limit=0", "test_limit is 0, must be a whole number"),
        ("digits/nest_narrow", f"seed={2**70}", "seed is 1180591620717411303424, must be"),
        ("digits/nest_narrow", "epochs=1000000000", "epochs is 1000000000, must be"),
        ("digits/nest_narrow", "epochs=true", "epochs is True, must be a whole number"),
        ("digits/nest_narrow", "lr_per_256=NaN", "lr_per_256 is nan, must be a number"),
        ("digits/nest_narrow", "lr_per_256=1" + "0" * 400, "lr_per_256 is 1000.* must be a number"),
        ("digits/nest_narrow", "lr_per_256=" + "[" * 10**5, "lr_per_256 is .* must be a number"),
        ("digits/nest_narrow", "clip_grad_norm=4e72", "clip_grad_norm is 4e.72, must be"),
        ("digits/nest_narrow", "weight_decay=-Infinity", "weight_decay is -inf, must be"),
        ("digits/nest_narrow", f"augmentation.crop_padding={2**63 - 1}", "crop_padding is 92233"),
        ("digits/nest_narrow", "augmentation.crop_padding=33", "up to image_size 32"),
        ("digits/nest_narrow", "augmentation.rand_augment_ops=17", "rand_augment_ops is 17, must"),
        ("digits/nest_narrow", "name=/tmp/evil", "name is '/tmp/evil', must be a text of letters"),
        ("digits/nest_narrow", "name=a/../b", "name is 'a/../b', must be"),
        ("digits/nest_narrow", "name=", "name is '', must be"),
        ("digits/nest_narrow", "distillation.teacher=../x-s0-01234567", "teacher is .* a run id"),
        ("digits/nest_narrow", "seed.x=3", "'seed.x=3': seed has no fields; write seed=value"),
        ("digits/nest_narrow", "model_options.embed_dim=-3", "embed_dim is -3, must be a whole"),
        ("digits/nest_narrow", "model_options.mlp_ratio=Infinity", "mlp_ratio is inf, must be"),
        ("digits/nest_narrow", "model_options.in_chans=1", "model_options is .* without in_chans"),
        ("digits/nest_narrow", "model_options.embed_dim=9000", "weights, must be at most 5e.08"),
        ("imagenet/nest_tiny", "model_options.top_depth=999999999", "top_depth is 999999999, must"),
        ("digits/nest_narrow", "dataset_options.num_images=2.5", "num_images is 2.5, must be"),
        ("digits/nest_narrow", "dataset_options.partial=1", "no option of digits 'partial'"),
        ("imagenet/nest_tiny", "dataset_options.partial=1", "partial is 1, must be true or false"),
        ("digits/deit_narrow", "model_options.num_heads=0", "num_heads is 0, must be a whole"),
        ("digits/pvt_narrow", "model_options.sr_ratios=[0,2,1,1]", r"sr_ratios is \[0, 2, 1, 1\]"),
        ("digits/cct_narrow", "model_options.embed_dim=16384", "numbers, must be at most"),
        ("digits/resnet_planted", "model_options.architecture=5", "architecture is 5, must be a"),
        ("digits/gan_nest_narrow", "discriminator_options.blur=beta", r"no option \['blur'\]; it"),
        ("digits/gan_nest_narrow", "generator_options.img_size=8", "without img_size"),
        ("digits/gan_nest_narrow", "num_samples=1000000000", "num_samples is 1000000000, must be"),
        ("digits/gan_nest_narrow", "generator_options.embed_dims=[1]", "no option .'embed_dims'"),
        ("digits/nest_narrow", "dataset_options.a=1", "dataset_options: no option of digits 'a'"),
        ("digits/gan_nest_narrow", "flip=1", "flip is 1, must be true or false"),
        ("digits/gan_nest_narrow", "diff_augment=color,color", "names a policy twice"),
    ],
)
def test_a_value_of_no_sense_names_its_field_and_what_is_valid(name, assignment, message):
    with pytest.raises(ValueError, match=message) as error:
        with_overrides(get_recipe(name), [assignment])
    assert len(str(error.value)) < 1000


def test_what_a_library_refuses_in_its_own_words_becomes_a_value_error(monkeypatch):
    def build(*_, **__):
        raise RuntimeError("Storage size calculation overflowed")

    monkeypatch.setattr("nestlib.models.create_model", build)
    with pytest.raises(ValueError, match=r"no network can be built of .*'embed_dim': 36.*overflow"):
        get_recipe("digits/nest_narrow", model_options={"embed_dim": 36})


def test_bounds_are_the_librarys():
    assert len(OPS) == MAX_LAYERS


def test_whole_numbers_stay_whole_where_a_number_is_wanted():
    """Or a recipe's hash would be another."""
    recipe = get_recipe("digits/nest_narrow", weight_decay=0, warmup_epochs=1)
    assert type(recipe.weight_decay) is int and type(recipe.warmup_epochs) is int


def test_every_committed_record_of_a_run_is_a_recipe():
    kinds = ("train", "gan")
    records = [record for record in open_store().all_committed() if record.kind in kinds]
    assert len(records) > 100
    for record in records:
        recipe = from_dict(record.recipe)
        assert recipe.run_id == record.run_id and to_dict(recipe) == {
            **to_dict(recipe), **record.recipe
        }  # fmt: skip


@pytest.mark.parametrize("values", [{}, {"name": "x", "model": "nest_tiny_cifar"}])
def test_a_recipe_that_lacks_fields_is_refused(values):
    with pytest.raises(ValueError, match=r"recipe fields without a value: .*dataset"):
        from_dict(values)


def test_records_with_unknown_fields_are_refused():
    values = to_dict(get_recipe("cifar10/nest_tiny")) | {"learning_rate": 1}
    with pytest.raises(ValueError, match="no recipe field 'learning_rate'"):
        from_dict(values)


def test_recipes_say_what_to_expect(monkeypatch, capsys, tmp_path):
    """The paper's figure, and what records of this very recipe say."""
    monkeypatch.chdir(ROOT)
    _, out = run(monkeypatch, capsys, "recipes", "nest_")
    shown = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert f"paper {paper.TABLE1['NesT-T'].cifar10:.2f} %" in shown["cifar10/nest_tiny"]
    assert f"paper {paper.TABLE2['NesT-B'].top1} %; budget paper" in shown["imagenet/nest_base"]
    assert f"paper {paper.FIGURE6_NEST3_TINY[0]} %" in shown["cifar10/nest_tiny_s2_depth3"]
    (record,) = open_store().find_seeds(get_recipe("cifar10/nest_narrow"))
    device = record.environment["device"]
    assert f"here {record.top1[0]:.2f} %, 1.3 h on {device}" in shown["cifar10/nest_narrow"]
    monkeypatch.chdir(tmp_path)
    _, out = run(monkeypatch, capsys, "recipes", "cifar10/nest_narrow")
    assert "here" not in out and out.endswith("; budget quick\n")


def test_the_papers_figures_are_of_recipes_that_there_are():
    assert set(expected()) <= set(list_recipes())
