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
# # Scale: ImageNet on many devices, and faults
#
# The paper trains NesT on ImageNet for 300 epochs. This page predicts how long that takes on 1 to 256
# devices, and what it costs, from rates that were measured, and holds the model against steps that were
# measured here. Below it stands what faults did to real runs. How to submit such a run says
# {doc}`../book/cluster`.
#
# A step of B images on N devices has three parts:
#
#     compute  = B / (N r)
#     exchange = 2 (N - 1) / N * G / w
#     input    = B / (N l)
#
# - r: images/s that one device trains, from Table 2's committed benches
# - G: bytes of all gradients, four a parameter; w: bytes/s that a device sends
# - l: images/s that the loader makes for one device, from its committed bench
#
# The second is a ring all-reduce. PyTorch exchanges gradients while later ones are still computed and loads
# batches ahead, so a step takes
#
#     at least   max(compute, exchange, input)
#     at most    max(compute + exchange, input)
#
# Hours are that times the steps of all epochs; cost is hours times devices times a price. The batch stays the
# recipe's at any number of devices, so no learning rate changes. Left out: checkpoints, the evaluation after
# each epoch, and that a device slows down when its share of the batch gets small.
#
# `bandwidth_gb_per_second` and `price_per_hour` are **assumptions of the reader**, not measurements, and so are
# `loader_cores`, the cores that decode for one device; put in your cluster's:
#
#     papermill experiments/scale.ipynb out.ipynb -p images_per_second 900 -p price_per_hour 2.5

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke, quick, gpu or paper; all show what records there are
epochs: int = 300  # of ImageNet
images_per_second: float = 0.0  # that one of your GPUs trains; 0: only devices with a record
loader_cores: int = 8  # that decode for one device: what `nest submit` asks for
loader_images_per_second: float = 0.0  # yours, for one device; 0: as measured, by cores
bandwidth_gb_per_second: float = 25.0  # assumed, that one device sends
price_per_hour: float = 1.0  # assumed, of one device, in any currency

# %%
from nestbook.benchmarks import scaling
from nestbook.notebook import check_parameters
from nestbook.report import tables
from nestbook.report.scale import faults_table, plot_scale, scale_table, scaling_table
from nestlib import records

check_parameters(In)

# %%
store, job = records.open_store(), scaling.imagenet_job(epochs)
loader = scaling.loader_rate(
    store.find_benches("loader"), own_rate=loader_images_per_second, cores=loader_cores
)
devices = scaling.device_rates(
    store.find_benches("table2"), own_rate=images_per_second,
    gb_per_second=bandwidth_gb_per_second, loader=loader,
)

# %% [markdown]
# ## Prediction, and the model held against measured steps
#
# Bands lie between full overlap and none. At the right one gloo rank and two on one CPU, which share its
# caches and memory; `python -m nestbook.benchmarks.scaling` measures them. Rest the mouse on a mark for its figures.

# %% tags=["hide-input"]
measured = next(iter(store.find_benches("scaling")), None)
picture = plot_scale(job, devices, measured)
picture

# %% tags=["hide-input"]
scale = scale_table(
    job, devices, loader, gb_per_second=bandwidth_gb_per_second, price=price_per_hour
)
scale

# %% tags=["hide-input"]
check = scaling_table(measured)
check

# %% [markdown]
# ## Faults
#
# Each fault struck a short run of two ranks on one machine, and torch elastic or a real Slurm carried it to
# its end. Every rank noted which images its steps took; what stands behind the final weights was counted, and
# the weights compared with those of an undisturbed run. `python tests/slurm_here.py python tests/rank_faults.py`
# makes such a record.

# %% tags=["hide-input"]
struck = faults_table(store.find("faults/two-ranks"))
struck

# %%
tables.save("scale", budget, [scale, check], picture)
tables.save("faults", budget, [struck])
