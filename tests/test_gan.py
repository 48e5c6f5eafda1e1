"""The GAN's trainer: its losses by hand, exact resumption, pictures, and what becomes of ruin."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from test_classifier import Waits
from torch import nn

from nestlib.recipes.recipe import GanRecipe, from_dict, to_dict
from nestlib.records import Store
from nestlib.runs.run import carry_out
from nestlib.runs.subsets import load_split
from nestlib.training import gan
from nestlib.training.checkpoint import CheckpointError, save_checkpoint
from nestlib.training.gan import PATIENCE, Diverged, Trainer, raise_if_diverged


@pytest.fixture
def tiny_gan():
    """Trains in a second, with everything on that draws random numbers or keeps a state."""
    return GanRecipe(
        name="digits/tiny_gan", generator="sagan_convnet", dataset="digits",
        generator_options={"base_channels": 2, "latent_dim": 8},
        discriminator_options={"channel_base": 128, "max_channels": 16},
        dataset_options={"num_images": 40, "canvas": "plain"}, image_size=32, steps=12,
        steps_per_row=3, batch_size=8, lr=1e-3, r1_every=2, ema_decay=0.9,
        diff_augment="color,translation,cutout", num_samples=16, budget="quick",
    )  # fmt: skip


@pytest.fixture
def tiny_nest(tiny_gan):
    options = {"embed_dim": 32, "num_heads": 2, "depths": [1, 1, 1], "latent_dim": 8}
    return replace(tiny_gan, generator="nest_decoder", generator_options=options)


def run(recipe, folder, **how):
    return carry_out(
        recipe, Store(folder / "committed", folder / "local"), runs_dir=folder / "runs",
        device="cpu", progress_bar=False, **how,
    )  # fmt: skip


def build_trainer(recipe, folder):
    torch.manual_seed(0)
    return Trainer(
        recipe, recipe.build_generator(), recipe.build_discriminator(),
        load_split(recipe, "train"), folder, torch.device("cpu"),
    )  # fmt: skip


class Quadratic(nn.Module):
    """Score x^T A x / 2 + b x, whose gradient by x is A x + b."""

    def __init__(self, size):
        super().__init__()
        torch.manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(size, size, dtype=torch.float64))
        self.offset = nn.Parameter(torch.randn(size, dtype=torch.float64))

    def forward(self, images):
        x = images.flatten(1)
        return (x @ self.symmetric() * x).sum(1) / 2 + x @ self.offset

    def symmetric(self):
        return (self.matrix + self.matrix.T) / 2


def test_r1_is_the_norm_of_a_gradient_known_by_hand():
    """mean |A x + b|^2, and its own gradient by b: the mean of 2 (A x + b)."""
    score = Quadratic(3 * 2 * 2)
    images = torch.randn(5, 3, 2, 2, dtype=torch.float64)
    penalty = gan.r1_penalty(score, images)
    gradient = images.flatten(1) @ score.symmetric() + score.offset
    torch.testing.assert_close(penalty, gradient.square().sum(1).mean())
    penalty.backward()
    torch.testing.assert_close(score.offset.grad, 2 * gradient.mean(0))
    assert images.grad is None


def test_losses_are_the_logistic_ones(tiny_nest, tmp_path):
    """-log sigmoid(real) - log(1 - sigmoid(fake)); the generator's -log sigmoid(fake)."""
    recipe = replace(tiny_nest, diff_augment="", r1_gamma=0.0)
    trainer = build_trainer(recipe, tmp_path)
    real, fake = torch.randn(4, 3, 32, 32), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        p_real, p_fake = (trainer.discriminator(x).double().sigmoid() for x in (real, fake))
    expected = -p_real.log().mean() - (1 - p_fake).log().mean()
    loss, *scores = trainer._discriminator_step(real, fake)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(scores[0], p_real.logit().mean(), rtol=1e-5, atol=1e-6)
    fake = trainer.generator(torch.randn(4, 8))
    with torch.no_grad():
        expected = -trainer.discriminator(fake).double().sigmoid().log().mean()
    torch.testing.assert_close(trainer._generator_step(fake), expected, rtol=1e-5, atol=1e-6)


