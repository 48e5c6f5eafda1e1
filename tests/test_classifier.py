"""The trainer: what a run leaves is a function of its recipe alone, however often it is stopped."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nestlib.data import rand_augment
from nestlib.data.augment import normalize
from nestlib.data.augmentation import Augmentation
from nestlib.data.datasets import load_dataset
from nestlib.recipes.named import get_recipe
from nestlib.records import Store
from nestlib.runs.run import carry_out
from nestlib.runs.subsets import load_sets
from nestlib.training.checkpoint import CheckpointError
from nestlib.training.classifier import NonFiniteLoss, Trainer, train
from nestlib.training.seeding import epoch_order


def run(recipe, folder, **how):
    return carry_out(
        recipe, Store(folder / "committed", folder / "local"), runs_dir=folder / "runs",
        device="cpu", progress_bar=False, **how,
    )  # fmt: skip


def test_run_leaves_record_and_weights(tiny_recipe, tmp_path):
    record = run(tiny_recipe, tmp_path)
    assert [row["epoch"] for row in record.epochs] == [1, 2, 3]
    assert record.summary["test/top1"] == record.epochs[-1]["test/top1"]  # the last, not the best
    assert record.summary["reported_epoch"] == 3
    assert record.environment["data"]["train"]["images"] == 96
    folder = tmp_path / "runs" / tiny_recipe.run_id
    assert (folder / "weights.safetensors").is_file()
    assert json.loads((tmp_path / "local" / f"{tiny_recipe.run_id}.json").read_text())


class Waits(TorchDispatchMode):
    """Notes operators whose result, or its size, the host must know: a GPU would be waited for."""

    NAMES = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "_unique2")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.name().removeprefix("aten::").split(".")[0]
        chosen = tree_leaves(args[1:]) if name in ("index", "index_put_", "index_put") else []
        by_mask = any(isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in chosen[:4])
        if name in self.NAMES or by_mask:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_training_step_never_waits_for_the_device(tiny_recipe, tmp_path, optimizer, monkeypatch):
    """Augmentation, bf16, clipping, EMA and the sums of the epoch included."""
    monkeypatch.setattr(rand_augment, "_sees_draws", lambda images: False)  # as on a GPU
    recipe = replace(
        tiny_recipe, optimizer=optimizer, clip_grad_norm=1.0, ema_decay=0.9, precision="bf16",
        augmentation=Augmentation(color_jitter=0.3),
    )  # fmt: skip
    train_set, test_set = load_sets(recipe)
    model = recipe.build_model(train_set.num_classes)
    trainer = Trainer(recipe, model, train_set, test_set, tmp_path, torch.device("cpu"))
    batch = train_set.images[: recipe.batch_size], train_set.labels[: recipe.batch_size]
    with Waits() as waits:
        for _ in range(8):  # of both MixUp and CutMix, and of most of RandAugment's operations
            trainer.train_step(*batch)
    assert waits.found == []
    with Waits() as waits:  # and the net catches what it is there for
        loss = trainer.sums[0]
        assert loss.item() > 0 and len(batch[0][batch[1] > 0])
    assert waits.found == ["_local_scalar_dense", "index"]


def test_same_seed_same_weights_other_seed_others(tiny_recipe, tmp_path):
    first = run(tiny_recipe, tmp_path / "a").summary["weights_sha256"]
    assert run(tiny_recipe, tmp_path / "b").summary["weights_sha256"] == first
    other = run(replace(tiny_recipe, seed=1), tmp_path / "c").summary["weights_sha256"]
    assert other != first


def test_bf16_trains_nearly_as_fp32_does(tiny_recipe, tmp_path):
    """bf16 is autocast: weights stay fp32, and results differ from fp32's, but little."""
    low = run(replace(tiny_recipe, precision="bf16"), tmp_path)
    high = run(tiny_recipe, tmp_path)
    assert low.summary["weights_sha256"] != high.summary["weights_sha256"]
    assert low.epochs[-1]["train/loss"] == pytest.approx(high.epochs[-1]["train/loss"], rel=0.05)


