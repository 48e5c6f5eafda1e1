"""A trained model comes with the weights that its record names, or not at all."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from nestlib.models.weights import hash_weights
from nestlib.recipes import named as recipes
from nestlib.records import Store, open_store
from nestlib.runs import weights
from nestlib.runs.run import carry_out
from nestlib.runs.weights import commit_weights, committed_path, load_trained, weights_path

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
    with pytest.raises(OSError, match=r"rounded from weights 000000000000.*restore the file"):
        load(run)
    save_file(state, path)
    with pytest.raises(OSError, match=r"rounded from weights unknown"):
        load(run)


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
        record = store.find(run_id)
        recipe = recipes.get_recipe(name, seed=int(seed[1:]))
        assert recipe.run_id == run_id and record is not None
        load_trained(name, seed=int(seed[1:]), store=store)
