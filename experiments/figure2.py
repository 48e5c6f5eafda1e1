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
# # Figure 2: who hears whom

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
budget: str = "quick"  # smoke (writes no figure), quick, gpu or paper: nothing trains, all are alike

# %% tags=["setup"]
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import receptive_field

check_parameters(In)

# %% tags=["hide-input"]
page, measured = Page("figure2", budget), "measured: gradients of untrained models"
page.show_point(receptive_field.plot_flow(), receptive_field.say_flow(), measured=measured)

# %% [markdown]
# A plane of 16x16 patches in 4x4 blocks. Each 2x2 of them merges into one. A dot is a patch that reaches a merged block
# which it is not merged into, in that block's colour.
#
# The paper's figure 2 draws this: an aggregation on the image plane lets blocks that do not merge exchange
# information. The same operations on the block plane, on four merging blocks alone, do not. The paper calls the
# exchange tiny and its gain critical. What it does to accuracy takes trained models: see {doc}`figure_a1`.
#
# Here the drawing is measured. The gradient of a block's output with respect to a patch is not zero exactly where the
# patch reaches the block, whatever the weights are. So an untrained model answers. Padding follows the published code,
# at the right and the bottom alone, so blocks hear more from there than from the left and the top ([D8](d8)).
#
# ## Numbers
#
# The first row is the paper's own aggregation, the others are designs of [D36](d36).

# %% tags=["hide-input"]
page.show(receptive_field.flow_table())

# %% [markdown]
# ## The whole model
#
# Attention carries what crossed a border through the whole block, so the next aggregation passes on more. Each panel
# shows one block of a hierarchy and the pixels that reach it.

# %% tags=["hide-input"]
page.show(receptive_field.plot_reach())

# %% tags=["hide-input"]
page.show(receptive_field.reach_table())

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/figure2.ipynb out.ipynb         # seconds
#
# Nothing trains, and no budget changes anything.
