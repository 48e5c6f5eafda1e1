"""Distillation against its definitions, and through a run: who learns, from what, from where."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
import torch.nn.functional as F
from torch import nn

from nestbook.sweeps.plans import hard, soft
from nestlib.data.augmentation import Augmentation
from nestlib.models.weights import hash_weights, save_weights
from nestlib.recipes.distillation import Distillation
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import from_dict, to_dict, with_overrides
from nestlib.records import Record, Store
from nestlib.runs.run import build_teacher, carry_out
from nestlib.runs.subsets import load_sets
from nestlib.runs.weights import weights_path
from nestlib.training.classifier import Trainer, train
from nestlib.training.distill import distillation_loss

TEACHER = "digits/pyramid_narrow-s0-01234567"


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return [3 * torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2)]


@pytest.fixture
def taught(tiny_recipe, tmp_path):
    """A student's recipe whose teacher is trained, and how to run it."""
    store = Store(tmp_path / "committed", tmp_path / "local")
    how = {"runs_dir": tmp_path / "runs", "device": "cpu", "progress_bar": False}
    teacher = replace(tiny_recipe, name="digits/tiny_teacher", epochs=2)
    carry_out(teacher, store, **how)
    return replace(tiny_recipe, distillation=hard(teacher.run_id)), store, how


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_soft_is_scipys_divergence_of_tempered_softmaxes(logits, temperature):
    ours, theirs = logits
    loss = distillation_loss(
        ours, theirs, torch.zeros(5, 4).double(), Distillation(TEACHER, "soft", 1.0, temperature)
    )
    p, q = (scipy.special.softmax(x.numpy() / temperature, axis=1) for x in (theirs, ours))
    divergence = np.mean([scipy.stats.entropy(a, b) for a, b in zip(p, q)])
    assert loss.item() == pytest.approx(temperature**2 * divergence)


def test_hard_is_cross_entropy_with_the_teachers_class(logits):
    ours, theirs = logits
    targets = F.one_hot(torch.tensor([3, 1, 0, 0, 2]), 4).double()
    probabilities = scipy.special.softmax(ours.numpy(), axis=1)
    labels = -np.log(probabilities[range(5), [3, 1, 0, 0, 2]]).mean()
    lesson = -np.log(probabilities[range(5), theirs.argmax(1)]).mean()
    loss = distillation_loss(ours, theirs, targets, hard(TEACHER))
    assert loss.item() == pytest.approx((labels + lesson) / 2)
    assert loss == distillation_loss(ours, 7 * theirs, targets, hard(TEACHER))  # the class alone


def test_a_teacher_that_agrees_teaches_nothing_soft(logits):
    ours = logits[0].requires_grad_()
    targets = torch.full((5, 4), 0.25).double()
    distillation = Distillation(TEACHER, "soft", 1.0, 2.0)
    distillation_loss(ours, ours.detach(), targets, distillation).backward()
    assert ours.grad.abs().max() < 1e-12


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_weight_is_the_teachers_share(logits, share):
    targets = torch.tensor([3, 1, 0, 0, 2])
    parts = [distillation_loss(*logits, targets, replace(soft(TEACHER), weight=w)) for w in (0, 1)]
    whole = distillation_loss(*logits, targets, replace(soft(TEACHER), weight=share))
    assert whole.item() == pytest.approx(((1 - share) * parts[0] + share * parts[1]).item())
    assert parts[0] == F.cross_entropy(logits[0], targets)


def test_teacher_learns_nothing_and_stays_in_evaluation_mode(tiny_recipe, tmp_path):
    """A PyramidNet: its batch norms would drift, were it ever in training mode."""
    recipe = replace(tiny_recipe, distillation=soft(TEACHER))
    train_set, test_set = load_sets(recipe)
    model = get_recipe("digits/pyramid_narrow").build_model(10)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    student = recipe.build_model(10)
    trainer = Trainer(
        recipe, student, train_set, test_set, tmp_path, torch.device("cpu"), model.train()
    )
    for _ in range(2):
        trainer.train_step(train_set.images[:32], train_set.labels[:32])
    trainer.evaluate()
    trainer.train_step(train_set.images[:32], train_set.labels[:32])
    teacher = trainer.teacher.model
    assert not any(module.training for module in teacher.modules())
    assert student.training and all(p.grad is None for p in teacher.parameters())
    for one in (teacher, model):
        assert all(torch.equal(before[name], value) for name, value in one.state_dict().items())
    # The caller's own model stays as it was: it may be trained elsewhere.
    assert all(module.training for module in model.modules())
    assert all(p.requires_grad for p in model.parameters())


