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
#
# The paper's figure 2 is a drawing: it says that a block aggregation on the image plane lets blocks that do not
# merge exchange information, and that the same operations on the block plane, each four merging blocks alone, do
# not. It calls the exchange tiny and its gain critical.
#
# Here the drawing is measured. The gradient of a block's output by a patch is not nought just where the patch
# reaches it, whatever the weights are, so an untrained model answers. What the exchange does to accuracy takes
# trained models, which are on the page {doc}`figure_a1`; nothing trains here, and no budget changes anything.
#
#     papermill experiments/figure2.ipynb out.ipynb         # seconds
#
# What differs: padding follows the published code, at the right and the bottom alone, so blocks hear more from
# there than from the left and the top ([D8](d8)). The designs are those of [D36](d36).

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke (writes no figure), quick, gpu or paper: nothing trains, all are alike

# %%
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import receptive_field

check_parameters(In)

# %% [markdown]
# ## One aggregation
#
# A plane of 16x16 patches in 4x4 blocks, of which each 2x2 merge. A dot is a patch that reaches a merged block
# which it is not merged into, in that block's colour.

# %% tags=["hide-input"]
page = Page("figure2", budget)
page.show(receptive_field.plot_flow())

# %% tags=["hide-input"]
page.show(receptive_field.flow_table())

# %% [markdown]
# ## The whole model
#
# Attention then carries what crossed a border through the whole block, so the next aggregation hands on
# more. Each panel shows one block of a hierarchy and the pixels that reach it.

# %% tags=["hide-input"]
page.show(receptive_field.plot_reach())

# %% tags=["hide-input"]
page.show(receptive_field.reach_table())

# %%
page.save()
