#!/usr/bin/env bash
# Expected: an elementwise operator takes the same time per number at 24 MiB and at 48 MiB; both are
#   far larger than a core's caches, and PyTorch has made such tensors before.
# Happens: above 32 MiB each number costs several times as much. glibc maps such blocks by themselves
#   and gives them back when they are freed (its threshold grows with what is freed, but never
#   beyond 32 MiB), so every new tensor meets pages that the kernel has yet to clear. With
#   M_MMAP_THRESHOLD and M_TRIM_THRESHOLD raised the step is gone. Hence a training step whose
#   activations pass 32 MiB loses time that no profiler of operators puts down to memory.
# Hurt: whoever trains or infers on a Linux CPU: doubling the batch can make an image dearer.
# Source: measured here; mallopt(3), https://man7.org/linux/man-pages/man3/mallopt.3.html, names the
#   threshold and DEFAULT_MMAP_THRESHOLD_MAX.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import ctypes
import platform
import resource
import statistics
import sys
import time

import torch

MIB = 2**20
if sys.argv[1] == "kept":
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
    libc.mallopt(-1, 2**30)  # M_TRIM_THRESHOLD
torch.set_num_threads(1)


def measure(mib):
    x = torch.ones(mib * MIB // 4)
    for _ in range(3):
        x.neg()
    faults, times = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, []
    for _ in range(9):
        begin = time.perf_counter()
        x.neg()
        times.append(time.perf_counter() - begin)
    faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / 9
    return statistics.median(times) / mib, faults


(small, few), (large, many) = measure(24), measure(48)
print(f"torch {torch.__version__}, {' '.join(platform.libc_ver())}, memory {sys.argv[1]}: "
      f"24 MiB {1e6 * small:.0f} us a MiB, {few:.0f} page faults; "
      f"48 MiB {1e6 * large:.0f} us a MiB, {many:.0f} page faults; ratio {large / small:.1f}")
pages = 48 * MIB // 4096
if sys.argv[1] == "left":
    assert few < 0.1 * pages and many > 0.9 * pages, "changed: large blocks are not mapped anew"
    assert large > 1.5 * small, "changed: the new pages cost little"
else:
    assert many < 0.5 * pages, "changed: mallopt does not keep large blocks"
PY
for memory in left kept; do "$folder/venv/bin/python" "$folder/show.py" "$memory"; done
