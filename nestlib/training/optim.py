"""The classifier's optimiser and learning rate, as the published NesT code sets them (train.py,
libml/), and the GAN's (appendix A.4)."""

import math

import torch
from torch import Tensor, nn

MOMENTUM = 0.9
GAN_BETAS = (0.0, 0.99)


def build_optimizer(
    model: nn.Module, name: str = "adamw", *, weight_decay: float
) -> torch.optim.Optimizer:
    """The optimiser of a model's trainable parameters, at learning rate 0.

    - "adamw" (betas 0.9, 0.999) decays every parameter but those the model exempts, biases and
      LayerNorms too. NesT exempts its position embeddings; peers exempt what their own
      `no_weight_decay` names.
    - "sgd" (Nesterov momentum 0.9) adds weight_decay / 2 times the squared norm of matrices and
      kernels to the loss, none of biases and norms: the published code's recipe for convnets.
    """
    parameters = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    if name == "sgd":
        exempt = {n for n, p in parameters if p.ndim < 2}
    else:
        exempt = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()
    groups = [
        {"params": [p for n, p in parameters if n not in exempt], "weight_decay": weight_decay},
        {"params": [p for n, p in parameters if n in exempt], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=0.0, momentum=MOMENTUM, nesterov=True, fused=True)
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


def build_adam(model: nn.Module, lr: float, share: float = 1.0) -> torch.optim.Adam:
    """Adam of a GAN's network, at a constant rate.

    Args:
        share: of the steps that it takes, those it would take without lazy regularisation, k of
            k + 1. The rate is multiplied by it and the betas raised to it, so that all steps
            together learn and forget as those would have (StyleGAN2, arXiv 1912.04958, appendix B).
    """
    betas = tuple(beta**share for beta in GAN_BETAS)
    return torch.optim.Adam(model.parameters(), lr * share, betas, fused=True)


def compute_lr(epoch: float, *, peak: float, epochs: int, warmup_epochs: float) -> float:
    """Learning rate at a fractional epoch: linear from 0 to `peak`, then half a cosine to 0.

    The cosine begins where the warm-up ends, as in the published code (libml/utils.py), so that
    every run reaches its peak. timm's (1.0.31) begins with the warm-up unless `warmup_prefix` is
    set: of 60 epochs with 20 of warm-up, the 20th has 0.95 of the peak, the highest of all, and the
    next one 0.75.
    """
    if epoch < warmup_epochs:
        return peak * epoch / warmup_epochs
    progress = (epoch - warmup_epochs) / (epochs - warmup_epochs)
    return peak * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr


def make_capturable(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Keep on the device what a captured step reads again at each replay: the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device)
        if "capturable" in group:
            group["capturable"] = device.type == "cuda"
