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
# # The rows of Tables 1 and 2
#
# What stands behind each of the 29 rows here: whose code the model is, whether it counts what the paper
# prints, what one pass and one training step took in the committed benches, and how it is trained.
# Architectures come from well-kept libraries wherever one has them, fitted to the input size by
# configuration. The benches run each on its library's fastest path; PVT's and CCT's attention, which
# their libraries do not fuse, is fused here ([D23](d23)).
#
# The figures of the times are in the committed records named below the table; `nest bench table1` and
# `nest bench table2` make such records.

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke (writes no figure) or quick

# %%
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report.rows import rows_table, settings_table

check_parameters(In)

# %% [markdown]
# ## Every row
#
# A difference of more than 2 % from the printed count names the entry of the page
# {doc}`../book/differences` that says why.

# %% tags=["hide-input"]
page = Page("peers", budget)
page.show(rows_table(page.store))

# %% [markdown]
# ## How each row is trained
#
# All rows train in one trainer. A transformer gets the paper's recipe, which is that of the published
# NesT code, with its own authors' settings where they or the paper give them; the paper's search over
# learning rates and weight decays is not given, and was not repeated ([D22](d22)).

# %% tags=["hide-input"]
page.show(settings_table())

# %%
page.save()
