"""What `nest inspect` found in the data sets, and what it does to the accuracies shown."""

from collections.abc import Callable, Sequence

import numpy as np

from nestbook.claims.claim import scores_of
from nestbook.evaluations.inspection import LIMIT, NEARER, PAIRS, WAYS, record_id
from nestbook.recipes.narrow import SMALL_SUBSET
from nestbook.report.families import Family
from nestbook.report.means import find_sources, join_ids
from nestbook.report.tables import NOT_RUN, Cell, Number, Table
from nestlib.data.datasets import SPLITS
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, Store
from nestlib.runs.staleness import find_fresh_seeds

FLAGSHIP = "cifar10/nest_flagship"
_BELOW = (NEARER, 8.0, LIMIT)  # grey levels
_OF_WHICH = {"test-train": "test and train", "train-train": "both train", "test-test": "both test"}


def inspection_table(record: Record) -> Table:
    """What is odd in the data set of a record of `nest inspect`."""
    tables = {"cifar10": _copies_table, "tiny_imagenet": _files_table}
    return tables[record.recipe["dataset"]](record)


def say_inspection(record: Record) -> str:
    """A record's headline."""
    if record.recipe["dataset"] == "cifar10":
        pairs = record.summary["mirrored"]["test-train"]
        return f"{len(pairs)} test images with a mirrored copy in train"
    flat = sum(boxes["flat"] for boxes in record.summary["boxes"].values())
    return f"{flat} boxes of zero width or height"


def _copies_table(record: Record) -> Table:
    """How many pairs of CIFAR-10's images are nearly equal, as they are and mirrored."""
    rows = []
    for way in WAYS:
        for which in PAIRS:
            pairs = record.summary[way][which]
            apart = [pair["distance"] for pair in pairs]
            nearest = Number(min(apart), record.run_id, 2) if apart else f"{LIMIT:g} or more"
            counts = [Number(sum(d < t for d in apart), record.run_id, 0) for t in _BELOW]
            classes = sum(a != b for a, b in (pair["classes"] for pair in pairs))
            other = Number(classes, record.run_id, 0)
            rows.append((way.replace("_", " "), _OF_WHICH[which], nearest, *counts, other))
    return Table(
        "Pairs of CIFAR-10's 60,000 images by their distance: grey levels of 0..255, root mean "
        "square over pixels",
        ("Compared", "Images", "Nearest", *(f"Below {t:g}" for t in _BELOW), "Of two classes"),
        rows,
        ["Mirrored: one of the two, left to right. All pairs are compared, but for an image with "
         "itself (D39)"],
        find_sources([record], "inspection"),
    )  # fmt: skip


def _files_table(record: Record) -> Table:
    """Tiny ImageNet-100's files and boxes, by split."""
    found, source = record.summary, record.run_id
    boxes = {name: {split: found["boxes"][split][name] for split in SPLITS}
             for name in ("boxes", "flat", "least", "greatest", "whole_image_finds")}  # fmt: skip
    finds = [boxes["boxes"][split] * boxes["whole_image_finds"][split] for split in SPLITS]
    shares = [*boxes["whole_image_finds"].values(), sum(finds) / sum(boxes["boxes"].values())]
    doubles = [{split for split, _, _ in group} for group in _of_several_classes(found)]
    pairs = {"train": doubles.count({"train"}), "test": sum("val" in one for one in doubles)}

    def count(values: dict[str, int], both: Callable = sum) -> tuple[Number, ...]:
        numbers = [*(values[split] for split in SPLITS), both(values.values())]
        return tuple(Number(number, source, 0) for number in numbers)

    return Table(
        "Tiny ImageNet-100, 300 images per class: what its files and boxes hold",
        ("What", "Train", "Val", "Both", "What it means here"),
        [
            ("Files", *count(found["files"]), ""),
            ("Files of one channel", *count(found["one_channel"]), "grey; read as RGB"),
            ("Boxes of zero width or height", *count(boxes["flat"]), "one pixel wide or high"),
            ("Least coordinate of a box", *count(boxes["least"], min), "the first pixel"),
            ("Greatest coordinate of a box", *count(boxes["greatest"], max),
             "the last pixel of 64, so both ends are inside"),
            ("Boxes that the whole image finds (%)",
             *(Number(100 * share, source) for share in shares),
             "the floor of every localization: IoU of 0.5 or more without a map"),
            ("Pairs of equal files of two classes", *count(pairs),
             "one picture under two labels; under Val, its other file is in train"),
        ],
        ["Counted over all files: nest inspect tiny_imagenet"],
        find_sources([record], "inspection"),
    )  # fmt: skip


