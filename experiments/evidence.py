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
# # The run plan
#
# What one GPU should measure and train, most wanted first, in parts that each fit a quarter of an hour of it, and
# what of that has a record. It is for whoever has a GPU for minutes, and for whoever asks which of the paper's
# results are not measured here yet.
#
#     nest evidence                                        # this plan
#     nest evidence --run --max-time 9m --data-dir DATA    # runs what has no record
#
# `DATA` holds one folder a data set (`DATA/cifar10`, `DATA/tiny_imagenet`). A run stops cleanly before the limit,
# and the same command goes on from its checkpoint; a run that fails is said and passed over.
#
# A GPU that is lent for a quarter of an hour is best given to these two calls, each of at most nine minutes. The first
# looks at the machine, runs the tests that ask for a GPU, and times NesT against timm's. The second trains NesT3-T on
# CIFAR-10, or where that has a record the next of items 3 and 4, by the longest of five schedules that ends in time:
#
#     nest evidence --minutes 12 --stage 1
#     nest evidence --minutes 12 --stage 2 --data-dir DATA
#     nest evidence --minutes 3 --device cpu               # both, rehearsed without a GPU
#     nest evidence --pack FOLDER --data-dir DATA          # CIFAR-10 in three transfers
#
# Each part writes its result when it has it, so a killed call loses one part. On a machine that files reach with the
# checkout alone, send one folder of `--pack` with each call, whose `--take FOLDER/1` keeps it. Where nestlib is not
# installed, `PYTHONPATH=.:experiments python -m nestbook` stands for `nest`.

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke (writes no figure) or quick; nothing is run either way

# %%
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report.estimates import estimates_table, find_machine
from nestbook.report.run_plan import coverage_table, items_table, plan_table
from nestbook.run_plan.entries import find_coverage, list_entries, list_left_out

check_parameters(In)

# %%
page, entries = Page("evidence", budget), list_entries()

# %% [markdown]
# ## By item

# %% tags=["hide-input"]
page.show(items_table(entries, page.store, list_left_out()))

# %% [markdown]
# ## What the machine should reach
#
# Before anything is measured on a GPU: bounds from counted FLOPs and bytes, by which the first figures are judged.

# %% tags=["hide-input"]
page.show(estimates_table(*find_machine(page.store)))

# %% [markdown]
# ## How much of the paper has a record

# %% tags=["hide-input"]
page.show(coverage_table(find_coverage(page.store)))

# %% [markdown]
# ## Run by run
#
# Records go to `experiments/records`, weights under 16 MB in fp16 to `experiments/weights`. On a machine that is a
# copy without git, `NESTLIB_COMMIT` names the commit that it is a copy of.
#
# A record counts when it was made on a GPU. Reported is always the last epoch, never the best on test. Runs
# shorter than the paper's stand under their own ids and in no cell of the paper's schedule. CIFAR-100 is left out
# until its images are at hand.

# %% tags=["hide-input", "hide-output"]
page.show(plan_table(entries, page.store))

# %%
page.save()
