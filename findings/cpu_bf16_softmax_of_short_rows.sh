#!/usr/bin/env bash
# In bf16 on a CPU, a softmax over rows of 16 takes more than twice as long as in fp32, casts included.
# Expected: a softmax in bf16 moves half the bytes of one in fp32, so that it is not slower; to cast to
#   fp32 and back around it can only cost.
# Happens: over a last dimension of 16, forward and backward in bf16 take more than twice as long as
#   cast to fp32, softmax, cast back. From about 64 numbers a row on, bf16 is as fast as it should be.
# Hurt: attention over small windows or blocks in bf16 on a CPU, where autocast leaves softmax in bf16.
# Source: measured here; https://docs.pytorch.org/docs/stable/amp.html#cpu-op-specific-behavior lists
#   the operators that autocast keeps in fp32 on a CPU, and softmax is not one of them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import statistics
import time

import torch

NUMBERS = 2**21


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
found = {}
for width in (16, 64, 256):
    scores = torch.randn(NUMBERS // width, width).bfloat16().requires_grad_()
    gradient = torch.randn(NUMBERS // width, width).bfloat16()
    ways = {
        "bf16": lambda: scores.softmax(-1),
        "cast": lambda: scores.softmax(-1, dtype=torch.float32).bfloat16(),
    }
    for name, way in ways.items():
        taken = seconds(lambda: torch.autograd.grad(way(), scores, gradient))
        found[width, name] = taken
        print(f"rows of {width}, {name}: forward and backward {1e3 * taken:.2f} ms")
ratios = {width: found[width, "bf16"] / found[width, "cast"] for width in (16, 64, 256)}
print("bf16 over cast:", {width: round(ratio, 2) for width, ratio in ratios.items()})
assert ratios[16] > 1.7, "changed: bf16 is no longer slower than casts on rows of 16"
assert ratios[16] > 2 * ratios[256], "changed: short rows no longer stand out"
PY
"$folder/venv/bin/python" "$folder/show.py"
