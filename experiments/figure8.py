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
# # Figure 8: finding objects by class

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
weights: str = "trained"  # whose walks are drawn: trained (here, on digits) or pretrained (on ImageNet)
imagenet_dir: str = ""  # the folder with val/<wnid>/<image>.JPEG and the box files; none: nothing is scored
data_dir: str = ""  # where Tiny ImageNet lies, for rows without a record; default data/tiny_imagenet
limit: int = 0  # score so many of ImageNet's images, drawn once and for all; 0: every one
device: str = "auto"  # auto, cpu, cuda or cuda:<index>


# %% tags=["setup"]
from nestbook.evaluations import classifiers, examples, localizers
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import inspections, localization, tree

check_parameters(In)

# %% tags=["setup", "remove-output"]
page, small = Page("figure8", budget), "smoke" if budget == "smoke" else "quick"
digits = localizers.localize_figure8(page.store, budget=small, device=device)
how = {"dataset": "tiny_imagenet", "data_dir": data_dir or None, "device": device}
tiny = localizers.localize_figure8(page.store, budget=budget, **how)
imagenet = localizers.localize_imagenet(page.store, imagenet_dir, limit=limit, device=device)
walks = examples.walk_figure8(weights, imagenet_dir, budget=budget)

# %% tags=["hide-input"]
what = walks.images, walks.traversal, walks.class_names, "figure8_walks"
beside = localization.printed_beside(imagenet, tiny)
page.show_point(
    tree.draw_walks(*what, hits=walks.hits, beside=beside),
    localization.say_figure8(budget, walks.hits, imagenet, tiny),
    "lighter", "cam", measured=localization.say_measured(tiny),
)

# %% [markdown]
# On the left the paper shows GradCAT's walks of NesT-S on four ImageNet images. On the right it compares class maps as
# a way to find objects: a map is cut at a threshold, and the box around its largest connected part is right if it
# covers the object (IoU of 0.5) and the class is right. NesT with plain class activation maps (CAM) comes out best. §
# marks the rows that the paper's authors have run; they cite the other two.
#
# Here the walks are those of the predicted class on the first four test canvases with one digit. A dashed frame is the
# quadrant of the first step, a solid frame is the leaf block. A walk is a hit if its leaf block shows the digit;
# {doc}`figure3` counts this over many canvases. The last column of the table is of narrow models ([D30](d30)).
#
# Two things make such tables look better than they are. The paper takes, for each method, the threshold that is best on
# the boxes that score it; "held out" below is the fair way. And one box needs no map: the whole image. Its error stands
# in each table.
#
# ## Numbers

# %% tags=["hide-input"]
page.show(localization.figure8(imagenet))

# %% [markdown]
# ## The same methods, trained here
#
# Tiny ImageNet-100 has 5,000 validation images with boxes. At `quick` all rows are narrow relatives of about equal
# cost, six epochs each on a CPU: far from converged. ADL and ACoL, which the paper cites, are trained too. The second
# table is of lone digits anywhere on a plain canvas. Both say what such small models do, not what the paper's do.
#
# The third table is of Tiny ImageNet-100 itself. A box around the whole image finds every second object: no method
# starts from zero. A box of zero width or height is counted as one pixel wide or high.

# %% tags=["hide-input"]
page.show(localization.localization_table("tiny_imagenet", tiny))
page.show(localization.localization_table("digits", digits, explain=False))
page.show(inspections.tiny_table(page.store))

# %% [markdown]
# ## What the threshold does
#
# Each curve is the error at each threshold, with the best one marked. Where a curve is narrow, it matters that the
# threshold is chosen on the boxes that score it. At 0 the box is the whole image. The table says what the boxes cost,
# and how often the contours of [wsolevaluation](https://github.com/clovaai/wsolevaluation) would give another box.

# %% tags=["hide-input"]
curves = localization.plot_localization({"tiny_imagenet": tiny, "digits": digits}, "figure8")
page.show(curves, localization.boxes_table(tiny))

# %% tags=["setup"]
page.save()
classifiers.stop_at_failures(imagenet, tiny, digits)

# %% [markdown]
# ## Run this page
#
#     papermill experiments/figure8.ipynb out.ipynb                        # loads the records that there are
#     papermill experiments/figure8.ipynb out.ipynb -p imagenet_dir /data/imagenet -p weights pretrained
#     nest explain figure8 --dataset tiny_imagenet --data-dir DATA/tiny_imagenet  # scores trained models; leaves records
#
# The second command scores the paper's own table with published weights and draws NesT-S's walks. `imagenet_dir` holds
# `val/<wnid>/`, and the box files in `bbox/val` or as image-net.org's archives unpack. How images are read, and which
# models stand where the paper does not say, is [D30](d30).
