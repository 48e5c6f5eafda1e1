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
# # Table A3: the number of attention heads
#
# The paper (appendix A.3) varies the heads of NesT-B at d = 768 from 1 to 96 on CIFAR-10 and finds that their number
# matters little: the whole table spans 0.36 points. That is about the reach of a single score: of 10,000 test images
# drawn anew, one accuracy near 97 % moves by a third of a point either way (the thin bars). The table's differences
# are within that, before seeds even enter.
#
#     papermill experiments/table_a3.ipynb out.ipynb  # quick: loads the records that there are
#     nest sweep table_a3 --budget quick  # the same runs; --board: where they stand
#     nest sweep table_a3 --budget small --data-dir DATA  # CIFAR-10: narrow models, hours of two cores
#     nest sweep table_a3 --budget gpu --data-dir DATA  # CIFAR-10, 60 epochs
#     papermill experiments/table_a3.ipynb out.ipynb -p budget gpu -p data_dir DATA  # shows what it left
#
# What stands here: first narrow models on 10,000 images of CIFAR-10, which ask of the paper's comparison what two
# cores can answer ([D38](d38)). Then the paper's numbers; last, narrow NesT (d = 48, 1 to 24 heads) on plain
# digits for five epochs, which **is no result of the paper** ([D19](d19)). What has no record says so. What each run took stands below
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
page = AblationPage("table_a3", budget, seeds, data_dir, **how)

# %% [markdown]
# ## The table as a picture
#
# Multi-head attention has equal parameters at any number of heads. The published code shares keys and values among
# heads ([D1](d1)), so its parameters are fewer the more heads there are; the paper does not say which of the two this table used.
# Rest the mouse on a mark for its figures and their records.

# %% tags=["hide-input"]
page.show(ablations.plot_table_a3(page.bars))

# %% [markdown]
# ## The same bars in figures

# %% tags=["hide-input"]
page.show_bars("Table A3: CIFAR-10 top-1 of NesT-B by number of heads")

# %% [markdown]
# ## Which findings hold
#
# Verdicts follow from records of real runs and from the paper's own numbers, none is written by hand; narrow models
# have a column of their own, and quick runs on digits decide nothing. How, and all other findings: {doc}`claims`.

# %% tags=["hide-input"]
page.show_claims("heads")

# %%
page.save()