def test_each_step_moves_its_own_network_alone(tiny_nest, tmp_path):
    trainer = build_trainer(tiny_nest, tmp_path)
    real = torch.randn(8, 3, 32, 32)

    def moved(step):
        before = [[p.detach().clone() for p in net.parameters()] for net in trainer.trained()]
        step()
        return tuple(
            any(not torch.equal(p, old) for p, old in zip(net.parameters(), olds))
            for net, olds in zip(trainer.trained(), before)
        )

    fake = trainer.generator(torch.randn(8, 8))
    assert moved(lambda: trainer._discriminator_step(real, fake.detach())) == (False, True)
    assert moved(lambda: trainer._penalty_step(real)) == (False, True)
    trainer.discriminator.zero_grad(set_to_none=True)
    assert moved(lambda: trainer._generator_step(fake)) == (True, False)
    assert all(p.grad is None for p in trainer.discriminator.parameters())  # none computed in vain
    assert all(p.requires_grad for p in trainer.discriminator.parameters())


def test_lazy_adam_has_the_rate_and_memory_of_its_more_steps(tiny_nest, tmp_path):
    """StyleGAN2, appendix B: k + 1 steps shall do what k do, so c = k / (k + 1)."""
    recipe = replace(tiny_nest, r1_every=16, lr=1e-4)
    settings = {
        name: optimizer.defaults
        for name, optimizer in build_trainer(recipe, tmp_path).optimizers.items()
    }
    assert settings["generator"]["lr"] == 1e-4 and settings["generator"]["betas"] == (0.0, 0.99)
    late = settings["discriminator"]
    assert late["lr"] == pytest.approx(1e-4 * 16 / 17)
    assert late["betas"][0] == 0 and late["betas"][1] ** 17 == pytest.approx(0.99**16)
    plain = build_trainer(replace(recipe, r1_gamma=0.0), tmp_path).optimizers["discriminator"]
    assert plain.defaults["lr"] == 1e-4 and plain.defaults["betas"] == (0.0, 0.99)


def test_ema_follows_its_definition(tiny_gan, tmp_path):
    """A copy for ten steps, then 0.9 of itself and 0.1 of the weights; buffers are copied."""
    trainer = build_trainer(replace(tiny_gan, steps=13, steps_per_row=13), tmp_path)
    expected = None
    for step in range(13):
        trainer.train_step(trainer.train_set.images[:8])
        weights = [p.detach().clone() for p in trainer.generator.parameters()]
        if step < 11:  # timm counts the step after `update_after_step` among the copies
            expected = weights
        else:
            expected = [0.9 * old + 0.1 * new for old, new in zip(expected, weights)]
        for got, value in zip(trainer.ema.module.parameters(), expected):
            torch.testing.assert_close(got, value)
    for got, value in zip(trainer.ema.module.buffers(), trainer.generator.buffers()):
        assert torch.equal(got, value)


