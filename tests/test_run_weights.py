"""A trained model comes with the weights that its record names, or not at all."""

import hashlib
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.main import get_command

from nestlib.cli.main import app
from nestlib.data.augmentation import Augmentation
from nestlib.models.weights import hash_weights, save_weights
from nestlib.recipes import named as recipes
from nestlib.recipes.distillation import Distillation
from nestlib.recipes.recipe import with_overrides
from nestlib.records import Store, open_store
from nestlib.runs import weights
from nestlib.runs.run import carry_out
from nestlib.runs.weights import (
    commit_weights,
    committed_path,
    load_trained,
    train_command,
    weights_path,
)

NAME = "digits/tiny"


@pytest.fixture
def run(tiny_recipe, tmp_path, monkeypatch):
    """A finished run of the tiny recipe under its own name: (recipe, store, runs_dir)."""
    recipe = replace(tiny_recipe, epochs=1, warmup_epochs=0, ema_decay=None)
    monkeypatch.setattr(weights, "get_recipe", lambda name, seed: replace(recipe, seed=seed))
    store = Store(tmp_path / "experiments" / "records", tmp_path / "local")
    carry_out(recipe, store, device="cpu", runs_dir=tmp_path / "runs", progress_bar=False)
    return recipe, store, tmp_path / "runs"


def load(run, **how):
    _, store, runs_dir = run
    return load_trained(NAME, store=store, runs_dir=runs_dir, **how)


def test_a_runs_own_weights_are_loaded(run):
    recipe, store, _ = run
    model = load(run)
    assert hash_weights(model) == store.find(recipe.run_id).summary["weights_sha256"]
    assert not model.training


def test_committed_weights_are_the_runs_rounded_to_fp16(run):
    recipe, store, runs_dir = run
    full = load(run)
    path = commit_weights(recipe, store, runs_dir=runs_dir)
    assert path == committed_path(recipe, store)
    assert {t.dtype for t in load_file(path).values()} == {torch.float16, torch.int64}
    weights_path(recipe, runs_dir).unlink()
    half = load(run)
    for name, tensor in full.state_dict().items():
        expected = tensor.half().float() if tensor.is_floating_point() else tensor
        assert torch.equal(half.state_dict()[name], expected), name


def test_weights_of_another_run_are_refused(run):
    recipe, store, runs_dir = run
    path = commit_weights(recipe, store, runs_dir=runs_dir)
    state = load_file(path)
    weights_path(recipe, runs_dir).unlink()
    save_file(state, path, metadata={"rounded_from_sha256": "0" * 64})
    write_sum(path)
    with pytest.raises(OSError, match=r"rounded from weights 000000000000.*restore the file"):
        load(run)
    save_file(state, path)
    write_sum(path)
    with pytest.raises(OSError, match=r"rounded from weights unknown"):
        load(run)


def write_sum(path):
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    Path(f"{path}.sha256").write_text(f"{digest}  {path.name}\n")


