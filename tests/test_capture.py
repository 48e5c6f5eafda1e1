"""A captured step does what an eager one does: here with a replay that calls it again.

What only CUDA can tell, the recording itself, stands in tests/test_gpu.py.
"""

import os
import signal
from dataclasses import replace

import pytest
import torch

from nestlib.recipes.named import get_recipe
from nestlib.runs.run import carry_out
from nestlib.runs.subsets import load_sets
from nestlib.training.capture import WARMUP, CapturedStep
from nestlib.training.classifier import Trainer, train

CPU = torch.device("cpu")


@pytest.fixture
def on_cpu(monkeypatch):
    """Steps are captured on the CPU: warmed up as on a GPU, and replayed by calling them."""
    calls = []

    def warm_up(captured):
        for _ in range(WARMUP):
            captured.step(*captured.batch)

    def record(captured):
        def replay():
            calls.append(captured)
            captured.step(*captured.batch)

        return replay

    monkeypatch.setattr(CapturedStep, "_warm_up", warm_up)
    monkeypatch.setattr(CapturedStep, "_record", record)
    monkeypatch.setattr(
        Trainer, "_capture",
        lambda self: CapturedStep(self._step, self._changed, [self.generator]),
    )  # fmt: skip
    # A graph reads its rate from a float32; an eager step that has the same one can be bit-equal.
    exact = Trainer._lr_at
    monkeypatch.setattr(
        Trainer, "_lr_at", lambda self, step: torch.tensor(exact(self, step)).float().item()
    )
    return calls


def weights_of(recipe, folder, step, **how):
    sets = load_sets(recipe)
    torch.manual_seed(0)
    model = recipe.build_model(10)
    result = train(
        recipe, model, *sets, run_dir=folder, device=CPU, progress_bar=False, step=step, **how
    )
    return result, model.state_dict()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_captured_run_is_an_eager_run(tiny_recipe, tmp_path, on_cpu, optimizer, precision):
    """Bit for bit, clipping, EMA, stochastic depth and the rows of the history included."""
    recipe = replace(
        tiny_recipe, optimizer=optimizer, precision=precision, clip_grad_norm=1.0
    )  # fmt: skip
    eager, expected = weights_of(recipe, tmp_path / "eager", "eager")
    assert not on_cpu
    graph, found = weights_of(recipe, tmp_path / "graph", "graph")
    assert len(on_cpu) == eager.step == graph.step
    assert eager.weights_sha256 == graph.weights_sha256 and eager.history == graph.history
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_each_form_goes_on_from_the_others_checkpoint(tiny_recipe, tmp_path, on_cpu, monkeypatch):
    eager, _ = weights_of(tiny_recipe, tmp_path / "eager", "eager")
    step = Trainer.train_step
    for stop_at, form in ((2, "graph"), (5, "eager"), (99, "graph")):

        def stop(self, images, labels, stop_at=stop_at):
            step(self, images, labels)
            if self.progress.step == stop_at:
                os.kill(os.getpid(), signal.SIGUSR1)

        monkeypatch.setattr(Trainer, "train_step", stop)
        result, _ = weights_of(tiny_recipe, tmp_path / "mixed", form)
        assert result.step == min(stop_at, eager.step)
    assert result.weights_sha256 == eager.weights_sha256 and result.history == eager.history


def test_what_a_step_changes_is_put_back_by_the_recording(tiny_recipe, tmp_path, on_cpu):
    train_set, test_set = load_sets(tiny_recipe)
    model = tiny_recipe.build_model(10)
    trainer = Trainer(tiny_recipe, model, train_set, test_set, tmp_path, CPU, step="graph")
    before = [tensor.clone() for tensor in trainer._changed()]
    trainer.captured.prepare(train_set.images[:32], train_set.labels[:32])
    after = list(trainer._changed())
    made = [tensor for tensor in trainer._changed() if not tensor.any()]
    assert len(after) > len(before) and len(made) >= 3 * len(list(model.parameters()))
    kept = [*model.state_dict().values(), *trainer.ema.module.state_dict().values()]
    assert all(torch.equal(a, b) for a, b in zip(kept, [t for t in before if t.numel()]))


def test_a_batch_of_other_size_is_eager(tiny_recipe, tmp_path, on_cpu):
    train_set, test_set = load_sets(tiny_recipe)
    trainers = []
    for form in ("eager", "graph"):
        torch.manual_seed(0)
        model = tiny_recipe.build_model(10)
        trainer = Trainer(tiny_recipe, model, train_set, test_set, tmp_path, CPU, step=form)
        for size in (32, 20, 32):
            trainer.train_step(train_set.images[:size], train_set.labels[:size])
        trainers.append(trainer)
    assert len(on_cpu) == 2
    eager, graph = (list(trainer.model.state_dict().values()) for trainer in trainers)
    assert all(torch.equal(a, b) for a, b in zip(eager, graph))


def test_a_loss_that_is_lost_in_a_graph_is_named_by_its_step(tiny_recipe, tmp_path, on_cpu):
    train_set, test_set = load_sets(tiny_recipe)
    model = tiny_recipe.build_model(10)
    trainer = Trainer(tiny_recipe, model, train_set, test_set, tmp_path, CPU, step="graph")
    batch = train_set.images[:32], train_set.labels[:32]
    trainer.progress.step = trainer.sums_from = 7
    trainer.train_step(*batch)
    trainer.raise_if_not_finite()
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    for _ in range(2):
        trainer.train_step(*batch)
    with pytest.raises(RuntimeError, match="not finite at step 8"):
        trainer.raise_if_not_finite()


def test_what_cannot_be_one_graph_is_refused(tiny_recipe, store, tmp_path):
    how = {"runs_dir": tmp_path, "device": "cpu", "progress_bar": False}
    with pytest.raises(ValueError, match="of 1 parts on cpu cannot be one graph"):
        carry_out(tiny_recipe, store, step="graph", **how)
    with pytest.raises(ValueError, match="valid: eager, compiled, graph, compiled_graph"):
        carry_out(tiny_recipe, store, step="grph", **how)
    with pytest.raises(ValueError, match="step are for classifiers"):
        carry_out(get_recipe("digits/gan_nest_narrow"), store, step="graph", **how)
