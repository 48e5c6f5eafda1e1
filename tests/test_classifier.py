"""The trainer: what a run leaves is a function of its recipe alone, however often it is stopped."""

import copy
import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nestlib.data import rand_augment
from nestlib.data.augment import normalize
from nestlib.data.augmentation import Augmentation
from nestlib.data.datasets import FolderSet, load_dataset
from nestlib.models.weights import hash_weights
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import Recipe
from nestlib.records import Store
from nestlib.runs.run import carry_out
from nestlib.runs.subsets import load_sets
from nestlib.training import classifier, stopping
from nestlib.training.checkpoint import CheckpointError, save_checkpoint
from nestlib.training.classifier import NonFiniteLoss, Trainer, train
from nestlib.training.loop import OutOfMemory
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


@contextmanager
def signal_after(last_step, sent=signal.SIGTERM):
    """A signal comes at the end of a training run's step."""
    train_step = Trainer.train_step

    def step_then_signal(self, images, labels):
        train_step(self, images, labels)
        if self.progress.step == last_step:
            os.kill(os.getpid(), sent)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", step_then_signal)
        yield


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(  # in an epoch, at its end, in a later one
    ("stop_at", "sent"), [(1, signal.SIGTERM), (3, signal.SIGUSR1), (5, signal.SIGUSR2)]
)
def test_stopped_and_resumed_equals_uninterrupted(tiny_recipe, tmp_path, stop_at, sent, precision):
    tiny_recipe = replace(tiny_recipe, precision=precision)
    whole = run(tiny_recipe, tmp_path / "whole")
    with signal_after(stop_at, sent):
        assert run(tiny_recipe, tmp_path / "cut") is None
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


@pytest.mark.parametrize("at", [3, 9], ids=["within the run", "at its end"])
def test_a_signal_within_an_evaluation_stops_at_its_next_batch(
    tiny_recipe, tmp_path, monkeypatch, at
):
    """To look at many images may take minutes: a scheduler, or a sweep that was killed, does not
    wait so long. The next call makes the row that is missing."""
    sets, scored = load_sets(tiny_recipe), []
    monkeypatch.setattr(classifier, "EVALUATION_BATCH", 30)

    def begin(folder):
        torch.manual_seed(0)
        model = tiny_recipe.build_model(10)
        trainer = Trainer(tiny_recipe, model, *sets, tmp_path / folder, torch.device("cpu"))
        trainer.resume_together()
        return trainer

    whole = begin("whole").run(None, 300, False)
    one_batch = classifier.score

    def score(logits, labels):
        scored.append(trainer.progress.step)
        if scored.count(at) == 2:
            signal.raise_signal(signal.SIGTERM)
        return one_batch(logits, labels)

    monkeypatch.setattr(classifier, "score", score)
    for finished in (False, True):
        trainer = begin("cut")
        result = trainer.run(None, 300, False)
        assert result.finished == finished and result.step == (9 if finished else at)
        assert scored.count(at) == 2 or finished
    assert result.history == whole.history and result.weights_sha256 == whole.weights_sha256
    assert result.right == whole.right


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
    wild = replace(tiny_recipe, lr_per_256=1000.0, epochs=6)
    with pytest.raises(NonFiniteLoss, match=r"not finite at step \d+ .*learning rate .*warm-up"):
        run(wild, tmp_path)


def test_checkpoints_of_another_recipe_are_refused(tiny_recipe, tmp_path):
    sets = load_sets(tiny_recipe)
    options = dict(run_dir=tmp_path, device=torch.device("cpu"), progress_bar=False)
    train(tiny_recipe, tiny_recipe.build_model(10), *sets, **options)
    other = replace(tiny_recipe, weight_decay=0.1)
    with pytest.raises(CheckpointError, match="holds a checkpoint of digits/tiny-s0"):
        train(other, other.build_model(10), *sets, **options)


@pytest.fixture
def stopped(tiny_recipe, tmp_path):
    """(build, states): trainers of a folder that holds checkpoints of steps 3 and 4, and these.

    The first epoch ends at step 3.
    """

    def build(recipe=tiny_recipe, change=lambda images: images):
        torch.manual_seed(0)
        train_set, test_set = load_sets(recipe)
        return Trainer(
            recipe, recipe.build_model(10), change(train_set), test_set, tmp_path,
            torch.device("cpu"),
        )  # fmt: skip

    trainer, step = build(), Trainer.train_step

    def stop(self, images, labels):
        if self.progress.step == 4:
            raise KeyboardInterrupt
        step(self, images, labels)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "train_step", stop)
        trainer.run(None, 0, False)
    paths = sorted((tmp_path / "checkpoints").iterdir())
    return build, {int(path.name[5:13]): torch.load(path) for path in paths}