def test_run_leaves_record_weights_and_pictures(tiny_nest, tmp_path):
    record = run(tiny_nest, tmp_path)
    assert record.kind == "gan" and record.summary["status"] == "finished"
    assert [row["step"] for row in record.epochs] == [0, 3, 6, 9, 12]
    assert set(record.epochs[1]) == {
        "step", "loss/discriminator", "loss/generator", "score/real", "score/generated", "r1",
        "sample/pixel_distance",
    }  # fmt: skip
    assert set(record.epochs[0]) == {"step", "sample/pixel_distance"}
    assert record.summary["sample/pixel_distance"] == record.epochs[-1]["sample/pixel_distance"]
    assert record.environment["data"]["train"]["images"] == 40
    assert from_dict(record.recipe) == tiny_nest
    folder = tmp_path / "runs" / tiny_nest.run_id
    pictures = sorted(folder.glob("samples/*.png"))
    assert [p.name for p in pictures] == [f"step-{n:08d}.png" for n in (0, 3, 6, 9, 12)]
    assert Image.open(pictures[0]).size == (8 * 33 + 1, 2 * 33 + 1)  # 16 samples, eight in a row
    kept = [load_file(picture.with_suffix(".safetensors"))["images"] for picture in pictures]
    assert all(images.shape == (16, 3, 32, 32) and images.dtype == torch.uint8 for images in kept)
    shown = torch.from_numpy(np.array(Image.open(pictures[-1]))).permute(2, 0, 1)
    assert torch.equal(shown[:, 1:33, 34:66], kept[-1][1])  # the same images as in the picture
    assert (folder / "weights.safetensors").is_file()
    assert json.loads((tmp_path / "local" / f"{tiny_nest.run_id}.json").read_text())


def test_pictures_are_of_one_noise_and_of_the_ema(tiny_gan, tmp_path):
    trainer = build_trainer(tiny_gan, tmp_path)
    first = trainer.sample()
    assert torch.equal(first, trainer.sample())
    with torch.no_grad():
        trainer.generator.head.bias.fill_(1)
    assert torch.equal(first, trainer.sample())
    with torch.no_grad():
        trainer.ema.module.head.bias.fill_(1)
    assert not torch.equal(first, trainer.sample())


@pytest.mark.parametrize("kind", ["tiny_gan", "tiny_nest"])
def test_stopped_and_resumed_equals_uninterrupted(kind, tmp_path, monkeypatch, request):
    """Stopped in a row, at an epoch's end, and at a row's end."""
    recipe = request.getfixturevalue(kind)
    whole = run(recipe, tmp_path / "whole")
    step = Trainer.train_step

    def step_then_terminate(self, images):
        step(self, images)
        if self.progress.step in (1, 5, 9):
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "train_step", step_then_terminate)
    for _ in range(3):
        assert run(recipe, tmp_path / "cut") is None
    monkeypatch.undo()
    resumed = run(recipe, tmp_path / "cut")
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert resumed.epochs == whole.epochs
    for path in (tmp_path / "whole").rglob("*.png"):
        twin = tmp_path / "cut" / path.relative_to(tmp_path / "whole")
        assert twin.read_bytes() == path.read_bytes()


def test_max_time_stops_before_the_limit(tiny_nest, tmp_path, monkeypatch):
    step = Trainer.train_step

    def slow_step(self, images):
        step(self, images)
        time.sleep(0.3)

    monkeypatch.setattr(Trainer, "train_step", slow_step)
    recipe, begin = replace(tiny_nest, steps=30), time.monotonic()
    trainer = build_trainer(recipe, tmp_path)
    begin = time.monotonic()
    result = trainer.run(begin + 3, 300, False)
    assert time.monotonic() - begin < 3
    assert not result.finished and 0 < result.step < 10
    assert len(list((tmp_path / "checkpoints").glob("step-*.pt"))) == 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_step_never_waits_for_the_device(tiny_nest, tmp_path, precision):
    trainer = build_trainer(replace(tiny_nest, precision=precision), tmp_path)
    with Waits() as waits:
        for _ in range(3):
            trainer.train_step(trainer.train_set.images[:8])
    assert waits.found == []


def test_bf16_leaves_weights_and_penalty_in_fp32(tiny_nest, tmp_path, monkeypatch):
    trainer = build_trainer(replace(tiny_nest, precision="bf16"), tmp_path)
    seen = []
    penalty = gan.r1_penalty
    monkeypatch.setattr(
        gan, "r1_penalty", lambda score, x: seen.append(score(x).dtype) or penalty(score, x)
    )
    forward = trainer.discriminator.forward
    monkeypatch.setattr(
        trainer.discriminator, "forward", lambda x: seen.append(forward(x).dtype) or forward(x)
    )
    trainer.train_step(trainer.train_set.images[:8])
    assert seen.count(torch.bfloat16) == 3  # real, generated, and the generator's step
    assert torch.float32 in seen
    assert {p.dtype for net in trainer.trained() for p in net.parameters()} == {torch.float32}


