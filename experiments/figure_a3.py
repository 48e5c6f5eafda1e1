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
#
# The paper's second view of figure 7's generators: how sure Inception-v3 is of each sample's class, and how many
# classes all samples together have. At most it is the number of classes, at least 1. The curves print no numbers.
#
# The same formula on another network's logits is called classifier score here and compares with no printed
# inception score ([D35](d35)). On the digits the network is a narrow classifier of digits, so 10 would be the most.
# Records are those of {doc}`figure7`, which trains and scores what is missing; this page only reads them. What
# stands here so far are narrow runs on digits, **no result of the paper**.
#
#     papermill experiments/figure_a3.ipynb out.ipynb
#     papermill experiments/figure_a3.ipynb out.ipynb -p budget gpu     # shows what figure 7's runs left

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # quick (digits), gpu (Tiny ImageNet) or paper (ImageNet): whose records; nothing trains
network: str = ""  # digits, lite0, lite0_64 or inception; default by data set

# %%
from nestbook.evaluations import generators
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import generation

check_parameters(In)

# %%
page = Page("figure_a3", budget)
scored = generators.find_figure7(page.store, budget, network)
page.show(generation.plot_figure_a3(scored))

# %% tags=["hide-input"]
page.show(generation.generation_table(scored, "figure_a3"))

# %%
page.save()