def rewrite(folder, state, step=4):
    """Put another state in the place of a checkpoint, under its own digest and step."""
    (old,) = (folder / "checkpoints").glob(f"step-{step:08d}-*.pt")
    old.unlink()
    named = step if type(state.get("step")) is not int else max(state["step"], step)
    return save_checkpoint(folder / "checkpoints", named, state)


def drop(key):
    return lambda state: {name: value for name, value in state.items() if name != key}


def put(value, *path):
    """The state with a value at `path`; without the place where the value is None."""

    def change(state):
        state = copy.deepcopy(state)
        place = state
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value(place[path[-1]]) if callable(value) else value
        return state

    return change


EMBEDDING = "model", "pos_embeds.0"
MOMENTS = "optimizer", "state"
WRONG = {
    "it is missing optimizer": drop("optimizer"),
    "it is missing step": drop("step"),
    "it has unknown keys news": lambda state: state | {"news": 1},
    "format 'one'": put("one", "format"),
    "run None": put(None, "run_id"),
    "content -1": put(-1, "step"),
    "content True": put(True, "step"),
    "step 10 is not a whole number from 0 to 9": put(10, "step"),
    "nan seconds": put(float("nan"), "train_seconds"),
    "history does not hold the 1 rows": put([], "history"),
    "history does not hold": put(lambda rows: rows * 2, "history"),
    "row 0 of its history": put(["epoch"], "history"),
    "row 0 .*numbers": put("high", "history", 0, "test/top1"),
    "sums is .*shape": put(torch.zeros((), dtype=torch.float64), "sums"),
    "model is missing norm.weight": put(drop("norm.weight"), "model"),
    "model has unknown keys more": put(torch.zeros(1), "model", "more"),
    "model, pos_embeds.0 is .*shape": put(lambda x: x[:, :1], *EMBEDDING),  # would be resized
    "model, pos_embeds.0 is torch.int64": put(lambda x: x.long(), *EMBEDDING),
    "model, pos_embeds.0 is a str": put("text", *EMBEDDING),
    "ema is a list": put([], "ema"),
    "optimizer is of other parameters": put(lambda groups: groups[:1], "optimizer", "param_groups"),
    "optimizer has moments of 0": put({}, *MOMENTS),
    "parameter 0 is missing exp_avg": put(drop("exp_avg"), *MOMENTS, 0),
    "parameter 0, exp_avg_sq is": put(lambda x: x[:1], *MOMENTS, 0, "exp_avg_sq"),
    "parameter 0, has taken": put(torch.tensor(-1.0), *MOMENTS, 0, "step"),
    "0 bytes do not say": put("", "right"),
    "faults are": put([1], "faults"),
    "model, norm.weight holds NaN": put(lambda x: x.fill_(torch.nan), "model", "norm.weight"),
    "ema, module.norm.weight is not finite": put(lambda x: x / 0, "ema", "module.norm.weight"),
    "parameter 1, exp_avg holds NaN": put(lambda x: x.fill_(torch.nan), *MOMENTS, 1, "exp_avg"),
    "parameter 0, has taken 9.0 steps": put(torch.tensor(9.0), *MOMENTS, 0, "step"),
    "is of other parameters than": put(torch.ones(2), "optimizer", "param_groups", 0, "params"),
    "row 0 of its history does not hold": put(1, "history", 0, 1),
    "data, train has unknown keys more": put(1, "data", "train", "more"),
    "data, test, images is a str": put("9", "data", "test", "images"),
    "data is a list": put([], "data"),
    "total_steps is a str": put("9", "total_steps"),
}


@pytest.mark.parametrize("reason", WRONG)
def test_wrong_states_are_named_and_the_one_before_taken(stopped, tmp_path, reason):
    build, states = stopped
    rewrite(tmp_path, WRONG[reason](states[4]))
    trainer = build()
    with pytest.warns(UserWarning, match=f"step-000000.* is damaged .*{reason}"):
        trainer.resume()
    assert trainer.progress.step == 3
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, states[3]["model"][name])


