#!/usr/bin/env bash
# transformers' CvT, asked for a drop-path rate of 0.1, drops at 0.022 at most and not by the layer.
# Expected: CvtConfig's drop_path_rate of 0.1 is the rate of the last layer, and the rates rise from 0 over all layers, as
#   the paper's authors and the same library's Swin have it.
# Happens: the rates over the ten layers of the last stage are computed, and then one is taken by the number of the stage
#   instead of the layer's. So all ten layers have the third of ten rates, 0.0222, and 0.1 is never used. The first
#   two stages have none. A last stage with fewer layers than there are stages ends in an IndexError.
# Hurt: whoever trains CvT by transformers, or compares its regularisation with another model's at "0.1".
# Source: measured here; transformers/models/cvt/modeling_cvt.py, class CvtStage.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check \
  torch==2.14.1 transformers==5.23.0 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import torch
import transformers
from transformers import CvtConfig, CvtModel, SwinConfig, SwinModel


def rates(model, name):
    return [round(m.drop_prob, 4) for m in model.modules() if type(m).__name__ == name]


print("transformers", transformers.__version__)
with torch.device("meta"):
    cvt = rates(CvtModel(CvtConfig()), "CvtDropPath")
    swin = rates(SwinModel(SwinConfig()), "SwinDropPath")
print(f"CvT, asked for {CvtConfig().drop_path_rate}, layers per stage {CvtConfig().depth}: {cvt}")
print(f"Swin, asked for {SwinConfig().drop_path_rate}: {swin}")
try:
    with torch.device("meta"):
        CvtModel(CvtConfig(depth=[1, 2, 2]))
    short = "built"
except IndexError as error:
    short = f"IndexError: {error}"
print("CvT with two layers in its last stage:", short)

assert max(swin) == 0.1, swin
assert set(cvt) == {0.0222} and len(cvt) == 10, cvt
assert short.startswith("IndexError"), short
PY
"$folder/venv/bin/python" "$folder/show.py"
