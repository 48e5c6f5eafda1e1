"""Accuracies are those of an independent count, however models and images are brought together."""

import hashlib
import io
import os
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import SHARED
from PIL import Image
from sklearn.metrics import log_loss, top_k_accuracy_score
from timm.data import ImageNetInfo, create_transform
from timm.models import get_pretrained_cfg
from torch import nn

from nestbook.evaluations.published import view_of
from nestbook.peers import PUBLISHED
from nestlib.data import containers
from nestlib.data.augment import normalize
from nestlib.data.containers import FolderSet, ImageSet
from nestlib.data.datasets import load_dataset
from nestlib.data.decoding import centre_crop
from nestlib.data.folders import list_tree
from nestlib.data.views import View, class_numbers
from nestlib.metrics.accuracy import (
    Candidate,
    find_hits,
    measure_accuracy,
    score,
    unpack_right,
)
from nestlib.metrics.intervals import sampling_half_width, wilson
from nestlib.models import create_model
from nestlib.runs.subsets import take
from nestlib.training.classifier import Trainer

# Three classes of ImageNet-1k and their numbers there, as published lists of its labels have them.
CLASSES = {"n02123045": 281, "n03445777": 574, "n07753592": 954}  # tabby, golf ball, banana
PER_CLASS, LEVEL = 4, 20  # images; steps of brightness that tell them apart
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VIEW = View(24, 0.875, "bicubic", MEAN, STD)
CPU = torch.device("cpu")
TINY_PACK = SHARED / "data" / "tiny-imagenet-100.tar.xz"


