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
budget: str = "quick"  # smoke, quick, gpu or paper: all show the committed records

# %% tags=["setup"]
from nestbook.notebook import check_parameters
from nestbook.pages import Page
from nestbook.report import loader
from nestbook.report.profiles import show_profile

check_parameters(In)
page = Page("loader", budget)

# %% tags=["hide-input"]
page.show(loader.plot_loader(page.store), loader.make_loader_point(page.store))

# %% [markdown]
# ImageNet is 1.28 million JPEGs. A shared file system is slow at so many small files, and a GPU waits for
# whoever decodes them. `nest shard` packs them into about 1,155 tars, and `nest train` reads either form:
#
#     nest shard imagenet --source data/imagenet --out data/imagenet-shards
#     nest check-shards data/imagenet-shards
#     nest train imagenet/nest_tiny --data-dir data/imagenet-shards
#     nest train imagenet/nest_tiny --data-dir https://host/imagenet-shards
#
# The last may also be `s3://` or `gs://`, with s3fs or gcsfs. The grey bar is torchvision's pipeline, which most users of ImageNet's folders run: `ImageFolder`,
# `RandomResizedCrop`, flip, `ToTensor`, `Normalize`. Crops here are drawn from the same distribution and resized by
# the same filter, within one level of 255: tests hold both against torchvision. The dashed line is what a GPU needs.
#
# ## Numbers

# %% tags=["hide-input"]
page.show(loader.needs_table(page.store), show_profile("loader", page.store.find_benches("loader")))

# %% [markdown]
# ## Sources of images
#
# - The source of `nest shard` is `{train,val}/<class>/<image>`, or `ILSVRC2012_img_train.tar`,
#   `ILSVRC2012_img_val.tar` and `ILSVRC2012_devkit_t12.tar.gz` in one folder. None of them is unpacked. A killed
#   `nest shard` resumes, and the bytes are the same, however many processes make them. `--source data --split train`
#   alone needs no val images.
# - `nest shard` refuses, by name, a tar in which members are missing: cut between two members, with a damaged header,
#   or joined from two by `cat`. Python's tarfile (3.11) reads all of these as whole, and so does WebDataset 1.0.2,
#   which reads by it. WebDataset also passes over images that `tar` stored as hard links, as it does with files that
#   have several names; `nest shard` reads them. Its own shards' names have no dot, as WebDataset splits them at the
#   first one.
# - Classes are numbered in the order of their folders' names as text, as torchvision 0.29.1 does; names that are all
#   whole numbers go by value. timm 1.0.31 sorts naturally: cat2 comes before cat10. For `a/x/1.jpg` torchvision takes
#   the class from the first folder, timm from the last; here such an image is left out with a warning, and a class
#   without any other is an error.
# - Of 16 bits per channel the upper eight are kept, in grey as in colour. Pillow 13 does so with colour, but turns
#   grey values above 255 white. torchvision 0.29.1's `to_tensor` makes int16 of such a grey image, in which values from
#   32,768 on are negative.
# - What is fetched is checked by its SHA-256 and kept in `$NESTLIB_CACHE` (default `~/.cache/nestlib/shards`; a
#   node's own disk is the place). `$NESTLIB_CACHE_GB` limits it (default: nine tenths of what is free).
# - Of object stores, the tests read moto's S3 on this machine (`tests/test_fetching.py`), with workers and without.
#   An emulator of Google's was read once by hand. Amazon's and Google's own have not been tried.
# - Up to one training image in 1,000 may be unreadable (`--set dataset_options.skip_limit=N`). Each is named in
#   the log and in the run's record. A test image may not be unreadable: an accuracy of fewer images is another number.
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
# ## Ways to decode
#
# What was tried for each step. simplejpeg gives Pillow's pixels bit for bit without its copies; its fast modes are
# inexact and gain little. Decoding at half the size, which JPEG allows cheaply, was left aside: a crop must then be
# twice as wide and high as the 224 pixels that are wanted, and few of 500x375 are. torch's resizing of bytes averages
# as Pillow's does.

# %% tags=["hide-input"]
page.show(loader.decoder_table(page.store.find_benches("loader")))

# %% [markdown]
# ## Memory
#
# Ten minutes of streaming through a cache that cannot hold the shards. Memory rises mostly in the first two minutes,
# which "early" in the table leaves out.

# %% tags=["hide-input"]
streamed = page.store.find_benches("streaming")
page.show(loader.plot_streaming(streamed), show_profile("streaming", streamed))

# %% [markdown]
# ## What breaks
#
# Faults of files and servers, struck on purpose. An image that cannot be read leaves its batch one shorter;
# nothing takes its place, or that would count twice.

# %% tags=["hide-input"]
page.show(show_profile("data-faults", page.store.find_benches("data-faults")))

# %% tags=["setup"]
page.save()

# %% [markdown]
# ## Run this page
#
#     papermill experiments/loader.ipynb out.ipynb               # shows the records
#     NESTLIB_DATA=data nest profile loader --device cpu         # times the ways to read, and the decoders
#     nest profile streaming --device cpu                        # ten minutes of streaming
#     python tests/data_faults.py                                # strikes the faults
#
# Each of the last three leaves a record, which the page shows from then on.
