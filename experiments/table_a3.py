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
# # Table A3: how many heads

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
page = AblationPage("table_a3", budget, seeds, data_dir, **how)

# %% tags=["hide-input"]
page.show(ablation_tables.heads_table(page.bars))
page.show_point(None, findings.say_table_a3(page.bars), "heads")

# %% [markdown]
# The paper (appendix A.3) varies the heads of NesT-B at d = 768 from 1 to 96 on CIFAR-10 and finds that their number
# matters little. The differences in its table are no larger than the sampling error of one score, even before seeds.
#
# Narrow models (d = 48) ask the same on 10,000 images of CIFAR-10 ([D38](d38)), with 1 to 12 heads. Narrow models on
# plain digits for five epochs, with 1 to 24 heads, are a check of the code and **no result of the paper** ([D19](d19)).
#
# ## The same as a picture
#
# Thin bars are the 95 % interval of a score for the draw of the test images. Multi-head attention has equal parameters
# at any number of heads. The published code shares keys and values among heads ([D1](d1)), so it has fewer parameters
# the more heads there are. The paper does not say which of the two its table used.

# %% tags=["hide-input"]
page.show(ablations.plot_table_a3(page.bars))

# %% [markdown]
# ## Numbers

# %% tags=["hide-input"]
page.show_bars()

# %% [markdown]
# ## Which findings hold
#
# Each verdict follows from records of real runs or from the paper's own numbers. Runs on digits decide nothing.
# {doc}`claims` has all findings and the rule.

# %% tags=["hide-input"]
page.show_claims("heads")

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/table_a3.ipynb out.ipynb                    # loads the records that there are
#     nest sweep table_a3 --budget quick                                # trains what is missing; --board: the state
#     nest sweep table_a3 --budget small --data-dir DATA/cifar10        # narrow models on CIFAR-10, hours on two cores
#     nest sweep table_a3 --budget gpu --data-dir DATA/cifar10          # CIFAR-10, 60 epochs
#     papermill experiments/table_a3.ipynb out.ipynb -p budget gpu -p data_dir DATA/cifar10  # shows the runs of that sweep
#
# The notebook trains only with `-p train True`. Budget quick takes less than an hour on two cores, small takes hours,
# gpu and paper take GPU days. Budget smoke takes two steps of every quick recipe and shows none of them.