def save_classes(val) -> None:
    """val/<wnid>/<image>.JPEG of odd sizes, one of them grey; the k-th image has brightness k."""
    for index in range(len(CLASSES) * PER_CLASS):
        folder = val / list(CLASSES)[index // PER_CLASS]
        folder.mkdir(parents=True, exist_ok=True)
        size, level = (41 + 7 * index, 131 - 9 * index), LEVEL * (index + 1)
        image = Image.new("RGB", size, (level, 255 - level, 90))
        (Image.new("L", size, level) if index == 5 else image).save(folder / f"{index:02}.JPEG")


def read_folder(root) -> FolderSet:
    """The images of `root`/val, without the check that they are all of ImageNet."""
    files = list_tree(root / "val")
    names, labels = np.unique([file.class_name for file in files], return_inverse=True)
    paths = np.array([os.fsencode(os.path.relpath(file.path, root)) for file in files])
    return FolderSet(
        "imagenet", "test", root, paths, torch.from_numpy(labels), tuple(names.tolist()),
        MEAN, STD, crop_size=32, num_workers=0,
    )  # fmt: skip


class Lookup(nn.Module):
    """Gives a row of `table` (images, K) by an image's brightness; notes how many it is given."""

    def __init__(self, table, most: int = 10**9, failure: Exception | None = None):
        super().__init__()
        self.table = nn.Parameter(torch.as_tensor(table, dtype=torch.float32))
        self.most, self.failure, self.given = most, failure, []

    def forward(self, images):
        self.given.append(len(images))
        if len(images) > self.most or (self.failure and len(self.given) > 1):
            raise self.failure or torch.OutOfMemoryError("out of memory\nsecond line")
        red = (images[:, 0] * STD[0] + MEAN[0]).mean((1, 2)) * 255
        return self.table[(red / LEVEL).round().long() - 1]


def make_table(seed: int, num_outputs: int = 1000) -> np.ndarray:
    """Logits (12, K): a third right, a third second to fourth, a third wrong; none right by place.

    Labels are ImageNet's numbers; 0, 1 and 2, the classes' places in the folder, are never near.
    """
    table = np.random.default_rng(seed).normal(size=(12, num_outputs)).astype(np.float32)
    table[:, :3] -= 20
    for index, number in enumerate(np.repeat(list(CLASSES.values()), PER_CLASS)):
        table[index, number] = (30, 6, -10)[(index + seed) % 3]
        table[index, (number + 7) % 900 + 10 : (number + 7) % 900 + 13] += 20
    return table


def expected(table: np.ndarray, labels) -> dict:
    """sklearn's accuracies and loss of logits (N, K) for labels (N,)."""
    outputs = np.arange(table.shape[1])
    chances = torch.tensor(table, dtype=torch.float64).softmax(1).numpy()
    count, n = {"labels": outputs, "normalize": False}, len(labels)
    return {
        "top1": 100 * top_k_accuracy_score(labels, table, k=1, **count) / n,
        "top5": 100 * top_k_accuracy_score(labels, table, k=5, **count) / n,
        "loss": pytest.approx(log_loss(labels, chances, labels=outputs), rel=1e-5),
        "images": n,
    }


@pytest.fixture
def folder(tmp_path) -> FolderSet:
    save_classes(tmp_path / "val")
    return read_folder(tmp_path)


def numbers(images) -> np.ndarray:
    return np.array(list(CLASSES.values()))[images.labels]


def measure(candidates, images, **how):
    return measure_accuracy(candidates, images, device="cpu", progress=False, **how)


def test_part_of_imagenet_is_scored_by_imagenets_numbers(folder):
    table = make_table(0)
    known = expected(table, numbers(folder))
    assert (known["top1"], known["top5"]) == (400 / 12, 800 / 12)
    assert measure([Candidate("known", Lookup(table), VIEW)], folder) == {"known": known}
    by_place = expected(table, folder.labels.numpy())
    assert by_place["top5"] == 0  # so that labels by place would have failed above


def test_every_model_and_view_is_scored_in_one_pass_or_in_several(folder, monkeypatch):
    views = (VIEW, replace(VIEW, image_size=16, interpolation="bilinear"), VIEW)
    tables = [make_table(seed) for seed in range(3)]
    models = [Lookup(table) for table in tables]
    candidates = [Candidate(str(i), m, v) for i, (m, v) in enumerate(zip(models, views))]
    decoded = []
    monkeypatch.setattr(
        containers, "decode_image",
        lambda data, where, decode=containers.decode_image: decoded.append(where) or decode(
            data, where
        ),
    )  # fmt: skip
    known = {str(i): expected(table, numbers(folder)) for i, table in enumerate(tables)}
    assert measure(candidates, folder, batch_size=5) == known
    assert len(decoded) == len(set(decoded)) == len(folder)
    assert models[0].given == [1, 5, 5, 2]  # the first shows how many outputs there are
    two = 2 * tables[0].nbytes + 5 * 3 * 5 * (24**2 + 16**2)
    for memory_bytes, passes in ((two, 2), (two - 1, 3), (1, 3)):
        decoded.clear()
        assert measure(candidates, folder, batch_size=5, memory_bytes=memory_bytes) == known
        assert len(decoded) == passes * len(folder)


def test_workers_and_drawn_images_change_nothing(folder):
    some = take(folder, 7)
    table = make_table(1)
    rows = [int(os.fsdecode(file)[-7:-5]) for file in some.files]
    known = {"known": expected(table[rows], numbers(some))}
    assert sorted(rows) != rows  # drawn, not the first
    candidate = Candidate("known", Lookup(table), VIEW)
    assert measure([candidate], some) == measure([candidate], some, num_workers=1) == known


def test_counts_equal_those_of_single_images(folder):
    torch.manual_seed(0)
    model = create_model(
        "nest_tiny_cifar", num_classes=1000, img_size=32, embed_dim=12, num_hierarchies=2,
        patch_size=4,
    ).eval()  # fmt: skip
    view = View(32, 0.9, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    with torch.no_grad():  # eight outputs compete, three of them right ones
        model.head.weight *= 20
        model.head.bias[[*CLASSES.values(), 7, 77, 177, 277, 377]] += 20
    for file in folder.files:  # pictures with more than one colour
        path = folder.root / os.fsdecode(file)
        noise = np.random.default_rng(int(path.stem)).integers(0, 256, (4, 5, 3), dtype=np.uint8)
        with Image.open(path) as image:
            size, mode = image.size, image.mode
        Image.fromarray(noise).resize(size).convert(mode).save(path)
    transform = create_transform(
        (3, 32, 32), is_training=False, interpolation="bicubic", crop_pct=0.9, mean=view.mean,
        std=view.std,
    )  # fmt: skip
    logits = []
    for file in folder.files:
        with Image.open(folder.root / os.fsdecode(file)) as image, torch.no_grad():
            logits.append(model(transform(image.convert("RGB"))[None])[0].numpy())
    known = expected(np.stack(logits), numbers(folder))
    assert 0 < known["top1"] < known["top5"] < 100
    assert measure([Candidate("nest", model, view)], folder, batch_size=5) == {"nest": known}


def trained(tiny_recipe, test_set, tmp_path) -> Trainer:
    """A trainer after one step, its EMA apart from its model."""
    train_set = load_dataset("digits", "train", num_images=96)
    recipe = replace(tiny_recipe, dataset_options={}, ema_decay=0.5)
    torch.manual_seed(0)
    model = recipe.build_model(test_set.num_classes)
    train_set = replace(train_set, labels=train_set.labels % test_set.num_classes)
    train_set = replace(train_set, class_names=test_set.class_names)
    trainer = Trainer(recipe, model, train_set, test_set, tmp_path / "run", CPU)
    trainer.train_step(*next(train_set.iterate(torch.arange(32), 32, seed=0)))
    return trainer


@pytest.mark.parametrize("kind", ["array", "folder"])
def test_own_views_give_the_trainers_own_evaluation(kind, tiny_recipe, folder, tmp_path):
    if kind == "array":
        images = load_dataset("digits", "test", num_images=96)
        view = View(32, 1.0, "bilinear", images.mean, images.std)
    else:  # from the files again, by timm's transform and not the trainer's crop
        images = folder
        view = View(32, 0.875, "bilinear", images.mean, images.std)
    trainer = trained(tiny_recipe, images, tmp_path)
    own = {name.removeprefix("test/"): value for name, value in trainer.evaluate().items()}
    candidate = Candidate("own", trainer.ema.module, view)
    measured = measure([candidate], images, batch_size=250)["own"]
    assert measured == own | {"images": len(images)}
    in_parts = measure([candidate], images, batch_size=7)["own"]
    assert in_parts == pytest.approx(measured, rel=1e-6)


def test_what_does_not_fit_is_halved_and_what_fails_ends_alone(folder):
    table = make_table(2)
    known = expected(table, numbers(folder))
    models = {
        "narrow": Lookup(table, most=2),
        "out of memory": Lookup(table, failure=torch.OutOfMemoryError("CUDA out\nof memory")),
        "broken": Lookup(table, most=0),
        "not finite": Lookup(np.full_like(table, np.nan)),
        "whole": Lookup(table),
    }
    candidates = [Candidate(name, model, VIEW) for name, model in models.items()]
    assert measure(candidates, folder, batch_size=8) == {
        "narrow": known,
        "out of memory": {"error": "OutOfMemoryError: CUDA out"},
        "broken": {"error": "OutOfMemoryError: out of memory"},
        "not finite": {"error": "its logits are not finite"},
        "whole": known,
    }
    assert models["narrow"].given == [1, 8, 4, 2, 2, 2, 2, 2, 2]
    assert models["out of memory"].given == [1, 8, 4, 2, 1]  # not asked again


def test_pass_ends_when_no_model_is_left(folder, monkeypatch):
    read = []
    monkeypatch.setattr(
        FolderSet, "read_image",
        lambda self, index, whole=FolderSet.read_image: read.append(index) or whole(self, index),
    )  # fmt: skip
    model = Lookup(make_table(0), failure=RuntimeError("no kernel"))
    assert "error" in measure([Candidate("bad", model, VIEW)], folder, batch_size=2)["bad"]
    assert len(read) == 2


def test_models_are_left_as_they_came(folder):
    model = Lookup(make_table(0)).train()
    before = measure([Candidate("one", model, VIEW)], folder)
    assert model.training and not model.table.is_inference()
    assert measure([Candidate("one", model, VIEW)], folder) == before


def test_bf16_is_near_fp32(tiny_recipe):
    images = load_dataset("digits", "test", num_images=64)
    torch.manual_seed(0)
    view = View(32, 1.0, "bilinear", images.mean, images.std)
    candidate = Candidate("nest", tiny_recipe.build_model(10), view)
    full, half = (measure([candidate], images, precision=p)["nest"] for p in ("fp32", "bf16"))
    assert half["loss"] != full["loss"] and half["loss"] == pytest.approx(full["loss"], rel=0.01)


def some_set(names) -> ImageSet:
    pixels, labels = torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, dtype=torch.int64)
    return ImageSet("things", "test", pixels, labels, tuple(names), MEAN, STD)


@pytest.mark.parametrize(
    ("names", "num_outputs", "expected"),
    [
        (CLASSES, 1000, list(CLASSES.values())),
        (CLASSES, 3, [0, 1, 2]),  # trained on these three
        (["cat", "dog"], 2, [0, 1]),
        (
            ["cat", "dog"],
            1000,
            "has 1000 outputs and things has 2 classes; use one trained on these",
        ),
        (
            ["cat", "dog"],
            1,
            "has 1 outputs and things has 2 classes; use one trained on these classes",
        ),
        (CLASSES, 2, "has 2 outputs and things has 3 classes"),
        (
            CLASSES,
            200,
            "has 200 outputs and things has 3 classes named by wnids; use a model of ImageNet",
        ),
        (
            [*CLASSES, "n99999999"],
            1000,
            r"ImageNet-1k does not have n99999999 \(1 in all\): remove",
        ),
    ],
)
def test_outputs_that_stand_for_classes(names, num_outputs, expected):
    if isinstance(expected, str):
        with pytest.raises(ValueError, match=expected):
            class_numbers(some_set(names), num_outputs)
    else:
        assert class_numbers(some_set(names), num_outputs).tolist() == expected


def test_folders_of_imagenet_by_other_names_do_not_say_which_classes_they_are():
    words = sorted(f"class_{n}" for n in range(1000))
    for names in (words, [str(n) for n in range(1, 1001)]):
        with pytest.raises(ValueError, match="name them by their wnids, or 0 to 999"):
            class_numbers(some_set(names), 1000)
        assert class_numbers(some_set(names), 1000, own=True).tolist() == list(range(1000))
    numbers = some_set([str(n) for n in range(1000)])
    assert class_numbers(numbers, 1000).tolist() == list(range(1000))


def test_words_for_classes_do_not_hide_their_wnids():
    images = replace(some_set(["cat", "ball", "fruit"]), class_ids=tuple(CLASSES))
    assert class_numbers(images, 1000).tolist() == list(CLASSES.values())


def test_mistakes_are_named(folder):
    one = Candidate("one", Lookup(make_table(0)), VIEW)
    with pytest.raises(ValueError, match="share a name"):
        measure([one, one], folder)
    with pytest.raises(ValueError, match="no precision 'fp8'"):
        measure([one], folder, precision="fp8")
    with pytest.raises(ValueError, match="batch_size 0"):
        measure([one], folder, batch_size=0)
    few = Candidate("few", Lookup(make_table(0)[:, :2]), VIEW)
    with pytest.raises(ValueError, match="few: the model has 2 outputs and imagenet has 3 classes"):
        measure([one, few], folder)
    assert one.model.given == [1]  # said before any image is read
    (folder.root / os.fsdecode(folder.files[3])).write_bytes(b"no image")
    with pytest.raises(OSError, match=r"cannot read image .*03\.JPEG"):
        measure([one], folder)


def picture(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.mark.parametrize("name", sorted(set(PUBLISHED)))
def test_published_views_are_timms_own_evaluation(name):
    cfg = get_pretrained_cfg(PUBLISHED[name])
    view = view_of(cfg)
    whole = create_transform(
        cfg.input_size, is_training=False, interpolation=cfg.interpolation, mean=cfg.mean,
        std=cfg.std, crop_pct=cfg.crop_pct,
    )  # fmt: skip
    image = picture(500, 375)
    ours = normalize(view.crop(image)[None], view.mean, view.std)[0]
    torch.testing.assert_close(ours, whole(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [32, 224])
def test_our_test_protocol_is_timms_at_seven_eighths_and_bilinear(size):
    transform = create_transform(
        (3, size, size), is_training=False, normalize=False, interpolation="bilinear",
        crop_pct=0.875,
    )  # fmt: skip
    odd = np.random.default_rng(size).integers(40, 700, (25, 2)).tolist()
    for width, height in ((500, 375), (333, 500), (500, 334), (size, size), *odd):
        image = picture(width, height)
        assert torch.equal(centre_crop(image, size), transform(image))


def test_views_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"crop_pct is 1\.5, must be more than 0 and at most 1"):
        replace(VIEW, crop_pct=1.5)
    with pytest.raises(ValueError, match="interpolation is 'random', must be bilinear or bicubic"):
        replace(VIEW, interpolation="random")
    cfg = get_pretrained_cfg(PUBLISHED["nest_tiny_imagenet"])
    with pytest.raises(ValueError, match="crop mode 'squash'; only square images"):
        view_of(replace(cfg, crop_mode="squash"))


def test_half_width_is_the_binomial_one_of_many_images_and_never_zero():
    plain = 100 * 1.96 * (0.815 * 0.185 / 50_000) ** 0.5
    assert sampling_half_width(81.5, 50_000) == pytest.approx(plain, rel=1e-3)
    assert 10 < sampling_half_width(100, 8) < 30


def test_tiny_imagenet_keeps_the_wnids_that_its_words_replace(tmp_path):
    wnids = sorted(ImageNetInfo().label_names()[5::10])  # a hundred
    for wnid in wnids:
        (tmp_path / "val" / wnid).mkdir(parents=True)
        Image.new("RGB", (64, 64)).save(tmp_path / "val" / wnid / "val_0.JPEG")
    rows = "".join(f"{wnid}\tsome thing\n" for wnid in reversed(wnids))
    (tmp_path / "classes.tsv").write_text(rows)
    for _ in range(2):  # decoded, then from the cache
        images = load_dataset("tiny_imagenet", "test", data_dir=tmp_path)
        assert set(images.class_names) == {"some thing"} and images.class_ids == tuple(wnids)
        assert class_numbers(images, 1000).tolist() == list(range(5, 1000, 10))


@pytest.mark.slow
@pytest.mark.skipif(not TINY_PACK.is_file(), reason=f"no {TINY_PACK}")
def test_real_tiny_imagenet_has_imagenets_numbers():
    wnid_of, words = {}, {}
    with tarfile.open(TINY_PACK, "r|*") as pack:  # apart from nestlib's own reading
        for member in pack:
            path = member.name.split("/")
            if path[-1] == "classes.tsv":
                lines = pack.extractfile(member).read().decode().splitlines()
                words = dict(line.split("\t", 1) for line in lines)
            elif "val" in path and member.isfile():
                pixels = Image.open(io.BytesIO(pack.extractfile(member).read())).convert("RGB")
                wnid_of.setdefault(hashlib.sha256(pixels.tobytes()).digest(), set()).add(path[-2])
    images = load_dataset("tiny_imagenet", "test", data_dir=TINY_PACK.parent)
    numbers, info = class_numbers(images, 1000).tolist(), ImageNetInfo()
    for name, wnid, number in zip(images.class_names, images.class_ids, numbers, strict=True):
        assert name == words[wnid]
        described = info.index_to_description(number).split(",")[0]
        assert name.split(",")[0].lower() == described.lower()
    for index in range(len(images)):
        found = wnid_of[hashlib.sha256(images.read_image(index).tobytes()).digest()]
        assert images.class_ids[images.labels[index]] in found


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (torch.tensor([0.0, 1]), "labels are torch.float32"),
        (torch.tensor([True, False]), "labels are torch.bool"),
        (torch.tensor([0]), r"labels are torch.int64 of shape \(1,\)"),
        (torch.tensor([0, 7]), "label 7 is none of the 7 classes"),
        (torch.tensor([-100, 0]), "label -100 is none of the 7 classes"),
        ([0, 1], "labels are of type list"),
    ],
)
def test_labels_that_are_no_classes_are_named(labels, reason):
    for count in (find_hits, score):  # cross-entropy would leave out a label of -100
        with pytest.raises(ValueError, match=reason):
            count(torch.randn(2, 7), labels)


