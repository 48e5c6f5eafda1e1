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
# # How much data does NesT need?

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
budget: str = "quick"  # smoke (seconds) and quick check the path on digits; small asks the question
train: bool = False  # run here what has no record
seeds: int = 3  # how many runs of each mark
device: str = "auto"  # auto, cpu, cuda or cuda:<index>
data_dir: str = ""  # where CIFAR-10 lies; default data/cifar10
processes: int = 2  # runs side by side on a CPU

# %% tags=["setup"]
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import ablation_tables, ablations, findings
from nestbook.report.bars import bars_table, find_small_bars, make_remarks
from nestbook.sweeps import runner

check_parameters(In)

# %% tags=["setup", "remove-output"]
page = Page("training_images", budget)
how = {"device": device, "data_dir": data_dir or None, "processes": processes}
ran = runner.collect_figure("training_images", budget, page.store, seeds=seeds, train=train, **how)

# %% tags=["hide-input"]
bars = find_small_bars("training_images", page.store, range(seeds), data_dir or None)
page.show(ablations.plot_training_images(bars), findings.point_of_training_images(bars))

# %% [markdown]
# The paper's abstract says that NesT "requires much less training data to achieve good generalization". It shows this
# by CIFAR and by short training, and has no figure of accuracy against the number of images. This page asks the
# question itself, of narrow models of equal size ([D38](d38)): NesT, DeiT, whose attention is global, and a convnet
# (WRN), on 1,000 to 50,000 images of CIFAR-10. Every run sees 300,000 images in all, so it sees each of 1,000 images
# three hundred times and each of 50,000 six times. Each model is scored on the whole test set. The subsets hold equally
# many images of each class, and each lies in the next larger one.
#
# ## Numbers

# %% tags=["hide-input"]
table = bars_table("Top-1 by model and number of training images", bars)
page.show(*filter(None, [ablation_tables.gaps_table(bars), table]), make_remarks(bars))

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/training_images.ipynb out.ipynb             # loads the records that there are
#     nest sweep training_images --budget small --data-dir DATA/cifar10  # trains what is missing, hours on two cores
#
# The notebook trains only with `-p train True`. Budgets smoke and quick check the path on digits and show no result.
