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
# # Table 1: CIFAR, NesT against its peers
#
# The paper compares fifteen networks on CIFAR-10 and CIFAR-100. NesT leads every other transformer of
# its size on both; on CIFAR-100 the two convnets are ahead of NesT-T. Its authors trained the rival
# transformers, but for CCT-7/3x1, and say 300 epochs from random weights. For each row this page shows
# the paper's figures and our records of real runs where there are any; a run of your own adds what your
# machine measures. What has not been run says so. What each row is here, and how it is trained, stands
# on the page {doc}`peers`.
#
# First stand seven families at equal size, trained here on 10,000 images of CIFAR-10: what two cores
# can answer of the comparison ([D38](d38)). Quick runs on the embedded digits check that every
# architecture trains; they say nothing about CIFAR ([D19](d19)).
#
#     papermill experiments/table1.ipynb out.ipynb              # quick: minutes on two cores
#     nest sweep table1 --budget small --data-dir DATA          # CIFAR-10: narrow models, hours of two cores
#     papermill experiments/table1.ipynb out.ipynb -p budget gpu -p dataset cifar10 -p seeds 1
#
# At `small`, `gpu` and `paper` it trains every row that has no record yet, at the latter two for
# hundreds of epochs each: many GPU days in all. `nest train` runs one row, `nest bench table1` times all of them.

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke, quick, small, gpu or paper
dataset: str = "digits"  # digits (smoke, quick), cifar10 (small, gpu, paper) or cifar100 (gpu, paper)
seed: int = 0  # the first seed
seeds: int = 3  # how many runs of each row
device: str = "auto"  # auto, cpu, cuda or cuda:<index>
data_dir: str = ""  # where the data set lies; default data/<name>
processes: int = 2  # runs side by side on a CPU

# %%
from nestbook.benchmarks import bench
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import table1
from nestbook.report.cost import cost_table, speed_table
from nestbook.sweeps import plans, runner

check_parameters(In)

# %% [markdown]
# ## Run what has no record yet
#
# A second run of this notebook finds its records and trains nothing.

# %% tags=["remove-output"]
page = Page("table1", budget)
store = page.store
plan = plans.plan_table1(budget, dataset, range(seed, seed + seeds))
trained = runner.collect(plan, store, processes=processes, device=device, data_dir=data_dir or None)
bench = bench.find_or_run_bench("table1", store, budget, device)
benched = store.find_benches("table1")

# %% [markdown]
# ## Seven families at equal size
#
# Narrow models on the same 10,000 training images and the whole test set; only the model and its
# learning rate differ, and convnets are trained by SGD. Each rate is the best of three on training
# images held out.

# %% tags=["hide-input"]
page.show(table1.table1_small(store), table1.rates_table(store))

# %% [markdown]
# ## The paper's rows
#
# To be fair to CCT-7/3x1: the figures printed for it are near those its authors gave for 200 epochs in
# 2021 (94.78 and 77.05 %). By their own recipe they now report 96.53 and 80.92 % at 300 epochs, above
# NesT-T with fewer parameters ([D25](d25)).

# %% tags=["hide-input"]
page.show(table1.table1(store), table1.table1_real(store, ["cifar10/nest_narrow"]))

# %% [markdown]
# ## Accuracy against cost
#
# Left as the paper prints it, right with the costs that one bench measured. Rest the mouse on a mark for
# its figures and their source.

# %% tags=["hide-input"]
page.show(table1.plot_table1(store, bench, benched))

# %% [markdown]
# ## Cost
#
# Rows are timed in turn; the last column names the machine. Figures of two machines are not comparable
# ([D23](d23)), ratios between rows of one machine are: they stand in the second table.

# %% tags=["hide-input"]
page.show(cost_table("table1", bench, benched))

# %% tags=["hide-input"]
page.show(speed_table("table1", bench, benched))

# %% [markdown]
# ## Quick runs on the embedded digits

# %% tags=["hide-input"]
page.show(table1.table1_quick(trained))

# %%
page.save()
