"""Measure the loader against torchvision's pipeline, and the memory that long streaming takes. Each
measurement leaves a record.

Contenders take their turns, so that other load on the machine meets all alike; and the processor's
own seconds are counted beside those of the clock, which other load hardly changes. Images are those
that every checkout has or finds: JPEGs of about ImageNet's size, cut from scikit-image's photos;
and Tiny ImageNet where it lies in the data folder.
"""

import http.server
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import (
    Compose,
    InterpolationMode,
    Normalize,
    RandomHorizontalFlip,
    RandomResizedCrop,
    ToTensor,
)
from tqdm import tqdm

from nestbook.benchmarks.decoders import decoder_times
from nestbook.benchmarks.rates import take_turns
from nestlib.data.augment import crop_and_flip, normalize
from nestlib.data.containers import FolderSet
from nestlib.data.datasets import load_dataset
from nestlib.data.decoding import CROP_AREA, CROP_ASPECT, decode_image
from nestlib.data.layouts import TINY_PACK
from nestlib.data.opening import MAX_IMAGE_BYTES
from nestlib.data.shard_maker import make_shards
from nestlib.data.tars import open_tar, unpack_tar
from nestlib.files import read_regular
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
BATCH = 64

Batches = Iterator[tuple[Tensor, Tensor]]


def torchvision_batches(images: FolderSet, epoch: int) -> Batches:
    """What users of ImageNet's class folders get: the recipe's crops and flips in torchvision."""
    torch.manual_seed(epoch)
    transform = Compose([
        RandomResizedCrop(images.crop_size, CROP_AREA, CROP_ASPECT, InterpolationMode.BILINEAR),
        RandomHorizontalFlip(), ToTensor(), Normalize(images.mean, images.std),
    ])  # fmt: skip
    folder = ImageFolder(images.root / "train", transform)
    return iter(DataLoader(folder, BATCH, shuffle=True, num_workers=images.num_workers))


def our_batches(images: FolderSet, epoch: int) -> Batches:
    """Batches as the trainer makes them on a CPU, with the same steps as torchvision's pipeline."""
    generator = torch.Generator().manual_seed(epoch)
    for pixels, labels in our_bytes(images, epoch):
        flipped = crop_and_flip(pixels, 0, 0.5, generator)
        yield normalize(flipped, images.mean, images.std), labels


def our_bytes(images: FolderSet, epoch: int) -> Batches:
    """Batches as a GPU gets them: it flips and normalises by itself."""
    return images.iterate(images.shuffle(epoch, BATCH), BATCH, seed=epoch)


def loading_rates(
    contenders: dict[str, Callable[[int], Batches]], count: int, *, rounds: int,
    progress: bool = True,
) -> dict:  # fmt: skip
    """Images per second, and the processor's milliseconds per image, of epochs taken in turn.

    Args:
        contenders: each makes the batches of an epoch, by its number; the first one's ratio to the
            others is what is asked for. count: images of an epoch.

    Returns:
        {name: {"images_per_second": [of a round, ...], "cpu_ms": [...]}}

    Raises:
        ValueError: an epoch of another number of images.
    """
    epochs = {
        name: partial(_read_epoch, name, map(make, itertools.count()), count)
        for name, make in contenders.items()
    }
    # The first round warms up: files into memory, code into caches.
    measured = take_turns(epochs, rounds, title="loader", progress=progress)
    return {
        name: {
            "images_per_second": [count / seconds for seconds, _ in each],
            "cpu_ms": [1000 * cpu / count for _, cpu in each],
        }
        for name, each in measured.items()
    }


def _read_epoch(name: str, epochs: Iterator[Batches], count: int) -> tuple[float, float]:
    """Seconds of the clock and of the processor that the next epoch takes."""
    begin, begin_cpu = time.perf_counter(), _cpu_seconds()
    read = sum(len(labels) for _, labels in next(epochs))
    seconds, cpu = time.perf_counter() - begin, _cpu_seconds() - begin_cpu
    if read != count:
        raise ValueError(f"{name} gave {read} images of {count}")
    return seconds, cpu


def _cpu_seconds() -> float:
    """CPU seconds of this process and its ended children: workers end with their epoch."""
    import resource  # which Windows lacks

    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def streaming_memory(
    epochs: Callable[[int], Iterable[tuple[Tensor, Tensor]]], *, seconds: float,
    every: float = 5.0, progress: bool = True,
) -> dict:  # fmt: skip
    """Memory of this process and its workers while epoch after epoch is read.

    Returns:
        {"seconds": [when, ...], "mb": [then, ...], "epochs": done, "images": read,
        "early_mb", "late_mb": medians of the second and of the last fifth of the time}
    """
    begin = time.monotonic()
    at, mb, images, epoch = [], [], 0, 0
    bar = tqdm(total=round(seconds), desc="streaming", unit="s", disable=not progress)
    while time.monotonic() - begin < seconds:
        for _, labels in epochs(epoch):
            images += len(labels)
            now = time.monotonic() - begin
            if now >= len(at) * every:
                at.append(round(now, 1))
                mb.append(round(memory_mb(), 1))
                bar.update(round(now) - bar.n)
            if now >= seconds:
                break
        epoch += 1
    bar.close()
    fifth = max(1, len(mb) // 5)
    return {
        "seconds": at, "mb": mb, "epochs": epoch, "images": images,
        "early_mb": statistics.median(mb[fifth : 2 * fifth] or mb),
        "late_mb": statistics.median(mb[-fifth:]),
    }  # fmt: skip


def memory_mb() -> float:
    """Memory of this process and its children: pages shared by n of them count 1/n each (PSS)."""
    processes = [os.getpid(), *_children(os.getpid())]
    total = 0
    for process in processes:
        try:
            lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):  # a worker that ended just now
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1000


def _children(process: int) -> list[int]:
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    found = [int(child) for task in tasks for child in task.read_text().split()]
    return found + [grandchild for child in found for grandchild in _children(child)]


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
    """Read an epoch with an empty cache."""
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
    """Memory every `every` seconds while shards come over HTTP through too small a cache."""
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
    """Write a tree of class folders of JPEGs, windows of scikit-image's photos; return the folder.

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
    """Unpack the first images of each class as a tree."""
    with open_tar(pack / TINY_PACK, "r:*") as archive:
        unpack_tar(archive, folder)
    root = folder / "tiny-imagenet-100"
    for group in (root / "train").iterdir():
        for path in sorted(group.iterdir())[count // 100 :]:
            path.unlink()
        for path in group.iterdir():  # torchvision would open files of any kind by Pillow
            decode_image(read_regular(path, MAX_IMAGE_BYTES), str(path))
    return root


@contextmanager
def serve_folder(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP from a process of its own, and give the URL."""
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