def build_batch_norm_teacher() -> nn.Module:
    """Small, and in training mode: its running statistics would move with every batch."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(4, 10),
    ).train()  # fmt: skip


def copy_state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_a_teachers_batch_norm_stands_still(tiny_recipe, tmp_path, monkeypatch):
    """Over epochs with an EMA and evaluations, and over a stop and its resume.

    DistillWrapper of vit-pytorch 1.26 is not so: its train() is the teacher's too, whose statistics
    then move.
    """
    recipe = replace(tiny_recipe, epochs=2, distillation=soft(TEACHER))
    teacher, modes, train_step = build_batch_norm_teacher(), set(), Trainer.train_step
    before, states, may_stop = copy_state(teacher), [], False

    def step(self, images, labels):
        if may_stop and self.progress.step == 4:  # in the middle of the second epoch
            raise KeyboardInterrupt
        train_step(self, images, labels)
        modes.update(module.training for module in self.teacher.model.modules())
        states.append(copy_state(self.teacher.model))

    def run(folder):
        torch.manual_seed(0)
        result = train(
            recipe, recipe.build_model(10), *load_sets(recipe), run_dir=tmp_path / folder,
            device=torch.device("cpu"), teacher=teacher.train(), checkpoint_seconds=0,
            progress_bar=False,
        )  # fmt: skip
        return result.weights_sha256

    monkeypatch.setattr(Trainer, "train_step", step)
    whole, may_stop = run("whole"), True
    with pytest.raises(KeyboardInterrupt):
        run("stopped")
    may_stop = False
    assert run("stopped") == whole and modes == {False}
    assert before["1.num_batches_tracked"] == 0
    for after in (*states, teacher.state_dict()):
        assert all(torch.equal(before[name], value) for name, value in after.items())


RANKS = """
import json, sys, torch
from pathlib import Path
from test_distill import build_batch_norm_teacher, copy_state
from nestlib.recipes.recipe import from_dict
from nestlib.runs.subsets import load_sets
from nestlib.training.classifier import Trainer
recipe, teacher = from_dict(json.loads(sys.argv[1])), build_batch_norm_teacher()
before = copy_state(teacher)
torch.manual_seed(0)
trainer = Trainer(
    recipe, recipe.build_model(10), *load_sets(recipe), Path("run"), torch.device("cpu"), teacher
)
finished, teacher = trainer.run(None, 300, False).finished, trainer.teacher.model
same = all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
said = [finished, same, any(module.training for module in teacher.modules()), trainer.ranks.size]
Path(f"said{trainer.ranks.rank}.json").write_text(json.dumps(said))
"""


@pytest.mark.slow
def test_a_teachers_batch_norm_stands_still_on_every_rank(tiny_recipe, tmp_path):
    recipe = replace(tiny_recipe, distillation=soft(TEACHER))
    (tmp_path / "script.py").write_text(RANKS)
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         "script.py", json.dumps(to_dict(recipe))],
        cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = [json.loads((tmp_path / f"said{rank}.json").read_text()) for rank in range(2)]
    assert said == [[True, True, False, 2]] * 2


def test_teacher_sees_what_the_student_sees(tiny_recipe, tmp_path, monkeypatch):
    """DeiT's teacher is given the augmented images, mixed ones too."""
    recipe = replace(tiny_recipe, distillation=soft(TEACHER), augmentation=Augmentation(flip=0.0))
    train_set, test_set = load_sets(recipe)
    models = [recipe.build_model(10) for _ in range(2)]
    trainer = Trainer(
        recipe, models[0], train_set, test_set, tmp_path, torch.device("cpu"), models[1]
    )
    seen = []
    for model in (trainer.model, trainer.teacher.model):
        model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    trainer.train_step(train_set.images[:32], train_set.labels[:32])
    assert len(seen) == 2 and torch.equal(*seen)


def test_teacher_is_the_recorded_one_or_none(taught, tmp_path):
    recipe, store, how = taught
    record = carry_out(recipe, store, **how)
    run_id = recipe.distillation.teacher
    sha256 = store.find(run_id).summary["weights_sha256"]
    assert record.environment["teacher"] == {"run_id": run_id, "weights_sha256": sha256}
    assert from_dict(record.recipe) == recipe
    path = how["runs_dir"] / run_id / "weights.safetensors"
    other = how["runs_dir"] / recipe.run_id / "weights.safetensors"
    path.write_bytes(other.read_bytes())
    with pytest.raises(OSError, match=r"holds weights .*the record of digits/tiny_teacher-s0-"):
        carry_out(replace(recipe, seed=1), store, **how)
    (store.local / f"{run_id}.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"`nest train digits/tiny_teacher --seed 0`"):
        carry_out(replace(recipe, seed=1), store, **how)


def test_distillation_changes_the_weights_and_resumes_exactly(taught, monkeypatch):
    recipe, store, how = taught
    whole = carry_out(recipe, store, **how).summary["weights_sha256"]
    alone = carry_out(replace(recipe, distillation=None), store, **how).summary["weights_sha256"]
    assert whole != alone
    (store.local / f"{recipe.run_id}.json").unlink()
    shutil.rmtree(how["runs_dir"] / recipe.run_id)
    step = Trainer.train_step

    def stop(self, images, labels):
        if self.progress.step == 4:  # in the middle of the second of three epochs
            raise KeyboardInterrupt
        step(self, images, labels)

    monkeypatch.setattr(Trainer, "train_step", stop)
    with pytest.raises(KeyboardInterrupt):
        carry_out(recipe, store, checkpoint_seconds=0, **how)
    monkeypatch.setattr(Trainer, "train_step", step)
    again = carry_out(recipe, store, **how)
    assert len(again.environment["earlier_calls"]) == 1
    assert again.summary["weights_sha256"] == whole


def test_a_smoke_run_has_an_untrained_teacher(tmp_path):
    store = Store(tmp_path / "committed", tmp_path / "local")
    teacher = get_recipe("digits/pyramid_narrow")
    recipe = get_recipe("digits/nest_narrow", distillation=hard(teacher.run_id)).at_budget("smoke")
    model, origin = build_teacher(recipe, store, tmp_path)
    assert hash_weights(model) == origin["weights_sha256"] and origin["run_id"] == teacher.run_id


def test_a_teacher_of_other_classes_is_refused(tmp_path):
    store = Store(tmp_path / "committed", tmp_path / "local")
    teacher = get_recipe("cifar100/pyramid164_48")
    store.add(Record(teacher.run_id, "train", to_dict(teacher), {}, {"weights_sha256": "0" * 64}))
    recipe = get_recipe("digits/nest_narrow", distillation=hard(teacher.run_id))
    with pytest.raises(
        ValueError, match=r"has 10 classes and its teacher .* has 100; take .* of digits"
    ):
        build_teacher(recipe, store, tmp_path)


def test_a_teacher_of_a_part_of_the_classes_knows_which(tmp_path):
    """Its record names them: as many are not the same."""
    store = Store(tmp_path / "committed", tmp_path / "local")
    teacher = get_recipe("digits/pyramid_narrow")
    trained = {"data": {"train": {"class_names": ["a", "b", "c"]}}}
    summary = {"weights_sha256": "0" * 64}
    store.add(Record(teacher.run_id, "train", to_dict(teacher), trained, summary))
    recipe = get_recipe("digits/nest_narrow", distillation=hard(teacher.run_id))
    with pytest.raises(ValueError, match=r"has 10 classes and its teacher .* has 3; take"):
        build_teacher(recipe, store, tmp_path)
    with pytest.raises(ValueError, match=r"has 3 classes and its teacher .* has 3 others; take"):
        build_teacher(recipe, store, tmp_path, ("a", "b", "d"))
    save_weights(teacher.build_model(3), weights_path(teacher, tmp_path))
    with pytest.raises(OSError, match="holds weights"):  # of the right shape, all the same
        build_teacher(recipe, store, tmp_path, ("a", "b", "c"))
    smoke = recipe.at_budget("smoke")
    model, _ = build_teacher(smoke, store, tmp_path, ("a", "b"))
    assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


def test_a_teacher_is_given_just_where_the_recipe_has_one(tiny_recipe, tmp_path):
    train_set, test_set = load_sets(tiny_recipe)
    model = tiny_recipe.build_model(10)
    rest = train_set, test_set, tmp_path, torch.device("cpu")
    with pytest.raises(ValueError, match=r"distillation of digits/tiny-s0-.* is None"):
        Trainer(tiny_recipe, model, *rest, model)
    with pytest.raises(ValueError, match=r"distillation of digits/tiny-s0-.* is Distillation"):
        Trainer(replace(tiny_recipe, distillation=hard(TEACHER)), model, *rest)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"teacher": "pyramid"},
            "'pyramid', must be .* a run id .*<recipe>-s<seed>-<8 hex digits>",
        ),
        ({"kind": "medium"}, "no kind of distillation 'medium'; valid: hard, soft"),
        ({"weight": 1.5}, "weight is 1.5, must be a number of at least 0 and at most 1"),
        ({"temperature": 3.0}, "the hard kind does not use it; leave it at 1.0"),
        (
            {"kind": "soft", "temperature": 0.0},
            "temperature is 0.0, must be a number of more than 0",
        ),
    ],
)
def test_impossible_distillations_say_what_would_do(fields, message):
    with pytest.raises(ValueError, match=message):
        Distillation(**{"teacher": TEACHER, **fields})


def test_distillation_is_part_of_a_runs_identity():
    recipe = get_recipe("cifar100/nest_base")
    hashes = {recipe.config_hash}
    for distillation in (hard(TEACHER), soft(TEACHER), hard(TEACHER.replace("s0", "s1"))):
        taught = replace(recipe, distillation=distillation)
        assert from_dict(to_dict(taught)) == taught
        hashes.add(taught.config_hash)
    assert len(hashes) == 4


def test_distillation_can_be_asked_for_on_the_command_line():
    recipe = get_recipe("digits/nest_narrow")
    asked = [f"distillation.teacher={TEACHER}", "distillation.kind=soft", "distillation.weight=1"]
    assert with_overrides(recipe, asked).distillation == Distillation(TEACHER, "soft", 1.0)
    with pytest.raises(ValueError, match=r"no teacher; set distillation.teacher=RUN_ID first"):
        with_overrides(recipe, ["distillation.kind=soft"])
