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
#
# NesT's blocks form a tree. At its root stands the whole image, under it the four quadrants, and so on down to
# the blocks of the first hierarchy. GradCAT (section 3.2, Algorithm 1) walks it for a class that one asks for:
# at every node it goes on to the child whose map, times the gradient of the class's logit, is highest on average.
# Beside the path stands the class activation map, which for NesT is exact: its mean is the logit.

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke, quick, gpu or paper; nothing trains; smoke: random weights
model: str = "digits/nest_planted"  # a NesT's recipe, or nest_tiny_imagenet (a network)
seed: int = 2  # of the recipe's run
images: int = 6  # how many prepared images

# %%
from nestbook.evaluations import planted
from nestbook.explorer import live, static, subject
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import grounding

check_parameters(In)

# %% [markdown]
# ## Choose an image and a class
#
# This works in the page itself, without a kernel. Choose an image, then a class; *Back* and *Next* walk the tree
# and say what each step compares. Rest the pointer on a block to find it in the tree, or on a node to find it in
# the image. The paths of the digits on a canvas are framed from the start; *Keep path* adds another class's to
# them, *Kept* takes one away.
#
# The model is a narrow NesT that was trained for minutes on canvases with one bright digit. The images are the
# first ones of two test sets, none picked by hand: canvases with four digits, which the model has never seen in
# training, and canvases with one small digit.

# %% tags=["hide-input"]
chosen = subject.load_subject(model, seed=seed, num_images=images, budget=budget)
explorer = subject.show_prepared(chosen)
explorer

# %% [markdown]
# ## How far to trust it
#
# A path always ends somewhere, and looks convincing wherever it ends. Here the truth is planted, so it can be
# judged: these are the paths of the images above.

# %% tags=["hide-input"]
page = Page("explore", budget)
page.show(static.exploration_table(explorer))

# %% [markdown]
# Six images prove nothing; a record of three such models on many canvases says more. Asked for one of four
# digits, GradCAT and CAM find it far more often than chance. With one small digit on the canvas GradCAT, as it is
# set here, finds the quadrant no more often than chance and the leaf block somewhat more, CAM's maximum the quadrant
# more often, and blanking the leaf block costs the logit no more than blanking a random one: these models write the
# class of a lone digit into the empty places too ([D28](d28)).

# %% tags=["hide-input"]
ways = ["GradCAT, positive, place, normed", "CAM"]
page.show(grounding.grounding_table(planted.find_planted(page.store), ways))

# %% [markdown]
# ## Live, with a picture of your own
#
# The next cell needs a kernel, so this page leaves its output out: run the notebook in Jupyter or Colab. It takes
# pictures of any size and kind, says how it prepared them, and answers with the same view. The digits' model
# knows ten digits and nothing else: it will see one of them in any picture. Photos are for the published
# ImageNet weights, which are fetched once:
#
#     papermill experiments/explore.ipynb out.ipynb -p model nest_tiny_imagenet
#
# or set `model` above and run all cells.

# %% tags=["remove-output"]
live.LiveExplorer(chosen)

# %%
page.save()
