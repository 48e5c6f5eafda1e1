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
budget: str = "quick"  # smoke (untrained models, no result), quick (narrow models), gpu or paper
dataset: str = "digits"  # digits, tiny_imagenet or imagenet (published weights)
data_dir: str = ""  # where the data set lies; default data/<name>
count: int = 3  # images, the first of each class
device: str = "auto"  # auto, cpu, cuda or cuda:<index>


# %% tags=["setup"]
from nestbook.evaluations import classifiers, examples, localizers
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import localization
from nestbook.report.maps import draw_maps

check_parameters(In)

# %% tags=["setup", "remove-output"]
page = Page("figure_a4", budget)
how = {"budget": budget, "dataset": dataset, "data_dir": data_dir or None}
scored = localizers.localize(page.store, device=device, **how)
maps = examples.map_images(page.store, count=count, **how)

# %% tags=["hide-input"]
boxes = localization.best_thresholds(scored)
page.show_point(
    draw_maps(maps.images, maps.titles, maps.maps, boxes, maps.boxes, "figure_a4"),
    localization.say_figure_a4(dataset, scored, examples.FIGURE_A4),
    measured=localization.say_measured(scored),
)

# %% [markdown]
# The paper shows three ImageNet birds under three methods: Grad-CAM++ on ResNet-50, attention rollout on DeiT, and plain
# class activation maps on NesT. It finds that NesT's maps lie on the object and have less noise. It gives no numbers
# for this picture; {doc}`figure8` has those for boxes.
#
# The paper's images are not published. The picture here shows the first test canvas of each of three digits, under
# narrow models that were trained on such canvases for minutes. Each map is scaled to its own range. The orange box is
# the one at the method's best threshold, the dashed box is the true one. Which models and boxes stand for the paper's
# is in [D30](d30).
#
# Our reading of NesT's maps ([D28](d28)): each empty patch sees the digit through the attention of the last hierarchy,
# which is one block over the whole image, and carries the digit's class. So the mean over the map gives the class even
# without the places on the digit. Whether this comes from the plain background, from narrow models or from NesT itself,
# other data must say: {doc}`figure8` has Tiny ImageNet.
#
# ## Numbers
#
# Over all test images, not only the three above. DeiT's rollout does not depend on the class.

# %% tags=["hide-input"]
page.show(localization.localization_table(dataset, scored))

# %% tags=["setup"]
page.save()
classifiers.stop_at_failures(scored)

# %% [markdown]
# ## Run this page
#
#     papermill experiments/figure_a4.ipynb out.ipynb
#     papermill experiments/figure_a4.ipynb out.ipynb -p dataset tiny_imagenet -p data_dir DATA/tiny_imagenet
#     papermill experiments/figure_a4.ipynb out.ipynb -p dataset imagenet -p data_dir /data/imagenet
#
# The first command makes this page. The second needs the weights of figure 8's runs in `runs/`. The third draws the
# classes that the paper shows, with published weights, whatever the budget. All write to `runs/figures/`. Pictures of
# Tiny ImageNet and ImageNet may not be passed on.
