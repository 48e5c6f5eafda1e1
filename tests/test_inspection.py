"""What `nest inspect` counts: near pairs against a plain loop, boxes and files against a hand."""

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SHARED
from made_records import add
from PIL import Image

from nestbook.claims.claim import scores_of
from nestbook.evaluations.inspection import (
    LIMIT,
    NEARER,
    count_boxes,
    find_near_pairs,
    inspect_dataset,
    record_id,
)
from nestbook.evaluations.map_checks import maps_of_boxes, share_higher_inside
from nestbook.report.families import find_families
from nestbook.report.inspections import inspection_table, leaks_table, say_inspection, tiny_table
from nestbook.report.tables import NOT_RUN
from nestbook.sweeps.plans import plan
from nestlib.data.containers import ImageSet
from nestlib.metrics.accuracy import unpack_right
from nestlib.metrics.localization import iou, score_localization
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, open_store

COMMITTED = replace(open_store(Path(__file__).parent), local=None)
DIFFERENCES = (Path(__file__).parents[1] / "book" / "differences.md").read_text()
DATA = {"cifar10": SHARED / "data" / "cifar10", "tiny_imagenet": SHARED / "data"}


def draw_images(seed: int, count: int = 40) -> torch.Tensor:
    """Images of which many are near one another, or near another's mirror image.

    Most differ cell by cell, so that thumbnails are as far apart as they are.
    """
    rng, cell = np.random.default_rng(seed), np.ones((1, 1, 4, 4))
    first = np.kron(np.random.default_rng(0).integers(0, 256, (5, 3, 8, 8)), cell)
    pictures = first[rng.integers(0, 5, count)]
    pictures = np.where(rng.random((count, 1, 1, 1)) < 0.5, pictures, pictures[..., ::-1])
    noise = np.kron(rng.normal(0, 1, (count, 3, 8, 8)), cell)
    noise[::3] = rng.normal(0, 1, noise[::3].shape)
    noise *= rng.uniform(1, 16, (count, 1, 1, 1))
    return torch.as_tensor((pictures + noise).clip(0, 255).astype(np.uint8))


def find_plainly(first, second, alone: bool, mirrored: bool) -> dict[tuple[int, int], float]:
    found = {}
    for i, one in enumerate(first.numpy().astype(float)):
        for j, other in enumerate(second.numpy().astype(float)):
            distance = np.sqrt(((one - (other[..., ::-1] if mirrored else other)) ** 2).mean())
            if distance < LIMIT and not (alone and j <= i):
                found[i, j] = distance
    return found


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_near_pairs_are_those_of_a_plain_loop(alone, mirrored, monkeypatch):
    monkeypatch.setattr("nestbook.evaluations.inspection.BLOCK", 7)
    first = draw_images(1)
    second = first if alone else draw_images(2, 30)
    pairs, distances = find_near_pairs(first, second, mirrored=mirrored)
    expected = find_plainly(first, second, alone, mirrored)
    assert len(expected) > 10 and set(map(tuple, pairs.tolist())) == set(expected)
    plain = [expected[i, j] for i, j in pairs.tolist()]
    np.testing.assert_allclose(distances, plain, rtol=1e-5)
    assert (distances.diff() >= 0).all()


def test_a_flat_box_is_one_pixel_wide_in_every_measure():
    """Tiny ImageNet's boxes were rounded; 63 is the last pixel, so both ends are inside."""
    flat = np.array([[[20, 10, 20, 29]]])  # (N, K, 4): a column of 20 pixels
    assert iou(flat, flat).item() == 1
    assert iou([0, 0, 63, 63], flat).item() == 20 / 64**2
    assert iou([20, 10, 21, 29], flat).item() == 0.5
    truth, boxes = np.repeat(flat, 2, 0), np.array([[[20, 10, 21, 29]], [[20, 10, 22, 29]]])
    scores = score_localization(boxes, truth, np.array([True, True]), [0.5])
    assert scores["gt_known"]["errors"] == [50]  # IoU of 1 / 2 and of 1 / 3
    full = maps_of_boxes(flat, (64, 64), (64, 64))
    assert full.sum() == 20 and full[0, 10:30, 20].all()
    assert share_higher_inside(full, flat, (64, 64)) == 1
    with pytest.raises(ValueError, match="is not a box"):
        iou([20, 10, 19, 29], flat)


def made_set(split: str, boxes: list[list[int]]) -> ImageSet:
    images, labels = torch.zeros(len(boxes), 3, 64, 64, dtype=torch.uint8), torch.arange(len(boxes))
    names = tuple(f"n{k:08}" for k in range(len(boxes)))
    boxed = torch.tensor(boxes, dtype=torch.int16)[:, None]
    return ImageSet(
        "tiny_imagenet", split, images, labels, names, (0.5,) * 3, (0.2,) * 3, boxed,
        labels[:, None], names,
    )  # fmt: skip


