#!/usr/bin/env bash
# On the meta device torch's fused attention is taken apart, and its scores seem to need memory.
# Expected: a model run on the meta device, or on fake CUDA tensors, shows the operators that the device
#   would run, so that its memory and bytes can be counted before the device is there.
# Happens: there F.scaled_dot_product_attention is never the fused operator. It is taken apart: bf16 inputs
#   are cast to fp32, and every score is a tensor of its own. Of 4,096 tokens and 8 heads one such tensor
#   has 128 times the bytes of the queries; the CPU's own run of the same call makes none.
# Hurt: whoever estimates the memory or the traffic of a transformer on meta or fake tensors: its attention
#   seems to need memory that grows with the square of the tokens, which no fused kernel does.
# Source: seen here; https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
#   says how a kernel is chosen on a CPU and with CUDA, and nothing of tensors without data.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
from contextlib import nullcontext

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.functional import scaled_dot_product_attention
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Operators(TorchDispatchMode):
    """Names of the operators that ran, and the bytes of the largest tensor that one of them gave."""

    def __init__(self):
        super().__init__()
        self.names, self.largest = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.names.append(func.overloadpacket.__name__)
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.largest = max(self.largest, tensor.nbytes)
        return out


TOKENS, HEADS, WIDTH = 4096, 8, 64
print("torch", torch.__version__)
found = {}
for name, device, mode in (
    ("meta", "meta", nullcontext()), ("fake CUDA", "cuda", FakeTensorMode()), ("CPU", "cpu", nullcontext()),
):
    with mode:
        q = torch.empty(1, HEADS, TOKENS, WIDTH, dtype=torch.bfloat16, device=device)
        with torch.no_grad(), Operators() as seen:
            scaled_dot_product_attention(q, q, q)
    fused = any("attention" in operator for operator in seen.names)
    found[name] = fused, seen.largest / q.nbytes
    print(f"{name}: fused operator: {fused}; largest tensor: {seen.largest / q.nbytes:.0f} times the queries")
scores = 4 * TOKENS / (2 * WIDTH)  # fp32 scores over bf16 queries
assert found["CPU"] == (True, 1), "changed: the CPU's attention is not the fused operator"
for name in ("meta", "fake CUDA"):
    assert found[name] == (False, scores), f"changed: attention on {name} keeps its scores no longer"
PY
"$folder/venv/bin/python" "$folder/show.py"
