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
#
# Every number of this book that was trained, timed or scored by us comes from one of these files. A record is
# written whole when a run has finished: what was asked (the recipe), where and with which code it ran, every
# epoch, and the results. The pages show what the records say and when; here they all stand in one place, with the
# curves of those that trained.
#
#     nest train NAME                                 # makes a record in runs/records
#     nest sweep NAME                                 # all of a figure's
#     nest bench NAME --commit-record                 # these and other commands can commit theirs
#     make notebooks NOTEBOOKS=experiments/records.ipynb    # brings this page and the README up to date
#
# Most are quick runs of narrow models on embedded digits or small images ([D19](d19)); a row of the paper's
# tables at full length has none yet unless its page says so.

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
from nestbook.report import all_records, curves, overview, tables

check_parameters(In)

# %% [markdown]
# ## Training curves
#
# A line is a run, a panel a metric on a data set. Rest the pointer on a line for its record and its last value; the
# table has the first, the best and the last value of each.

# %% tags=["hide-input"]
page = Page("records", budget)
trained = curves.find_trained(page.store)
curves.plot_curves(trained)

# %% tags=["hide-cell"]
curves.curves_table(trained)

# %% [markdown]
# ## Every record
#
# The name opens the file.

# %% tags=["hide-input"]
page.show(all_records.records_table(page.store))

# %% [markdown]
# What they add up to, claim by claim and number by number, opens the book ({doc}`../book/index`) and the README.
# Both tables are written here, from the same records.

# %%
opening, results = overview.opening_table(page.store), overview.results_table(page.store)
page.save()
tables.save("opening", budget, [opening])
tables.save("results", budget, [results])
overview.save_readme(results)
