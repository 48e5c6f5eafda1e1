#!/usr/bin/env bash
# On a CPU, most of the time of an operator on a large tensor can be page faults of its result.
# Expected: an elementwise operator on a CPU tensor of tens of MiB is bound by memory bandwidth, and
#   PyTorch's allocations are free of charge, as its caching allocator's are on a GPU.
# Happens: PyTorch has no caching allocator on the CPU. glibc gives freed blocks of this size back to
#   the kernel at once, and the next result meets pages that the kernel has yet to clear: with glibc
#   told to keep them (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD) the same operator takes a small part of
#   the time per MiB. torch's profiler books the difference as the operator's own.
# Hurt: whoever trains or infers on a Linux CPU with activations of tens of MiB, and whoever times
#   operators there: an `out=` variant looks several times as fast as it is.
# Source: measured here; mallopt(3), https://man7.org/linux/man-pages/man3/mallopt.3.html, describes
#   both thresholds.
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

MIB = 48  # of each result
if sys.argv[1] == "kept":
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
    libc.mallopt(-1, 2**30)  # M_TRIM_THRESHOLD
torch.set_num_threads(1)
x = torch.ones(MIB * 2**20 // 4)
for _ in range(3):
    x.neg()
faults, times = resource.getrusage(resource.RUSAGE_SELF).ru_minflt, []
for _ in range(15):
    begin = time.perf_counter()
    x.neg()
    times.append(time.perf_counter() - begin)
faults = (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults) / 15
print(f"torch {torch.__version__}, {' '.join(platform.libc_ver())}, freed memory {sys.argv[1]}: "
      f"{faults:.0f} page faults per call", file=sys.stderr)
print(statistics.median(times) / MIB * 1e6)
PY
left=$("$folder/venv/bin/python" "$folder/show.py" left)
kept=$("$folder/venv/bin/python" "$folder/show.py" kept)
echo "microseconds per MiB: as it comes $left, with freed memory kept $kept"
python3 -c "import sys; sys.exit(float('$left') < 2 * float('$kept'))" ||
  { echo "changed: freed memory costs less than half of the time"; exit 1; }
