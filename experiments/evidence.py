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
# # The run plan: what a quarter of an hour of a GPU decides

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
budget: str = "quick"  # smoke (writes no figure) or quick; nothing is run either way

# %% tags=["setup"]
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import run_plan
from nestbook.report.estimates import estimates_table, find_machine
from nestbook.run_plan.entries import find_coverage, list_entries, list_left_out

check_parameters(In)

# %% tags=["setup"]
page, entries = Page("evidence", budget), list_entries()

# %% tags=["hide-input"]
point = run_plan.make_plan_point(entries, page.store)
page.show(point, run_plan.session_table(page.store))

# %% [markdown]
# A session is two calls. Each takes at most nine minutes, both together at most twelve:
#
#     nest evidence --minutes 12 --stage 1
#     nest evidence --minutes 12 --stage 2 --data-dir DATA
#
# `DATA` holds one folder per data set (`DATA/cifar10`, `DATA/tiny_imagenet`). The second call trains NesT3-T on
# CIFAR-10; where that has a record, it trains the next of items 3 and 4. `nest evidence --minutes 3 --device cpu`
# rehearses both without a GPU.
#
# ## The plan
#
# What one GPU should measure and train, most wanted first. Each run fits a quarter of an hour. An item may take longer.
# `nest evidence --run --only 3` carries out item 3, and `nest evidence --run --max-time 9m --data-dir DATA` carries
# out what has no record from the top. A run stops cleanly before the limit, and the same command resumes from its
# checkpoint. A run that fails is reported, and the next one starts.

# %% tags=["hide-input"]
page.show(run_plan.items_table(entries, page.store, list_left_out()))

# %% [markdown]
# ## What the machine should reach
#
# Before anything is measured on a GPU: bounds from counted FLOPs and bytes, by which the first figures are judged.

# %% tags=["hide-input"]
page.show(estimates_table(*find_machine(page.store)))

# %% [markdown]
# ## How much of the paper has a record

# %% tags=["hide-input"]
page.show(run_plan.coverage_table(find_coverage(page.store)))

# %% [markdown]
# ## Run by run
#
# A record counts when it was made on a GPU. Reported is always the last epoch, never the best on test. Runs
# shorter than the paper's stand under their own ids and in no cell of the paper's schedule. CIFAR-100 is left out
# until its images are at hand.

# %% tags=["hide-input", "hide-output"]
page.show(run_plan.plan_table(entries, page.store))

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/evidence.ipynb out.ipynb       # shows the plan; runs nothing
#     nest evidence                                        # the same in a terminal
#     nest evidence --pack FOLDER --data-dir DATA          # CIFAR-10 in three transfers
#
# Records go to `experiments/records`, weights under 16 MB in fp16 to `experiments/weights`. On a machine that is a
# copy without git, `NESTLIB_COMMIT` names the commit that it is a copy of. Where nestlib is not installed,
# `PYTHONPATH=.:experiments python -m nestbook` stands for `nest`.
#
# Some machines receive files only as part of the checkout. For these, `--pack FOLDER` cuts CIFAR-10 into three parts,
# `FOLDER/1` to `FOLDER/3`. Send one part with each call and add `--take FOLDER/1` (then 2, then 3) to its command: it
# stores the part, and joins all three once they are there.
