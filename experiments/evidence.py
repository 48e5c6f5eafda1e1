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
# What one GPU should measure and train, most wanted first, and what of it has a record. This is the list that a
# GPU lent for minutes works through:
#
#     nest evidence                                        # this plan, in a terminal
#     nest evidence --run --max-time 9m --data-dir DATA    # from the top: runs what has no record of a GPU
#
# `DATA` holds one folder a data set (`DATA/cifar10`, `DATA/tiny_imagenet`). A run stops cleanly before the limit,
# and the same command goes on from its checkpoint; a run that fails is said and passed over. Records go to
# `experiments/records`, weights under 16 MB in fp16 to `experiments/weights`. On a machine that is a copy without
# git, `NESTLIB_COMMIT` names the commit that it is a copy of.
#
# A record counts when it was made on a GPU. Reported is always the last epoch, never the best on test. Runs
# shorter than the paper's stand under their own ids and in no cell of the paper's schedule. CIFAR-100 is left out
# until its images are at hand.

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
from nestbook.report.run_plan import coverage_table, items_table, plan_table
from nestbook.run_plan.entries import find_coverage, list_entries

check_parameters(In)

# %%
page, entries = Page("evidence", budget), list_entries()

# %% [markdown]
# ## How much of the paper has a record

# %% tags=["hide-input"]
page.show(coverage_table(find_coverage(page.store)))

# %% [markdown]
# ## By item

# %% tags=["hide-input"]
page.show(items_table(entries, page.store))

# %% [markdown]
# ## Run by run

# %% tags=["hide-input"]
page.show(plan_table(entries, page.store))

# %%
page.save()
