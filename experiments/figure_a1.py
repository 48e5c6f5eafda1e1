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
# # Figure A1: every block aggregation
#
# The paper (section 4.3, appendix A.2) compares more ways to merge four blocks into one than figure 5 shows, each on
# the image plane and on the block plane: kernels, convolution before or behind pooling, average and max pooling,
# Swin's patch merge, HaloNet's sub-sampling of queries. It says that the image plane is always better, since there
# information crosses block edges. Whether it does is no matter of training: it can be read off the gradients of an
# untrained model. The first table states it for each design and then measures it. A window that is wider than its
# stride passes information between blocks that do not merge, on the image plane alone; where none is, both planes are
# one and the same function, and one bar. What each design is where the paper does not say is entry [D36](d36).
#
#     papermill experiments/figure_a1.ipynb out.ipynb  # quick: loads the records that there are
#     nest sweep figure_a1 --budget quick  # the same runs; --board: where they stand
#     nest sweep figure_a1 --budget small --data-dir DATA  # CIFAR-10: narrow models, hours of two cores
#     NESTLIB_DATA=DATA nest sweep figure_a1 --budget gpu  # DATA/cifar10; NesT3-T, S = 2, 60 epochs
#     papermill experiments/figure_a1.ipynb out.ipynb -p budget gpu  # shows what it left
#
# What stands here: first narrow models on 10,000 images of CIFAR-10, which ask of the paper's comparison what two
# cores can answer ([D38](d38)). Those designs are run that a finding names. Last, narrow NesT on plain digits for
# five epochs, which **is no result of the paper** ([D19](d19)): so short a run shows above all whether a design lets the model begin to learn,
# and a mark at the dotted line has learnt nothing. What has no record says so. What each run took stands below
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
from nestbook.report import ablations, aggregations

check_parameters(In)

# %% [markdown]
# ## Run what has no record yet, or load it
#
# smoke takes two steps of every quick recipe and shows none of them. The others load what there is, and run the rest
# only with `-p train True`: hours of a CPU at quick and small, GPU days at gpu and paper.

# %% tags=["remove-output"]
how = {"train": train, "device": device, "processes": processes}
page = AblationPage("figure_a1", budget, seeds, data_dir, **how)

# %% [markdown]
# ## Who hears whom

# %% tags=["hide-input"]
page.show(aggregations.aggregations_table())

# %% [markdown]
# ## The figure
#
# One bar a design and plane; the first design is NesT's own. Rest the mouse on a mark for its figures and their
# records.

# %% tags=["hide-input"]
page.show(ablations.plot_aggregations(page.bars, "figure_a1"))

# %% [markdown]
# ## The same bars in figures

# %% tags=["hide-input"]
page.show_bars("Figure A1: top-1 of NesT-T by aggregation and plane")

# %% [markdown]
# ## Which findings hold
#
# Verdicts follow from records of real runs and from the paper's own numbers, none is written by hand; narrow models
# have a column of their own, and quick runs on digits decide nothing. How, and all other findings: {doc}`claims`.

# %% tags=["hide-input"]
page.show_claims(
    "image-plane", "small-kernel", "ahead-of-pooling", "max-pool",
    "query-sampling", "patch-merge", "aggregation-detail",
)

# %%
page.save()
