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
# # Figure 4: fewer epochs, less augmentation
#
# The paper (section 4.2) trains NesT and DeiT on ImageNet for 30, 60, 100 and 300 epochs in all and finds NesT ahead
# at each, by up to 14 points; NesT-B loses 1.5 points from 300 epochs to 100. It then takes one augmentation away from
# NesT-T, beside what DeiT's own paper says of DeiT-B, and finds that NesT depends on augmentation less. Each of its
# points is a single run. Of the curves it prints three numbers of NesT-B; the ends of the others are rows of Table 2.
#
#     papermill experiments/figure4.ipynb out.ipynb  # quick: loads the records that there are
#     nest sweep figure4 --budget quick  # the same runs; --board: where they stand
#     nest sweep figure4 --budget small --data-dir DATA  # CIFAR-10: narrow models, hours of two cores
#     nest sweep figure4 --budget gpu --data-dir DATA  # Tiny ImageNet; many GPU days
#     nest sweep figure4 --budget paper --data-dir IMAGENET  # the paper's own
#     papermill experiments/figure4.ipynb out.ipynb -p budget gpu -p data_dir DATA  # shows what they left
#
# What stands here: first narrow models on 10,000 images of CIFAR-10, which ask of the paper's comparison what two
# cores can answer ([D38](d38)). Then the paper's numbers; last, narrow NesT and DeiT on digits at a tenth of the epochs,
# which **is no result of the paper** ([D19](d19)): on 1,024 digits so few epochs show above all whether a model begins to learn, and
# a mark at the dotted line has learnt nothing. What has no record says so. What each run took stands below
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
page = AblationPage("figure4", budget, seeds, data_dir, **how)

# %% [markdown]
# ## The figure
#
# Left over total epochs, right with one augmentation removed: narrow models on CIFAR-10, then the paper's data, then digits.
# Rest the mouse on a mark for its figures and their records.

# %% tags=["hide-input"]
page.show(ablations.plot_figure4(page.bars))

# %% [markdown]
# ## The same bars in figures

# %% tags=["hide-input"]
page.show_bars("Figure 4: top-1 by epochs and augmentation")

# %% [markdown]
# ## Which findings hold
#
# Verdicts follow from records of real runs and from the paper's own numbers, none is written by hand; narrow models
# have a column of their own, and quick runs on digits decide nothing. How, and all other findings: {doc}`claims`.

# %% tags=["hide-input"]
page.show_claims("converges", "14-percent", "100-epochs", "abstract-83.8", "less-augmentation")

# %%
page.save()
