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
# # Table 2: ImageNet, NesT against its peers
#
# The paper compares fourteen networks on ImageNet, most at 224x224 pixels. NesT-B leads them with 83.8 %
# at 68 million parameters, NesT-S equals Swin-B with less than half of its parameters, and NesT-T
# stands level with Swin-T. The weights of the three NesT models are published, and so are weights of
# every rival, though not always of the run whose figure the paper prints ([D27](d27)).
#
# This notebook shows the paper's figures beside our records. A run of your own adds what your machine
# measures. Given ImageNet's validation images it scores the published weights, all models in one pass
# over the images:
#
#     papermill experiments/table2.ipynb out.ipynb                            # costs alone
#     papermill experiments/table2.ipynb out.ipynb -p imagenet_dir /data/imagenet
#     papermill experiments/table2.ipynb out.ipynb -p budget paper -p imagenet_dir /data/imagenet -p submit True
#
# The last one trains: it queues what has no record on a Slurm cluster ({doc}`../book/cluster`). Executed again,
# the notebook shows where the runs stand, and their accuracies as records arrive.
#
# `imagenet_dir` holds `val/<wnid>/<image>.JPEG`, one folder a class. image-net.org hands the images out
# on request; the weights come from the Hugging Face hub, through timm, checked by their SHA-256.

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke, quick, gpu or paper
imagenet_dir: str = ""  # the folder with val/<wnid>/<image>.JPEG; none: nothing is scored
limit: int = 0  # score so many images, drawn once and for all; 0: every one
device: str = "auto"  # auto, cpu, cuda or cuda:<index>
precision: str = "fp32"  # fp32 or bf16
submit: bool = False  # with budget paper: queue the runs that have no record, on Slurm
nodes: int = 1  # of one run
gpus_per_node: int = 8  # a rank each

# %%
from nestbook.benchmarks import bench
from nestbook.evaluations import classifiers
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import cost, table2
from nestbook.sweeps import follow, plans

check_parameters(In)

# %% [markdown]
# ## Measure what has no record yet

# %% tags=["remove-output"]
page = Page("table2", budget)
how = {"data_dir": imagenet_dir, "nodes": nodes, "gpus_per_node": gpus_per_node}
board = follow.follow(plans.plan_table2(), page.store, budget=budget, submit_them=submit, **how)
bench = bench.find_or_run_bench("table2", page.store, budget, device)
benched, where = page.store.find_benches("table2"), {"device": device, "precision": precision}
scored = classifiers.evaluate_table2(page.store, imagenet_dir, limit=limit, **where)

# %% [markdown]
# ## Accuracy

# %% tags=["hide-input"]
page.show(table2.table2(page.store, scored))

# %% [markdown]
# ## Runs of our own
#
# A row's sign says where its training stands. With budget paper the commands that queue the others follow, or
# with `submit` the jobs.

# %% tags=["hide-input"]
print(board)

# %% [markdown]
# ## Accuracy against cost
#
# Left as the paper prints it, right with the costs that one bench measured. Rest the mouse on a mark for
# its figures and their source.

# %% tags=["hide-input"]
page.show(table2.plot_table2(page.store, scored, bench, benched))

# %% [markdown]
# ## The same path on models trained here
#
# Two narrow models, trained for minutes on Tiny ImageNet-100 and scored from their weights as the published
# ones are. If the path is sound, the scores equal those of the training records. They say nothing about the
# table.

# %% tags=["hide-input"]
names = ["tiny_imagenet/nest_narrow", "tiny_imagenet/deit_narrow"]
rescored = classifiers.evaluate(names, page.store, dataset="tiny_imagenet", device=device)
page.show(table2.table2_own(page.store, rescored))

# %% [markdown]
# ## Cost
#
# Rows are timed in turn; the last column names the machine. Figures of two machines are not comparable
# ([D23](d23)), ratios between rows of one machine are: they stand in the second table.

# %% tags=["hide-input"]
page.show(cost.cost_table("table2", bench, benched), cost.speed_table("table2", bench, benched))

# %%
page.save()
classifiers.stop_at_failures(scored, rescored)