def test_no_byte_of_committed_weights_may_change(run):
    """One bit at a time, in header and tensors; then a file that is cut."""
    recipe, store, runs_dir = run
    path = commit_weights(recipe, store, runs_dir=runs_dir)
    weights_path(recipe, runs_dir).unlink()
    whole = path.read_bytes()
    for place in torch.linspace(0, len(whole) - 1, 20).long().tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 64]) + whole[place + 1 :])
        with pytest.raises(OSError, match=f"{path.name} "):
            load(run)
    for size in (0, 7, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(OSError, match=f"{path.name} is damaged"):
            load(run)
    path.write_bytes(whole)
    load(run)
    path.with_name(path.name + ".sha256").unlink()
    with pytest.warns(UserWarning, match=f"{path.name} cannot be checked"):
        load(run)


@pytest.mark.parametrize("change", [
    lambda text: "", lambda text: text[:40], lambda text: text[:64], lambda text: "0" * 64,
    lambda text: text.replace("  ", " x"), lambda text: text.upper(), lambda text: text * 2,
    lambda text: "\0" * 90,
])  # fmt: skip
def test_a_damaged_sum_is_named_itself(run, change):
    recipe, store, runs_dir = run
    path = commit_weights(recipe, store, runs_dir=runs_dir)
    weights_path(recipe, runs_dir).unlink()
    beside = path.with_name(f"{path.name}.sha256")
    text = beside.read_text()
    beside.write_text(change(text))
    with pytest.raises(OSError, match=rf"{beside.name} holds .*, must hold .* of {path.name}"):
        load(run)
    for whole in (text, text.rstrip(), text.replace("  ", " *")):  # sha256sum --binary
        beside.write_text(whole)
        load(run)
    beside.write_text(text.replace(text[0], "0" if text[0] != "0" else "1", 1))
    with pytest.raises(OSError, match=f"{path.name} is damaged: its SHA-256 is .*restore both"):
        load(run)


@pytest.mark.parametrize("size", [0, 5, 3000])
def test_a_runs_damaged_weights_are_named(run, size):
    recipe, _, runs_dir = run
    path = weights_path(recipe, runs_dir)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(OSError, match=f"{recipe.run_id}.*is not a whole .safetensors file"):
        load(run)


def test_other_weights_are_answered_with_what_makes_them(run):
    recipe, _, runs_dir = run
    path = weights_path(recipe, runs_dir)
    state = load_file(path)
    save_file(state | {"head.bias": state["head.bias"] + 1}, path)
    with pytest.raises(OSError, match=r"train again: `nest train .* --again`") as raised:
        load(run)
    assert "delete" not in str(raised.value)


def test_a_record_says_how_many_classes_its_model_has(run):
    """As where a run is of a part of a data set's classes; older records do not say it."""
    recipe, store, runs_dir = run
    record = store.find(recipe.run_id)
    assert len(record.environment["data"]["train"]["class_names"]) == 10
    torch.manual_seed(0)
    model = recipe.build_model(3)
    save_weights(model, weights_path(recipe, runs_dir))
    train = record.environment["data"]["train"] | {"class_names": ["a", "b", "c"]}
    summary = record.summary | {"weights_sha256": hash_weights(model)}
    of_three = record.environment | {"data": {"train": train}}
    store.add(replace(record, environment=of_three, summary=summary))
    assert load(run).num_classes == 3
    (older := dict(train)).pop("class_names")
    store.add(replace(record, environment=record.environment | {"data": {"train": older}}))
    with pytest.raises(ValueError, match="size mismatch for head"):
        load(run)


def retrained(command):
    """The recipe that the command's own words ask for."""
    nest, train, name, *words = shlex.split(command)
    asked = get_command(app).commands["train"].make_context("train", [name, *words]).params
    assert (nest, train, asked["recipe"]) == ("nest", "train", name)
    return with_overrides(recipes.get_recipe(name, seed=asked["seed"]), asked["set_"])


CHANGES = {
    "digits/nest_narrow": [
        {"model_options": {"embed_dim": 24, "num_hierarchies": 3, "patch_size": 2}},
        {"model_options": {"embed_dim": 48}},  # two options fewer
        {"model_options": {"embed_dim": 48, "patch_size": 2, "num_hierarchies": 3,
                           "aggregation": "conv3x3_ln_avgpool3x3"}},
        {"dataset_options": {"canvas": "plain", "num_images": 64, "digit_edges": [0.2, 0.5]}},
        {"dataset_options": {}},
        {"augmentation": Augmentation()},
        {"augmentation": Augmentation(flip=0.0, mixup_alpha=0.25, crop_padding=4)},
        {"epochs": 1, "warmup_epochs": 0}, {"epochs": 1, "warmup_epochs": 0.5},
        {"epochs": 6, "warmup_epochs": 2.0, "lr_per_256": 1e-05, "weight_decay": 0.0},
        {"clip_grad_norm": 1.0, "ema_decay": 0.99, "precision": "bf16", "compile": True},
        {"train_subset": 100, "held_out": 50, "optimizer": "sgd"},
        {"distillation": Distillation("digits/pyramid_narrow-s0-0123abcd", "soft", 0.25, 3.0)},
    ],
    "digits/gan_nest_narrow": [
        {"flip": True, "diff_augment": "color,cutout", "r1_gamma": 0.5, "train_limit": 100},
        {"generator_options": {"embed_dim": 128, "depths": [1, 2, 3], "latent_dim": None}},
        {"discriminator_options": {}},
    ],
    "imagenet/nest_tiny": [{"dataset_options": {"partial": True, "skip_limit": 3}}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes"), [(name, change) for name, several in CHANGES.items() for change in several]
)
def test_the_printed_command_makes_the_very_run(name, changes):
    for seed in (0, 3):
        recipe = recipes.get_recipe(name, seed=seed, **changes)
        assert retrained(train_command(recipe)).run_id == recipe.run_id
        smoke = recipe.at_budget("smoke")
        assert retrained(train_command(smoke, again=True)).run_id == smoke.run_id


def test_the_command_of_a_named_recipe_is_its_name():
    for name in list(recipes.list_recipes())[::15]:
        assert train_command(recipes.get_recipe(name, seed=2)) == f"nest train {name} --seed 2"


def test_a_recipe_of_the_callers_own_has_no_command(tiny_recipe):
    assert train_command(tiny_recipe, again=True) == "carry_out(recipe, store, again=True)"


def test_what_is_missing_is_said_with_the_command_that_makes_it(run):
    recipe, _, runs_dir = run
    with pytest.raises(FileNotFoundError, match=r"`nest train digits/tiny --seed 7`"):
        load(run, seed=7)
    weights_path(recipe, runs_dir).unlink()
    with pytest.raises(FileNotFoundError, match=r"neither at .* nor committed at .*--seed 0"):
        load(run)


def test_large_models_are_not_committed(run, monkeypatch):
    recipe, store, runs_dir = run
    monkeypatch.setattr(weights, "LARGEST_MB", 0.01)
    with pytest.raises(ValueError, match="push_to_hub"):
        commit_weights(recipe, store, runs_dir=runs_dir)


def test_every_committed_file_loads_and_belongs_to_a_committed_record():
    store = open_store()
    files = sorted((store.committed.parent / "weights").rglob("*.safetensors"))
    assert files
    for path in files:
        run_id = path.relative_to(store.committed.parent / "weights").with_suffix("").as_posix()
        name, seed, _ = run_id.rsplit("-", 2)
        assert path.stat().st_size < weights.LARGEST_MB * 2**20
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert Path(f"{path}.sha256").read_text() == f"{digest}  {path.name}\n"
        record = store.find(run_id)
        recipe = recipes.get_recipe(name, seed=int(seed[1:]))
        assert recipe.run_id == run_id and record is not None
        load_trained(name, seed=int(seed[1:]), store=store)