def test_clipped_steps_are_as_short_as_the_norm_allows(tiny_recipe, tmp_path):
    """By SGD, with gradients clipped to norm c, n steps at most move the weights by
    n * lr * c * (1 + 0.9 / (1 - 0.9)), momentum's geometric sum."""
    plain = replace(
        tiny_recipe, optimizer="sgd", weight_decay=0.0, ema_decay=None, lr_per_256=0.8,
        drop_path_rate=0.0,
    )  # fmt: skip
    moved = {}
    for clip in (None, 1e-3):
        recipe = replace(plain, clip_grad_norm=clip)
        sets = load_sets(recipe)
        torch.manual_seed(0)
        model = recipe.build_model(10)
        before = [p.detach().clone() for p in model.parameters()]
        result = train(
            recipe, model, *sets, run_dir=tmp_path / str(clip), device=torch.device("cpu"),
            progress_bar=False,
        )  # fmt: skip
        steps = [p.detach() - old for p, old in zip(model.parameters(), before)]
        moved[clip] = torch.stack([s.norm() for s in steps]).norm().item()
    assert 0 < moved[1e-3] <= result.step * recipe.peak_lr * 1e-3 * 10
    assert moved[None] > 10 * moved[1e-3]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(  # in an epoch, at its end, in a later one
    ("stop_at", "sent"), [(1, signal.SIGTERM), (3, signal.SIGUSR1), (5, signal.SIGTERM)]
)
def test_stopped_and_resumed_equals_uninterrupted(
    tiny_recipe, tmp_path, stop_at, sent, precision, monkeypatch
):
    tiny_recipe = replace(tiny_recipe, precision=precision)
    whole = run(tiny_recipe, tmp_path / "whole")
    step = Trainer.train_step

    def step_then_terminate(self, images, labels):
        step(self, images, labels)
        if self.progress.step == stop_at:
            os.kill(os.getpid(), sent)

    monkeypatch.setattr(Trainer, "train_step", step_then_terminate)
    assert run(tiny_recipe, tmp_path / "cut") is None
    monkeypatch.undo()
    resumed = run(tiny_recipe, tmp_path / "cut")
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]
    assert resumed.epochs == whole.epochs


