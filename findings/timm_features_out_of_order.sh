#!/usr/bin/env bash
# timm's features_only gives maps in another order than feature_info says, if out_indices are not ascending.
# Expected: timm.create_model(name, features_only=True, out_indices=(3, 1)) gives the maps of levels 3
#   and 1 in that order, or refuses; `feature_info` says the channels and strides of the maps given.
# Happens: `feature_info` follows the order asked for, and most wrappers give their maps from the
#   image side up, whatever the order. So channels() and reduction() name the wrong map, without a
#   warning. The wrapper with hooks follows the order asked for in some models and not in others:
#   it gives ResNet's and RegNet's maps as asked, Swin's and ConvNeXt's from the image side.
# Hurt: a decoder (U-Net, FPN) that asks for the deepest map first and builds its layers from
#   feature_info. Where two levels have equal channels nothing fails, and strides are swapped.
# Source: measured here; huggingface/pytorch-image-models pull request 2239 (open) is about one of
#   the wrappers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  torch==2.14.1 torchvision==0.29.1 timm==1.0.31
cat > "$folder/show.py" <<'PY'
import timm
import torch

MODELS = {"resnet18": True, "regnety_002": True, "convnext_atto": False,
          "swin_tiny_patch4_window7_224": False}  # whether the wrapper with hooks keeps the order
print("timm", timm.__version__)
for name, hooks_keep in MODELS.items():
    for wrapper in ("list", "getter", "fx", "hook"):
        maps, said = {}, {}
        for asked in ((1, 3), (3, 1)):
            torch.manual_seed(0)
            model = timm.create_model(
                name, features_only=True, out_indices=asked, feature_cls=wrapper
            ).eval()
            with torch.no_grad():
                found = model(torch.zeros(1, 3, 224, 224))
            sides = [min(map_.shape[1:3]) if name.startswith("swin") and wrapper != "getter"
                     else map_.shape[2] for map_ in found]
            maps[asked] = [224 // side for side in sides]
            said[asked] = model.feature_info.reduction()
        print(f"{name}, {wrapper}: asked (1, 3) maps have strides {maps[1, 3]}, feature_info says "
              f"{said[1, 3]}; asked (3, 1) {maps[3, 1]}, feature_info says {said[3, 1]}")
        assert maps[1, 3] == said[1, 3] == said[3, 1][::-1]
        kept = maps[3, 1] == said[3, 1]
        assert kept == (wrapper == "hook" and hooks_keep), f"changed: {name} with {wrapper}"
PY
"$folder/venv/bin/python" -W ignore "$folder/show.py"
