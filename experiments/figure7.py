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
# # Figure 7: NesT generates images

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
budget: str = "quick"  # smoke, quick (digits), gpu (Tiny ImageNet) or paper (ImageNet)
rows: str = "NesT"  # which to train where records are missing: NesT, another row of the table, or all
network: str = ""  # digits, lite0, lite0_64 or inception (a network); default by data set
seeds: int = 3  # how many runs of each row
data_dir: str = ""  # where Tiny ImageNet or ImageNet lies; default data/<name>
device: str = "auto"  # auto, cpu, cuda or cuda:<index>

# %% tags=["setup"]
from nestbook.benchmarks import bench
from nestbook.evaluations import generators, samples
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import generation, generation_pictures, samples as sheets
from nestbook.sweeps import plans, runner
check_parameters(In)

# %% tags=["setup", "remove-output"]
page, how = Page("figure7", budget), {"device": device, "data_dir": data_dir or None}
plan = plans.plan("figure7", budget, range(seeds), only="" if rows == "all" else rows)
new = runner.collect(plan, page.store, **how), generators.score_figure7(plan, page.store, network=network, **how)
trained = runner.load_plan(plans.plan("figure7", budget, range(seeds)), page.store)
benches = bench.find_or_run_bench("figure7", page.store, budget, device), page.store.find_benches("figure7")
found, run = generation.find_scores(page.store, budget, network), generation.find_drawn_bench(*benches)

# %% tags=["hide-input"]
page.show_point(
    generation_pictures.plot_figure7(found, run),
    generation.say_figure7(found, run),
    "generator-fid", "pixel-shuffle", measured=generation.say_rounds(run),
)

# %% [markdown]
# The paper (section 4.5) trains three generators on ImageNet at 64x64, without classes. Its figure compares FID over
# training steps (left), ways to turn one block into four (middle), and parameters and throughput (right). The figure
# prints no numbers. The text says that NesT converges fastest and ends best, pixel shuffle (PS) is the best un-sampling by
# a large margin, and NesT has 8 times the throughput of TransGAN. It does not name the GPU.
#
# Parameters and throughput are measured here at the paper's size. NesT and TransGAN have equal parameters; TransGAN
# attends over the whole plane of 4,096 places. That is slow where a library writes the matrix of attention to memory,
# as libraries did in 2021, so the ratio of their speeds can differ between machines and libraries. The narrow models
# on digits show that the code trains. They are **no result of the paper**: other data, another size, other features
# ([D35](d35), [D19](d19)). [D31](d31) to [D34](d34) list what the paper leaves open.
#
# A point of a curve scores the samples that a run drew at that step. They are fewer than those of a final score, so
# a curve does not end at its final score. A line is the mean of several runs, within a band from the least to the
# greatest. In the last panel a ring is one run.
#
# ## Numbers

# %% tags=["hide-input"]
page.show(*generation.generation_tables(found, "figure7"), generation.generators_table(*benches))
page.show(generation.runs_table(trained))

# %% [markdown]
# ## The same run, judged by another network
#
# A distance of this kind is one network's opinion. EfficientNet-Lite0 learned photos of ImageNet, not digits. By its
# features the same samples can move away from the data while they come nearer by the features of a classifier of
# digits.

# %% tags=["hide-input"]
other = generators.find_figure7(page.store, "quick", "lite0_64")
page.show(*generation.opinions_tables(found.narrow, other))

# %% [markdown]
# ## What the decoder draws
#
# The first 64 samples of one run, without any selection. Below them are walks through the noise. A generator that
# only repeats stored images would jump from one to the next.

# %% tags=["hide-input"]
recipe = next(iter(plan.values()))[0]
drawn = samples.draw_samples(recipe, page.store)
page.show(sheets.draw_grid(drawn, "figure7_samples"), sheets.draw_walk(drawn, "figure7_walk"))

# %% [markdown]
# ## Does it copy its training images?
#
# Each of eight samples stands above its nearest training image. The table compares their distances with those of
# real images that the generator was not trained on. A generator that copies would be far below them.

# %% tags=["hide-input"]
nearest = samples.compare_with_training(recipe, page.store, data_dir=data_dir or None)
page.show(sheets.draw_neighbours(nearest, "figure7_nearest"), sheets.neighbours_table(nearest))

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/figure7.ipynb out.ipynb                        # loads records, or trains narrow NesT
#     nest sweep figure7                                                   # all narrow rows, three seeds; hours
#     nest sweep figure7 --budget gpu --only NesT --data-dir DATA/tiny_imagenet  # one row on Tiny ImageNet; a GPU
#     nest sweep figure7 --budget paper --data-dir IMAGENET                # ImageNet, whole images at 64x64
#     nest score tiny_imagenet/gan_nest --data-dir DATA/tiny_imagenet --network inception
#     papermill experiments/figure7.ipynb out.ipynb -p budget gpu -p rows all -p data_dir DATA/tiny_imagenet
#
# The last command trains and scores every row without a record, 50,000 steps each: many GPU days in all.
