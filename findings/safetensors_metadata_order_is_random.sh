#!/usr/bin/env bash
# safetensors writes a file's metadata in random order: two saves of the same weights differ in bytes.
# Expected: the same tensors and the same metadata give the same file, so its SHA-256 tells whether a checkpoint has
#   changed, and a repository does not grow when it is saved again.
# Happens: the tensors are sorted, the metadata is not. It is written in an order drawn anew at each call, also within
#   one process. With one entry all saves are equal, with two there are two files, with three six. The tensors'
#   bytes are equal in all.
# Hurt: whoever pins weights by a SHA-256 or an ETag, keeps them in git or git LFS, or caches by content.
# Source: measured here; the header's metadata is a HashMap in safetensors/src/tensor.rs.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import hashlib
import math

import numpy as np
import safetensors
from safetensors.numpy import save

SAVES = 400
tensors = {name: np.zeros((2, 2), np.float32) for name in ("head.weight", "a.weight", "b.bias")}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


print("safetensors", safetensors.__version__)
files, bodies = {}, set()
for entries in (0, 1, 2, 3):
    said = {name: "value" for name in ("format", "run", "epoch")[:entries]} or None
    saves = [save(tensors, metadata=said) for _ in range(SAVES)]
    files[entries] = len({sha256(data) for data in saves})
    bodies |= {sha256(data[8 + int.from_bytes(data[:8], "little") :]) for data in saves}
    print(f"{entries} entries of metadata, {SAVES} saves: {files[entries]} different files")
turned = dict(reversed(tensors.items()))
print("tensors in another order, the same file:", save(turned) == save(tensors))
print("different tensor bytes among all of them:", len(bodies))

assert files == {0: 1, 1: 1, 2: math.factorial(2), 3: math.factorial(3)}, files
assert save(turned) == save(tensors) and len(bodies) == 1
PY
"$folder/venv/bin/python" "$folder/show.py"
