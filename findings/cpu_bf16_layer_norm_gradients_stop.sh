#!/usr/bin/env bash
# In bf16 on a CPU the gradients of LayerNorm's weights stop growing: 20,000 ones add up to 256.
# Expected: the gradient of a LayerNorm's bias is the sum of the gradients over all rows (images times tokens). torch
#   adds bf16 numbers up in fp32, as it does in sum(), Linear and BatchNorm; under autocast the weights are fp32 besides.
# Happens: torch's CPU kernel keeps the running sums of LayerNorm's weight and bias in the precision of its input. In
#   bf16 a sum of ones ends at 256, in fp16 at 2,048; each thread has a sum of its own, so two threads give 512. Under
#   autocast it happens wherever the input is bf16, though the weights and their gradients are fp32. CUDA's autocast
#   computes layer norms in fp32, the CPU's does not. A Swin of torchvision trains under CPU autocast with gradients of
#   its norms' biases that are off by more than half. A ViT is spared: its position embeddings, fp32, make its tokens fp32.
#   torch.library.register_autocast for aten::layer_norm puts autocast right.
#   An Embedding that is bf16 itself ends at 256 as well; RMSNorm, in the same place, adds up right.
# Hurt: whoever trains transformers in bf16 on a CPU, and whoever compares them there: Swin's norms are all hit and ViT's
#   are not, and how much depends on the number of threads.
# Source: measured here;
#   https://docs.pytorch.org/docs/stable/amp.html lists layer_norm for CUDA's fp32 and not for the CPU's.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import copy

import torch
import torchvision
from torch import nn
from torch.nn import functional as F
from torchvision.models import SwinTransformer, VisionTransformer

ROWS = 20_000


def sum_of_ones(dtype, weights, autocast=False):
    """The gradient of a LayerNorm's bias; ROWS is right."""
    torch.manual_seed(0)
    norm, x = nn.LayerNorm(192).to(weights), torch.randn(ROWS, 192).to(dtype)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = norm(x)
    out.backward(torch.ones_like(out))
    return norm.bias.grad.unique().tolist()


def sum_of_ones_elsewhere(layer, x):
    """The gradient of a bf16 layer's weight where all rows are alike."""
    out = layer.to(torch.bfloat16)(x)
    out.backward(torch.ones_like(out))
    return layer.weight.grad[0].unique().tolist()


def worst_bias(model, images, labels):
    """The largest relative error of a norm's bias gradient, autocast against fp32."""
    found = []
    for enabled in (False, True):
        again = copy.deepcopy(model)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = F.cross_entropy(again(images), labels)
        loss.backward()
        norms = [m for m in again.modules() if isinstance(m, nn.LayerNorm)]
        found.append([norm.bias.grad for norm in norms])
    return max(((full - half).norm() / full.norm()).item() for full, half in zip(*found))


print("torch", torch.__version__, "torchvision", torchvision.__version__)
sums = {}
for threads in (1, 2):
    torch.set_num_threads(threads)
    sums[threads] = {
        "fp32": sum_of_ones(torch.float32, torch.float32),
        "bf16": sum_of_ones(torch.bfloat16, torch.bfloat16),
        "fp16": sum_of_ones(torch.float16, torch.float16),
        "autocast, bf16 input": sum_of_ones(torch.bfloat16, torch.float32, autocast=True),
    }
    for name, values in sums[threads].items():
        print(f"sum of {ROWS:,} ones, {threads} thread(s), {name}: {values}")

torch.set_num_threads(1)
others = {
    "Embedding": sum_of_ones_elsewhere(nn.Embedding(4, 192), torch.zeros(ROWS, dtype=torch.long)),
    "RMSNorm": sum_of_ones_elsewhere(nn.RMSNorm(192), torch.ones(ROWS, 192, dtype=torch.bfloat16)),
}
print(f"sum of {ROWS:,} ones, bf16: {others}")
torch.manual_seed(0)
model = SwinTransformer(
    [2, 2], embed_dim=48, depths=[2, 2], num_heads=[3, 6], window_size=[4, 4],
    stochastic_depth_prob=0.0, num_classes=10,
)  # fmt: skip
images, labels = torch.randn(128, 3, 32, 32), torch.arange(128) % 10
before = worst_bias(model, images, labels)
torch.manual_seed(0)
vit = VisionTransformer(32, 4, num_layers=4, num_heads=3, hidden_dim=48, mlp_dim=192, num_classes=10)
nn.init.normal_(vit.heads.head.weight, std=0.02)  # torchvision's zeros would leave no gradients
spared = worst_bias(vit, images, labels)
torch.library.register_autocast("aten::layer_norm", "cpu", torch.float32)
after = worst_bias(model, images, labels)
mended = sum_of_ones(torch.bfloat16, torch.float32, autocast=True)
print(f"Swin under autocast, its worst bias of a norm: off by {before:.0%}")
print(f"ViT under autocast, its worst bias of a norm: off by {spared:.0%}")
print(f"Swin with layer_norm in fp32: off by {after:.0%}, sum of ones {mended}")

for threads, found in sums.items():
    assert found["fp32"] == [ROWS], found
    assert found["bf16"] == found["autocast, bf16 input"] == [256 * threads], found
    assert found["fp16"] == [2048 * threads], found
assert others == {"Embedding": [256], "RMSNorm": [19_968]}, others  # the latter rounded to bf16
assert before > 0.5 and spared < 0.2 and after < 0.2 and mended == [ROWS], (before, after, mended)
PY
"$folder/venv/bin/python" "$folder/show.py"
