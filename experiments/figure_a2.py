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
# # Figure A2: augmentations removed, alone and one after another
#
# The paper (appendix A.3) takes RandomErasing, RandAugment, MixUp or CutMix away from DeiT-S, Swin-T and NesT-S on
# CIFAR-10, and then RandAugment, CutMix with MixUp, and RandomErasing one after another. It finds NesT and Swin steady
# and DeiT not. It prints curves without numbers; with all augmentation the three are rows of Table 1.
#
#     papermill experiments/figure_a2.ipynb out.ipynb  # quick: loads the records that there are
#     nest sweep figure_a2 --budget quick  # the same runs; --board: where they stand
#     nest sweep figure_a2 --budget small --data-dir DATA  # CIFAR-10: narrow models, hours of two cores
#     nest sweep figure_a2 --budget gpu --data-dir DATA  # CIFAR-10, 60 epochs
#     papermill experiments/figure_a2.ipynb out.ipynb -p budget gpu -p data_dir DATA  # shows what it left
#
# What stands here: first narrow models on 10,000 images of CIFAR-10, which ask of the paper's comparison what two
# cores can answer ([D38](d38)). Then the paper's numbers with all augmentation; last, narrow models on strongly
# augmented digits for ten epochs, which **is no result of the paper** ([D19](d19)): so few epochs do not ask for augmentation. What has no
# record says so. What each run took stands below
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
page = AblationPage("figure_a2", budget, seeds, data_dir, **how)

# %% [markdown]
# ## The figure
#
# With MixUp removed CutMix falls on every batch, and the reverse. Rest the mouse on a mark for its figures and their
# records.

# %% tags=["hide-input"]
page.show(ablations.plot_figure_a2(page.bars))

# %% [markdown]
# ## The same bars in figures

# %% tags=["hide-input"]
page.show_bars("Figure A2: CIFAR-10 top-1 with augmentations removed")

# %% [markdown]
# ## Which findings hold
#
# Verdicts follow from records of real runs and from the paper's own numbers, none is written by hand; narrow models
# have a column of their own, and quick runs on digits decide nothing. How, and all other findings: {doc}`claims`.

# %% tags=["hide-input"]
page.show_claims("stability", "swin-stability")

# %%
page.save()