def test_a_wrong_state_alone_is_an_error(stopped, tmp_path):
    build, states = stopped
    rewrite(tmp_path, states[3] | {"history": []}, step=3).rename(tmp_path / "elsewhere")
    path, before = rewrite(tmp_path, states[4] | {"history": []}), build()
    expected = hash_weights(before.model)
    with pytest.raises(CheckpointError, match=f"{path.name}: its history does not hold the 1"):
        before.resume()
    assert hash_weights(before.model) == expected and path.is_file()


def test_the_state_before_a_wrong_one_leads_to_the_same_weights(stopped, tmp_path, tiny_recipe):
    build, states = stopped
    rewrite(tmp_path, states[4] | {"step": 10**6})  # it would wait for ever
    with pytest.warns(UserWarning, match="using the one before it"):
        (resumed := build()).resume()
    assert resumed.run(None, 300, False).weights_sha256 == whole_weights(build, tmp_path)


def whole_weights(build, folder):
    (folder / "checkpoints").rename(folder / "aside")
    return build().run(None, 300, False).weights_sha256


def test_checkpoints_of_before_they_kept_their_data_go_on(stopped, tmp_path):
    build, states = stopped
    old = {"data", "total_steps", "faults", "right"}
    rewrite(tmp_path, {key: value for key, value in states[4].items() if key not in old})
    with pytest.warns(UserWarning, match="does not say of which images it is: make sure"):
        (trainer := build()).resume()
    assert trainer.progress.step == 4
    assert trainer.run(None, 300, False).weights_sha256 == whole_weights(build, tmp_path)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.select(torch.arange(64)), r"it has 96 train images, here are 64;.* 9 steps,"),
        (lambda s: replace(s, images=s.images ^ 1), "train images have fingerprint .*, here it is"),
        (lambda s: replace(s, labels=s.labels.flip(0)), "train images have fingerprint"),
        (lambda s: s.select(torch.arange(95, -1, -1)), "train images have fingerprint"),
        (lambda s: replace(s, class_names=tuple("abcdefghij")), "train include 0, 1, 2.* a, b, c"),
        (lambda s: replace(s, split="all"), "it has the splits train, test, here are all, test"),
    ],
    ids=["fewer", "pixels", "labels", "order", "names", "split"],
)
def test_a_run_does_not_go_on_with_other_images(stopped, tmp_path, change, said):
    """With fewer it would never end."""
    build, _ = stopped
    before = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    message = rf"a run on other images: .*{said}.*Provide the same images, or move {tmp_path} away"
    with pytest.raises(CheckpointError, match=message):
        build(change=change).resume()
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == before
    build().resume()


def test_a_newer_nestlibs_checkpoint_is_answered_with_an_update(stopped, tmp_path):
    build, _ = stopped
    rewrite(tmp_path, {"format": 2, "step": 4, "news": 1})
    with pytest.raises(CheckpointError, match="newer nestlib, format 2; this one reads 1: update"):
        build().resume()


def test_a_folders_files_are_looked_at_once_a_call(tmp_path, monkeypatch):
    """However many checkpoints a call writes."""
    recipe = small_folder_recipe(tmp_path)
    looked, sizes = [], FolderSet.sizes
    monkeypatch.setattr(FolderSet, "sizes", lambda self: looked.append(self.split) or sizes(self))
    run(recipe, tmp_path, data_dir=tmp_path / "data", checkpoint_seconds=0)
    assert sorted(looked) == ["test", "train"]


def small_folder_recipe(folder, classes="ab"):
    for split, count in (("train", 8), ("val", 2)):
        for name in classes:
            for number in range(count):
                path = folder / "data" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (40, 40), (9 * number, 50, 50)).save(path)
    return Recipe(
        "folder/tiny", "nest_tiny_cifar", "imagenet", image_size=32, epochs=2, batch_size=8,
        model_options={"embed_dim": 12, "num_hierarchies": 2, "patch_size": 4}, warmup_epochs=1,
        dataset_options={"partial": True, "num_workers": 0}, augmentation=Augmentation.none(),
    )  # fmt: skip


