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
# # Figure A2: augmentations removed

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
budget: str = "quick"  # smoke (seconds, shows no result), quick, small, gpu or paper
train: bool = False  # run here what has no record
seeds: int = 3  # how many runs of each bar
device: str = "auto"  # auto, cpu, cuda or cuda:<index>
data_dir: str = ""  # where the data set lies; default data/<name>
processes: int = 2  # runs side by side on a CPU

# %% tags=["setup"]
from nestbook.notebook import check_parameters
from nestbook.pages import AblationPage
from nestbook.report import ablations, findings

check_parameters(In)

# %% tags=["setup", "remove-output"]
how = {"train": train, "device": device, "processes": processes}
page = AblationPage("figure_a2", budget, seeds, data_dir, **how)

# %% tags=["hide-input"]
page.show_point(
    ablations.plot_figure_a2(page.bars),
    findings.say_figure_a2(page.bars),
    "stability", "swin-stability",
)

# %% [markdown]
# The paper (appendix A.3) removes RandomErasing, RandAugment (RA), MixUp or CutMix from DeiT-S, Swin-T and NesT-S on
# CIFAR-10, and then RandAugment, CutMix with MixUp, and RandomErasing one after another. It finds NesT and Swin steady
# and DeiT not. It prints curves without numbers; with all augmentation the three are rows of Table 1. Without MixUp,
# CutMix falls on every batch; without CutMix, MixUp does.
#
# The first panels ask the question of narrow models, on 10,000 images of CIFAR-10 ([D38](d38)). The last panels are a
# check on strongly augmented digits for ten epochs and **no result of the paper** ([D19](d19)): ten epochs
# are too few for augmentation to help.
#
# ## Numbers

# %% tags=["hide-input"]
page.show_bars("The paper's bars: CIFAR-10 top-1 with augmentations removed")

# %% [markdown]
# ## Which findings hold
#
# Each verdict follows from records of real runs or from the paper's own numbers. Runs on digits decide nothing.
# {doc}`claims` has all findings and the rule.

# %% tags=["hide-input"]
page.show_claims("stability", "swin-stability")

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/figure_a2.ipynb out.ipynb                   # loads the records that there are
#     nest sweep figure_a2 --budget quick                               # trains what is missing; --board: the state
#     nest sweep figure_a2 --budget small --data-dir DATA/cifar10       # narrow models on CIFAR-10, hours on two cores
#     nest sweep figure_a2 --budget gpu --data-dir DATA/cifar10         # CIFAR-10, 60 epochs
#     papermill experiments/figure_a2.ipynb out.ipynb -p budget gpu -p data_dir DATA/cifar10  # shows the runs of that sweep
#
# The notebook trains only with `-p train True`. Budget quick takes about an hour on two cores, small takes hours,
# gpu and paper take GPU days. Budget smoke takes two steps of every quick recipe and shows none of them.
