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
# # Figure 5: how four blocks merge

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
page = AblationPage("figure5", budget, seeds, data_dir, **how)

# %% tags=["hide-input"]
page.show_point(
    ablations.plot_aggregations(page.bars, "5"),
    findings.say_figure5(page.bars),
    "image-plane", "figure5", "max-pool", "patch-merge",
)

# %% [markdown]
# The paper (section 4.3) merges four blocks into one in four ways, each on the image plane and on the block plane. Its
# own way is a 3x3 convolution, LayerNorm and 3x3 max-pooling on the image plane. The paper finds it best on CIFAR-10,
# CIFAR-100 and ImageNet. Its figure prints bars without numbers; one bar of each data set is NesT-T's row of Table 1 or
# 2. The text does not name the fourth way; we read it as Swin's patch merge ([D36](d36)). The windows of a patch merge
# do not overlap, so both planes are the same function and share one bar. {doc}`figure_a1` shows eleven more designs.
#
# The first panel asks the question of narrow models, on 10,000 images of CIFAR-10 ([D38](d38)). The last panel is a
# check on digits and **no result of the paper** ([D19](d19)): it shows whether a design lets a model begin to learn
# within five epochs. Bars at the dotted line have learned nothing.
#
# ## Numbers

# %% tags=["hide-input"]
page.show_bars("The paper's bars: top-1 of NesT-T by aggregation and plane")

# %% [markdown]
# ## Which findings hold
#
# Each verdict follows from records of real runs or from the paper's own numbers. Runs on digits decide nothing.
# {doc}`claims` has all findings and the rule.

# %% tags=["hide-input"]
page.show_claims("image-plane", "figure5", "max-pool", "patch-merge")

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/figure5.ipynb out.ipynb                     # loads the records that there are
#     nest sweep figure5 --budget quick                                 # trains what is missing; --board: the state
#     nest sweep figure5 --budget small --data-dir DATA/cifar10         # narrow models on CIFAR-10, hours on two cores
#     nest train small/nest_narrow --seed 3 --data-dir DATA/cifar10     # one more seed of the first bar
#     NESTLIB_DATA=DATA nest sweep figure5 --budget gpu                 # NesT3-T, S = 2, 60 epochs; DATA/cifar10
#     papermill experiments/figure5.ipynb out.ipynb -p budget gpu       # shows what that sweep left
#
# The notebook trains only with `-p train True`. Budget quick takes less than an hour on two cores, small takes hours,
# gpu and paper take GPU days. Budget smoke takes two steps of every quick recipe and shows none of them.
