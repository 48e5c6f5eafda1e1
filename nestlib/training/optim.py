"""AdamW and its learning rate, as the published NesT code sets them (train.py, libml/utils.py)."""

import math

import torch
from torch import nn


def build_optimizer(model: nn.Module, *, weight_decay: float) -> torch.optim.AdamW:
    """AdamW (betas 0.9, 0.999) that decays every parameter but those the model exempts.

    The published code decays biases and LayerNorms too and exempts only position embeddings;
    peers exempt what their own `no_weight_decay` names.
    """
    exempt = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
    parameters = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    groups = [
        {"params": [p for n, p in parameters if n not in exempt], "weight_decay": weight_decay},
        {"params": [p for n, p in parameters if n in exempt], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0, fused=True)


def compute_lr(epoch: float, *, peak: float, epochs: int, warmup_epochs: float) -> float:
    """Learning rate at a fractional epoch: linear from 0 to `peak`, then half a cosine to 0."""
    if epoch < warmup_epochs:
        return peak * epoch / warmup_epochs
    progress = (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return peak * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
