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
# # Which claims hold
#
# Every sentence of the paper that states a finding is a square; a row is one way to ask it. Rest the mouse on a square
# for the sentence, what is asked and what came of it.

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters", "hide-input"]
budget: str = "quick"  # smoke (writes no figure) or quick; nothing is run either way

# %% tags=["hide-input"]
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report.claims import claims_table, plot_claims, plot_forest

check_parameters(In)

# %% tags=["hide-input"]
page = Page("claims", budget)
page.show(plot_claims(page.store))

# %% [markdown]
# ## What narrow models say
#
# A row is one difference that two cores measured on a part of CIFAR-10 (budget small, [D38](d38)), with its
# interval; the grey bar is where the finding holds. A sentence is supported where the intervals of all its rows lie on
# grey, contradicted where one lies wholly off it.

# %% tags=["hide-input"]
page.show(plot_forest(page.store))

# %% [markdown]
# ## How a sentence is decided
#
# Every sentence of the paper that states a finding, what would decide it, and what does. Three columns answer,
# and none speaks for another: narrow models that two cores train on a part of CIFAR-10 (budget small,
# [D38](d38)), where the sentence can be asked at that scale; the paper's own printed numbers, where they bear on
# the sentence; and our records at the paper's scale. A verdict from records needs several seeds of both sides:
# *supported* or *contradicted* where the interval of the difference, over seeds and over the draw of test images
# together, lies on one side, else *undecided*. No verdict is written by hand; what has no records says so. Quick
# runs on digits decide nothing here.
#
# Records come from `nest train` and `nest sweep`; a new record changes this page when it is made again. Margins
# for words such as "far" or "similar" are ours and stand in `experiments/nestbook/claims/catalog.py`.
#
#     papermill experiments/claims.ipynb out.ipynb
#     nest sweep --all --budget small --data-dir DATA  # the runs of narrow models; --board: where they stand

# %% tags=["hide-input"]
page.show(claims_table(page.store))

# %%
page.save()