def _of_several_classes(summary: dict) -> list[list[list[str]]]:
    """Groups of files with equal bytes, [split, class, file] each, that bear different labels."""
    return [group for group in summary["equal_bytes"] if len({name for _, name, _ in group}) > 1]


def tiny_table(store: Store) -> Table:
    """Tiny ImageNet-100's files and boxes, by the record that there is."""
    record = store.find(record_id("tiny_imagenet"))
    if record is None:
        return Table("Tiny ImageNet-100: what its files and boxes hold", ("What",), [(NOT_RUN,)])
    return inspection_table(record)


def leaks_table(families: Sequence[Family], store: Store) -> Table:
    """Accuracies with and without the test images that have a mirrored copy in train.

    The first row is of all training images and strong augmentation, the families' of a part; both
    flip. A run whose record does not keep which images were right has no such accuracy.
    """
    record = store.find(record_id("cifar10"))
    title = "Top-1 (%) with and without the test images that have a mirrored copy in train"
    if record is None:
        return Table(title, ("Model",), [(NOT_RUN,)])
    pairs = record.summary["mirrored"]["test-train"]
    nearer = [pair["images"][0] for pair in pairs if pair["distance"] < NEARER]
    copied = [pair["images"][0] for pair in pairs]
    subset = sum(pair["in_small_subset"] for pair in pairs)
    flagship = get_recipe(FLAGSHIP)
    models = {f"NesT3-T, {flagship.epochs} epochs": find_fresh_seeds(flagship, store)}
    models |= {family.name: family.bar.records for family in families}
    tested = record.environment["data"]["test"]["fingerprint"]
    rows = [(name, *_without(runs, tested, nearer, copied)) for name, runs in models.items()]
    shown = [run for runs in models.values() for run in runs]
    return Table(
        title,
        ("Model", "n", "All", f"Without {len(nearer)}", f"Without {len(copied)}",
         f"Right of the {len(copied)}"),
        rows,
        [f"Copies: {len(copied)} test images are nearer than {LIMIT:g} grey levels (root mean "
         f"square) to a mirrored training image, {len(nearer)} of them nearer than {NEARER:g} "
         f"(D39, record {record.run_id}). {subset} of the {len(copied)} copies are among the "
         f"{SMALL_SUBSET:,} images that the seven families train on; NesT3-T trains on all"],
        find_sources(shown),
    )  # fmt: skip


def _without(
    runs: Sequence[Record], tested: str, nearer: Sequence[int], copied: Sequence[int]
) -> tuple[Cell, ...]:
    """n, accuracy, the same without the images of both lists, and how many are right of the last.

    Records from before `find_hits` took the right images by argmax, which differs from the recorded
    accuracy where logits are equal. So the change is taken from the images, and the accuracy from
    the record.

    tested: the fingerprint of the images that the lists number.
    """
    scores = scores_of(runs) if runs else None
    if scores is None or scores.right is None or scores.fingerprint != tested:
        return ("", NOT_RUN, "", "", "")
    source, every = join_ids(runs), scores.right.mean()
    changes = (np.delete(scores.right, left_out).mean() - every for left_out in (nearer, copied))
    fewer = (scores.mean + 100 * float(change) for change in changes)
    return (
        str(scores.n), *(Number(top1, source, 2) for top1 in (scores.mean, *fewer)),
        Number(float(scores.right[copied].sum()), source, 1),
    )  # fmt: skip
