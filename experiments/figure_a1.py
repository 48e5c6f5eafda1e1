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
# # Figures 5 and A1: how blocks are aggregated
#
# The paper compares ways to merge four blocks into one, each on the image plane and on the block plane, and
# finds its own, a 3x3 convolution, LayerNorm and 3x3 max-pooling on the image plane, best. Its explanation is
# that on the image plane information crosses block edges. Whether it does is no matter of training: it can be
# read off the gradients of an untrained model. The first table states it for each design and then measures it.
# A window that is wider than its stride passes information between blocks that do not merge, on the image plane
# alone; where none is, both planes are one and the same function.
#
#     papermill experiments/figure_a1.ipynb out.ipynb  # shows what has a record
#     nest sweep figure_a1 --budget quick              # narrow models on digits, checks the path
#     nest sweep figure_a1 --budget gpu --data-dir DATA
#
# What each design is where the paper does not say is entry [D36](d36).

# %% tags=["parameters"]
budget: str = "quick"  # smoke (writes no figure), quick, gpu or paper; nothing is run, records are shown

# %%
from nestlib import plans, records, report, sweeps
from nestlib.notebook import check_parameters

check_parameters(In)

# %% [markdown]
# ## Who hears whom

# %% tags=["hide-input"]
designs = report.aggregations_table()
designs

# %% [markdown]
# ## Accuracy
#
# One bar a design and plane, from records alone.

# %% tags=["hide-input"]
store = records.open_store()
found = sweeps.load_plan(plans.plan("figure_a1", budget), store)
bars = report.bars_table("Figure A1: top-1 by aggregation and plane", found)
bars

# %%
report.save("figure_a1", budget, [designs, bars])