def test_full_disk_stops_and_loses_nothing(tiny_recipe, tmp_path, monkeypatch):
    """From step 4 the kernel refuses large files, as a full disk does; then there is room again."""
    whole = run(tiny_recipe, tmp_path / "whole")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    step = Trainer.train_step

    def fill_disk(self, images, labels):
        step(self, images, labels)
        if self.progress.step == 4:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limit[1]))

    monkeypatch.setattr(Trainer, "train_step", fill_disk)
    try:
        with pytest.raises(CheckpointError, match="Newest whole checkpoint: step-00000003"):
            run(tiny_recipe, tmp_path / "cut", checkpoint_seconds=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        monkeypatch.undo()
    resumed = run(tiny_recipe, tmp_path / "cut")
    assert resumed.summary["weights_sha256"] == whole.summary["weights_sha256"]


def test_max_time_stops_before_the_limit(tiny_recipe, tmp_path, monkeypatch):
    step = Trainer.train_step

    def slow_step(self, images, labels):
        step(self, images, labels)
        time.sleep(0.3)

    monkeypatch.setattr(Trainer, "train_step", slow_step)
    sets = load_sets(tiny_recipe)
    begin = time.monotonic()
    result = train(
        tiny_recipe, tiny_recipe.build_model(10), *sets, run_dir=tmp_path,
        device=torch.device("cpu"), deadline=begin + 3, progress_bar=False,
    )  # fmt: skip
    assert time.monotonic() - begin < 3
    assert not result.finished and 0 < result.step < 9
    assert len(list((tmp_path / "checkpoints").glob("step-*.pt"))) == 1


def test_evaluation_that_would_not_fit_is_left_to_the_next_call(tiny_recipe, tmp_path, monkeypatch):
    """The first evaluation is timed; the second, which would pass the deadline, is not begun."""
    evaluate, calls = Trainer.evaluate, []

    def slow_evaluate(self):
        calls.append(self.progress.step)
        time.sleep(1.5)
        return evaluate(self)

    monkeypatch.setattr(Trainer, "evaluate", slow_evaluate)
    sets = load_sets(tiny_recipe)
    options = dict(run_dir=tmp_path, device=torch.device("cpu"), progress_bar=False)
    begin = time.monotonic()
    result = train(tiny_recipe, tiny_recipe.build_model(10), *sets, deadline=begin + 4.5, **options)
    assert not result.finished and calls == [3] and result.step == 6
    resumed = train(tiny_recipe, tiny_recipe.build_model(10), *sets, **options)
    assert resumed.finished and calls == [3, 6, 9]
    assert [row["epoch"] for row in resumed.history] == [1, 2, 3]


def test_lost_weights_are_never_saved(tiny_recipe, tmp_path, monkeypatch):
    """A finite loss whose step ruined the weights, just before a checkpoint."""
    step = Trainer.train_step

    def ruin(self, images, labels):
        step(self, images, labels)
        if self.progress.step == 2:
            with torch.no_grad():
                self.model.head.weight[0, 0] = float("nan")

    monkeypatch.setattr(Trainer, "train_step", ruin)
    with pytest.raises(NonFiniteLoss, match="at step 2"):
        run(tiny_recipe, tmp_path, checkpoint_seconds=0)
    assert [p.name[:13] for p in tmp_path.rglob("step-*.pt")] == ["step-00000001"]


COMMAND = [
    sys.executable, "-m", "nestlib.cli", "train", "digits/nest_narrow", "--device", "cpu",
    "--checkpoint-every", "0", "--set", "epochs=4", "--set", "batch_size=16",
    "--set", "dataset_options.num_images=64", "--set", "model_options.embed_dim=12",
    "--set", "ema_decay=0.9",
]  # fmt: skip


# The same command, killed in the middle of writing its third checkpoint.
DIE_IN_WRITE = """
import os, signal, sys
from nestlib import files
from nestlib.cli import main as cli
writes = 0
def fsync(handle):
    global writes
    writes += 1
    if writes == 5:  # a checkpoint takes two: its file, then its folder
        os.ftruncate(handle, 1000)
        os.kill(os.getpid(), signal.SIGKILL)
files.os.fsync = fsync
cli.main()
"""


def test_killed_run_resumes_to_the_same_weights(tmp_path):
    """SIGKILL, which no code can catch: in the middle of a checkpoint, then anywhere."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(folder, command=COMMAND):
        return subprocess.Popen(
            [*command, "--runs-dir", str(folder / "runs")], cwd=folder, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def weights(folder):
        (record,) = (folder / "runs" / "records").rglob("*.json")
        return json.loads(record.read_text())["summary"]["weights_sha256"]

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    running = start(whole)
    victim = start(cut, [sys.executable, "-c", DIE_IN_WRITE, *COMMAND[3:]])
    assert victim.wait(180) == -signal.SIGKILL, victim.stderr.read()
    assert len(list(cut.rglob(".step-*.part"))) == 1  # what it was writing
    newest = max(path.name for path in cut.rglob("step-*.pt"))
    victim = start(cut)
    deadline = time.monotonic() + 120
    while max((path.name for path in cut.rglob("step-*.pt")), default="") <= newest:
        assert victim.poll() is None and time.monotonic() < deadline, victim.stderr.read()
        time.sleep(0.005)
    victim.kill()
    victim.communicate()
    last = start(cut)
    assert last.wait(180) == 0, last.stderr.read()
    assert running.wait(180) == 0, running.stderr.read()
    assert weights(cut) == weights(whole)


def test_lost_loss_stops_with_step_and_rate(tiny_recipe, tmp_path):
    wild = replace(tiny_recipe, lr_per_256=1e6, epochs=6)
    with pytest.raises(NonFiniteLoss, match=r"not finite at step \d+ .*learning rate .*warm-up"):
        run(wild, tmp_path)


def test_checkpoints_of_another_recipe_are_refused(tiny_recipe, tmp_path):
    sets = load_sets(tiny_recipe)
    options = dict(run_dir=tmp_path, device=torch.device("cpu"), progress_bar=False)
    train(tiny_recipe, tiny_recipe.build_model(10), *sets, **options)
    other = replace(tiny_recipe, weight_decay=0.1)
    with pytest.raises(CheckpointError, match="holds a checkpoint of digits/tiny-s0"):
        train(other, other.build_model(10), *sets, **options)


def test_batch_larger_than_the_set_is_refused(tiny_recipe, tmp_path):
    with pytest.raises(ValueError, match="batch_size 128 must be at most the 96 training images"):
        run(replace(tiny_recipe, batch_size=128), tmp_path)


def test_every_image_once_an_epoch():
    images = load_dataset("digits", "test", num_images=100)
    order = epoch_order(0, 4, images, 32)
    assert sorted(order.tolist()) == list(range(100))
    assert not torch.equal(order, epoch_order(0, 5, images, 32))
    assert not torch.equal(order, epoch_order(1, 4, images, 32))


def test_accuracy_is_scikit_learns_on_the_whole_set(tiny_recipe, tmp_path):
    from sklearn.metrics import log_loss, top_k_accuracy_score

    recipe = replace(tiny_recipe, ema_decay=None)
    train_set, test_set = load_sets(recipe)
    trainer = Trainer(
        recipe, recipe.build_model(10), train_set, test_set, tmp_path, torch.device("cpu")
    )
    frozen = trainer.model.norm.eval()
    metrics = trainer.evaluate()
    assert trainer.model.training and not frozen.training
    trainer.model.eval()
    with torch.no_grad():
        images = normalize(test_set.images, test_set.mean, test_set.std)
        scores = trainer.model(images).softmax(1).numpy()
    labels = test_set.labels.numpy()
    for k, name in ((1, "test/top1"), (5, "test/top5")):
        expected = 100 * top_k_accuracy_score(labels, scores, k=k, labels=range(10))
        assert metrics[name] == pytest.approx(expected)
    assert metrics["test/loss"] == pytest.approx(
        log_loss(labels, scores, labels=range(10)), rel=1e-5
    )


def test_both_of_acols_classifiers_learn(tmp_path):
    """Its forward takes targets, and the loss is the sum of both cross entropies."""
    recipe = get_recipe(
        "digits/nest_narrow", model="resnet50_acol", train_limit=16, test_limit=16, batch_size=8,
        model_options=dict(architecture="resnet10t", hidden=0), epochs=1, warmup_epochs=0,
    )  # fmt: skip
    train_set, test_set = load_sets(recipe)
    torch.manual_seed(0)
    model = recipe.build_model(10)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = Trainer(recipe, model, train_set, test_set, tmp_path, torch.device("cpu"))
    images = torch.randn(4, 3, 32, 32)
    targets = torch.nn.functional.one_hot(torch.arange(4), 10).float()
    first, second = model(images, targets)
    expected = -(targets * (first.log_softmax(1) + second.log_softmax(1))).sum(1).mean()
    model.load_state_dict(model.state_dict())
    torch.testing.assert_close(trainer._loss(images, targets), expected)
    trainer.run(None, 300, False)
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert {name for name in before if name.startswith("classifier")} <= moved
