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
from nestbook.report import ablation_tables, findings

check_parameters(In)

# %% tags=["setup", "remove-output"]
how = {"train": train, "device": device, "processes": processes}
page = AblationPage("table_a2", budget, seeds, data_dir, **how)

# %% tags=["hide-input"]
page.show(ablation_tables.lessons_table(page.bars))
page.show_point(
    None, findings.say_table_a2(page.bars),
    "teaching-helps", "strong-teachers", "strong-lessons", "taught-84.9", "taught-86.1",
)

# %% tags=["hide-input"]
page.show(ablation_tables.teachers_table(page.bars))

# %% [markdown]
# The paper (appendix A.3) lets PyramidNets (PN) teach NesT-B and DeiT-B on CIFAR, as DeiT does. It finds that the
# lesson helps both, that a teacher trained with strong augmentation is the better classifier and the worse teacher, and
# that NesT-B reaches 84.9 % on CIFAR-100, and 86.1 % after 1,000 epochs. [D37](d37) lists what the paper leaves open,
# above all whether labels are hard or soft. Hard labels are the default here; soft ones are ours, beside the paper's.
#
# Narrow models ask the same on 10,000 images of CIFAR-10 ([D38](d38)). Narrow teachers and students on digits are a
# check of the code and **no result of the paper** ([D19](d19)): every kind of lesson runs from teacher to student. A
# teacher runs before its students.
#
# ## Numbers

# %% tags=["hide-input"]
page.show_bars()

# %% [markdown]
# ## Which findings hold
#
# Each verdict follows from records of real runs or from the paper's own numbers. Runs on digits decide nothing.
# {doc}`claims` has all findings and the rule.

# %% tags=["hide-input"]
page.show_claims("teaching-helps", "strong-teachers", "strong-lessons", "taught-84.9", "taught-86.1")

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/table_a2.ipynb out.ipynb                    # loads the records that there are
#     nest sweep table_a2 --budget quick                                # trains what is missing; --board: the state
#     nest sweep table_a2 --budget small --data-dir DATA/cifar10        # narrow models on CIFAR-10, hours on two cores
#     NESTLIB_DATA=DATA nest sweep table_a2 --budget gpu                # DATA/cifar10, DATA/cifar100
#     papermill experiments/table_a2.ipynb out.ipynb -p budget gpu      # shows what that sweep left
#
# The notebook trains only with `-p train True`. Budget quick takes less than an hour on two cores, small takes hours,
# gpu and paper take GPU days. Budget smoke takes two steps of every quick recipe and shows none of them.
