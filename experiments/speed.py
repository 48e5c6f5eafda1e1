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
# Most users of NesT today run timm's. In timm's published results (RTX 4090, mixed precision, PyTorch 2.9)
# its nest_tiny does 1,391 images/s where swin_tiny does 2,749 and deit_small 8,206, though the three cost
# 5.8, 4.5 and 4.6 billion multiply-adds an image. One cause can be read off its code: it hands
# `scaled_dot_product_attention` tensors of five dimensions (batch, heads, blocks, patches, width), which the
# fused kernels refuse. Here the blocks are folded into the batch, so that there are four. That changes no
# output: before anything is timed, both get the same weights and images, and logits that differ by more than
# 1e-4 end the run.
#
# Compared are NesT-T at 224x224 and, at 32x32, NesT-T of CIFAR in the textbook's multi-head form, the only one
# that timm can build; DeiT-S and Swin-T, timm's too, are the yardsticks. timm's NesT runs twice: as it comes,
# which is what its users get and what the targets below are held against, and *tuned*, on the fastest of its own
# settings (channels first or last, attention fused or plain). The yardsticks are tuned, ours runs as it comes.
# On a GPU all run compiled too; on a CPU that gains nothing. In each round all take their turns, and last a
# plain product of two matrices, the most that this machine can do: 100 divided by the share of it in the table is
# what no implementation can go beyond.
#
#     nest bench speed                                 # the same from the command line, more rounds
#     nest bench speed --device cuda --precision bf16

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke, quick (the two NesT models, two minutes on two cores), gpu or paper
device: str = "auto"  # auto, cpu, cuda or cuda:<index>
precision: str = "fp32"  # fp32 or bf16

# %%
from nestlib import records, report
from nestlib.studies import benches
from nestlib.notebook import check_parameters

check_parameters(In)

# %% [markdown]
# ## Measure what has no record yet

# %% tags=["remove-output"]
store = records.open_store()
bench = benches.find_or_run_bench("speed", store, budget, device, precision)
benched = store.find_benches("speed")

# %% [markdown]
# ## Who is how fast
#
# Speeds of one run compare, those of two machines do not. Rest the mouse on a number for its source.

# %% tags=["hide-input"]
rivals = report.rivals_table(bench, benched)
rivals

# %% [markdown]
# ## The same as a picture
#
# The models differ in work an image, so what is drawn is arithmetic a second; 1 is timm's NesT at the same
# input size, not compiled. Ratios are taken within each round, and the ticks show how far they scatter. Rest
# the mouse on a mark for its figures.

# %% tags=["hide-input"]
picture = report.plot_rivals(bench, benched)
picture

# %% [markdown]
# ## Targets
#
# Set before the work was begun. A missed one stays here as missed.

# %% tags=["hide-input"]
targets = report.targets_table(bench, benched)
targets

# %% [markdown]
# ## Where the time goes
#
# A forward pass of NesT-T, part by part, beside the least time that this machine could need for it: for its
# arithmetic at the rate of a large matrix product, or for its bytes at the rate of a large copy, whichever is
# more. A part near 1 times its floor has nothing left to win. `nest profile roofline` makes such a record.

# %% tags=["hide-input"]
roofline = report.show_profile("roofline", store.find_benches("roofline"))
roofline

# %% [markdown]
# ## One rule for attention, and the input side
#
# NesT's blocks are short, 196 patches at 224 and 16 at 32x32, where a fused kernel may waste most of its tile
# and copies weigh much. So the ways to attend were timed at every hierarchy, forward and in training:
# `nest profile attention`. The rule is torch's fused attention on views of the one linear map's output.
#
# The trainer keeps small data sets on the device as bytes and augments there in batch, each image drawing its
# own parameters. It must never be the limit; `nest profile input` times it without a model, and beside it the
# training steps that it feeds.

# %% tags=["hide-input"]
attention = report.show_profile("attention", store.find_benches("attention"))
inputs = report.show_profile("input", store.find_benches("input"))
display(attention, inputs)

# %% [markdown]
# ## Growth
#
# Time and memory against the batch, the image's size and the depth, one at a time. With blocks of a fixed
# number of patches NesT's cost should grow as the pixels do; full attention has a part that grows with their
# square, and so has NesT where the blocks are made larger with the image. `nest profile growth` makes such a
# record.

# %% tags=["hide-input"]
growth = report.show_profile("growth", store.find_benches("growth"))
display(growth, report.draw_growth(store.find_benches("growth")))

# %%
report.save(
    "speed", budget, [rivals, targets, roofline, attention, inputs, growth], picture
)
