#!/usr/bin/env bash
# torchvision's RandomErasing with random values paints a uint8 image black and white instead of noise.
# Expected: value="random" erases "each pixel with random values": the patch of a uint8 image is noise over its range, as
#   v2.GaussianNoise scales its noise to uint8.
# Happens: the patch is drawn from a normal distribution of deviation 1 and stored as the image's type. As bytes, 0.7 is
#   0 and -1.2 wraps to 255 (on x86). Two thirds of the patch's bytes are exactly 0, five sixths are at most 3, the rest
#   is 252 or more. Nothing warns. The mean of the patch is far below that of noise, 127. v1 and v2 do the same. A float image in
#   0 to 1 gets values from -4 to 4. Only a normalised image gets what is meant.
# Hurt: whoever erases early, on the bytes that v2 recommends for speed: the patch is close to value=0, and its numbers are
#   not the images'. Results of "random erasing, per pixel" differ by the place of one line in the pipeline.
# Source: measured here; https://docs.pytorch.org/vision/stable/generated/torchvision.transforms.v2.RandomErasing.html names
#   no type of image for it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import torch
import torchvision
from torchvision import transforms as v1
from torchvision.transforms import v2

print("torchvision", torchvision.__version__)
grey = torch.full((3, 256, 256), 128, dtype=torch.uint8)
shares = {}
for name, transforms in (("v1", v1), ("v2", v2)):
    torch.manual_seed(0)
    erased = transforms.RandomErasing(p=1.0, scale=(0.3, 0.3), value="random")(grey)
    patch = erased[erased != grey].int()
    shares[name] = [(patch == 0), (patch <= 3), (patch >= 252)]
    shares[name] = [share.float().mean().item() for share in shares[name]]
    zero, low, high = shares[name]
    print(
        f"{name}, uint8: {zero:.0%} of the patch's bytes are 0, {low:.0%} are 0 to 3, {high:.0%} are "
        f"252 to 255; mean {patch.float().mean():.0f}"
    )
noise = v2.GaussianNoise(sigma=0.1)(grey).float().std().item()
print(f"v2.GaussianNoise of 0.1 on the same image: deviation {noise:.1f} of 255")
torch.manual_seed(0)
unit = v2.RandomErasing(p=1.0, scale=(0.3, 0.3), value="random")(grey / 255)
print(f"v2, float image in 0 to 1: {unit.min():.1f} to {unit.max():.1f}")

for zero, low, high in shares.values():
    assert 0.6 < zero < 0.75 and low + high > 0.999 and low > 0.8, shares
assert abs(noise - 25.5) < 1 and unit.min() < -3 and unit.max() > 3
PY
"$folder/venv/bin/python" "$folder/show.py"
