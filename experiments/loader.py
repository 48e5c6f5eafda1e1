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
# # Feeding a GPU from ImageNet
#
# ImageNet is 1.28 million JPEGs. A shared file system is slow at so many small files, and a GPU waits for
# whoever decodes them. `nest shard` packs them into about 1,155 tars; `nest train` reads either.
#
#     nest shard imagenet --source data/imagenet --out data/imagenet-shards   # or a folder with the official tars
#     nest check-shards data/imagenet-shards
#     nest train imagenet/nest_tiny --data-dir data/imagenet-shards
#     nest train imagenet/nest_tiny --data-dir https://host/imagenet-shards   # or s3://, gs:// (s3fs, gcsfs)
#
# - The source is `{train,val}/<class>/<image>`, or `ILSVRC2012_img_train.tar`, `ILSVRC2012_img_val.tar` and
#   `ILSVRC2012_devkit_t12.tar.gz` in one folder; none is unpacked. A killed `nest shard` goes on where it
#   stopped, and the bytes are the same, however many processes make them. `--source data --split train` alone
#   needs no val images.
# - What is fetched is checked by its SHA-256 and kept in `$NESTLIB_CACHE` (default `~/.cache/nestlib/shards`; a
#   node's own disk is the place), of `$NESTLIB_CACHE_GB` at most (default: nine tenths of what is free).
# - Of object stores, the tests read moto's S3 on this machine (`tests/test_fetching.py`), with workers and without;
#   an emulator of Google's was read once by hand. Amazon's and Google's own have not been tried.
# - Up to one training image in 1,000 may be unreadable (`--set dataset_options.skip_limit=N`); each is named in
#   the log and in the run's record. A test image may not: an accuracy of fewer images is another number.
#
# ## Which format, and why
#
# The shards are plain tars in WebDataset's form, with an index of offsets and checksums beside them. Three
# libraries were weighed by what counts when the number of GPUs may change within a run:
#
# | | exact epochs | resume within an epoch | same order for any number of ranks | beside this project |
# |---|---|---|---|---|
# | litdata 0.2.76 | yes | yes, at the same batch size | no: of 50 global batches by one rank and by two none was equal, when it was tried here | installs |
# | mosaicml-streaming 0.13.0 | yes | yes | yes | no: wants transformers < 5 and numpy < 2.2; no release since July 2025 |
# | WebDataset 1.0.2 | no: its author advises draws with replacement | left to its user | no | installs; its indexed reader, `wids`, is gone since 0.2.111 |
# | tars read by index | yes | yes | yes | 250 lines |
#
# The trainer's order is a function of seed and epoch, cut off at the step that is done and shared out among the
# ranks. Read by index, tars need nothing more. The order is shuffled so that reading stays near: shards in
# random order, cut into 16 streams, each shuffled within windows of four shards; up to 16 nodes read shards of
# their own in an epoch.
#
# ## How fast
#
#     NESTLIB_DATA=data nest profile loader --device cpu

# %% tags=["colab", "remove-cell"]
from importlib.util import find_spec

repository = ""  # this project's address, as in _config.yml; Colab clones it
if find_spec("nestlib") is None and repository:
    get_ipython().system(f"git clone --depth 1 {repository} nest && pip install -q ./nest")
    get_ipython().run_line_magic("cd", "nest/experiments")
assert find_spec("nestlib"), "no nestlib here: clone its repository, pip install it, run this again"

# %% tags=["parameters"]
budget: str = "quick"  # smoke, quick, gpu or paper: all show the committed records

# %%
from nestbook.notebook import check_parameters
from nestbook.report import profiles, tables
from nestbook.report.loader import decoder_table, plot_streaming
from nestlib import records

check_parameters(In)
store = records.open_store()

# %% [markdown]
# torchvision's pipeline is what most users of ImageNet's folders run: `ImageFolder`, `RandomResizedCrop`, flip,
# `ToTensor`, `Normalize`. Crops here are drawn from the same distribution and resized by the same filter, within one level of 255:
# tests hold both against torchvision. Rest the mouse on a number for its source.

# %% tags=["hide-input"]
loader = profiles.show_profile("loader", store.find_benches("loader"))
loader

# %% [markdown]
# What was tried for each step. simplejpeg gives Pillow's pixels bit for bit without its copies; its fast modes are
# inexact and gain little. Decoding at half the size, which JPEG allows cheaply, was left aside: a crop must then be
# twice as wide and high as the 224 pixels that are wanted, and few of 500x375 are. torch's resizing of bytes averages as Pillow's does.

# %% tags=["hide-input"]
decoders = decoder_table(store.find_benches("loader"))
decoders

# %% [markdown]
# ## Memory
#
# Ten minutes of streaming through a cache that cannot hold the shards: `nest profile streaming --device cpu`. What
# rises, rises mostly in the first minutes, before those that are called early here.

# %% tags=["hide-input"]
streaming = profiles.show_profile("streaming", store.find_benches("streaming"))
display(streaming, plot_streaming(store.find_benches("streaming")))

# %% [markdown]
# ## What breaks
#
# Faults of files and servers, struck on purpose: `python tests/data_faults.py`. An image that cannot be
# read leaves its batch one shorter; nothing takes its place, or that would count twice.

# %% tags=["hide-input"]
faults = profiles.show_profile("data-faults", store.find_benches("data-faults"))
faults

# %%
tables.save("loader", budget, [loader, decoders, streaming, faults])
