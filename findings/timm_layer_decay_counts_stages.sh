#!/usr/bin/env bash
# timm's layer decay counts blocks in Swin and NesT, but whole stages in PVT v2, MViT v2, GC ViT and MaxViT.
# Expected: one layer_decay means one thing. At 0.65, as BEiT and MAE fine-tune with, each block learns at 0.65 times the
#   rate of the next one, so that two models of 24 blocks give their first block about the same rate.
# Happens: the steps are those of a model's group_matcher. Where it names stages alone, all blocks of a stage share one
#   rate, and the whole network has 6 rates. Swin-S and MViT v2-B have 24 blocks each: Swin-S's first block learns at
#   0.00003 of the rate, MViT v2-B's at 0.18, 5,500 times as much. PVT v2-B5, with 52 blocks, has 6 rates.
#   DaViT lies between the two. group_matcher(coarse=True) asks for stages, and coarse=False, the default, for blocks.
#   In the last four families of the title both give the same groups.
# Hurt: whoever fine-tunes several hierarchical models with one layer_decay, or takes the value from another model's
#   recipe. Nothing warns. 0.65 all but freezes the first half of one model and leaves the other's first stage at
#   a fifth of the rate.
# Source: measured here; timm/optim/_param_groups.py, group_matcher in timm/models/pvt_v2.py, mvitv2.py, gcvit.py and
#   maxxvit.py. ConvNeXt's code for segmentation has both ways and calls them layer_wise and stage_wise.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 timm==1.0.31 numpy==2.4.6
cat > "$folder/show.py" <<'PY'
import timm
import torch
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay

DECAY = 0.65
# How each family calls its blocks: the modules that hold one attention (or its mixer) and one MLP.
BLOCKS = {
    "deit_small_patch16_224": "Block",
    "swin_small_patch4_window7_224": "SwinTransformerBlock",
    "nest_small": "TransformerLayer",
    "davit_small": ("SpatialBlock", "ChannelBlock"),
    "pvt_v2_b5": "Block",
    "mvitv2_base": "MultiScaleBlock",
    "gcvit_small": "GlobalContextVitBlock",
    "maxvit_small_tf_224": "PartitionAttentionCl",
}
print("timm", timm.__version__, "torch", torch.__version__)
print(f"{'model':30s} blocks  rates  first block's rate, at layer_decay={DECAY}")
rates, first = {}, {}
for name, kinds in BLOCKS.items():
    with torch.device("meta"):
        model = timm.create_model(name)
    kinds = (kinds,) if isinstance(kinds, str) else kinds
    blocks = [module for module in model.modules() if type(module).__name__ in kinds]
    scale = {}
    for group in param_groups_layer_decay(model, weight_decay=0.05, layer_decay=DECAY):
        scale.update((id(parameter), group["lr_scale"]) for parameter in group["params"])
    rates[name] = len(set(scale.values()))
    of_first = {scale[id(parameter)] for parameter in blocks[0].parameters()}
    assert len(of_first) == 1, (name, of_first)
    first[name] = of_first.pop()
    fine, coarse = (len(group_parameters(model, model.group_matcher(coarse=c))) for c in (False, True))
    same = "the same groups with coarse=True" if fine == coarse else f"{coarse} groups with coarse=True"
    print(f"{name:30s} {len(blocks):6d}  {rates[name]:5d}  {first[name]:.5f}  {same}")

ratio = first["mvitv2_base"] / first["swin_small_patch4_window7_224"]
print(f"MViT v2-B's first block learns {ratio:,.0f} times as fast as Swin-S's, of as many blocks")
assert rates["swin_small_patch4_window7_224"] == 26 and rates["nest_small"] == 26, rates
assert all(rates[name] == 6 for name in ("pvt_v2_b5", "mvitv2_base", "gcvit_small", "maxvit_small_tf_224")), rates
assert ratio > 1000, ratio
PY
"$folder/venv/bin/python" -W ignore "$folder/show.py"
