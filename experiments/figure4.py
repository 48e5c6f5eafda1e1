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
# # Figure 4: epochs and augmentation

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
page = AblationPage("figure4", budget, seeds, data_dir, **how)

# %% tags=["hide-input"]
page.show_point(
    ablations.plot_figure4(page.bars),
    findings.say_figure4(page.bars),
    "converges", "14-percent", "100-epochs", "less-augmentation",
)

# %% tags=["hide-input"]
page.show(ablation_tables.removals_table(page.bars))

# %% [markdown]
# The paper (section 4.2) trains NesT and DeiT on ImageNet for 30, 60, 100 and 300 epochs in all. It finds NesT ahead at
# each, by up to 14 points; NesT-B loses 1.5 points from 300 epochs to 100. It then takes one augmentation away from
# NesT-T and compares it with DeiT-B: NesT depends on augmentation less. Each point of the paper is a single run. It
# prints three numbers of NesT-B; the ends of the other curves are rows of Table 2.
#
# The first panel asks the same of narrow models, on 10,000 images of CIFAR-10 ([D38](d38)). The last panel is a check
# on digits and **no result of the paper** ([D19](d19)): with 1,024 digits and a tenth of the epochs it shows whether a
# model begins to learn. Marks at the dotted line have learned nothing.
#
# ## Numbers

# %% tags=["hide-input"]
page.show_bars("The paper's bars: ImageNet top-1 by epochs", only="epochs")

# %% [markdown]
# ## Which findings hold
#
# Each verdict follows from records of real runs or from the paper's own numbers. Runs on digits decide nothing.
# {doc}`claims` has all findings and the rule.

# %% tags=["hide-input"]
page.show_claims("converges", "14-percent", "100-epochs", "abstract-83.8", "less-augmentation")

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/figure4.ipynb out.ipynb                     # loads the records that there are
#     nest sweep figure4 --budget quick                                 # trains what is missing; --board: the state
#     nest sweep figure4 --budget small --data-dir DATA/cifar10         # narrow models on CIFAR-10, hours on two cores
#     nest sweep figure4 --budget gpu --data-dir DATA/tiny_imagenet     # Tiny ImageNet, many GPU days
#     nest sweep figure4 --budget paper --data-dir IMAGENET             # what the paper ran
#     papermill experiments/figure4.ipynb out.ipynb -p budget gpu -p data_dir DATA/tiny_imagenet  # shows the runs of that sweep
#
# The notebook trains only with `-p train True`. Budget quick takes one to two hours on two cores, small takes hours,
# gpu and paper take GPU days. Budget smoke takes two steps of every quick recipe and shows none of them.
