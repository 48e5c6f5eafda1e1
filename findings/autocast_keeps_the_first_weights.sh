#!/usr/bin/env bash
# One autocast around a training loop trains nothing; around an evaluation it scores the first checkpoint again.
# Expected: inside torch.autocast a layer computes with a bf16 copy of its weights as they are now. To put the
#   whole loop under one autocast instead of each forward pass is at most untidy.
# Happens: autocast keeps the first bf16 copy of every weight until the outermost context ends, and does not see
#   that the weight was changed in place. An optimiser's step and load_state_dict both change it in place. So a
#   loop under one autocast shows the same loss to the last bit at every step, while the weights drift away. Two
#   checkpoints that are loaded and scored under one autocast get the same logits with torch.no_grad. With
#   torch.inference_mode they do not: nothing is kept there. An outer context that is disabled (enabled=False, as
#   code has it that can also run in fp32) delays the end just as well. Nothing warns; cache_enabled=False helps.
# Hurt: whoever scores several checkpoints, or the weights and their moving average, in one autocast; a GAN's
#   generator step behind its discriminator's in one autocast; a training loop under one autocast.
# Source: measured here; https://docs.pytorch.org/docs/stable/amp.html says that autocast should wrap the forward
#   passes, and that backward passes under it are not recommended. It does not say why.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
from contextlib import nullcontext

import torch
from torch import nn


def autocast(**options):
    return torch.autocast("cpu", torch.bfloat16, **options)


def train_under(around_loop, around_step):
    torch.manual_seed(0)
    images = torch.randn(256, 16)
    targets = images @ torch.randn(16, 1)
    model = nn.Linear(16, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    with around_loop:
        for _ in range(30):
            with around_step:
                loss = (model(images).float() - targets).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def logits_of_two_checkpoints(mode):
    torch.manual_seed(0)
    model, checkpoints = nn.Linear(8, 8), [nn.Linear(8, 8).state_dict() for _ in range(2)]
    images, logits = torch.randn(4, 8), []
    with autocast(), mode():
        for checkpoint in checkpoints:
            model.load_state_dict(checkpoint)
            logits.append(model(images))
    return logits


print("torch", torch.__version__)
losses = {
    "a step": train_under(nullcontext(), autocast()),
    "the loop": train_under(autocast(), nullcontext()),
    "a step, a disabled one around the loop": train_under(autocast(enabled=False), autocast()),
    "the loop, no cache": train_under(autocast(cache_enabled=False), nullcontext()),
}
for name, series in losses.items():
    print(f"autocast around {name}: loss {series[0]:.6f}, {series[1]:.6f} ... {series[-1]:.6f}")
equal = {}
for mode in (torch.no_grad, torch.inference_mode):
    first, second = logits_of_two_checkpoints(mode)
    equal[mode.__name__] = torch.equal(first, second)
    print(f"two checkpoints under one autocast, {mode.__name__}: equal logits {equal[mode.__name__]}")

for name, series in losses.items():
    if name in ("a step", "the loop, no cache"):
        assert series[-1] < 0.01 * series[0], name
    else:
        assert len(set(series)) == 1, f"{name}: it sees its weights change now"
assert equal == {"no_grad": True, "inference_mode": False}, equal
PY
"$folder/venv/bin/python" "$folder/show.py"
