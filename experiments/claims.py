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
# # Which claims hold

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
budget: str = "quick"  # smoke (writes no figure) or quick; nothing is run either way

# %% tags=["setup"]
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import claims

check_parameters(In)
page = Page("claims", budget)

# %% tags=["hide-input"]
page.show_point(claims.plot_claims(page.store), claims.say_claims(page.store), *claims.CLAIM_IDS)

# %% [markdown]
# Each sentence of the paper that states a finding is asked in up to three ways. No answer speaks for another:
#
# - **Its own numbers**: does the sentence hold in the numbers that the paper itself prints?
# - **Paper's data**: do our runs of the paper's models, on its data and at its length, show it?
# - **Small scale**: do narrow models show it, which two cores train on a part of CIFAR-10 ([D38](d38))? Accuracies
#   as such, larger models, CIFAR-100 and ImageNet cannot be asked there.
#
# Quick runs on digits ([D19](d19)) decide nothing here, nor do runs that chose learning rates or compare precisions.
#
# ## What is contradicted
#
# These sentences do not hold, by the source in column three.

# %% tags=["hide-input"]
page.show(claims.contradictions_table(page.store))

# %% [markdown]
# ## What narrow models say
#
# Each sentence that narrow models have been asked gets one row per difference: a mark with its interval. The grey area
# is where the sentence would hold. It is supported where the intervals of all its rows lie on grey, and contradicted
# where one lies wholly off it.

# %% tags=["hide-input"]
page.show(claims.plot_forest(page.store))

# %% [markdown]
# ## All sentences

# %% tags=["hide-input"]
page.show(claims.claims_table(page.store))

# %% [markdown]
# ## How a sentence is decided
#
# No verdict is written by hand. A verdict from runs needs several seeds on both sides. Its interval adds two parts
# in squares: Welch's interval over seeds, and the draw of the test images, image by image where the records keep
# which images were right. The comparisons of one sentence share one allowance for error. The sentence is *supported*
# where the whole interval lies on its side, *contradicted* where it lies wholly on the other side, else *undecided*;
# the table's sources say how many seeds would decide it. The paper's numbers are single runs without a spread, so
# they are compared as printed.
#
# Margins for words such as "far" or "similar" are ours. They stand in `experiments/nestbook/claims/catalog.py`.

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/claims.ipynb out.ipynb      # judges the records that there are
#     nest sweep --all --budget small --data-dir DATA/cifar10  # the runs of narrow models; --board: the state
#
# The notebook trains nothing. Records come from `nest train` and `nest sweep`; run the page again when there are new
# ones.
