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
# # Figure 1: the architecture
#
# The paper's figure 1 shows a tree of blocks beside eleven lines of pseudo code. NesT embeds patches, cuts the
# plane into blocks, runs transformer layers inside each block alone, and merges four blocks into one between
# hierarchies, until one block is left.
#
# Here the same is read from the model that runs: its lines stand beside the paper's, and every shape comes from
# hooks in a forward pass of `nestlib`'s own model. Nothing is trained, so there is no record and no budget
# changes anything. The whole code is on the page {doc}`../book/model`.
#
#     papermill experiments/figure1.ipynb out.ipynb                          # seconds
#     papermill experiments/figure1.ipynb out.ipynb -p model nest_tiny_cifar
#
# What differs: the figure pools `x`, the last hierarchy's input, where its output is meant, and leaves out a
# LayerNorm that the published code has before the pooling. Whether the blocks share their position embeddings
# can be read either way ([D4](d4)).

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke (writes no figure), quick, gpu or paper: nothing trains, all are alike
model: str = "nest_tiny_imagenet"  # any NesT of nestlib.list_models()
canvas: int = 0  # which digits canvas is drawn

# %%
from nestbook.evaluations import examples
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import architecture, blocking

check_parameters(In)

# %% [markdown]
# ## The tree
#
# Colours follow the quadrant that a block ends in. Rest the mouse on a block for its shape.

# %% tags=["hide-input"]
page, image = Page("figure1", budget), examples.draw_canvas(canvas)
page.show(architecture.plot_architecture(image, model))

# %% [markdown]
# ## Line by line

# %% tags=["hide-input"]
page.show(architecture.architecture_table(model))

# %% [markdown]
# ## Blocking and aggregating, step by step
#
# The functions that the model runs, on an image's own pixels: each pixel is one patch, and its colour takes the
# place of the embedding. Left the plane, in the middle its blocks, right the tensor that attention gets: a row
# for each block, its patches in reading order. To the next row leads an aggregation. It is a plain max-pool here,
# one of the designs of {doc}`figure_a1`, as it has no weights and so can be seen in pixels.

# %% tags=["hide-input"]
page.show(blocking.draw_blocking(image))

# %%
page.save()
