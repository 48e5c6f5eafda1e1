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
#
# Most users of NesT run timm's. Ours has the same weights and the same outputs, and the picture shows how fast
# each is: arithmetic per second, where 1 is timm's NesT as it comes. The table below it gives the ratios.

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters", "hide-cell"]
budget: str = "quick"  # smoke, quick (the two NesT models, two minutes on two cores), gpu or paper
device: str = "auto"  # auto, cpu, cuda or cuda:<index>
precision: str = "auto"  # fp32, bf16, or auto: bf16 where the device computes it itself

# %% tags=["hide-cell", "remove-output"]
from nestbook.benchmarks import bench
from nestbook.notebook import check_parameters
from nestbook.report import profiles, rivals, speed, tables
from nestbook.report.precision import precision_table
from nestlib import records

check_parameters(In)

# %% tags=["hide-input"]
store = records.open_store()
how = {"device": device, "precision": precision, "unless_committed": True}
bench = bench.find_or_run_bench("speed", store, budget, **how)
benched = store.find_benches("speed")
picture = rivals.plot_rivals(bench, benched)
ratios = speed.ratios_table(bench, benched)
display(picture, ratios)

# %% [markdown]
# Rest the mouse on a mark or a number for its source. Compared are NesT-T at 224x224 and, at 32x32, NesT-T of
# CIFAR in the multi-head form, the only one that timm can build. DeiT-S and Swin-T, timm's too, are yardsticks;
# the models differ in work per image, so the picture shows arithmetic. In each round all models take their turn,
# and last a plain product of two matrices, which is the most that the machine can do. Of several runs on one
# machine in one precision the picture shows the one with most models.
#
# In timm's published results (RTX 4090, mixed precision, PyTorch 2.9) its nest_tiny does 1,391 images/s where
# swin_tiny does 2,749 and deit_small 8,206, though the three cost 5.8, 4.5 and 4.6 billion multiply-adds an
# image. One cause is that its fused attention never runs: it hands `scaled_dot_product_attention` tensors of five
# dimensions (batch, heads, blocks, patches, width), which the fused kernels refuse
# (`findings/timm_nest_never_runs_fused_attention.sh`). Here the blocks are folded into the batch, so that there
# are four.
#
# Before anything is timed both libraries' NesT get the same weights and images, and logits that differ by more
# than 1e-4 end the run.
#
#     nest bench speed                     # from the command line, compiled forms too
#     nest bench speed --precision auto    # bf16 where the processor computes it

# %% [markdown]
# ## Targets
#
# Set before the work was begun. A missed one stays here as missed.
#
# Those in bf16, and twice timm's rate in fp32, were set on another machine than the one that these records are
# of. Two implementations of one network share its matrix products, so the products bound how far apart they can
# be. The second table takes a training step apart: how long products and all else take, here and in timm, and how
# many times as fast a step would be if all else took no time. `nest profile step` makes such a record, and what
# was tried stands in the {doc}`log of tries <../book/tries>`.

# %% tags=["hide-input"]
targets = speed.targets_table(bench, benched)
steps = profiles.show_profiles(store, ("step",), ("bf16", "fp32"))
display(targets, *steps)

# %% [markdown]
# ## Does bf16 learn as well as fp32?
#
# A recipe names its precision, and the name of its run changes with it. These runs differ in precision alone: a
# pair begins with the same weights and sees the same batches. `nest sweep precision` makes them;
# `nest train RECIPE --precision auto` takes bf16 where the device computes it itself.

# %% tags=["hide-input"]
learning = precision_table(store)
learning

# %% [markdown]
# ## Every model that was timed, and where the time goes
#
# First all models of all runs, with their images per second and the settings that each ran fastest with. Then
# a forward pass of NesT-T, part by part, beside the least time that this machine could need for it: for its
# arithmetic at the rate of a large matrix product, or for its bytes at the rate of a large copy, whichever is
# more. A part near 1 times its floor has nothing left to win. `nest profile roofline` makes such a record.

# %% tags=["hide-input", "hide-output"]
models = speed.rivals_table(bench, benched)
parts = profiles.show_profiles(store, ("roofline",), ("bf16", "fp32"))
display(models, *parts)

# %% [markdown]
# ## How attention and linear layers are computed
#
# NesT's blocks are short: 196 patches at 224x224 and 16 at 32x32. torch's fused attention is written for longer
# ones, and its backward pass on a CPU is slow in bf16. So on a CPU the library attends by two plain products
# where that is faster: in bf16 always, and in fp32 for blocks of up to 49 patches whose heads share one key. On AMD
# processors linear layers run as 1x1 convolutions, which torch hands to oneDNN. On a GPU, in an
# exported model and under torch.compile both stay torch's own. Each table gives the time of the way that is
# taken, and what the others take in its place: `nest profile attention`, `nest profile products`.

# %% tags=["hide-input", "hide-output"]
choices = profiles.show_profiles(store, ("attention", "products"), ("bf16", "fp32"))
display(*choices)

# %% [markdown]
# ## The input side
#
# The trainer keeps small data sets on the device as bytes and augments there in batch, each image drawing its
# own parameters. It must never be the limit. `nest profile input` times it without a model, and beside it the
# training steps that it feeds.

# %% tags=["hide-input"]
inputs = profiles.show_profiles(store, ("input",), ("bf16", "fp32"))
display(*inputs)

# %% [markdown]
# ## Growth
#
# Time and memory against the batch, the image's size and the depth, one at a time. With blocks of a fixed
# number of patches NesT's cost should grow as the pixels do; full attention has a part that grows with their
# square, and so has NesT where the blocks are made larger with the image. `nest profile growth` makes such a
# record.

# %% tags=["hide-input"]
growth = profiles.show_profile("growth", store.find_benches("growth"))
display(growth, profiles.draw_growth(store.find_benches("growth")))

# %% tags=["hide-cell"]
measured = [*steps, *parts, *choices, *inputs, growth]
tables.save("speed", budget, [ratios, targets, models, learning, *measured], picture)
