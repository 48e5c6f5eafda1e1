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
# # Figure 3: GradCAT's path per class

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
budget: str = "quick"  # smoke (an untrained model, no result) or quick
canvas: int = 0  # which of the 128 canvases with four digits
image: str = ""  # a photo's path: walked by the published NesT-S, fetched by timm; none: the canvas


# %% tags=["setup"]
from nestbook.evaluations import blanking, examples, planted
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import grounding, profiles, tree

check_parameters(In)

# %% tags=["setup", "remove-output"]
page, walks = Page("figure3", budget), examples.walk_figure3(canvas, image, budget=budget)
records = planted.find_planted(page.store)

# %% tags=["hide-input"]
page.show_point(
    tree.draw_trees(walks.images[0], walks.traversal, walks.class_names, "figure3"),
    grounding.say_figure3(records),
    measured=grounding.say_measured(records),
)

# %% [markdown]
# NesT processes blocks alone and merges four into one between hierarchies, so an image becomes a tree of blocks.
# GradCAT (the paper's Algorithm 1) walks this tree for a class, from the whole image to a leaf block. At each step it
# takes the child whose activation, times the gradient of the class's logit, has the highest mean. The paper shows one
# photo with four objects: the paths of its top four classes end on their objects. It gives no numbers.
#
# That photo is not published. Here the walks are tried where the truth is known, on canvases with four different
# digits, one in each quadrant. The picture shows the first canvas. On the left, a dashed frame is the quadrant of the
# first step and a solid frame is the leaf block. On the right, each class has its walk: the mean of the four children
# at each step, from the upper left in reading order, with the chosen child filled. The models are narrow, and were
# trained for minutes on canvases with one digit. What Algorithm 1 leaves open is in [D28](d28).
#
# ## Numbers
#
# Each digit of each canvas is asked for once. The variants of GradCAT differ in the sign of the gradient, in what is
# weighted (each place, or a whole partition), and in which maps the algorithm's A stands for.

# %% tags=["hide-input"]
page.show(grounding.grounding_table(records))

# %% [markdown]
# On four digits most variants with the positive gradient find the quadrant in two cases of three or more. With the
# negative gradient, as the paper writes it, they rarely do. On a small digit that stands alone it is the
# other way round for most: the positive variants find less, the default no more than chance, and the negative gradient
# is ahead of the positive one wherever single places are weighted. Blanking the block that the default finds costs no
# more than blanking a random one. Our reading is that these models write the class of a lone digit into the empty places too, so that
# little is left for a path to single out. Whether a NesT of full width does better on photos needs its weights or
# a GPU.
#
# ## On real images
#
# Photos have no planted truth, so only blanking can ask: does the class lose more where the chosen block is blanked?
# This is for NesTs that were trained here on CIFAR-10 ([D38](d38)), on all of its test images. The images are not part
# of the records. Where CIFAR-10 lies in `data/cifar10`, {doc}`explore` draws the walks on them.

# %% tags=["hide-input"]
names = ["cifar10/nest_flagship", "small/nest_narrow"]
page.show(grounding.blanking_table(blanking.find_blanking(page.store, names)))

# %% [markdown]
# ## What a walk costs
#
# Path and maps come from one forward and one backward pass of a batch. The backward pass stops above the leaves.

# %% tags=["hide-input"]
page.show(profiles.show_profile("explaining", page.store.find_benches("explaining")))

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/figure3.ipynb out.ipynb -p canvas 7           # another of the 128 canvases
#     papermill experiments/figure3.ipynb out.ipynb -p image photo.jpg    # the published NesT-S, top four classes
#     nest explain planted                                                # counts the walks
#     nest explain blanking                                               # blanks blocks of CIFAR-10's test images
#     nest profile explaining                                             # times the walks
#     papermill experiments/explore.ipynb out.ipynb -p model small/nest_narrow -p seed 0
#
# The notebook draws one image in seconds and loads the records that there are. `nest explain planted` first trains
# the models whose weights are missing, minutes each on a CPU.
