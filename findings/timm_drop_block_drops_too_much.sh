#!/usr/bin/env bash
# timm's DropBlock, asked to drop a tenth of a 7x7 map in blocks of 7, drops nine tenths.
# Expected: drop_prob is the share of a map that is dropped, whatever the block's size. The paper derives the rate of blocks
#   from it for that reason, and torchvision's DropBlock2d does so.
# Happens: the rate of blocks is computed for blocks that lie wholly on the map, of which a 7x7 map has one of size 7.
#   The blocks are then begun at all 49 places, and cut off at the border. So 93 % are dropped where 10 % were asked, and
#   the few values left are scaled up by 14. On a 14x14 map blocks of 7 drop 20 %, on 56x56 11 %. Up to timm 1.0.22
#   that was the faster of two variants, the default; fast=False dropped 10 %. From 1.0.23 on it is the only one, and
#   fast=False is taken without a word. timm's own ResNets (blocks of 3 on 7x7) drop 15 %.
# Hurt: whoever puts timm's DropBlock on the small maps of last stages, the paper's own place for it, and whoever takes
#   a rate from the paper.
# Source: measured here, timm 1.0.22 by hand; Ghiasi et al., arXiv 1810.12890, section 3; timm/layers/drop.py, whose
#   comment says which version took `fast` away.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 timm==1.0.31 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import timm
import torch
import torchvision
from timm.layers import DropBlock2d


def dropped(layer, edge):
    """The share of a map of edge x edge that a layer drops in training."""
    torch.manual_seed(0)
    return (layer.train()(torch.ones(512, 8, edge, edge)) == 0).float().mean().item()


print("timm", timm.__version__, "torchvision", torchvision.__version__)
shares = {}
for edge, block in ((7, 7), (14, 7), (56, 7), (7, 3)):
    layers = {
        "timm": DropBlock2d(0.1, block),
        "timm, fast=False": DropBlock2d(0.1, block, fast=False),
        "torchvision": torchvision.ops.DropBlock2d(0.1, block),
    }
    for name, layer in layers.items():
        share = shares[name, edge, block] = dropped(layer, edge)
        print(f"{name}, 0.1 asked: a {edge}x{edge} map in blocks of {block}: {share:.3f} dropped")

for name in ("timm", "timm, fast=False"):
    assert shares[name, 7, 7] > 0.9 and 0.18 < shares[name, 14, 7] < 0.24, shares
    assert 0.1 < shares[name, 56, 7] < 0.12 and 0.14 < shares[name, 7, 3] < 0.16, shares
assert all(0.08 < share < 0.11 for (name, *_), share in shares.items() if name == "torchvision")
PY
"$folder/venv/bin/python" "$folder/show.py"
