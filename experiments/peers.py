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
budget: str = "quick"  # smoke (writes no figure) or quick

# %% tags=["setup"]
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import rows

check_parameters(In)

# %% tags=["hide-input"]
page = Page("peers", budget)
page.show_point(None, rows.say_rows(), measured="measured: parameters counted")
page.show(rows.rows_table("table1", page.store))

# %% tags=["hide-input"]
page.show(rows.rows_table("table2", page.store))

# %% [markdown]
# Each row says whose code the model is, whether it counts what the paper prints, and what one pass and one training
# step took. Architectures come from well-kept libraries wherever one has them, fitted to the input size by
# configuration. The benches run each on its library's fastest path. The libraries do not fuse the attention of PVT and
# CCT, so it is fused here ([D23](d23)). A number such as D24 names the entry of {doc}`../book/differences` that says
# why a count is more than 2 % off.
#
# ## How each row is trained
#
# All rows train in one trainer. A transformer gets the paper's recipe, which is that of the published NesT code, with
# its own authors' settings where they or the paper give them. The paper searched over learning rates and weight decays
# but does not give the search, and it was not repeated ([D22](d22)).

# %% tags=["hide-input"]
page.show(rows.settings_table("table1"), rows.settings_table("table2"))

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/peers.ipynb out.ipynb         # seconds
#     nest bench table1                                   # times the rows; table2 likewise
#
# The notebook counts parameters and shows the times of committed benches. `nest bench` makes new ones.
