#!/usr/bin/env bash
# On DTensors sharded over n processes, mse_loss and four other mean losses give n times the gradient.
# Expected: a DTensor computes what the whole tensor would, on any number of processes. torch's mse_loss of predictions
#   sharded over the batch has the same value and the same gradient as on one process.
# Happens: the value is right and the gradient is multiplied by the number of processes, without a warning. So for
#   mse_loss, smooth_l1_loss, huber_loss, binary_cross_entropy (of probabilities) and soft_margin_loss, if they take the
#   mean. l1_loss, cross_entropy and binary_cross_entropy_with_logits are right, as is the same loss written out,
#   (p - q).square().mean(). Their backward operators divide by the number of elements, and seem to run on each
#   process's own shard, where they divide by its own count.
# Hurt: whoever trains a diffusion model, an autoencoder, a box regression or a pupil on DTensors. Adam hides it; with
#   SGD, gradient clipping, or a sum of two losses (cross-entropy and distillation by MSE) training differs by the number
#   of processes. reduction="none" and a mean of one's own avoids it.
# Source: measured here; torch/distributed/tensor. https://github.com/pytorch/pytorch/issues/185167 is about another
#   error, in the value of nll_loss with class weights.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import torch
import torch.distributed as dist
from torch.distributed.tensor import Shard, distribute_tensor, init_device_mesh
from torch.nn import functional as F

SCALED = {
    "mse_loss": F.mse_loss,
    "smooth_l1_loss": F.smooth_l1_loss,
    "huber_loss": F.huber_loss,
    "binary_cross_entropy": lambda p, q: F.binary_cross_entropy(p.sigmoid(), q.sigmoid()),
    "soft_margin_loss": lambda p, q: F.soft_margin_loss(p, q.sign()),
}
RIGHT = {
    "(p - q).square().mean()": lambda p, q: (p - q).square().mean(),
    "mse_loss of none, then mean": lambda p, q: F.mse_loss(p, q, reduction="none").mean(),
    "l1_loss": F.l1_loss,
    "cross_entropy": lambda p, q: F.cross_entropy(p, q.argmax(1)),
    "binary_cross_entropy_with_logits": lambda p, q: F.binary_cross_entropy_with_logits(p, q.sigmoid()),
}
torch.set_num_threads(1)
dist.init_process_group("gloo")
n, first = dist.get_world_size(), dist.get_rank() == 0
mesh = init_device_mesh("cpu", (n,))
torch.manual_seed(0)
predictions, targets = torch.randn(12, 4), torch.randn(12, 4)
if first:
    print("torch", torch.__version__, "on", n, "processes")
for name, loss in (SCALED | RIGHT).items():
    whole = predictions.clone().requires_grad_()
    value = loss(whole, targets)
    value.backward()
    sharded = distribute_tensor(predictions, mesh, [Shard(0)]).requires_grad_()
    value_sharded = loss(sharded, distribute_tensor(targets, mesh, [Shard(0)]))
    value_sharded.backward()
    values = value_sharded.full_tensor().item() / value.item()
    gradients = (sharded.grad.full_tensor().norm() / whole.grad.norm()).item()
    if first:
        print(f"{name}: value {values:.3f} and gradient {gradients:.3f} times those of one process")
    assert abs(values - 1) < 1e-4, (name, values)
    assert abs(gradients - (n if name in SCALED else 1)) < 1e-3, (name, gradients)
dist.destroy_process_group()
PY
for processes in 2 4; do
  OMP_NUM_THREADS=1 "$folder/venv/bin/torchrun" --standalone --nproc-per-node "$processes" "$folder/show.py"
done
