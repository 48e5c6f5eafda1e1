"""Subsets of training images: as many of each class, the same for every run, apart from test."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from conftest import SHARED
from PIL import Image

from nestbook.report.all_records import headline_of
from nestlib.data.datasets import load_dataset
from nestlib.metrics.accuracy import pack_right, unpack_right
from nestlib.models import NesT
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import Recipe
from nestlib.records import Store
from nestlib.runs import subsets
from nestlib.runs.run import carry_out
from nestlib.runs.staleness import find_fresh, stale_reasons
from nestlib.runs.subsets import load_sets, take, take_equally
from nestlib.runs.weights import load_run
from nestlib.training.classifier import Trainer

CIFAR = SHARED / "data" / "cifar10"


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", "train", num_images=512)


def rows(images):
    """Each image as bytes, to compare sets of them."""
    return {image.numpy().tobytes() for image in images.images}


@pytest.mark.parametrize("count", [10, 50, 200])
def test_a_subset_holds_equally_many_of_each_class(digits, count):
    kept, beside = take_equally(digits, count, 30)
    for part, size in ((kept, count), (beside, 30)):
        assert torch.bincount(part.labels, minlength=10).tolist() == [size // 10] * 10
        assert rows(part) <= rows(digits)
    assert not rows(kept) & rows(beside)


def test_smaller_subsets_lie_in_larger_ones_and_none_in_what_is_held_out(digits):
    small, held_out = take_equally(digits, 20, 50)
    large, same = take_equally(digits, 200, 50)
    assert rows(small) < rows(large)
    assert rows(held_out) == rows(same) and not rows(large) & rows(held_out)
    again, _ = take_equally(digits, 20, 50)
    assert again.fingerprint == small.fingerprint


@pytest.mark.parametrize(
    ("count", "beside", "message"),
    [
        (25, 0, "25 images and 0 others cannot be equally many per class for 10"),
        (20, 5, "20 images and 5 others cannot be"),
        (400, 200, "images of its rarest class, not 40 and 20 others; take at most"),
    ],
)
def test_too_few_images_are_said(digits, count, beside, message):
    with pytest.raises(ValueError, match=message):
        take_equally(digits, count, beside)


def test_a_subset_of_all_images_is_all_of_them():
    images = load_dataset("digits", "train", num_images=512)
    fewest = int(torch.bincount(images.labels).min())
    kept, _ = take_equally(images, 10 * fewest)
    assert len(kept) == 10 * fewest and rows(kept) <= rows(images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_subset": 0}, "train_subset is 0, must be .*at least 1.*, or None"),
        ({"held_out": 10}, "held_out is 10, must be None without a train_subset"),
        ({"train_subset": 10, "train_limit": 5}, "train_limit is 5, must be None if there is"),
        ({"evaluate_every": 2}, r"evaluate_every is 2, must be a divisor of epochs \(3\)"),
        ({"evaluate_every": 0}, "evaluate_every is 0, must be .*at least 1"),
    ],
)
def test_recipes_refuse_what_no_run_can_be(tiny_recipe, changes, message):
    with pytest.raises(ValueError, match=message):
        replace(tiny_recipe, **changes)


def small(tiny_recipe, **changes) -> Recipe:
    options = {"dataset_options": {"num_images": 512}, "train_subset": 100, "batch_size": 25}
    return replace(tiny_recipe, **options | changes)


def run(recipe, folder):
    store = Store(folder / "committed", folder / "local")
    how = {"device": "cpu", "runs_dir": folder / "runs", "progress_bar": False}
    return carry_out(recipe, store, **how), store


def test_a_record_keeps_its_subset_and_which_images_were_right(tiny_recipe, tmp_path):
    recipe = small(tiny_recipe, ema_decay=None)
    record, store = run(recipe, tmp_path)
    train_set, test_set = load_sets(recipe)
    assert record.environment["data"]["train"] == {
        "fingerprint": train_set.fingerprint, "images": 100,
        "class_names": [str(digit) for digit in range(10)],
    }  # fmt: skip
    model = load_run(recipe, store, tmp_path / "runs")
    mean, std = (torch.tensor(v)[:, None, None] for v in (test_set.mean, test_set.std))
    logits = model((test_set.images / 255 - mean) / std)
    expected = (logits.argmax(1) == test_set.labels).numpy()
    right = unpack_right(record.summary["test/right"], len(test_set))
    assert (right == expected).all()
    assert 100 * right.mean() == pytest.approx(record.summary["test/top1"])
    assert find_fresh(recipe, store) == record


def test_equal_logits_are_right_in_the_accuracy_and_in_its_images_alike(
    tiny_recipe, tmp_path, monkeypatch
):  # fmt: skip
    """bf16 has many. Two rules for them gave accuracies that their own images did not have."""
    forward = NesT.forward

    def coarse(self, images):
        logits = forward(self, images)
        return logits if self.training else logits.round()

    monkeypatch.setattr(NesT, "forward", coarse)
    record, _ = run(small(tiny_recipe), tmp_path)
    count = record.environment["data"]["test"]["images"]
    right = unpack_right(record.summary["test/right"], count)
    assert 100 * right.mean() == pytest.approx(record.summary["test/top1"])


def test_a_held_out_run_never_sees_the_test_set(tiny_recipe, tmp_path, monkeypatch):
    read, load = [], subsets.load_dataset

    def note(name, split, **how):
        read.append(split)
        return load(name, split, **how)

    monkeypatch.setattr(subsets, "load_dataset", note)
    record, store = run(small(tiny_recipe, held_out=50), tmp_path)
    assert set(read) == {"train"}
    assert set(record.environment["data"]) == {"train", "held_out"}
    keys = {key for row in [record.summary, *record.epochs] for key in row}
    assert {"held_out/top1", "held_out/loss"} <= set(record.summary)
    assert not [key for key in keys if key.startswith("test/")]
    assert record.top1 == (record.summary["held_out/top1"], "held_out")
    assert "% held-out top-1, epoch 3" in headline_of(record)[1]
    assert record.environment["data"]["held_out"]["images"] == 50
    changed = replace(small(tiny_recipe, held_out=50), held_out=40)
    assert stale_reasons(record, changed, store) == ["the held_out images of digits have changed"]
    train = record.environment["data"]["train"]
    data = {"train": train | {"class_names": ["none", *train["class_names"][1:]]}}
    renamed = replace(record, environment=record.environment | {"data": data})
    same = small(tiny_recipe, held_out=50)
    assert stale_reasons(renamed, same, store) == ["the train images of digits have changed"]


def test_both_sets_have_the_classes_of_train(tmp_path):
    names = [f"bird {letter}" for letter in "abcdefghij"]
    for split, folders in (("train", names), ("test", ["car", *names[1:]])):
        for name in folders:
            (tmp_path / split / name).mkdir(parents=True)
            Image.new("RGB", (32, 32)).save(tmp_path / split / name / "0.png")
    recipe = get_recipe("cifar10/nest_tiny")
    with pytest.raises(ValueError, match=r"do not have: 'car'; only in train: 'bird a'; give"):
        load_sets(recipe, data_dir=tmp_path)
    (tmp_path / "test" / "car").rename(tmp_path / "test" / "bird a")
    train, test = load_sets(recipe, data_dir=tmp_path)
    assert train.class_names == test.class_names == tuple(names)


def test_a_rank_without_an_image_joins_in_saying_which_were_right(tiny_recipe, tmp_path):
    """More ranks than test images, as in a smoke run of a node."""
    recipe = replace(tiny_recipe, ema_decay=None)
    train_set, test_set = load_sets(recipe)
    one, model = take(test_set, 1), recipe.build_model(10)
    trainer = Trainer(recipe, model, train_set, one, tmp_path, torch.device("cpu"))
    trainer.progress.step = trainer.total_steps
    trainer.ranks = SimpleNamespace(
        rank=1, size=2, broadcast=lambda _: None,
        sum=lambda own: own + (len(own) == 3),  # the other rank scores its image, and goes on
        gather=lambda own: [torch.tensor([True]), own],
    )  # fmt: skip
    trainer.evaluate()
    assert unpack_right(trainer.right, 1).tolist() == [True]


def test_rows_come_every_so_many_epochs_and_change_no_weight(tiny_recipe, tmp_path):
    every, _ = run(small(tiny_recipe), tmp_path / "a")
    last, _ = run(small(tiny_recipe, evaluate_every=3), tmp_path / "b")
    assert [row["epoch"] for row in every.epochs] == [1, 2, 3]
    assert [row["epoch"] for row in last.epochs] == [3]
    assert last.summary["weights_sha256"] == every.summary["weights_sha256"]
    losses = [row["train/loss"] for row in every.epochs]
    assert last.epochs[0]["train/loss"] == pytest.approx(sum(losses) / 3)


def test_right_images_pack_into_an_eighth_of_a_byte_each():
    right = torch.rand(10_000, generator=torch.Generator().manual_seed(0)) < 0.7
    packed = pack_right(right)
    assert len(packed) == 4 * -(-1250 // 3)  # base64 of 1,250 bytes
    assert (unpack_right(packed, 10_000) == right.numpy()).all()
    with pytest.raises(ValueError, match="1250 bytes do not say which of 500 images were right"):
        unpack_right(packed, 500)


@pytest.mark.skipif(not CIFAR.is_dir(), reason=f"no CIFAR-10 in {CIFAR}")
def test_small_trains_on_a_thousand_cifar_images_of_each_class():
    recipe = get_recipe("small/nest_narrow", held_out=5_000)
    train_set, held_out = load_sets(recipe, data_dir=CIFAR)
    assert torch.bincount(train_set.labels).tolist() == [1_000] * 10
    assert torch.bincount(held_out.labels).tolist() == [500] * 10
    _, test_set = load_sets(get_recipe("small/nest_narrow"), data_dir=CIFAR)
    assert len(test_set) == 10_000
    assert not rows(train_set) & rows(held_out)
