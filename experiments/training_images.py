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
# # How much training data does NesT need?
#
# The paper's abstract says that NesT "requires much less training data to achieve good generalization", and shows it by
# CIFAR and by short training; it has no figure of accuracy against the number of images. This one asks the question
# itself, of narrow models of equal size ([D38](d38)): NesT, DeiT, whose attention is global, and a convnet, on 1,000 to
# 50,000 images of CIFAR-10. Every run sees 300,000 images in all, so 1,000 are seen three hundred times and 50,000 six
# times, and each is scored on the whole test set.
#
#     papermill experiments/training_images.ipynb out.ipynb  # loads the records that there are
#     nest sweep training_images --budget small --data-dir DATA  # the same runs, hours of two cores
#
# What has no record says so. What each run took stands below its table.

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke (seconds) and quick check the path on digits; small asks the question
train: bool = False  # run here what has no record
seeds: int = 3  # how many runs of each mark
device: str = "auto"  # auto, cpu, cuda or cuda:<index>
data_dir: str = ""  # where CIFAR-10 lies; default data/cifar10
processes: int = 2  # runs side by side on a CPU

# %%
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import ablations
from nestbook.report.bars import bars_table, find_small_bars
from nestbook.sweeps import runner

check_parameters(In)

# %% [markdown]
# ## Run what has no record yet, or load it

# %% tags=["remove-output"]
page = Page("training_images", budget)
how = {"device": device, "data_dir": data_dir or None, "processes": processes}
ran = runner.collect_figure("training_images", budget, page.store, seeds=seeds, train=train, **how)

# %% [markdown]
# ## The figure
#
# The subsets hold equally many images of each class, and each lies in the next larger one. Rest the mouse on a mark for
# its figures and their records.

# %% tags=["hide-input"]
bars = find_small_bars("training_images", page.store, range(seeds), data_dir or None)
page.show(ablations.plot_training_images(bars))

# %% [markdown]
# ## How far NesT is ahead

# %% tags=["hide-input"]
table = bars_table("Top-1 by model and number of training images", bars)
page.show(ablations.gaps_table(bars), table)

# %%
page.save()