def test_boxes_are_counted_as_a_hand_counts_them():
    # 32 of 64 rows are exactly half of the image, which counts as found; 31 rows are less.
    boxes = [[0, 0, 63, 31], [0, 0, 63, 30], [5, 0, 5, 63], [0, 7, 63, 7], [1, 1, 62, 62]]
    boxes.append([-1] * 4)  # an image without one
    assert count_boxes(made_set("train", boxes)) == {
        "boxes": 5, "flat": 2, "least": 0, "greatest": 63, "whole_image_finds": 0.4
    }  # fmt: skip


def encode(grey: bool, level: int) -> bytes:
    image = Image.new("L", (64, 64), level) if grey else Image.new("RGB", (64, 64), (level,) * 3)
    data = io.BytesIO()
    image.save(data, "JPEG")
    return data.getvalue()


@pytest.fixture
def tiny_pack(tmp_path, monkeypatch) -> Path:
    """Two grey files; two files with equal bytes in two classes, and two in one class."""
    files = {
        "train/n01/n01_0.JPEG": encode(True, 10), "train/n01/n01_1.JPEG": encode(False, 50),
        "train/n02/n02_0.JPEG": encode(False, 90), "train/n02/n02_1.JPEG": encode(False, 90),
        "val/n01/val_0.JPEG": encode(False, 90), "val/n02/val_1.JPEG": encode(True, 200),
    }  # fmt: skip
    rows = [
        ",".join([*place.split("/"), "0,0,63,63" if "_0" in place else "3,4,3,9"])
        for place in files
    ]
    files["boxes.csv"] = "\n".join(["split,wnid,file,x0,y0,x1,y1", *rows]).encode()
    with tarfile.open(tmp_path / "tiny-imagenet-100.tar.xz", "w:xz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(f"tiny-imagenet-100/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    monkeypatch.setattr("nestlib.data.datasets._check_content", lambda *_: None)  # of 100 classes
    return tmp_path


def test_a_set_without_boxes_is_named():
    images = replace(made_set("test", [[0, 0, 1, 1]]), boxes=None, box_labels=None)
    with pytest.raises(ValueError, match="the test images of tiny_imagenet have no boxes; put"):
        count_boxes(images)


def test_files_of_a_pack_are_counted_as_they_are_stored(tiny_pack, store):
    record = inspect_dataset("tiny_imagenet", store, data_dir=tiny_pack)
    assert record.summary["one_channel"] == {"train": 1, "test": 1}
    assert record.summary["boxes"]["train"]["flat"] == 2
    (group,) = record.summary["equal_bytes"]
    assert [file for *_, file in group] == ["n02_0.JPEG", "n02_1.JPEG", "val_0.JPEG"]
    assert set(record.environment["data"]) == {"train", "test"}
    table = inspection_table(record)
    found = {row[0]: [cell.value for cell in row[1:4]] for row in table.rows}
    assert found["Files of one channel"] == [1, 1, 2]
    assert found["Boxes that the whole image finds (%)"] == [50, 50, 50]
    assert found["Pairs of equal files of two classes"] == [0, 1, 1]
    (tiny_pack / "tiny-imagenet-100.tar.xz").unlink()
    assert inspect_dataset("tiny_imagenet", store, data_dir=tiny_pack) == record
    with pytest.raises(FileNotFoundError, match="no train images in"):
        inspect_dataset("tiny_imagenet", store, data_dir=tiny_pack, again=True)


def test_what_cannot_be_inspected_is_named(store):
    with pytest.raises(ValueError, match=r"no data set to inspect 'digits'; .*cifar10"):
        inspect_dataset("digits", store)
    with pytest.raises(ValueError, match="is a URL; give a folder"):
        inspect_dataset("tiny_imagenet", store, data_dir="https://example.org/shards")


def add_copies(store, images: list[int]) -> Record:
    """A record of test images with a copy in train; the last one is less near."""
    pairs = [
        {"images": [i, 9], "classes": [1, 1], "distance": 5.0, "in_small_subset": i == images[0]}
        for i in images
    ]
    pairs[-1]["distance"] = NEARER
    data = {"test": {"fingerprint": "0" * 64, "images": 10_000}}
    record = Record(record_id("cifar10"), "inspect", {"dataset": "cifar10"},
                    {"device": "A processor", "data": data},
                    {"mirrored": {"test-train": pairs}})  # fmt: skip
    store.add(record)
    return record


@pytest.mark.usefixtures("no_fingerprints")
def test_accuracies_without_the_copied_images_are_those_of_the_others(store):
    assert leaks_table(find_families(store), store).rows == [(NOT_RUN,)]
    flagship, nest = get_recipe("cifar10/nest_flagship"), plan("table1", "small", [0, 1])
    add(store, flagship, 0.9)
    runs = nest["cifar10", "NesT-T"]
    for recipe in runs:
        add(store, recipe, 0.6)
    bits = [unpack_right(store.find(r.run_id).summary["test/right"], 10_000) for r in runs]
    copied = [*np.flatnonzero(bits[0])[:3].tolist(), *np.flatnonzero(~bits[0])[:1].tolist()]
    record = add_copies(store, copied)
    table = leaks_table(find_families(store), store)
    rows = {row[0]: row[1:] for row in table.rows}
    n, every, nearer, rest, right = rows["NesT"]
    assert n == "2" and every.value == scores_of([store.find(r.run_id) for r in runs]).mean
    left = np.setdiff1d(np.arange(10_000), copied)
    assert rest.value == pytest.approx(100 * np.mean([b[left].mean() for b in bits]))
    left = np.setdiff1d(np.arange(10_000), copied[:3])
    assert nearer.value == pytest.approx(100 * np.mean([b[left].mean() for b in bits]))
    assert right.value == np.mean([b[copied].sum() for b in bits])
    assert rows["NesT3-T, 30 epochs"][0] == "1" and rows["DeiT"][1] == NOT_RUN
    assert table.columns[3:] == ("Without 3", "Without 4", "Right of the 4")
    assert "1 of the 4 copies are among" in table.notes[0] and record.run_id in table.notes[0]


@pytest.mark.usefixtures("no_fingerprints")
def test_images_of_another_order_are_not_left_out(store):
    """The record numbers the test images of one fingerprint; others' numbers mean other images."""
    record = add_copies(store, [1, 2])
    add(store, plan("table1", "small", [0])["cifar10", "NesT-T"][0], 0.6)
    record.environment["data"]["test"]["fingerprint"] = "1" * 64
    store.add(record)
    rows = {row[0]: row[1:] for row in leaks_table(find_families(store), store).rows}
    assert rows["NesT"][1] == NOT_RUN


def test_the_differences_say_of_cifar10_what_its_record_says():
    record = COMMITTED.find(record_id("cifar10"))
    text = " ".join(DIFFERENCES.partition("\n## D39: ")[2].partition("\n:Evidence:")[0].split())
    pairs = record.summary["mirrored"]["test-train"]
    assert all(one == other for one, other in (pair["classes"] for pair in pairs))
    distances = [pair["distance"] for pair in pairs]
    assert 100 * len(pairs) / 10_000 < 0.1  # points that they can change an accuracy by
    assert len({pair["images"][0] for pair in pairs}) == len(pairs)
    assert f"{len(pairs)} test images" in text and f"than {LIMIT:g} grey levels" in text
    assert f"{sum(d < NEARER for d in distances)} of them nearer than {NEARER:g}" in text
    assert f"the nearest at {min(distances):.1f}" in text
    within = [pair["distance"] for pair in record.summary["mirrored"]["train-train"]]
    assert f"{sum(d < 8 for d in within)} pairs nearer than 8" in text
    assert not any(record.summary["as_they_are"].values())
    assert say_inspection(record) == f"{len(pairs)} test images with a mirrored copy in train"
    assert inspection_table(record).rows[0][2].value == min(distances)


def test_the_page_of_figure_8_says_what_the_record_of_its_data_says():
    table = tiny_table(COMMITTED)
    found = {row[0]: [cell.value for cell in row[1:4]] for row in table.rows}
    assert found["Files"][2] == 35_000 and found["Greatest coordinate of a box"] == [63, 63, 63]
    assert found["Files of one channel"][2] == 557  # these were counted by another hand too
    assert found["Boxes of zero width or height"][2] == 184
    assert found["Pairs of equal files of two classes"] == [1, 1, 2]
    scored = COMMITTED.find("localize/tiny_imagenet/nest_narrow_depth2-s0-50ee4f0e")
    floor = 100 - scored.summary["gt_known"]["errors"][0]
    assert found["Boxes that the whole image finds (%)"][1] == pytest.approx(floor)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", DATA)
def test_a_second_inspection_of_the_images_finds_the_same(dataset, store):
    if not DATA[dataset].is_dir():
        pytest.skip(f"needs ../shared/data of {dataset}")
    record = COMMITTED.find(record_id(dataset))
    again = inspect_dataset(dataset, store, data_dir=DATA[dataset])
    assert again.environment["data"] == record.environment["data"]
    assert again.summary == record.summary
