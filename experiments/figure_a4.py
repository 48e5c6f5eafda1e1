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
# # Figure A4: class maps side by side
#
# The paper shows three ImageNet birds under three methods: Grad-CAM++ on ResNet-50, attention rollout on DeiT
# and plain class activation maps on NesT, which it finds to gather on the object and to have less noise. It
# gives no numbers for the picture; {doc}`figure8` has those for the boxes.
#
# Its images are not handed on. The picture here shows the first test canvas of each of three digits, under
# narrow models trained on such canvases in minutes. Each map is scaled to its own range; the box is the one
# that the method's best threshold gives, the dashed one is the true box.
#
#     papermill experiments/figure_a4.ipynb out.ipynb -p dataset tiny_imagenet -p data_dir DATA
#     papermill experiments/figure_a4.ipynb out.ipynb -p dataset imagenet -p data_dir /data/imagenet
#
# The first needs the weights of figure 8's runs in `runs/`, the second published ones, of the classes that the
# paper shows. What they draw is written under `runs/figures/`, as with all parameters but the default ones; those
# images may not be handed on. Which models and boxes stand for the paper's, and why NesT's maps on digits are the
# wrong way round, is in [D30](d30) and [D28](d28).

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke (untrained models, no result), quick (narrow models), gpu or paper
dataset: str = "digits"  # digits, tiny_imagenet or imagenet (published weights)
data_dir: str = ""  # where the data set lies; default data/<name>
count: int = 3  # images, the first of each class
device: str = "auto"  # auto, cpu, cuda or cuda:<index>

# %%
from nestbook.evaluations import classifiers, examples, localizers
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import localization
from nestbook.report.maps import draw_maps

check_parameters(In)

# %% [markdown]
# ## Measure what has no record yet

# %% tags=["remove-output"]
page = Page("figure_a4", budget)
how = {"budget": budget, "dataset": dataset, "data_dir": data_dir or None}
scored = localizers.localize(page.store, device=device, **how)
maps = examples.map_images(page.store, count=count, **how)

# %% [markdown]
# ## Where each method's map is high

# %% tags=["hide-input"]
boxes = localization.best_thresholds(scored)
page.show(draw_maps(maps.images, maps.titles, maps.maps, boxes, maps.boxes, "figure_a4"))

# %% [markdown]
# ## How often the box is right
#
# Over all test images, not the three above.
#
# What the picture shows holds for nearly all of them, as the last column counts: on plain canvases NesT's map
# is low where the digit stands and high in the empty places around it, while its rivals' are high on the digit.
# Our reading: each empty patch sees the digit through the attention of the last hierarchy, which is one block
# over the whole image, and carries its class; the mean over all places then needs no digit. DeiT's rollout,
# which knows no class, gives the best boxes. Whether this is a matter of the plain background, of narrow models
# or of NesT itself, other data must say: {doc}`figure8` has Tiny ImageNet.

# %% tags=["hide-input"]
page.show(localization.localization_table(dataset, scored))

# %%
page.save()
classifiers.stop_at_failures(scored)
