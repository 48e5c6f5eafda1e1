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
# # Table A4: NesT as a decoder

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
from nestbook.report import table_a4

check_parameters(In)

# %% tags=["setup"]
page, models = Page("table_a4", budget), table_a4.build_decoders()

# %% tags=["hide-input"]
page.show(table_a4.architecture_table(models))
page.show_point(None, table_a4.say_table_a4(models), measured="counted on the built models")

# %% [markdown]
# Upside down, NesT makes images. Noise becomes one block of 8x8 vectors. Each hierarchy ends in a de-aggregation
# that turns every block into four, and the last hierarchy's 64 blocks are an image of 64x64 pixels. Widths and layers
# are those of TransGAN's own 64x64 file, so the two differ only in the reach of their attention ([D33](d33)).
#
# The paper calls the input "a reshaped noise vector". A linear layer may stand before it or not ([D31](d31)); both
# readings are below. {doc}`figure7` shows what was trained.
#
# ## Numbers

# %% tags=["hide-input"]
page.show(table_a4.parameters_table(models))

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/table_a4.ipynb out.ipynb         # seconds; builds the models and counts
#
# Nothing is trained here, so every budget gives the same tables.
