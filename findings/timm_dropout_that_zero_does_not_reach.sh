#!/usr/bin/env bash
# timm's drop_rate=0 leaves dropout in the relative positions of Swin V2-CR, ViT-relpos and CoAtNet.
# Expected: create_model(name, drop_rate=0., drop_path_rate=0.) makes a model without dropout: two passes over one batch in
#   training mode agree, apart from batch norm. Without these arguments a model has none either, as timm's ViT and DeiT.
# Happens: an MLP that computes attention's bias from relative positions has a dropout of 0.125 after its hidden layer, in
#   each attention. drop_rate does not reach it. In training mode one layer's bias differs by 71 % from pass to pass, in
#   evaluation mode by nothing. 50 of timm's models have it.
#   CPUBone holds a dropout of 0.1 in the same way.
#   Asked for nothing, most models do not drop paths, but NesT drops at 0.5 in every size (the paper has 0.2 for NesT-T,
#   0.3 for NesT-S), FasterNet-L at 0.3, Swin at 0.1. These do follow drop_path_rate=0.
# Hurt: whoever compares architectures "without regularization", checks a training step against another implementation,
#   or trains timm's NesT-T beside its DeiT-T at the defaults: one has half of its last paths dropped, the other none.
# Source: measured here; timm/layers/pos_embed_rel.py, timm/models/swin_transformer_v2_cr.py, timm/models/nest.py. The
#   rates of NesT are of its paper, arXiv 2105.12723, appendix A.1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 timm==1.0.31 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import timm
import torch
from torch import nn

torch.set_num_threads(1)
print("timm", timm.__version__, "torch", torch.__version__)


def dropouts(model):
    return [m.p for m in model.modules() if isinstance(m, nn.Dropout) and m.p > 0]


def paths(model):
    return max((m.drop_prob or 0 for m in model.modules() if type(m).__name__ == "DropPath"), default=0)


ZERO = {"drop_rate": 0.0, "drop_path_rate": 0.0}
kept = {}
for name in timm.list_models():
    if "relpos" in name or "rmlp" in name or "swinv2_cr" in name or name.startswith("cpubone"):
        with torch.device("meta"):
            kept[name] = dropouts(timm.create_model(name, **ZERO))
with_mlp = [name for name, rates in kept.items() if 0.125 in rates]
print(len(with_mlp), "models keep dropout of 0.125 when asked for zero, such as", *with_mlp[::9])
print("cpubone_b0_bfrobust keeps", set(kept["cpubone_b0_bfrobust"]))

torch.manual_seed(0)
model = timm.create_model("vit_relpos_small_patch16_224", **ZERO)
position = model.blocks[0].attn.rel_pos
difference = {}
with torch.no_grad():
    for training in (True, False):
        position.train(training)
        first, second = position.get_bias(), position.get_bias()
        difference[training] = ((first - second).norm() / first.norm()).item()
print(f"vit_relpos_small's bias, two passes: {difference[True]:.0%} apart in training, {difference[False]:.0%} in evaluation")

unasked = {}
for name in ("vit_tiny_patch16_224", "deit_tiny_patch16_224", "nest_tiny", "nest_small", "nest_base",
             "swin_tiny_patch4_window7_224", "fasternet_l"):  # fmt: skip
    with torch.device("meta"):
        unasked[name] = paths(timm.create_model(name))
        assert paths(timm.create_model(name, drop_path_rate=0.0)) == 0
print("highest drop-path rate, asked for nothing:", {name: round(rate, 2) for name, rate in unasked.items()})

assert len(with_mlp) >= 30 and 0.1 in kept["cpubone_b0_bfrobust"], kept
assert difference[True] > 0.1 and difference[False] == 0, difference
assert all(abs(unasked[f"nest_{size}"] - 0.5) < 1e-6 for size in ("tiny", "small", "base")), unasked
assert unasked["vit_tiny_patch16_224"] == unasked["deit_tiny_patch16_224"] == 0, unasked
PY
"$folder/venv/bin/python" -W ignore "$folder/show.py"