def test_lost_run_ends_and_its_record_says_so(tiny_nest, tmp_path):
    record = run(replace(tiny_nest, lr=1000.0), tmp_path)
    assert record.summary["status"] == "failed"
    assert "not finite at step" in record.summary["failure"]
    assert not list(tmp_path.rglob("weights.safetensors"))
    again = run(replace(tiny_nest, lr=1000.0), tmp_path)  # its record is found
    assert again == record


def test_samples_that_stay_worse_end_the_run(tiny_nest, tmp_path, monkeypatch):
    """The distance grows from row to row: after `PATIENCE` rows the run is over, and not before."""
    grown = iter(range(100))
    monkeypatch.setattr(Trainer, "_pixel_distance", lambda self, samples: float(next(grown)))
    record = run(replace(tiny_nest, steps=9, steps_per_row=1), tmp_path)
    assert record.summary["status"] == "failed" and len(record.epochs) == 1 + PATIENCE
    assert f"the samples of the last {PATIENCE} rows" in record.summary["failure"]


@pytest.mark.parametrize(
    ("distances", "diverged"),
    [
        ([5, 6, 7, 8, 9], False), ([5, 6, 7, 8, 9, 10], True), ([5, 6, 7, 8, 9, 4], False),
        ([5, 4, 6, 6, 6, 6, 6], True), ([5, *[float("nan")] * 5], True), ([5] * 6, False),
    ],
)  # fmt: skip
def test_divergence_is_five_rows_worse_than_the_first(distances, diverged):
    history = [{"step": i, "sample/pixel_distance": d} for i, d in enumerate(distances)]
    if not diverged:
        raise_if_diverged("run", history)
        return
    with pytest.raises(Diverged, match="farther from the data than the untrained generator's"):
        raise_if_diverged("run", history)


def test_checkpoints_of_another_recipe_are_refused(tiny_nest, tmp_path):
    build_trainer(tiny_nest, tmp_path).run(None, 300, False)
    with pytest.raises(CheckpointError, match="holds a checkpoint of digits/tiny_gan-s0"):
        build_trainer(replace(tiny_nest, lr=1e-4), tmp_path).resume()


