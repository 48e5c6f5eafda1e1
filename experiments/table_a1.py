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
# # Table A1: widths, heads and layers

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
budget: str = "quick"  # smoke, quick, gpu or paper: nothing here trains, so all are alike

# %% tags=["setup"]
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import table_a1

check_parameters(In)

# %% tags=["hide-input"]
page = Page("table_a1", budget)
measured = "measured: parameters counted"
page.show_point(None, table_a1.say_table_a1(), measured=measured)
printed, corrected, counted = table_a1.table_a1()
page.show(printed, corrected)

# %% [markdown]
# The table lists width, heads, layers and blocks of each hierarchy. The 224x224 row is printed upside down and with
# wrong heads ([D2](d2)). The millions of parameters that Table 1 prints fit no reading of the attention to the last
# digit ([D1](d1), [D15](d15)).
#
# ## What the models count

# %% tags=["hide-input"]
page.show(counted)

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/table_a1.ipynb out.ipynb         # seconds
#
# Nothing trains, and no budget changes anything.
