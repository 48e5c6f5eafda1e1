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
# # Table 2: ImageNet, NesT and rivals

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
budget: str = "quick"  # smoke, quick, gpu or paper
imagenet_dir: str = ""  # the folder with val/<wnid>/<image>.JPEG; none: nothing is scored
limit: int = 0  # score so many images, drawn once and for all; 0: every one
device: str = "auto"  # auto, cpu, cuda or cuda:<index>
precision: str = "fp32"  # fp32 or bf16
submit: bool = False  # with budget paper: queue the runs that have no record, on Slurm
nodes: int = 1  # of one run
gpus_per_node: int = 8  # a rank each

# %% tags=["setup"]
from nestbook.benchmarks import bench
from nestbook.evaluations import classifiers
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import cost, table2
from nestbook.sweeps import follow, plans

check_parameters(In)

# %% tags=["setup", "remove-output"]
page = Page("table2", budget)
how = {"data_dir": imagenet_dir, "nodes": nodes, "gpus_per_node": gpus_per_node}
board = follow.follow(plans.plan_table2(), page.store, budget=budget, submit_them=submit, **how)
bench = bench.find_or_run_bench("table2", page.store, budget, device)
benched, where = page.store.find_benches("table2"), {"device": device, "precision": precision}
scored = classifiers.evaluate_table2(page.store, imagenet_dir, limit=limit, **where)

# %% tags=["hide-input"]
seen = page.store, scored, bench, benched
speed, params = table2.plot_table2(*seen)
claims = "imagenet-best", "57-percent", "abstract-83.8"
page.show_point(speed, table2.say_table2(*seen), *claims, measured=cost.say_bench(bench, benched))

# %% [markdown]
# The paper compares fourteen networks on ImageNet, most at 224x224 pixels. In it NesT-B is the most accurate, NesT-S
# equals Swin-B with less than half of its parameters, and NesT-T stands level with Swin-T. The left panel is as the
# paper prints it. The right one has the costs that one bench measured here. Rest the mouse on a mark for its numbers.
#
# The weights of the three NesT models are published, and so are weights of every rival, though not always of the run
# whose figure the paper prints ([D27](d27)). This page scores them where it is given ImageNet's validation images.
#
# ## Numbers

# %% tags=["hide-input"]
page.show(table2.table2(page.store, scored), params, table2.weights_table(scored))

# %% [markdown]
# ## Cost
#
# All rows of one table were timed in turn on one machine, each at its own input size. Speeds of two machines do not
# compare, but their ratios to NesT-T do ([D23](d23)).

# %% tags=["hide-input"]
page.show(*cost.cost_tables("table2", bench, benched))

# %% [markdown]
# ## Does the scoring work?
#
# Two narrow models were trained for minutes on Tiny ImageNet-100. Here they are scored from their weights as the
# published models are. If the path is sound, the scores equal those of the training records. They say nothing about
# the table.

# %% tags=["hide-input"]
names = ["tiny_imagenet/nest_narrow", "tiny_imagenet/deit_narrow"]
rescored = classifiers.evaluate(names, page.store, dataset="tiny_imagenet", device=device)
page.show(table2.table2_own(page.store, rescored))

# %% [markdown]
# ## Training runs
#
# One line per row, with a sign for where its training stands. With budget paper the commands that queue the others
# follow, or with `submit` their jobs.

# %% tags=["hide-input"]
print(board)

# %% [markdown]
# ## Which findings hold
#
# Each verdict follows from records of real runs or from the paper's own numbers. {doc}`claims` has all findings and
# the rule.

# %% tags=["hide-input"]
page.show_claims(*claims)

# %% tags=["setup"]
page.save()
classifiers.stop_at_failures(scored, rescored)

# %% [markdown]
# ## Run this page
#
#     papermill experiments/table2.ipynb out.ipynb                            # costs alone
#     papermill experiments/table2.ipynb out.ipynb -p imagenet_dir /data/imagenet
#     papermill experiments/table2.ipynb out.ipynb -p budget paper -p imagenet_dir /data/imagenet -p submit True
#
# The second command scores the published weights, all models in one pass over the images. The third queues the
# training of every row without a record on a Slurm cluster ({doc}`../book/cluster`). Run again, it shows where the
# runs stand, and their accuracies as records arrive.
#
# `imagenet_dir` holds `val/<wnid>/<image>.JPEG`, one folder per class. image-net.org hands the images out on request.
# The weights come from the Hugging Face hub, through timm, and are checked by their SHA-256.