def test_logits_that_are_nan_hit_nothing():
    """topk takes NaN for the largest."""
    logits = torch.tensor([[float("nan"), 0, 1], [0, 2, 1]])
    assert find_hits(logits, torch.tensor([0, 1])).any(1).tolist() == [False, True]
    bytes_ = torch.tensor([2, 1], dtype=torch.uint8)
    assert find_hits(logits, bytes_).any(1).tolist() == [False, True]


@pytest.mark.parametrize(
    ("packed", "count"), [("AA==", 9), ("AA==", -8), ("/w==", 3), ("!!", 8), (None, 8), ("A", 8)]
)
def test_what_does_not_say_which_images_were_right_is_refused(packed, count):
    with pytest.raises(ValueError, match=r"which (of .* )?images were right"):
        unpack_right(packed, count)


def test_no_rates_have_no_interval():
    for hits, n in ((5, 3), (-1, 3), (0, 0), (1.5, 3), (True, 3)):
        with pytest.raises(ValueError, match="are no rate"):
            wilson(hits, n)
    for percent, n in ((float("nan"), 9), (101, 9), (-1, 9), ("5", 9), (50, 0), (50, 2.5)):
        with pytest.raises(ValueError, match=r"is no accuracy|num_images is"):
            sampling_half_width(percent, n)
