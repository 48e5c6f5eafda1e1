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
# # Figure 6: depth and word size

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
from nestbook.report import ablation_tables, ablations, findings

check_parameters(In)

# %% tags=["setup", "remove-output"]
how = {"train": train, "device": device, "processes": processes}
page = AblationPage("figure6", budget, seeds, data_dir, **how)

# %% tags=["hide-input"]
page.show_point(
    ablations.plot_figure6(page.bars),
    findings.say_figure6(page.bars),
    "shallow", "depth5", "depth5-n", "layers", "nest3-94.5", "nest3-speed",
)

# %% tags=["hide-input"]
page.show(ablation_tables.lengths_table())

# %% [markdown]
# The paper (section 4.4) varies the number of hierarchies, 2 to 5, and the word size S, 1 or 2, of NesT-T, -S and -B on
# CIFAR. It finds a clear drop for shallow models and a small one at depth 5, whose blocks hold 2x2 patches. The text
# prints one number (section 4.1: depth 3 at S = 2, 94.5 %); depth 4 at S = 1 is NesT's row of Table 1. The table of
# sequence lengths follows from the image size; the paper's own cannot be read in its text. At S = 2 and depth 5 a block
# is one single patch, which can attend to nothing else. The paper does not say what it did there.
#
# The first panel asks the question of narrow models, on 10,000 images of CIFAR-10 ([D38](d38)). The last panel is a
# check on plain digits for five epochs and **no result of the paper** ([D19](d19)). It leaves out depths 2 and 3 at S =
# 1, where attention in blocks of 256 and 64 patches takes longest.
#
# ## Numbers

# %% tags=["hide-input"]
page.show_bars("The paper's bars: CIFAR top-1 by depth, word size and model size")

# %% [markdown]
# ## Which findings hold
#
# Each verdict follows from records of real runs or from the paper's own numbers. Runs on digits decide nothing.
# {doc}`claims` has all findings and the rule.

# %% tags=["hide-input"]
page.show_claims("shallow", "depth5", "depth5-n", "layers", "nest3-94.5", "nest3-speed")

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/figure6.ipynb out.ipynb                     # loads the records that there are
#     nest sweep figure6 --budget quick                                 # trains what is missing; --board: the state
#     nest sweep figure6 --budget small --data-dir DATA/cifar10         # narrow models on CIFAR-10, hours on two cores
#     NESTLIB_DATA=DATA nest sweep figure6 --budget gpu                 # NesT-T alone, 60 epochs; DATA/cifar10
#     papermill experiments/figure6.ipynb out.ipynb -p budget gpu       # shows what that sweep left
#
# The notebook trains only with `-p train True`. Budget quick takes less than an hour on two cores, small takes hours,
# gpu and paper take GPU days. Budget smoke takes two steps of every quick recipe and shows none of them.
