"""The measurements of the loader, on images that every checkout has or finds; each leaves a record.

JPEGs of about ImageNet's size are cut from scikit-image's photos; Tiny ImageNet is measured where
it lies in the data folder.
"""

import http.server
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image

from nestbook.benchmarks.loader_rates import (
    BATCH,
    decoder_times,
    loading_rates,
    our_batches,
    our_bytes,
    streaming_memory,
    torchvision_batches,
)
from nestlib.data.datasets import load_dataset
from nestlib.data.layouts import TINY_PACK
from nestlib.data.shard_maker import make_shards
from nestlib.project import data_root

PHOTOS = ("astronaut", "coffee", "rocket", "hubble_deep_field", "retina", "immunohistochemistry")
PHOTO_SIZE = 500, 375  # width, height: what most of ImageNet's files have
# Of a file: the train tar's 148 GB over its 1,281,167 images. A decoder's time follows the bytes,
# so the quality is the one whose files come nearest to that.
PHOTO_BYTES = 115_000
PHOTO_QUALITY = 99
CLASSES = 10
WORKERS = 2
PHOTO_COUNT, TINY_COUNT = 2048, 5000  # of an epoch; workers start anew in each
ROUNDS = 5
STREAM_SECONDS = 600
STREAM_COUNT = 256  # few, for many epochs in the time: each starts workers anew
STREAM_SHARD_MB = 2
STREAM_CACHE_MB = 10  # a third of the shards: it is emptied and filled all the time
TORCHVISION = "torchvision ImageFolder"


def measure_loader(
    progress: bool, *, rounds: int = ROUNDS, photos: int = PHOTO_COUNT, tiny: int = TINY_COUNT,
    decoded: int = 48,
) -> dict:  # fmt: skip
    """Images/s decoded and augmented by WORKERS processes, against torchvision's pipeline.

    Returns:
        JSON-ready: {"settings", "sets": {title: {"images", "mean_bytes", "rates"}}, "decoders"}.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        load = os.getloadavg()[0]
        sources = {"photos": (write_photos(root / "photos", photos), 224)}
        if (found := _find_tiny()) is not None:
            sources["tiny"] = (_unpack_tiny(found, root / "tiny", tiny), 64)
        sets = {
            name: _measure_set(tree, size, root / f"{name}-shards", rounds, progress)
            for name, (tree, size) in sources.items()
        }
        files = [path.read_bytes() for path in sorted((root / "photos").rglob("*.jpg"))[:decoded]]
        decoders = decoder_times(files, rounds=rounds)
    settings = {
        "workers": WORKERS, "batch_size": BATCH, "rounds": rounds, "cpus": os.cpu_count(),
        "load_before": round(load, 1), "photo_size": PHOTO_SIZE,
        "photo_sources": list(PHOTOS),
    }  # fmt: skip
    return {"settings": settings, "sets": sets, "decoders": decoders}


def _measure_set(tree: Path, size: int, shards: Path, rounds: int, progress: bool) -> dict:
    make_shards("imagenet", tree, shards, splits=["train"], shard_mb=16, progress=progress)
    options = {"partial": True, "num_workers": WORKERS, "image_size": size}
    folder, sharded = (
        load_dataset("imagenet", "train", data_dir=place, **options) for place in (tree, shards)
    )
    contenders = {
        TORCHVISION: partial(torchvision_batches, folder),
        "folder": partial(our_batches, folder),
        "shards": partial(our_batches, sharded),
        "shards, bytes for a GPU": partial(our_bytes, sharded),
    }
    with serve_folder(shards) as url:
        contenders["shards over http, new to the cache"] = partial(_fetched, url, options)
        rates = loading_rates(contenders, len(folder), rounds=rounds, progress=progress)
    mean_bytes = sum(folder.sizes()) / len(folder)
    return {"images": len(folder), "image_size": size, "mean_bytes": mean_bytes, "rates": rates}


def _fetched(url: str, options: dict, epoch: int) -> Iterator:
    """An epoch with an empty cache."""
    with _cache():
        yield from our_batches(load_dataset("imagenet", "train", data_dir=url, **options), epoch)


@contextmanager
def _cache(**values: str) -> Iterator[None]:
    """An empty cache, and other environment variables, for a while."""
    with (
        tempfile.TemporaryDirectory() as folder,
        patch.dict(os.environ, {"NESTLIB_CACHE": folder, **values}),
    ):
        yield


def measure_streaming(
    progress: bool, *, seconds: float = STREAM_SECONDS, every: float = 5.0,
    photos: int = STREAM_COUNT,
) -> dict:  # fmt: skip
    """Memory, looked at `every` seconds, while shards come over HTTP through too small a cache."""
    limit = {"NESTLIB_CACHE_GB": str(STREAM_CACHE_MB / 1000)}
    with tempfile.TemporaryDirectory() as folder, _cache(**limit):
        root = Path(folder)
        tree, shards = write_photos(root / "photos", photos), root / "shards"
        make_shards(
            "imagenet", tree, shards, splits=["train"], shard_mb=STREAM_SHARD_MB, progress=progress
        )
        total = sum(path.stat().st_size for path in shards.glob("*.tar"))
        with serve_folder(shards) as url:
            images = load_dataset(
                "imagenet", "train", data_dir=url, partial=True, num_workers=WORKERS
            )
            measured = streaming_memory(
                partial(our_batches, images), seconds=seconds, every=every, progress=progress
            )
    settings = {
        "workers": WORKERS, "batch_size": BATCH, "shards_mb": total / 1e6,
        "cache_mb": STREAM_CACHE_MB, "images": photos,
    }  # fmt: skip
    return {"settings": settings, **measured}


def write_photos(folder: Path, count: int) -> Path:
    """A tree of class folders of JPEGs, windows of scikit-image's photos; returns the folder.

    Raises:
        ImportError: scikit-image is not installed.
    """
    try:
        from skimage import data  # imported late: only the book's environment has it
    except ImportError as error:
        raise ImportError(
            "the photos come with scikit-image: `pip install scikit-image`"
        ) from error
    photos = [Image.fromarray(getattr(data, name)()) for name in PHOTOS]
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / "train" / f"c{number % CLASSES}" / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        _cut(photos[number % len(photos)], rng).save(path, "jpeg", quality=PHOTO_QUALITY)
    return folder


def _cut(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = PHOTO_SIZE
    left, top = rng.integers(photo.width - width + 1), rng.integers(photo.height - height + 1)
    return photo.crop((left, top, left + width, top + height))


def _find_tiny() -> Path | None:
    """The folder that holds Tiny ImageNet-100's pack, $NESTLIB_DATA or below it."""
    root = data_root()
    places = (root, root / "tiny_imagenet")
    return next((place for place in places if (place / TINY_PACK).is_file()), None)


def _unpack_tiny(pack: Path, folder: Path, count: int) -> Path:
    """A tree of the first images of each class."""
    with tarfile.open(pack / TINY_PACK) as archive:
        archive.extractall(folder, filter="data")
    root = folder / "tiny-imagenet-100"
    for group in (root / "train").iterdir():
        for path in sorted(group.iterdir())[count // 100 :]:
            path.unlink()
    return root


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """An HTTP server of a folder, in a process of its own; the URL."""
    handler = partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        process = get_context("fork").Process(target=server.serve_forever, daemon=True)
        process.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            process.terminate()
            process.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass
