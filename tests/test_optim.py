"""The optimiser's groups and its learning rate are the published code's."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from timm.scheduler import create_scheduler_v2

from nestlib import create_model
from nestlib.runs.subsets import load_sets
from nestlib.training.classifier import Trainer
from nestlib.training.optim import build_optimizer, compute_lr, set_lr


def build_tiny():
    return create_model(
        "nest_tiny_cifar", embed_dim=12, num_hierarchies=2, patch_size=4, num_classes=10
    )


def test_everything_decays_but_position_embeddings():
    model = build_tiny()
    decayed, spared = build_optimizer(model, weight_decay=0.05).param_groups
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    assert {id(p) for p in spared["params"]} == {id(p) for p in model.pos_embeds}
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.parameters()))
    assert any(p is model.norm.bias for p in decayed["params"])


def test_step_is_decoupled_weight_decay():
    """With no gradient only the decay moves a weight: w - lr * 0.05 * w (arXiv 1711.05101)."""
    model = build_tiny()
    optimizer = build_optimizer(model, weight_decay=0.05)
    set_lr(optimizer, 0.1)
    before = [p.detach().clone() for p in model.parameters()]
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    exempt = {id(p) for p in model.pos_embeds}
    for old, new in zip(before, model.parameters()):
        torch.testing.assert_close(new.detach(), old if id(new) in exempt else old * (1 - 0.005))


@pytest.mark.parametrize(
    ("epochs", "warmup"), [(300, 5), (300, 20), (200, 5), (90, 5), (60, 20), (20, 1), (12, 0.6)]
)
def test_rate_is_the_published_schedule(epochs, warmup):
    """libml/utils.py: a cosine over the epochs after warm-up, times a ramp from 0 during it."""
    peak = 1e-3
    for epoch in np.linspace(0, epochs, 40 * epochs + 1):
        cosine = 0.5 * (1 + math.cos(math.pi * max(0.0, (epoch - warmup) / (epochs - warmup))))
        published = peak * cosine * min(1.0, epoch / warmup)
        ours = compute_lr(epoch, peak=peak, epochs=epochs, warmup_epochs=warmup)
        assert ours == pytest.approx(published, abs=1e-12)


def timms_rates(num_epochs: int, updates: int | None = None, **how) -> list[float]:
    """By timm's scheduler, with 20 epochs of warm-up to a peak of 1: a rate for every epoch, or for
    every step of so many per epoch (--sched-on-updates)."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler, num_epochs = create_scheduler_v2(
        optimizer, "cosine", num_epochs, warmup_epochs=20, warmup_lr=0.0,
        step_on_epochs=updates is None, updates_per_epoch=updates or 0, **how,
    )  # fmt: skip
    rates = []
    for t in range(num_epochs * (updates or 1)):
        rates.append(optimizer.param_groups[0]["lr"])
        (scheduler.step_update if updates else scheduler.step)(t + 1)
    return rates


def test_a_short_run_reaches_its_peak_and_timms_only_with_a_prefix():
    ours = [compute_lr(step / 3, peak=1.0, epochs=60, warmup_epochs=20) for step in range(180)]
    assert ours[60] == max(ours) == 1.0
    assert timms_rates(40, warmup_prefix=True) == pytest.approx(ours[::3])
    assert timms_rates(40, updates=3, warmup_prefix=True) == pytest.approx(ours)
    by_default = timms_rates(60)  # its cosine is a third through at epoch 20: (1 + cos(pi / 3)) / 2
    assert max(by_default) == by_default[19] == pytest.approx(0.95)
    assert by_default[20] == pytest.approx(0.75)


def test_a_run_takes_the_schedule_step_by_step(tiny_recipe, tmp_path):
    recipe = replace(tiny_recipe, epochs=60, warmup_epochs=20)
    trainer = Trainer(
        recipe, recipe.build_model(10), *load_sets(recipe), tmp_path, torch.device("cpu")
    )
    rates = []
    for step in range(trainer.total_steps + 1):
        trainer.progress.step = step
        rates.append(trainer.lr)
    assert rates.index(max(rates)) == 20 * trainer.steps_per_epoch == 60
    assert max(rates) == recipe.peak_lr == recipe.lr_per_256 * 32 / 256
    assert rates[:61] == pytest.approx(np.linspace(0, recipe.peak_lr, 61))  # every step its own
    assert rates[120] == pytest.approx(recipe.peak_lr / 2) and rates[180] < 1e-9


def test_rate_without_warmup_starts_at_the_peak():
    assert compute_lr(0, peak=1.0, epochs=10, warmup_epochs=0) == 1.0


def test_sgd_step_is_the_published_convnet_recipes():
    """train.py: Nesterov momentum 0.9, and weight_decay / 2 * |w|^2 of matrices in the loss."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = build_optimizer(model, "sgd", weight_decay=0.1)
    set_lr(optimizer, 0.5)
    weights = [p.detach().clone() for p in model.parameters()]
    momentum = [torch.zeros_like(w) for w in weights]
    for _ in range(3):
        grads = [torch.randn_like(w) for w in weights]
        for i, (p, grad) in enumerate(zip(model.parameters(), grads)):
            p.grad = grad.clone()
            if p.ndim > 1:
                grad = grad + 0.1 * weights[i]
            momentum[i] = 0.9 * momentum[i] + grad
            weights[i] = weights[i] - 0.5 * (grad + 0.9 * momentum[i])
        optimizer.step()
        for p, expected in zip(model.parameters(), weights):
            torch.testing.assert_close(p.detach(), expected)
