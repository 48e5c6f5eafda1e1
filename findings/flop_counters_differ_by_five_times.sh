#!/usr/bin/env bash
# Seven FLOP counters give NesT-T 1.1 to 5.8 billion multiply-adds; most leave out attention's products.
# Expected: the counters that papers and repositories use agree on a standard model but for norms and activations, some
#   percent of the whole. NesT's paper gives NesT-T 5.8 billion, Swin's gives Swin-T 4.5.
# Happens: torch's FlopCounterMode, torchprofile and ptflops with backend="aten" give the papers' numbers.
#   thop, calflops and ptflops with backend="pytorch", its default, lack the two products of attention: 10 % of NesT-T,
#   whose blocks hold 196 tokens, but 3 % of Swin-T, whose windows hold 49.
#   fvcore passes over torch's fused attention, with a message in the log. timm runs NesT's attention through it and
#   Swin's not, so fvcore counts all of Swin-T and 90 % of NesT-T. With plain attention it is right for both.
#   torchinfo's last release counts a linear layer once per image, not once per token: 0.06 billion for Swin-T.
# Hurt: whoever puts a FLOPs column together from the tool at hand, or compares its value with a printed one. NesT looks
#   7 to 10 % cheaper against Swin than it is.
# Source: measured here; arXiv 2105.12723, table 2; arXiv 2103.14030, table 1; torchinfo's issues 77 and 226 on its linear
#   layers.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 timm==1.0.31 \
    numpy==2.4.6 fvcore==0.1.5.post20221221 thop==0.1.1.post2209072238 ptflops==0.7.5 torchinfo==1.8.0 calflops==0.3.2 \
    torchprofile==0.1.0 transformers==5.24.0
cat > "$folder/show.py" <<'PY'
import logging

import calflops
import fvcore.nn
import ptflops
import thop
import timm
import torch
import torchinfo
import torchprofile
from torch.utils.flop_counter import FlopCounterMode

logging.disable(logging.CRITICAL)
torch.set_num_threads(1)
SHAPE = (3, 224, 224)
IMAGE = torch.zeros(1, *SHAPE)
PAPERS = {"nest_tiny": 5.8, "swin_tiny_patch4_window7_224": 4.5}


def with_torch(model):
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(IMAGE)
    return counter.get_total_flops() / 2


def with_ptflops(backend):
    options = {"as_strings": False, "print_per_layer_stat": False, "verbose": False}
    return lambda model: ptflops.get_model_complexity_info(model, SHAPE, backend=backend, **options)[0]


COUNTERS = {
    "torch FlopCounterMode": with_torch,
    "torchprofile": lambda model: torchprofile.profile_macs(model, IMAGE),
    "ptflops, aten": with_ptflops("aten"),
    "ptflops, pytorch": with_ptflops("pytorch"),
    "fvcore": lambda model: fvcore.nn.FlopCountAnalysis(model, IMAGE).total(),
    "thop": lambda model: thop.profile(model, (IMAGE,), verbose=False)[0],
    "calflops": lambda model: calflops.calculate_flops(
        model, (1, *SHAPE), print_results=False, print_detailed=False, output_as_string=False)[1],
    "torchinfo": lambda model: torchinfo.summary(model, input_data=IMAGE, verbose=0).total_mult_adds,
}  # fmt: skip

print("torch", torch.__version__, "timm", timm.__version__)
print(f"{'billion multiply-adds':24s}", *(f"{name[:9]:>9s} {'plain':>6s}" for name in PAPERS))
found = {}
for counter, count in COUNTERS.items():
    row = []
    for name in PAPERS:
        for fused in (True, False):
            timm.layers.set_fused_attn(fused)
            found[counter, name, fused] = count(timm.create_model(name).eval()) / 1e9
            row.append(f"{found[counter, name, fused]:{9 if fused else 6}.2f}")
    print(f"{counter:24s}", *row)
print(f"{'papers':24s}", *(f"{value:9.1f} {'':6s}" for value in PAPERS.values()))

NEST, SWIN = PAPERS
for counter in ("torch FlopCounterMode", "torchprofile", "ptflops, aten"):
    for (name, paper) in PAPERS.items():
        assert abs(found[counter, name, True] - paper) < 0.06, (counter, name, found[counter, name, True])
for counter in ("ptflops, pytorch", "thop", "calflops"):
    assert found[counter, NEST, False] < 0.92 * PAPERS[NEST] < 0.98 * found["fvcore", NEST, False], counter
assert found["fvcore", NEST, True] < 0.92 * PAPERS[NEST], found["fvcore", NEST, True]
assert found["torchinfo", NEST, True] < 1.2 and found["torchinfo", SWIN, True] < 0.1
PY
"$folder/venv/bin/python" -W ignore "$folder/show.py"