def swap(state, *names):
    return state | dict(zip(names, (state[name] for name in reversed(names)), strict=True))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: swap(s, "generator_optimizer", "discriminator_optimizer"), "other parameters"),
        (lambda s: swap(s, "generator", "discriminator"), "generator is missing"),
        (lambda s: s | {"history": []}, "history does not hold the 2 rows"),
        (lambda s: s | {"history": [{"step": 0}, {"step": 3}]}, "row 0 .*sample/pixel_distance"),
        (lambda s: s | {"ema": s["generator"]}, "ema is missing module"),
    ],
)
def test_a_wrong_state_is_named_and_the_one_before_taken(
    tiny_nest, tmp_path, change, reason, monkeypatch
):
    trainer, step = build_trainer(tiny_nest, tmp_path), Trainer.train_step

    def stop(self, images):
        if self.progress.step == 5:
            raise KeyboardInterrupt
        step(self, images)

    monkeypatch.setattr(Trainer, "train_step", stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.run(None, 0, False)
    _, newest = sorted((tmp_path / "checkpoints").iterdir())
    state = torch.load(newest)
    newest.unlink()
    path = save_checkpoint(tmp_path / "checkpoints", 5, change(state))
    resumed = build_trainer(tiny_nest, tmp_path)
    with pytest.warns(UserWarning, match=f"{path.name} is damaged .*{reason}"):
        resumed.resume()
    assert resumed.progress.step == 4
    save_checkpoint(tmp_path / "checkpoints", 5, state)
    resumed = build_trainer(tiny_nest, tmp_path)
    resumed.resume()
    assert resumed.progress.step == 5


def test_a_gan_does_not_go_on_with_other_images(tiny_nest, tmp_path):
    build_trainer(tiny_nest, tmp_path).run(time.monotonic(), 300, False)
    other = build_trainer(tiny_nest, tmp_path)
    other.image_sets = [replace(other.train_set, images=other.train_set.images ^ 1)]
    with pytest.raises(CheckpointError, match=r"other images: its train images have fingerprint"):
        other.resume()
    build_trainer(tiny_nest, tmp_path).resume()


def test_half_of_the_real_images_are_mirrored():
    images = torch.randint(256, (400, 3, 4, 4), dtype=torch.uint8)
    plain = gan.prepare(images)
    assert plain.min() >= -1 and plain.max() <= 1
    torch.testing.assert_close((plain + 1) * 127.5, images.float())
    flipped = gan.prepare(images, True, torch.Generator().manual_seed(0))
    mirrored, kept = ((flipped == x).flatten(1).all(1) for x in (plain.flip(3), plain))
    assert (mirrored | kept).all() and 150 < mirrored.sum() < 250


# Each rank takes its part of the noise that one alone would draw, and samples are of the weights.
RANK_SCRIPT = """
import json, os, sys, torch
from pathlib import Path
from nestlib.recipes.recipe import from_dict
from nestlib.runs.subsets import load_split
from nestlib.training import gan
from nestlib.training.devices import Ranks

def share_of_noise(trainer, count):
    trainer.random.manual_seed(trainer.progress.step)
    noise = torch.randn(recipe.batch_size, 8, generator=trainer.random)
    return noise[int(os.environ.get("RANK", 0)) * count :][:count]

gan.Trainer._noise = share_of_noise
gan.Trainer.sample = lambda trainer: trainer.result_model()(torch.ones(16, 8)).detach()
gan.Trainer._pixel_distance = lambda trainer, samples: float(samples.double().square().sum())
recipe = from_dict(json.loads(sys.argv[1]))
torch.manual_seed(int(os.environ.get("RANK", 0)))  # the main rank's weights count
result = gan.train(recipe, recipe.build_generator(), recipe.build_discriminator(),
                   load_split(recipe, "train"), run_dir=Path(sys.argv[2]),
                   device=torch.device("cpu"), progress_bar=False)
print(json.dumps(result.history))
if "RANK" in os.environ:
    ranks = Ranks.join(torch.device("cpu"))
    tensors = [torch.full((2, 2), 3.0 * ranks.rank), torch.tensor(1.0)]
    ranks.average(tensors)
    assert tensors[0].eq(1.5).all() and tensors[1] == 1
"""


@pytest.mark.slow  # a minute: torchrun starts two interpreters
def test_two_processes_train_as_one(tiny_nest, tmp_path):
    """With the noise of one rank shared out, two gloo ranks give one rank's curve.

    Roughly in the end: Adam makes whole steps of gradients that are rounding alone, as those of the
    keys' biases are.
    """
    recipe = replace(
        tiny_nest, diff_augment="", flip=False, steps=6,
        discriminator_options={"channel_base": 128, "max_channels": 16},
    )  # fmt: skip
    (tmp_path / "script.py").write_text(RANK_SCRIPT)

    def histories(folder, *launch):
        done = subprocess.run(
            [sys.executable, *launch, "script.py", json.dumps(to_dict(recipe)), folder],
            cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
            timeout=240,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[{")]

    (alone,) = histories("one")
    two = histories("two", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    assert two[0] == two[1]
    for expected, row, tolerance in zip(alone, two[0], (1e-6, 1e-3, 0.05), strict=True):
        assert row == pytest.approx(expected, rel=tolerance)
