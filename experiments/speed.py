# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,name,-all
#     notebook_metadata_filter: kernelspec,jupytext,-jupytext.text_representation.jupytext_version
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Speed: NesT here against timm's

# %% tags=["colab", "remove-cell"]
# In Colab: clone this project, install it, work in its folder. Elsewhere: do nothing.
import os
import sys
from importlib.util import find_spec

repository = ""  # from _config.yml
if repository and "google.colab" in sys.modules:
    get_ipython().system(f"test -d /content/nest || git clone {repository} /content/nest --depth 1")
    if not find_spec("nestlib"):
        get_ipython().run_line_magic("pip", "install -q /content/nest")
    os.chdir("/content/nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke, quick (the two NesT models, two minutes on two cores), gpu or paper
device: str = "auto"  # auto, cpu, cuda or cuda:<index>
precision: str = "auto"  # fp32, bf16, or auto: bf16 where the device computes it itself

# %% tags=["setup"]
from nestbook.benchmarks.bench import find_or_run_bench
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import profiles, rivals, speed
from nestbook.report.precision import precision_table

check_parameters(In)

# %% tags=["setup", "remove-output"]
page, how = Page("speed", budget), {"device": device, "precision": precision}
here = find_or_run_bench("speed", page.store, budget, **how, unless_committed=True)
runs = here, page.store.find_benches("speed")

# %% tags=["hide-input"]
page.show(rivals.plot_rivals(*runs), speed.make_speed_point(*runs))

# %% [markdown]
# Most users of NesT run timm's. NesT here has the same weights and the same outputs: before anything is timed, both
# get the same weights and images, and logits that differ by more than 1e-4 end the run. Stochastic depth is off in
# every model, in training steps too: timm's `nest_*` (1.0.31) have it at 0.5 by default, ours at 0. Compared are
# NesT-T at 224x224 and NesT-T of CIFAR at 32x32, in the multi-head form, the only one that timm can build. All models
# take their turn in each round. Rest the mouse on a mark or a number for its source.
#
# In [timm's published
# results](https://github.com/huggingface/pytorch-image-models/blob/90cae8c5ab83d2d7e23b1fb2bab1559bfdcbc7e9/results/benchmark-infer-amp-nchw-pt291-cu128-4090.csv)
# (RTX 4090, mixed precision, PyTorch 2.9.1) its nest_tiny does 1,391 images/s where swin_tiny does 2,749 and deit_small
# 8,206, though the three cost 5.8, 4.5 and 4.6 billion multiply-adds per image. One cause is that timm's fused
# attention never runs: it hands `scaled_dot_product_attention` tensors of five dimensions (batch, heads, blocks,
# patches, width), which the fused kernels refuse (`findings/timm_nest_never_runs_fused_attention.sh`). Here the blocks
# are folded into the batch, so there are four.
#
# ## Numbers
#
# The second table holds the targets. They were set before the work began, and a missed one stays here as missed.
# Those in bf16, and twice timm's rate in fp32, were set on another machine than the one that these records are
# of. The {doc}`log of tries <../book/tries>` says what was tried.

# %% tags=["hide-input"]
page.show(speed.ratios_table(*runs), speed.targets_table(*runs))

# %% [markdown]
# ## Does bf16 learn as well as fp32?
#
# A recipe names its precision, and the name of its run changes with it. These runs differ in precision alone: a
# pair begins with the same weights and sees the same batches. `nest sweep precision` makes them, and
# `nest train RECIPE --precision auto` takes bf16 where the device computes it itself.

# %% tags=["hide-input"]
page.show(precision_table(page.store))

# %% [markdown]
# ## How time and memory grow
#
# Time and memory against the batch, the image's size and the depth, one at a time. With blocks of a fixed
# number of patches NesT's cost should grow as the pixels do. Full attention has a part that grows with their
# square, and so has NesT where the blocks become larger with the image.

# %% tags=["hide-input"]
growth = page.store.find_benches("growth")
page.show(profiles.draw_growth(growth), profiles.show_profile("growth", growth))

# %% [markdown]
# ## Where the time goes
#
# Five profiles, each in bf16 and in fp32. Two implementations of one network share its matrix products, so the
# products bound how far apart they can be.
#
# - **Training steps**, by kind of operator, here and in timm: how long products and all else take, and how many times
#   as fast a step would be if all else took no time.
# - **A forward pass of NesT-T**, part by part, beside its floor: the time of its arithmetic at the measured rate of a
#   large matrix product, or of its bytes at that of a large copy, whichever is more. A part near 1 times its floor has
#   little left to win. Each profile measures its own large product, so the rates differ from table to table.
# - **Attention and linear layers**: the time of the way that is taken, and what the others take in its place. NesT's
#   blocks are short: 196 patches at 224x224 and 16 at 32x32. torch's fused attention is written for longer ones, and
#   its backward pass on a CPU is slow in bf16. So on a CPU the library attends by two plain products where that is
#   faster: in bf16 always, and in fp32 for blocks of up to 49 patches whose heads share one key. On AMD processors
#   linear layers run as 1x1 convolutions, which torch hands to oneDNN. On a GPU, in an exported model and under
#   torch.compile both stay torch's own.
# - **The input side**: the trainer keeps small data sets on the device as bytes and augments there in batch, each
#   image with its own parameters. It must never be the limit, so it is timed without a model, beside the training
#   steps that it feeds.
#
# The last table is of the same models as [ONNX files](export), in onnxruntime beside eager torch on this CPU.

# %% tags=["hide-input", "hide-output"]
names = "step", "roofline", "attention", "products", "input"
onnx = profiles.show_profile("export", page.store.find_benches("export"))
page.show(*profiles.show_profiles(page.store, names, ("bf16", "fp32")), onnx)

# %% [markdown]
# ## Every model that was timed
#
# DeiT-S and Swin-T, timm's too, are yardsticks. The models differ in work per image, so the picture shows arithmetic.
# A plain product of two matrices takes its turn last in each round: it is the most that the machine can do. Of
# several runs on one machine in one precision the picture shows the one with most models.

# %% tags=["hide-input", "hide-output"]
page.show(rivals.plot_all_rivals(*runs), *speed.rivals_tables(*runs))

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/speed.ipynb out.ipynb   # loads the records; times what this machine has no record of
#     nest bench speed                              # from the command line, compiled forms too
#     nest bench speed --precision auto             # bf16 where the processor computes it
#     nest sweep precision                          # the runs that differ in precision alone
#     nest profile growth                           # also: step, roofline, attention, products, input, export
#
# At budget quick the notebook times the NesT models, in two minutes on two cores, and only on a machine that no
# committed record is of.
