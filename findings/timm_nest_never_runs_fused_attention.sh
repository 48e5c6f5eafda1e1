#!/usr/bin/env bash
# timm's NesT says fused_attn=True and never runs the fused kernel.
# Expected: timm's NesT has fused attention on by default (`fused_attn` is True in every layer), so it
#   runs torch's fused kernel, as timm's ViT does. torch documents inputs of (N, ..., heads, L, E).
# Happens: NesT hands scaled_dot_product_attention five dimensions (batch, heads, blocks, patches,
#   width), and torch's fused kernels take four. torch says nothing and computes products, softmax
#   and a check of every row for masked values one by one. With the blocks folded into the batch,
#   the same numbers come from one fused operator a layer. Asked for the fused kernel alone, torch
#   names the dimensions as its reason.
# Hurt: whoever compares NesT's speed with other models in timm, as its published table does, and
#   whoever hands attention over windows or blocks to torch in five dimensions.
# Source: measured here; timm/models/nest.py, class Attention.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  torch==2.14.1 torchvision==0.29.1 timm==1.0.31 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import collections
import warnings

import timm
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

FUSED = "_scaled_dot_product_flash_attention_for_cpu"


class Operators(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def run(call):
    with torch.no_grad(), Operators() as operators:
        return call(), operators.count


print("torch", torch.__version__, "timm", timm.__version__)
torch.manual_seed(0)
images = torch.randn(1, 3, 224, 224)
fused = {}
for name in ("vit_small_patch16_224", "nest_tiny"):
    model = timm.create_model(name).eval()
    layers = [m for m in model.modules() if getattr(m, "fused_attn", False)]
    _, count = run(lambda: model(images))
    fused[name] = count[FUSED]
    print(f"{name}: {len(layers)} layers with fused_attn, {count[FUSED]} ran fused, "
          f"{count['bmm']} bmm, {count['_safe_softmax'] + count['_softmax']} softmax")
q, k, v = torch.randn(3, 2, 3, 16, 196, 32)  # batch, heads, blocks, patches, width
five, of_five = run(lambda: F.scaled_dot_product_attention(q, k, v))


def fold(x):
    return x.transpose(1, 2).flatten(0, 1)


four, of_four = run(lambda: F.scaled_dot_product_attention(fold(q), fold(k), fold(v)))
same = torch.allclose(fold(five), four, atol=1e-5)
print(f"five dimensions: {of_five[FUSED]} fused; blocks in the batch: {of_four[FUSED]}; equal: {same}")
reasons = []
with warnings.catch_warnings(record=True) as caught, sdpa_kernel(SDPBackend.FLASH_ATTENTION):
    warnings.simplefilter("always")
    try:
        F.scaled_dot_product_attention(q, k, v)
    except RuntimeError as error:
        reasons.append(str(error))
print("\n".join(str(w.message)[:160] for w in caught), reasons)
assert fused["vit_small_patch16_224"] == 12
assert fused["nest_tiny"] == of_five[FUSED] == 0, "changed: five dimensions run fused"
assert of_four[FUSED] == 1 and same and reasons
PY
"$folder/venv/bin/python" "$folder/show.py"
