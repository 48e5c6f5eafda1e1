"""Scores of finished runs: of the weights that a run left, and of the samples of its rows."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_generation import FirstPixels

from nestbook.evaluations import generators
from nestbook.evaluations.generators import score_figure7, score_id, score_run
from nestbook.evaluations.samples import compare_with_training, draw_samples, walk_noise
from nestbook.sweeps.plans import plan
from nestlib.metrics.generation import generate, score_samples
from nestlib.models.weights import hash_weights, load_weights
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import GanRecipe, to_dict
from nestlib.records import Store, open_store
from nestlib.runs.run import carry_out
from nestlib.runs.subsets import load_split
from nestlib.runs.weights import commit_weights, load_run, weights_path


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A finished run of a tiny named GAN: (recipe, store, where)."""
    recipe = GanRecipe(
        name="digits/gan_nest_narrow", generator="nest_decoder", dataset="digits",
        generator_options={"embed_dim": 64, "latent_dim": 8, "depths": [1, 1, 1]},
        discriminator_options={"channel_base": 32, "max_channels": 8},
        dataset_options={"canvas": "plain", "num_images": 40}, image_size=32, steps=4,
        steps_per_row=2, batch_size=8, num_samples=16, flip=False, budget="quick",
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "experiments" / "records", tmp_path / "local")
    where = {"runs_dir": tmp_path / "runs"}
    carry_out(recipe, store, device="cpu", progress_bar=False, **where)
    network = FirstPixels()
    monkeypatch.setitem(generators.NETWORKS, "first", lambda store: network)
    return recipe, store, where


def score(run, **how):
    recipe, store, where = run
    options = {"network": "first", "num_samples": 30, "device": "cpu", "progress_bar": False}
    return score_run(recipe, store, **(options | where | how))


def test_final_score_is_of_the_runs_weights_and_its_training_images(run):
    recipe, store, where = run
    record = score(run, seed=2)
    generator = load_run(recipe, store, **where)
    reference = load_split(recipe, "train")
    network = generators.NETWORKS["first"](store)
    expected = score_samples(generate(generator, 30, seed=2), reference, network, seed=2)
    assert expected == {name: record.summary[name] for name in expected}
    assert record.summary["num_samples"] == 30 and record.summary["num_reference"] == 40
    weights = store.find(recipe.run_id).summary["weights_sha256"]
    assert record.summary["generator_weights_sha256"] == weights == hash_weights(generator)
    assert record.kind == "score" and record.recipe["run"] == recipe.run_id
    assert store.find(score_id(recipe.run_id, "first")) == record


def test_curve_is_of_the_samples_of_each_row(run):
    recipe, _, where = run
    record = score(run)
    assert [row["step"] for row in record.epochs] == [0, 2, 4]
    assert {row["num_samples"] for row in record.epochs} == {16}
    path = weights_path(recipe, **where).parent / "samples" / "step-00000002.safetensors"
    images = load_file(path)["images"]
    expected = score_samples(images, load_split(recipe, "train"), FirstPixels())
    for name in FirstPixels.score_names:
        assert record.epochs[1][name] == expected[name]


def test_a_score_is_made_once_for_its_n_and_seed(run, monkeypatch):
    first = score(run)
    calls = []
    monkeypatch.setitem(
        generators.NETWORKS, "first", lambda store: calls.append(1) or FirstPixels()
    )  # fmt: skip
    assert score(run) == first and not calls
    assert score(run, num_samples=31).summary["num_samples"] == 31 and len(calls) == 1
    score(run, num_samples=31, seed=1)
    assert len(calls) == 2


def test_committed_weights_are_scored_where_the_run_is_not(run, tmp_path):
    recipe, store, where = run
    commit_weights(recipe, store, **where)
    record = score(run, runs_dir=tmp_path / "elsewhere")
    assert record.epochs == []  # whose rows are not here
    full = store.find(recipe.run_id).summary["weights_sha256"]
    assert record.summary["generator_weights_sha256"] != full  # and says that it is rounded


def train_again(recipe, store, runs_dir):
    """As where another machine or library trains a run to other weights; returns their SHA-256."""
    path = weights_path(recipe, runs_dir)
    tensors = load_file(path)
    save_file({k: x + 0.1 if x.is_floating_point() else x for k, x in tensors.items()}, path)
    is_gan = isinstance(recipe, GanRecipe)
    model = recipe.build_generator() if is_gan else recipe.build_model(10)
    sha256 = hash_weights(load_weights(model, path))
    record = store.find(recipe.run_id)
    store.add(replace(record, summary=record.summary | {"weights_sha256": sha256}))
    return sha256


def find_shown(recipe, store, monkeypatch):
    """What figure 7 shows of a plan of this one run."""
    monkeypatch.setattr(generators, "plan", lambda *_: {("NesT",): [recipe]})
    return generators.find_figure7(store, "quick", "first")["NesT"]


