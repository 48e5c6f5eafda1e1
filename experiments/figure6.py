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
# # Figure 6: depth of the hierarchy and word size
#
# The paper (section 4.4) varies the number of hierarchies, 2 to 5, and the word size S, 1 or 2, of NesT-T, -S and -B
# on CIFAR. Shallower models lose clearly, depth 5 a little: its blocks hold 2x2 patches. The text prints one number
# (section 4.1: depth 3 at S = 2, 94.5 %); depth 4 at S = 1 is NesT's row of Table 1. At S = 2, depth 5 leaves blocks
# of one single patch, which can attend to nothing else; what the paper did in that cell is not said.
#
#     papermill experiments/figure6.ipynb out.ipynb  # quick: loads the records that there are
#     nest sweep figure6 --budget quick  # the same runs; --board: where they stand
#     nest sweep figure6 --budget small --data-dir DATA  # CIFAR-10: narrow models, hours of two cores
#     NESTLIB_DATA=DATA nest sweep figure6 --budget gpu  # DATA/cifar10; T alone, 60 epochs
#     papermill experiments/figure6.ipynb out.ipynb -p budget gpu  # shows what it left
#
# What stands here: first narrow models on 10,000 images of CIFAR-10, which ask of the paper's comparison what two
# cores can answer ([D38](d38)). Then the paper's numbers; last, narrow NesT on plain digits for five epochs, which
# **is no result of the paper** ([D19](d19)). Depths 2 and 3 at S = 1 are left out there: attention in their blocks of 256 and 64 patches
# takes longest. What has no record says so. What each run took stands below
# its table.

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke (seconds, shows no result), quick, small, gpu or paper
train: bool = False  # run here what has no record
seeds: int = 3  # how many runs of each bar
device: str = "auto"  # auto, cpu, cuda or cuda:<index>
data_dir: str = ""  # where the data set lies; default data/<name>
processes: int = 2  # runs side by side on a CPU

# %%
from nestbook.notebook import check_parameters
from nestbook.pages import AblationPage
from nestbook.report import ablations

check_parameters(In)

# %% [markdown]
# ## Run what has no record yet, or load it
#
# smoke takes two steps of every quick recipe and shows none of them. The others load what there is, and run the rest
# only with `-p train True`: hours of a CPU at quick and small, GPU days at gpu and paper.

# %% tags=["remove-output"]
how = {"train": train, "device": device, "processes": processes}
page = AblationPage("figure6", budget, seeds, data_dir, **how)

# %% [markdown]
# ## The figure
#
# Round marks are S = 1, square ones S = 2. Rest the mouse on a mark for its figures and their records.

# %% tags=["hide-input"]
page.show(ablations.plot_figure6(page.bars))

# %% [markdown]
# ## The same bars in figures

# %% tags=["hide-input"]
page.show_bars("Figure 6: CIFAR top-1 by depth, word size and model size")

# %% [markdown]
# ## Which findings hold
#
# Verdicts follow from records of real runs and from the paper's own numbers, none is written by hand; narrow models
# have a column of their own, and quick runs on digits decide nothing. How, and all other findings: {doc}`claims`.

# %% tags=["hide-input"]
page.show_claims("shallow", "depth5", "depth5-n", "layers", "nest3-94.5", "nest3-speed")

# %%
page.save()
