#!/usr/bin/env bash
# On a CPU GroupNorm in channels_last loses what it keeps in the usual layout, and can give 100 for 1.
# Expected: memory_format=torch.channels_last is a layout. A layer gives the same numbers in both layouts, up to the last
#   bits, and GroupNorm's output has a standard deviation of 1.
# Happens: in channels_last digits are lost, as by a variance that is the mean of squares less the square of the mean in
#   fp32. Where the mean of a group is 100 times its deviation, the output is off by half a percent of a deviation, a
#   thousand times as far as in the usual layout. At 1,000 times the output has a deviation of over 100. A bf16 input
#   gets there at 300.
#   InstanceNorm gives the same in both layouts, BatchNorm loses a digit or two.
# Hurt: whoever runs a network with GroupNorm (ResNetV2 of BiT, diffusion U-Nets, detectors) on a CPU in channels_last,
#   convolutions' faster layout: on images that were not centred, or channels with a large offset.
# Source: measured here; ATen/native/cpu/group_norm_kernel.cpp. https://github.com/pytorch/pytorch/issues/40302 is
#   about the usual layout, which has been mended since.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import torch
from torch.nn import functional as F

NORMS = {
    "GroupNorm": lambda x: F.group_norm(x, 8),
    "InstanceNorm": F.instance_norm,
    "BatchNorm": lambda x: F.batch_norm(x, None, None, training=True),
}
torch.set_num_threads(1)
print("torch", torch.__version__)
found = {}
for mean in (10, 100, 1000):
    torch.manual_seed(0)
    x = torch.randn(4, 32, 64, 64) + mean  # of deviation 1
    for name, norm in NORMS.items():
        right = norm(x.double())
        outputs = norm(x), norm(x.to(memory_format=torch.channels_last))
        errors = [(out - right).square().mean().sqrt().item() for out in outputs]
        found[name, mean] = *errors, outputs[1].std().item()
        print(
            f"{name}, mean {mean} deviations: off by {errors[0]:.1e} in the usual layout, "
            f"{errors[1]:.1e} in channels_last; its output's deviation there {outputs[1].std():.3f}"
        )
torch.manual_seed(0)
half = (torch.randn(4, 32, 64, 64) + 300).bfloat16()
spread = F.group_norm(half.to(memory_format=torch.channels_last), 8).float().std().item()
usual = F.group_norm(half, 8).float().std().item()
print(f"GroupNorm of a bf16 input, mean 300: deviation {usual:.3f}, in channels_last {spread:.1f}")

usual_100, last_100, _ = found["GroupNorm", 100]
assert usual_100 < 1e-5 and last_100 > 1e-3, found
usual_1000, _, deviation = found["GroupNorm", 1000]
assert usual_1000 < 1e-3 and deviation > 10, found
assert abs(usual - 1) < 0.01 and spread > 10, (usual, spread)
assert all(max(found[name, 1000][:2]) < 1e-2 for name in ("InstanceNorm", "BatchNorm")), found
PY
"$folder/venv/bin/python" "$folder/show.py"
