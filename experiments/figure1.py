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
# # Figure 1: NesT as a tree of blocks

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
model: str = "nest_tiny_imagenet"  # any NesT of nestlib.list_models()
canvas: int = 0  # which digits canvas is drawn

# %% tags=["setup"]
from nestbook.evaluations import examples
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import architecture, blocking

check_parameters(In)

# %% tags=["hide-input"]
page, image = Page("figure1", budget), examples.draw_canvas(canvas)
tree, measured = architecture.plot_architecture(image, model), f"measured: a pass of {model}"
page.show_point(tree, architecture.say_architecture(model), measured=measured)

# %% [markdown]
# The paper's figure shows this tree beside eleven lines of pseudo code. NesT embeds patches, cuts the plane into
# blocks and runs transformer layers inside each block alone. Between hierarchies four blocks merge into one, until one
# block is left. Blocks of one quadrant share a colour. Rest the mouse on a block for its shape.
#
# Every shape comes from hooks in a forward pass of nestlib's own model. The whole code is on the page
# {doc}`../book/model`.
#
# ## Line by line
#
# The paper's `Aggregate` pools `x`, the input of the last hierarchy, where its output is meant. It also leaves out a
# LayerNorm that the published code has before the pooling. Whether blocks share their position embeddings can be read
# either way ([D4](d4)).

# %% tags=["hide-input"]
page.show(architecture.architecture_table(model))

# %% [markdown]
# ## Blocks and aggregation on pixels
#
# The functions of the model run here on an image's own pixels. Each pixel is one patch, and its colour takes the place
# of the embedding. Left is the plane, in the middle its blocks, right the tensor that attention gets: one row per
# block, its patches in reading order. An aggregation leads to the next row. Here it is a plain max-pool, one of the
# designs of {doc}`figure_a1`: it has no weights, so it can be seen in pixels.

# %% tags=["hide-input"]
page.show(blocking.draw_blocking(image))

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/figure1.ipynb out.ipynb                          # seconds
#     papermill experiments/figure1.ipynb out.ipynb -p model nest_tiny_cifar
#
# Nothing trains, and no budget changes anything. The second command draws another model's tree.
