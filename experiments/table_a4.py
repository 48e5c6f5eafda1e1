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
#
# NesT upside down makes images: noise becomes one block of 8x8 vectors, each hierarchy ends in a de-aggregation
# that turns every block into four, and the last one's 64 blocks are an image of 64x64 pixels. Widths and layers
# are those of TransGAN's own 64x64 file, so that the two differ in the reach of attention alone ([D33](d33)).
#
# The paper's input can be read in two ways, with a linear layer or without ([D31](d31)); both stand here, read
# from the models themselves. What was trained with them is on the page {doc}`figure7`.
#
#     papermill experiments/table_a4.ipynb out.ipynb         # seconds

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke, quick, gpu or paper: nothing here trains, so all are alike

# %%
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import table_a4

check_parameters(In)

# %%
architecture, parameters = table_a4.table_a4()
page = Page("table_a4", budget)
page.show(architecture)

# %% tags=["remove-input"]
page.show(parameters)

# %%
page.save()
