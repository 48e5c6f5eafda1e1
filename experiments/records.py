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
# # All records

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
from nestbook.report import all_records, curves, overview

check_parameters(In)
page = Page("records", budget)

# %% tags=["hide-input"]
page.show(all_records.point_of(page.store))

# %% [markdown]
# Every number of this book that we trained, timed or scored comes from one of these files. A record is written whole
# when a run has finished: what was asked (the recipe), where and with which code it ran, every epoch, and the
# results. Most are quick runs of narrow models on embedded digits or small images, which are not a result of the paper
# ([D19](d19)). The pages show what the records say and what that is worth.

# %% tags=["hide-input"]
page.show(all_records.families_table(page.store))

# %% [markdown]
# ## Training curves
#
# One line per run, one panel per metric and data set. Rest the pointer on a line for its record and its last value.

# %% tags=["hide-input"]
curves.plot_curves(curves.find_trained(page.store))

# %% tags=["setup"]
page.keep(all_records.records_table(page.store))
page.save()
overview.save_opening(page.store, budget)

# %% [markdown]
# ## Run this page
#
#     nest train NAME                                       # makes a record in runs/records
#     nest sweep NAME                                       # all of a figure's
#     nest bench NAME --commit-record                       # this and other commands can commit theirs
#     make notebooks NOTEBOOKS=experiments/records.ipynb    # brings this page and the README up to date
#
# The page trains nothing. It also writes, from the same records, the tables that open the book
# ({doc}`../book/index`) and the README.
