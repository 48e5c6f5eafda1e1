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
# # Explore: what NesT looks at

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
budget: str = "quick"  # smoke, quick, gpu or paper; nothing trains; smoke: random weights
model: str = "digits/nest_planted"  # a NesT's recipe, or nest_tiny_imagenet (a network)
seed: int = 2  # of the recipe's run
images: int = 6  # how many prepared images


# %% tags=["setup"]
from nestbook.evaluations import planted
from nestbook.explorer import live, static, subject
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import grounding

check_parameters(In)

# %% tags=["setup"]
page = Page("explore", budget)
chosen = subject.load_subject(model, seed=seed, num_images=images, budget=budget)
explorer = subject.show_prepared(chosen)
records = planted.find_planted(page.store)

# %% [markdown]
# Choose an image and a class, and follow GradCAT's path from the whole image down to the block that counts most.

# %% tags=["hide-input"]
display(explorer)
sentence = static.say_explore(explorer, records)
page.show_point(None, sentence, measured=grounding.say_measured(records))

# %% [markdown]
# ## How to read it
#
# The explorer works in the page itself, without a kernel. *Back* and *Next* walk the tree, and the text says what each
# step compares. Point at a block to find it in the tree, or at a node to find it in the image. The paths of the digits
# on a canvas are framed from the start. *Keep path* leaves the path of a class in view, *Kept ✕* hides it.
#
# NesT's blocks form a tree. Its root is the whole image, below it are the four quadrants, and so on down to the blocks
# of the first hierarchy. GradCAT (section 3.2, Algorithm 1) walks the tree for one class: at each node it takes the
# child whose map, times the gradient of the class's logit, has the highest mean. The class activation map (CAM) is
# exact for NesT: its mean is the logit.
#
# The model is a narrow NesT that was trained for minutes on canvases with one bright digit. The images are the first
# ones of two test sets: canvases with four digits, which the model never saw in training, and canvases with one small
# digit.
#
# ## How far to trust a path
#
# A path always ends somewhere, and looks convincing wherever it ends. Here the place of each digit is known, so each
# path can be judged. The first table has the images above, the second has many canvases and three such models. With
# one small digit, blanking the leaf block that a path ends in costs the logit no more than blanking a random one: these
# models write the class of a lone digit into the empty places too ([D28](d28)).

# %% tags=["hide-input"]
page.show(static.exploration_table(explorer))
page.show(grounding.grounding_table(records, grounding.SHOWN))

# %% [markdown]
# ## Live, with an image of your own
#
# The next cell needs a kernel, so this page does not have its output: run the notebook in Jupyter or Colab. The live
# explorer takes images of any size and kind, says how it prepared them, and answers with the same view. The model of
# digits knows ten digits and nothing else, so it sees one of them in any image. For photos take the published ImageNet
# weights: set `model` to `nest_tiny_imagenet` and run all cells. The weights are fetched once.

# %% tags=["remove-output"]
live.LiveExplorer(chosen)

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/explore.ipynb out.ipynb                               # the page as it stands here
#     papermill experiments/explore.ipynb out.ipynb -p model nest_tiny_imagenet   # photos; fetches published weights
#     papermill experiments/explore.ipynb out.ipynb -p model small/nest_narrow -p seed 0
#
# The third command explores a model that was trained here; it needs that run in `runs/` and its data set in `data/`. Nothing trains.
