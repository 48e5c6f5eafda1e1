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
# # Figure A1: more ways to merge

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
from nestbook.report import ablations, aggregations, findings

check_parameters(In)

# %% tags=["setup", "remove-output"]
how = {"train": train, "device": device, "processes": processes}
page = AblationPage("figure_a1", budget, seeds, data_dir, **how)

# %% tags=["hide-input"]
page.show_point(
    ablations.plot_aggregations(page.bars, "A1"), findings.say_figure_a1(page.bars),
    "image-plane", "small-kernel", "ahead-of-pooling", "max-pool", "query-sampling",
    "patch-merge", "aggregation-detail",
)

# %% [markdown]
# The paper (section 4.3, appendix A.2) compares more ways to merge four blocks into one than {doc}`figure5`, each on
# the image plane and on the block plane: kernel sizes, convolution before or behind pooling, average and max-pooling,
# Swin's patch merge and HaloNet's sub-sampling of queries. C3-LN-MX3 is NesT's own: a 3x3 convolution, LayerNorm and
# 3x3 max-pooling. The paper names this one and AVG3 so; the other names follow the same rule. [D36](d36) lists what
# each design is where the paper does not say.
#
# The first panel asks the question of narrow models, on 10,000 images of CIFAR-10 ([D38](d38)), for the designs that a
# finding names. The last panel is a check on plain digits for five epochs and **no result of the paper** ([D19](d19)):
# it shows whether a design lets the model begin to learn. Marks at the dotted line have learned nothing.
#
# ## Who hears whom
#
# The paper says that it is "always important to apply on the holistic image plane", where information crosses block
# borders. Whether it crosses does not depend on training: the gradients of an untrained model show it. A window wider
# than its stride passes information between blocks that do not merge, on the image plane alone. Without such a window
# both planes are one and the same function and share one bar.

# %% tags=["hide-input"]
page.show(aggregations.aggregations_table())

# %% [markdown]
# ## Numbers

# %% tags=["hide-input"]
page.show_bars("The paper's bars: top-1 of NesT-T by aggregation and plane")

# %% [markdown]
# ## Which findings hold
#
# Each verdict follows from records of real runs or from the paper's own numbers. Runs on digits decide nothing.
# {doc}`claims` has all findings and the rule.

# %% tags=["hide-input"]
page.show_claims(
    "image-plane", "small-kernel", "ahead-of-pooling", "max-pool",
    "query-sampling", "patch-merge", "aggregation-detail",
)

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/figure_a1.ipynb out.ipynb                   # loads the records that there are
#     nest sweep figure_a1 --budget quick                               # trains what is missing; --board: the state
#     nest sweep figure_a1 --budget small --data-dir DATA/cifar10       # narrow models on CIFAR-10, hours on two cores
#     NESTLIB_DATA=DATA nest sweep figure_a1 --budget gpu               # NesT3-T, S = 2, 60 epochs; DATA/cifar10
#     papermill experiments/figure_a1.ipynb out.ipynb -p budget gpu     # shows what that sweep left
#
# The notebook trains only with `-p train True`. Budget quick takes about an hour on two cores, small takes hours,
# gpu and paper take GPU days. Budget smoke takes two steps of every quick recipe and shows none of them.