def test_a_stopped_run_refuses_a_folder_that_has_changed(tmp_path):
    recipe, where = small_folder_recipe(tmp_path), {"data_dir": tmp_path / "data"}
    with signal_after(1):
        assert run(recipe, tmp_path, **where) is None
    (tmp_path / "data" / "train" / "a").rename(tmp_path / "data" / "train" / "c")
    (tmp_path / "data" / "val" / "a").rename(tmp_path / "data" / "val" / "c")
    with pytest.raises(CheckpointError, match=r"2 classes of train include a, here 2 include c"):
        run(recipe, tmp_path, **where)
    (tmp_path / "data" / "train" / "c").rename(tmp_path / "data" / "train" / "a")
    (tmp_path / "data" / "val" / "c").rename(tmp_path / "data" / "val" / "a")
    assert run(recipe, tmp_path, **where).summary["reported_epoch"] == 2


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_stopped_run_refuses_pictures_of_equal_size_and_name(tmp_path, split):
    """The fingerprint of a folder is over names and sizes alone."""
    recipe, where = small_folder_recipe(tmp_path), {"data_dir": tmp_path / "data"}
    with signal_after(1):
        assert run(recipe, tmp_path, **where) is None
    path = tmp_path / "data" / split / "b" / "1.png"
    whole = path.read_bytes()
    for red in range(200, 256):  # until one is as long
        Image.new("RGB", (40, 40), (red, 50, 50)).save(path)
        if path.stat().st_size == len(whole):
            break
    assert path.stat().st_size == len(whole) and path.read_bytes() != whole
    with pytest.raises(CheckpointError, match=rf"with another content here: {split}/b/1.png. Prov"):
        run(recipe, tmp_path, **where)
    path.write_bytes(whole)
    os.utime(path, (1, 1))
    assert run(recipe, tmp_path, **where).summary["reported_epoch"] == 2


def test_the_order_and_the_labels_of_files_are_compared(tmp_path):
    recipe = small_folder_recipe(tmp_path)
    train_set, test_set = load_sets(recipe, data_dir=tmp_path / "data")

    def build(images):
        model = recipe.build_model(2)
        return Trainer(recipe, model, images, test_set, tmp_path, torch.device("cpu"))

    build(train_set).run(time.monotonic(), 300, False)
    for other in (train_set.select(torch.arange(15, -1, -1)),
                  replace(train_set, labels=train_set.labels.flip(0))):  # fmt: skip
        assert other.fingerprint == train_set.fingerprint
        with pytest.raises(CheckpointError, match="train images stand in another order or shards"):
            build(other).resume()
    build(train_set).resume()


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


def test_a_first_step_that_outlasts_the_deadline_is_given_up(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(stopping, "FIRST_SECONDS", 0)
    model, sets = tiny_recipe.build_model(10), load_sets(tiny_recipe)
    options = dict(run_dir=tmp_path, device=torch.device("cpu"), progress_bar=False)
    with pytest.warns(UserWarning, match="first step of digits/tiny-.* was given up.*more time"):
        result = train(tiny_recipe, model, *sets, deadline=time.monotonic(), **options)
    assert (result.finished, result.step) == (False, 0)
    assert not list(tmp_path.rglob("*.pt"))
    assert not any(layer._forward_hooks for layer in model.modules())


def test_a_backward_pass_is_given_up_too(monkeypatch):
    clock = stopping.Clock(0, time.monotonic() + 60, 300, 1)
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))
    with clock.watch([model]) as first:
        loss = model(torch.ones(2, 4)).sum()
        monkeypatch.setattr(stopping.time, "monotonic", lambda: clock.deadline + 1)
        with pytest.raises(stopping.Overdue):
            loss.backward()
        with pytest.raises(stopping.Overdue), torch.no_grad():
            model(torch.ones(2, 4))
        first.close()
        model(torch.ones(2, 4)).sum().backward()


def test_a_watched_first_step_is_the_same(tiny_recipe, tmp_path):
    found = []
    for deadline in (None, time.monotonic() + 600):
        torch.manual_seed(0)
        model, sets = tiny_recipe.build_model(10), load_sets(tiny_recipe)
        run_dir = tmp_path / str(deadline)
        options = dict(run_dir=run_dir, device=torch.device("cpu"), progress_bar=False)
        found.append(train(tiny_recipe, model, *sets, deadline=deadline, **options).weights_sha256)
    assert found[0] == found[1]


def test_a_step_that_does_not_fit_into_memory_names_what_would(tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "train_step", lambda *_: torch.empty(10**15))
    with pytest.raises(OutOfMemory, match=r"32 images does not fit .*; take a smaller batch_size"):
        train(tiny_recipe, tiny_recipe.build_model(10), *load_sets(tiny_recipe), run_dir=tmp_path,
              device=torch.device("cpu"), progress_bar=False)  # fmt: skip
