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
# # Table A2: taught by a convnet
#
# The paper (appendix A.3) lets PyramidNets teach NesT-B and DeiT-B on CIFAR, as DeiT does, and finds that the lesson
# helps both, that a teacher trained with strong augmentation is the better classifier and the worse teacher, and that
# NesT-B reaches 84.9 % on CIFAR-100, 86.1 % at 1,000 epochs. By its own table the lesson does not help NesT-B on
# CIFAR-10: 97.1 % after 97.2 %. What the paper leaves open, above all hard or soft, is [D37](d37); hard is the default
# here.
#
#     papermill experiments/table_a2.ipynb out.ipynb  # quick: loads the records that there are
#     nest sweep table_a2 --budget quick  # the same runs; --board: where they stand
#     nest sweep table_a2 --budget small --data-dir DATA  # CIFAR-10: narrow models, hours of two cores
#     NESTLIB_DATA=DATA nest sweep table_a2 --budget gpu  # DATA/cifar10, DATA/cifar100
#     papermill experiments/table_a2.ipynb out.ipynb -p budget gpu  # shows what it left
#
# What stands here: first narrow models on 10,000 images of CIFAR-10, which ask of the paper's comparison what two
# cores can answer ([D38](d38)). Then the paper's table, with our records once there are any, and apart from it a
# check of the code on digits. Teachers run before their students. What has no record says so. What each run took stands below
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
from nestbook.report.bars import bars_table

check_parameters(In)

# %% [markdown]
# ## Run what has no record yet, or load it
#
# smoke takes two steps of every quick recipe and shows none of them. The others load what there is, and run the rest
# only with `-p train True`: hours of a CPU at quick and small, GPU days at gpu and paper.

# %% tags=["remove-output"]
how = {"train": train, "device": device, "processes": processes}
page = AblationPage("table_a2", budget, seeds, data_dir, **how)

# %% [markdown]
# ## The table
#
# A row names the data set, the student, its teacher and the teacher's augmentation, and the kind of lesson. Soft
# lessons are ours, beside the paper's.

# %% tags=["hide-input"]
page.show(
    bars_table("Narrow models taught", page.bars.small),
    bars_table("Table A2: top-1 of teachers and students", page.bars.real),
)

# %% [markdown]
# ## A check of the code
#
# Narrow teachers and students on digits, apart from the table: every kind of lesson runs from teacher to student. This
# says nothing of Table A2 ([D19](d19)).

# %% tags=["hide-input"]
page.show(bars_table("A check of the code on digits, not Table A2", page.bars.quick))

# %% [markdown]
# ## Which findings hold
#
# Verdicts follow from records of real runs and from the paper's own numbers, none is written by hand; narrow models
# have a column of their own, and quick runs on digits decide nothing. How, and all other findings: {doc}`claims`.

# %% tags=["hide-input"]
page.show_claims("teaching-helps", "strong-teachers", "strong-lessons", "taught-84.9", "taught-86.1")

# %%
page.save()
