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
# # Scale: predicted hours of ImageNet on many devices

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
budget: str = "quick"  # smoke, quick, gpu or paper; all show what records there are
epochs: int = 300  # of ImageNet
images_per_second: float = 0.0  # that one of your GPUs trains; 0: only devices with a record
loader_cores: int = 8  # that decode for one device: what `nest submit` asks for
loader_images_per_second: float = 0.0  # yours, for one device; 0: as measured, by cores
bandwidth_gb_per_second: float = 25.0  # assumed, that one device sends
price_per_hour: float = 1.0  # assumed, of one device, in any currency

# %% tags=["setup"]
from nestbook.benchmarks import scaling
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import scale, tables

check_parameters(In)
page, job = Page("scale", budget), scaling.imagenet_job(epochs)

# %% tags=["setup", "remove-output"]
own, found = loader_images_per_second, page.store.find_benches("loader")
loader = scaling.loader_rate(found, own_rate=own, cores=loader_cores)
assumed = {"gb_per_second": bandwidth_gb_per_second}
trained = page.store.find_benches("table2")
devices = scaling.device_rates(trained, own_rate=images_per_second, loader=loader, **assumed)
measured = next(iter(page.store.find_benches("scaling")), None)

# %% tags=["hide-input"]
picture = scale.plot_scale(job, devices, measured)
page.show(picture, scale.make_scale_point(measured, devices))

# %% [markdown]
# The paper trains NesT on ImageNet for 300 epochs. The left panel predicts how long that takes on 1 to 256 devices,
# from rates that were measured. Its bands lie between full overlap and none. The right panel is the check: one gloo
# rank and two on one CPU, whose caches and memory they share. {doc}`../book/cluster` says how to submit such a run.
#
# **Assumed, not measured**: the bandwidth between devices, the price, and how many cores decode for one device.
# They are parameters of this page; put in your cluster's.
#
# ## Numbers

# %% tags=["hide-input"]
page.show(scale.scaling_table(measured))

# %% tags=["hide-input"]
page.show(scale.scale_table(job, devices, loader, price=price_per_hour, **assumed))

# %% [markdown]
# ## The model
#
# A step of B images on N devices has three parts:
#
#     compute  = B / (N r)
#     exchange = 2 (N - 1) / N * G / w
#     input    = B / (N l)
#
# - r: images per second that one device trains, from Table 2's committed benches
# - G: bytes of all gradients, four per parameter; w: bytes per second that a device sends (assumed)
# - l: images per second that the loader makes for one device, from its committed bench
#
# The second is a ring all-reduce. PyTorch exchanges gradients while later ones are still computed and loads
# batches ahead, so a step takes
#
#     at least   max(compute, exchange, input)
#     at most    max(compute + exchange, input)
#
# Hours are that times the steps of all epochs; cost is hours times devices times a price. The batch stays the
# recipe's at any number of devices, so no learning rate changes. The model leaves out checkpoints, the evaluation
# after each epoch, and that a device slows down when its share of the batch gets small.

# %% tags=["setup"]
page.save()
struck = page.store.find("faults/two-ranks")
faults = scale.make_faults_point(struck), scale.faults_table(struck)
tables.save("faults", budget, faults)  # the cluster page includes it

# %% [markdown]
# ## Run this page
#
#     papermill experiments/scale.ipynb out.ipynb -p images_per_second 900 -p price_per_hour 2.5
#     python -m nestbook.benchmarks.scaling                                   # measures the check, on this CPU
#     python tests/slurm_here.py python tests/rank_faults.py                  # strikes the cluster page's faults
#
# The notebook trains nothing. It also writes the table of faults that {doc}`../book/cluster` shows. The last command
# needs root on Debian, and the packages slurm-wlm and munge.
