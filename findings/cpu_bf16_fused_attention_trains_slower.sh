#!/usr/bin/env bash
# In bf16 on a CPU, fused attention over short blocks trains several times slower than plain attention.
# Expected: torch's scaled_dot_product_attention picks a fused kernel on the CPU, and the fused kernel
#   is at least as fast as the same attention written as two products with a softmax between.
# Happens: in bf16, on blocks of 16 tokens, a forward and backward pass through it takes several times
#   as long as through the plain form; most of that is the backward kernel. Forward passes alone are
#   of the same order.
# Hurt: whoever trains window or block attention (Swin, NesT, ViTs on small images) on a CPU with
#   bf16 autocast. Libraries prefer the fused kernel by default, and a profile of the forward pass
#   shows nothing.
# Source: measured here; the operator is torch.nn.functional.scaled_dot_product_attention,
#   https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import statistics
import time

import torch
from torch.nn import functional as F

BLOCKS, HEADS, TOKENS, WIDTH = 1024, 3, 16, 64


def plain(q, k, v):
    return (q * WIDTH**-0.5 @ k.transpose(-2, -1)).softmax(-1) @ v


def seconds(step):
    step()
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        step()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


torch.manual_seed(0)
print("torch", torch.__version__, torch.cpu.get_capabilities().get("cpu_name"))
ratios = {}
for dtype in (torch.float32, torch.bfloat16):
    q, k, v = (
        torch.randn(BLOCKS, HEADS, TOKENS, WIDTH).to(dtype).requires_grad_() for _ in range(3)
    )
    gradient = torch.randn(BLOCKS, HEADS, TOKENS, WIDTH).to(dtype)
    taken = {}
    for name, attend in (("fused", F.scaled_dot_product_attention), ("plain", plain)):

        def forward():
            with torch.no_grad():
                attend(q, k, v)

        def both():
            torch.autograd.grad(attend(q, k, v), (q, k, v), gradient)

        taken[name] = seconds(forward), seconds(both)
        print(f"{dtype} {name}: forward {1e3 * taken[name][0]:.1f} ms, "
              f"forward and backward {1e3 * taken[name][1]:.1f} ms")
    ratios[dtype] = taken["fused"][1] / taken["plain"][1]
    print(f"{dtype}: fused over plain, forward and backward: {ratios[dtype]:.1f}")
if not torch.cpu.get_capabilities().get("avx512_bf16"):
    print("this CPU does not compute bf16 itself: not judged")
else:
    assert ratios[torch.bfloat16] > 2.5, "changed: fused is no longer far behind in bf16"
PY
"$folder/venv/bin/python" "$folder/show.py"