def test_a_run_that_is_trained_again_does_not_get_the_old_score(run, monkeypatch):
    recipe, store, where = run
    old = score(run)
    assert find_shown(recipe, store, monkeypatch) == [old]
    sha256 = train_again(recipe, store, **where)
    with pytest.warns(UserWarning, match=f"{old.run_id} is of weights .* was trained again"):
        assert find_shown(recipe, store, monkeypatch) == []
    new = score(run)
    assert new.run_id == old.run_id and new.summary["generator_weights_sha256"] == sha256
    assert new.summary["frechet_distance"] != old.summary["frechet_distance"]
    assert find_shown(recipe, store, monkeypatch) == [new]
    failed = store.find(recipe.run_id)
    store.add(replace(failed, summary={"status": "failed"}))  # now it left no weights at all
    with pytest.warns(UserWarning, match="was trained again"):
        assert find_shown(recipe, store, monkeypatch) == []


def test_scores_of_rounded_weights_stand_for_the_run_that_these_are_of(run, tmp_path, monkeypatch):
    recipe, store, where = run
    commit_weights(recipe, store, **where)
    record = score(run, runs_dir=tmp_path / "elsewhere")
    assert score(run, runs_dir=tmp_path / "elsewhere") == record
    assert find_shown(recipe, store, monkeypatch) == [record]
    train_again(recipe, store, **where)
    assert score(run) != record


def test_samples_beside_other_weights_are_no_curve(run):
    """A run that is being trained again: its folder has samples, but the weights are committed."""
    recipe, store, where = run
    commit_weights(recipe, store, **where)
    weights_path(recipe, **where).unlink()
    assert score(run).epochs == []


def test_unknown_networks_and_missing_runs_are_refused(run):
    with pytest.raises(ValueError, match="no feature network 'vgg'; valid: digits, lite0"):
        score(run, network="vgg")
    recipe, store, where = run
    with pytest.raises(FileNotFoundError, match="no finished run"):
        score_run(replace(recipe, seed=9), store, **where)


def test_failed_and_missing_runs_of_a_plan_have_no_score(run):
    recipe, store, where = run
    failed = replace(recipe, seed=1)
    record = store.find(recipe.run_id)
    store.add(replace(record, run_id=failed.run_id, recipe=to_dict(failed),
                      summary={"status": "failed"}))  # fmt: skip
    bars = {("NesT",): [recipe, failed, replace(recipe, seed=2)]}
    how = {"network": "first", "num_samples": 20, "device": "cpu", "progress_bar": False}
    found = score_figure7(bars, store, **how, **where)
    assert [r.recipe["run"] for r in found["NesT",]] == [recipe.run_id]


def test_smoke_scores_an_untrained_generator(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(generators.NETWORKS, "first", lambda store: FirstPixels())
    store = Store(tmp_path / "committed", tmp_path / "local")
    bars = plan("figure7", "smoke", [0, 1], only="NesT")
    assert [len(recipes) for recipes in bars.values()] == [1]
    found = score_figure7(bars, store, network="first", device="cpu", progress_bar=False)
    assert found["NesT",][0].recipe["budget"] == "smoke" and found["NesT",][0].epochs == []


def test_digits_judge_knows_the_digits_that_are_generated():
    """As they are, at 32 pixels, though it was trained on canvases of 64."""
    (recipe,) = plan("figure7", "quick", [0])["NesT",]
    judge = generators.build_digits_judge(open_store())
    test = load_split(recipe, "test", 256)
    features, logits = judge(test.images)
    assert features.shape == (256, 128) and judge.resize == "none"
    assert (logits.argmax(1) == test.labels).float().mean() > 0.9


def test_nearest_training_image_is_found(run):
    recipe, store, where = run
    found = compare_with_training(recipe, store, count=3, **where)
    train = load_split(recipe, "train").images
    for sample, distance, name, shown in zip(
        found.samples, found.distances, found.names, found.nearest, strict=True
    ):
        image = torch.from_numpy(sample).permute(2, 0, 1).double()
        differences = (train.double() - image).square().mean((1, 2, 3)).sqrt()
        assert distance == pytest.approx(float(differences.min()), rel=1e-4)  # sums of fp32
        index = int(differences.argmin())
        assert name == f"train image {index}"
        assert torch.equal(torch.from_numpy(shown).permute(2, 0, 1), train[index])


def test_real_images_of_other_sets_are_not_shown(run, monkeypatch):
    recipe, store, where = run
    other = get_recipe("tiny_imagenet/gan_nest")
    digits = {"train": load_split(recipe, "train"), "test": load_split(recipe, "test")}
    monkeypatch.setattr(
        "nestbook.evaluations.samples.load_split", lambda _, split, **__: digits[split]
    )
    monkeypatch.setattr(
        "nestbook.evaluations.samples._load", lambda *_: load_run(recipe, store, **where)
    )
    found = compare_with_training(other, store, count=2)
    assert found.nearest is None and len(found.names) == 2


def test_walks_begin_and_end_at_samples(run):
    recipe, store, where = run
    generator = load_run(recipe, store, **where)
    walks = walk_noise(generator, walks=2, steps=5, seed=3)
    samples = generate(generator, 3, seed=3)
    assert walks.shape == (2, 5, 3, 32, 32)
    for walk, start, end in zip(walks, samples[:-1], samples[1:]):
        assert (walk[0].int() - start.int()).abs().max() <= 1
        assert (walk[-1].int() - end.int()).abs().max() <= 1
    drawn = draw_samples(recipe, store, **where)
    assert drawn.grid.shape == (8, 8, 32, 32, 3) and drawn.walks.shape == (4, 10, 32, 32, 3)
