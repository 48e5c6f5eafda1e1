"""The optimiser's groups and its learning rate are the published code's."""

import math

import pytest
import torch

from nestlib import create_model
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


def test_rate_is_the_published_schedule():
    """libml/utils.py: a cosine over the epochs after warm-up, times a ramp from 0 during it."""
    peak, epochs, warmup = 1e-3, 300, 5
    for epoch in [0, 0.5, 4.99, 5, 5.01, 152.5, 299, 300]:
        cosine = 0.5 * (1 + math.cos(math.pi * max(0.0, (epoch - warmup) / (epochs - warmup))))
        published = peak * cosine * min(1.0, epoch / warmup)
        ours = compute_lr(epoch, peak=peak, epochs=epochs, warmup_epochs=warmup)
        assert ours == pytest.approx(published, abs=1e-12)


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
