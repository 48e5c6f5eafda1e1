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
# # Table A1: the architectures
#
# The paper's table lists widths, heads, layers and blocks of each hierarchy, for CIFAR and for ImageNet. Here it
# stands as the paper prints it, as its authors corrected it, and as nestlib's models count to. The printed
# lower half is upside down and its heads are wrong ([D2](d2)); the printed millions of Table 1 fit
# neither reading of the attention to the last digit ([D1](d1), [D15](d15)).
#
#     papermill experiments/table_a1.ipynb out.ipynb         # seconds

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke, quick, gpu or paper: nothing here trains, so all are alike

# %%
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import table_a1

check_parameters(In)

# %%
printed, corrected, counted = table_a1.table_a1()
page = Page("table_a1", budget)
page.show(printed)

# %% tags=["remove-input"]
page.show(corrected)

# %% tags=["remove-input"]
page.show(counted)

# %%
page.save()
