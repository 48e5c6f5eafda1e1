"""What is odd in a data set's images, counted over all of them: the record behind `nest inspect`.

CIFAR-10: pairs of nearly equal images, as they are and with one of them mirrored. Tiny
ImageNet-100: files of one channel, boxes, files of equal bytes. A record keeps counts and places,
never an image, so that pages show them where the data set is not.
"""

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from nestbook.recipes.narrow import SMALL_SUBSET
from nestbook.records import add_record, describe_images
from nestlib.choices import choose
from nestlib.data.containers import ImageSet
from nestlib.data.datasets import SPLITS, default_data_dir, load_dataset
from nestlib.data.decoding import count_channels
from nestlib.data.fetching import is_url
from nestlib.data.folders import split_folder
from nestlib.data.layouts import read_tiny_imagenet
from nestlib.metrics.localization import IOU, iou
from nestlib.records import Record, Store, describe_environment
from nestlib.runs.subsets import take_equally

LIMIT = 12.0  # grey levels of 0..255, root mean square: how near the images of a pair are
NEARER = 6.0  # those that nobody would call two pictures
PAIRS = ("test-train", "train-train", "test-test")
WAYS = {"mirrored": True, "as_they_are": False}
CELL = 4  # pixels along the edge of a thumbnail's cell
BLOCK = 500  # rows of distances at a time: 100 MB beside 50,000 images
SLACK = 64.0  # more than what float32 rounds off a sum of squares of a thumbnail

Summary = dict[str, Any]


def inspect_dataset(
    dataset: str, store: Store, *, data_dir: Path | str | None = None, committed: bool = False,
    again: bool = False,
) -> Record:  # fmt: skip
    """The record of what is odd in a data set; one that exists is loaded, unless `again`.

    Raises:
        ValueError: an unknown data set, or shards, which do not have the files.
        FileNotFoundError: no images; the message says which layouts are read.
    """
    look = choose("data set to inspect", dataset, LOOKS)
    found = None if again else store.find(record_id(dataset))
    if found is not None:
        return found
    place = default_data_dir(dataset) if data_dir is None else data_dir
    if is_url(place):
        raise ValueError(f"{place} is a URL; give a folder of the files themselves")
    environment = describe_environment(torch.device("cpu"))
    summary, sets = look(Path(place))
    return add_record(
        store, environment | {"data": describe_images(*sets)}, committed=committed, kind="inspect",
        run_id=record_id(dataset), recipe={"dataset": dataset}, summary=summary,
    )  # fmt: skip


def record_id(dataset: str) -> str:
    """The id of the record that `inspect_dataset` writes."""
    return f"inspect/{dataset}"


def _inspect_cifar10(place: Path) -> tuple[Summary, list[ImageSet]]:
    sets = {split: load_dataset("cifar10", split, data_dir=place) for split in SPLITS}
    ways = {name: {} for name in WAYS}
    compared = [(way, which) for way in WAYS for which in PAIRS]
    for way, which in tqdm(compared, "comparing images", unit="pair of sets"):
        first, second = (sets[split] for split in which.split("-"))
        near, distances = find_near_pairs(first.images, second.images, mirrored=WAYS[way])
        ways[way][which] = [
            {"images": [i, j], "classes": [int(first.labels[i]), int(second.labels[j])],
             "distance": round(distance, 3)}
            for (i, j), distance in zip(near.tolist(), distances.tolist())
        ]  # fmt: skip
    subset, _ = take_equally(sets["train"], SMALL_SUBSET)
    for pair in ways["mirrored"]["test-train"]:
        copy = sets["train"].images[pair["images"][1]]
        pair["in_small_subset"] = bool((subset.images == copy).flatten(1).all(1).any())
    return {"limit": LIMIT, **ways}, [*sets.values()]


