#!/usr/bin/env bash
# At one learning rate timm's Muon steps 3 to 13 times as far as torch's and optax's.
# Expected: torch.optim.Muon, timm's muon and optax's muon are one optimiser. At the same learning rate, momentum and decay
#   a step from the same gradient changes a matrix by about as much.
# Happens: the direction is nearly the same, the length is not. torch and optax scale the orthogonal matrix by the shape's ratio, timm
#   so that its elements have a root mean square of 0.2. So timm's step is 3 times as long for a 192x192 matrix and 13
#   times for the second layer of an MLP of width 1,024, and no one factor turns one into the other. A convolution's
#   weight is refused by torch, flattened to a matrix by timm, and left to Adam by optax.
# Hurt: whoever carries a Muon recipe, its customary rate of 0.02 for instance, from one library to another.
# Source: measured here; torch.optim.Muon's page describes two scalings (adjust_lr_fn), timm/optim/muon.py three.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  torch==2.14.1 torchvision==0.29.1 timm==1.0.31 jax==0.10.2 optax==0.2.8 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import jax.numpy as jnp
import optax
import timm
import torch
from timm.optim import create_optimizer_v2
from torch import nn

torch.manual_seed(0)


def torch_step(gradient):
    weight = nn.Parameter(torch.zeros_like(gradient))
    weight.grad = gradient.clone()
    torch.optim.Muon([weight], lr=1.0, weight_decay=0.0).step()
    return weight.detach()


def timm_step(gradient):
    if gradient.ndim == 2:
        layer = nn.Linear(gradient.shape[1], gradient.shape[0], bias=False)
    else:
        layer = nn.Conv2d(gradient.shape[1], gradient.shape[0], gradient.shape[2:], bias=False)
    nn.init.zeros_(layer.weight)
    layer.weight.grad = gradient.clone()
    create_optimizer_v2(nn.ModuleDict({"layer": layer}), opt="muon", lr=1.0, weight_decay=0.0).step()
    return layer.weight.detach()


def optax_step(gradient):  # JAX keeps outputs last
    order = list(range(gradient.ndim))
    order = [*order[2:], 1, 0]
    gradient = jnp.asarray(gradient.permute(order).numpy())
    weight = {"kernel": jnp.zeros_like(gradient)}
    optimizer = optax.contrib.muon(1.0, weight_decay=0.0)
    step, _ = optimizer.update({"kernel": gradient}, optimizer.init(weight), weight)
    step = torch.tensor(step["kernel"].tolist())
    return step.permute([order.index(i) for i in range(step.ndim)])


def size(step):
    return step.square().mean().sqrt().item()


print("torch", torch.__version__, "timm", timm.__version__, "optax", optax.__version__)
ratios = {}
for shape in ((192, 192), (768, 192), (192, 768), (1024, 4096)):
    gradient = torch.randn(shape)
    ours, theirs, jaxs = (step(gradient) for step in (torch_step, timm_step, optax_step))
    cosine = torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0).item()
    ratios[shape] = size(theirs) / size(ours), size(jaxs) / size(ours)
    print(f"{shape}: root mean square of a step: torch {size(ours):.4f}, timm {size(theirs):.4f}, "
          f"optax {size(jaxs):.4f}; cosine of torch's and timm's {cosine:.3f}")
    assert cosine > 0.95 and abs(ratios[shape][1] - 1) < 0.02

gradient = torch.randn(192, 96, 3, 3)
try:
    torch_step(gradient)
    refused = False
except ValueError as error:
    refused = True
    print("convolution, torch:", error)
flat, adam = timm_step(gradient).flatten(1), optax_step(gradient)
singular = torch.linalg.svdvals(flat)
print(f"convolution, timm: singular values {singular[0]:.2f} to {singular[-1]:.2f}; "
      f"optax: all elements of one size {adam.abs().min():.3f} to {adam.abs().max():.3f}")

assert refused
assert 2.5 < ratios[192, 192][0] < 3.7 and 11 < ratios[1024, 4096][0] < 15, ratios
assert singular[-1] > 0.5 * singular[0], "timm no longer flattens a convolution"
assert (adam.abs() - adam.abs().mean()).abs().max() < 1e-2, "optax no longer leaves a convolution to Adam"
PY
"$folder/venv/bin/python" "$folder/show.py"
