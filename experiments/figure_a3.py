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
# # Figure A3: the inception score

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
budget: str = "quick"  # quick (digits), gpu (Tiny ImageNet) or paper (ImageNet): whose records; nothing trains
network: str = ""  # digits, lite0, lite0_64 or inception; default by data set

# %% tags=["setup"]
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import generation, generation_pictures

check_parameters(In)

# %% tags=["setup", "remove-output"]
page = Page("figure_a3", budget)
found = generation.find_scores(page.store, budget, network)

# %% tags=["hide-input"]
page.show_point(
    generation_pictures.plot_figure_a3(found), generation.say_figure_a3(found), "generator-fid"
)

# %% [markdown]
# This is the paper's second view of the generators of {doc}`figure7`. The inception score says how sure Inception-v3 is of the
# class of each sample, and how many classes all samples together have. It lies between 1 and the number of classes.
# The paper's curves print no numbers.
#
# The same formula on another network's logits is called classifier score here. It does not compare with any printed
# inception score ([D35](d35)). On digits the network is a narrow classifier of ten digits, so the highest possible
# score is 10. The narrow runs on digits are **no result of the paper**.
#
# ## Numbers

# %% tags=["hide-input"]
page.show(*generation.generation_tables(found, "figure_a3"))

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/figure_a3.ipynb out.ipynb                   # loads the records that there are
#     papermill experiments/figure_a3.ipynb out.ipynb -p budget gpu     # shows what figure 7's runs left
#
# The page only reads records. {doc}`figure7` trains and scores what has no record.