def find_near_pairs(
    first: Tensor, second: Tensor, limit: float = LIMIT, *, mirrored: bool = False
) -> tuple[Tensor, Tensor]:
    """All pairs of images that differ by less than `limit` grey levels, root mean square.

    The means of two cells differ by no more than the root mean square of their pixels' differences,
    so thumbnails are never farther apart than their images. They leave few pairs, which are then
    compared pixel by pixel; none is missed.

    Args:
        first, second: (N, 3, H, W) and (M, 3, H, W) uint8, H and W multiples of 4. Of one and the
            same tensor each pair comes once, and no image is paired with itself.
        mirrored: the second image of a pair is mirrored, left to right.

    Returns:
        Places in both (P, 2) int64, and distances (P,) float64, the nearest first.
    """
    alone, second = first is second, second.flip(-1) if mirrored else second
    rows, columns = _thumbnails(first), _thumbnails(second)
    middle = columns.mean(0)  # smaller numbers, less rounding
    rows, columns = rows - middle, columns - middle
    bound = rows.shape[1] * limit**2 + SLACK
    lengths = columns.square().sum(1)
    kept = []
    for start in range(0, len(rows), BLOCK):
        block, begin = rows[start : start + BLOCK], start if alone else 0
        squares = torch.addmm(lengths[begin:], block, columns[begin:].T, alpha=-2)
        near = squares < bound - block.square().sum(1, keepdim=True)
        kept.append(near.nonzero() + torch.tensor([start, begin]))
    pairs = torch.cat(kept)
    if alone:
        pairs = pairs[pairs[:, 0] < pairs[:, 1]]
    parts = [_distances(first[i], second[j]) for i, j in (p.T for p in pairs.split(BLOCK))]
    distances = torch.cat(parts)
    order = distances.argsort()
    order = order[distances[order] < limit]
    return pairs[order], distances[order]


def _thumbnails(images: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 to (N, 3 H W / 16) float32, the means of cells of 4 x 4 pixels."""
    parts = [F.avg_pool2d(part.float(), CELL).flatten(1) for part in images.split(BLOCK)]
    return torch.cat(parts)


def _distances(first: Tensor, second: Tensor) -> Tensor:
    squares = (first.int() - second.int()).square()  # whole numbers: any machine gets the same
    return (squares.sum((1, 2, 3)).double() / first[0].numel()).sqrt()


def _inspect_tiny_imagenet(place: Path) -> tuple[Summary, list[ImageSet]]:
    files = {split: read_tiny_imagenet("tiny_imagenet", split, place) for split in SPLITS}
    one_channel, places = dict.fromkeys(SPLITS, 0), defaultdict(list)
    for split, entries in files.items():
        for entry in tqdm(entries, f"files of {split_folder(split)}", unit="file", mininterval=1):
            one_channel[split] += count_channels(entry.data, entry.where) == 1
            where = [split_folder(split), entry.class_name, entry.file]
            places[hashlib.sha256(entry.data).digest()].append(where)
    sets = {split: load_dataset("tiny_imagenet", split, data_dir=place) for split in SPLITS}
    summary = {
        "files": {split: len(images) for split, images in sets.items()},
        "one_channel": one_channel,
        "boxes": {split: count_boxes(images) for split, images in sets.items()},
        "equal_bytes": [found for found in places.values() if len(found) > 1],
    }
    return summary, [*sets.values()]


def count_boxes(images: ImageSet) -> Summary:
    """Boxes of a set, at most one per image: how many, how many whose ends are equal across or
    down, the least and greatest coordinate, and the share that the whole image finds.

    Raises:
        ValueError: a set without boxes.
    """
    if images.boxes is None:
        raise ValueError(
            f"the {images.split} images of {images.name} have no boxes; put boxes.csv, or the "
            "official tables, beside them"
        )
    boxes = images.boxes[:, 0].numpy().astype(int)  # (N, 4)
    boxes = boxes[boxes[:, 0] >= 0]
    height, width = images.image_size
    whole = iou([0, 0, width - 1, height - 1], boxes)
    return {
        "boxes": len(boxes),
        "flat": int((boxes[:, :2] == boxes[:, 2:]).any(1).sum()),
        "least": int(boxes.min()), "greatest": int(boxes.max()),
        "whole_image_finds": float((whole >= IOU).mean()),
    }  # fmt: skip


LOOKS = {"cifar10": _inspect_cifar10, "tiny_imagenet": _inspect_tiny_imagenet}
