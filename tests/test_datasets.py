"""Data sets by name: what is known of them, how they iterate, and which requests are refused."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nestlib.data.containers import ImageSet
from nestlib.data.datasets import (
    check_same_classes,
    dataset_info,
    list_datasets,
    load_dataset,
)
from nestlib.data.shard_maker import make_shards


@pytest.fixture(scope="session")
def imagenet_tree(tmp_path_factory) -> Path:
    """ImageNet in small: 1,000 classes, one image each, linked from 20 different ones."""
    root = tmp_path_factory.mktemp("imagenet")
    for i in range(20):
        noise = np.random.default_rng(i).integers(0, 256, (90 - 2 * i, 40 + 3 * i, 3), np.uint8)
        (root / "source").mkdir(exist_ok=True)
        Image.fromarray(noise).save(root / "source" / f"{i}.JPEG")
    for split in ("train", "val"):
        for c in range(1000):
            folder = root / split / f"n{c:08}"
            folder.mkdir(parents=True)
            os.link(root / "source" / f"{c % 20}.JPEG", folder / f"{folder.name}_{c}.JPEG")
    return root


def test_info_needs_no_data():
    assert list_datasets()[0] == "digits"
    for name in list_datasets():
        info = dataset_info(name)
        assert info.name == name
        assert len(info.mean) == len(info.std) == 3
    assert dataset_info("digits").image_sizes == (32, 64)
    cifar100 = dataset_info("cifar100")
    assert (cifar100.num_classes, cifar100.image_size) == (100, 32)
    assert (cifar100.num_images("train"), cifar100.num_images("test")) == (50_000, 10_000)


def test_fingerprint_follows_the_content():
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    labels = torch.tensor([0, 1])
    half = (0.5, 0.5, 0.5)

    def fingerprint(images, labels):
        return ImageSet("toy", "train", images, labels, ("a", "b"), half, half).fingerprint

    changed = images.clone()
    changed[1, 2, 3, 3] = 1
    prints = [
        fingerprint(images, labels), fingerprint(changed, labels),
        fingerprint(images, labels.flip(0)), fingerprint(images.view(2, 3, 2, 8), labels),
    ]  # fmt: skip
    assert len(set(prints)) == 4
    assert prints[0] == fingerprint(images.clone(), labels.clone())
    with pytest.raises(ValueError, match=r"torch.float32 of shape \(2, 3, 4, 4\).*must be uint8"):
        fingerprint(images.float(), labels)
    with pytest.raises(ValueError, match=r"labels are torch.int64 of shape \(1,\).*\(2,\)"):
        fingerprint(images, labels[:1])


def test_image_set_iterates_in_the_given_order():
    data = load_dataset("digits", "test", num_images=20)
    order = torch.randperm(20)
    batches = list(data.iterate(order, 8, seed=0))
    assert [len(labels) for _, labels in batches] == [8, 8, 4]
    assert torch.equal(torch.cat([images for images, _ in batches]), data.images[order])
    assert torch.equal(torch.cat([labels for _, labels in batches]), data.labels[order])
    assert list(data.iterate(order[:0], 8, seed=0)) == []


def test_image_set_moves_whole():
    data = load_dataset("digits", "test", num_images=20).to("meta")
    tensors = (data.images, data.labels, data.boxes, data.box_labels)
    assert all(tensor.device.type == "meta" for tensor in tensors)


def test_squeezed_images_are_whole(imagenet_tree):
    data = load_dataset(
        "imagenet", "train", data_dir=imagenet_tree, image_size=16, num_workers=0, squeeze=True
    )
    ((images, _),) = data.iterate(torch.arange(3), 8, seed=1)
    ((again, _),) = data.iterate(torch.arange(3), 8, seed=2)
    assert torch.equal(images, again)  # nothing is drawn
    for index, image in enumerate(images):
        whole = data.read_image(index).resize((16, 16), Image.Resampling.BILINEAR)
        assert np.array_equal(image.permute(1, 2, 0), np.asarray(whole))


def test_folder_set_draws_crops_from_seed_and_index_alone(imagenet_tree):
    data = load_dataset("imagenet", "train", data_dir=imagenet_tree, image_size=32, num_workers=0)
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))[:30]
    before = torch.random.get_rng_state()
    whole = list(data.iterate(order, 8, seed=3))
    assert torch.equal(before, torch.random.get_rng_state())
    assert [len(labels) for _, labels in whole] == [8, 8, 8, 6]
    assert whole[0][0].shape == (8, 3, 32, 32)
    assert whole[0][0].dtype == torch.uint8
    assert torch.equal(torch.cat([labels for _, labels in whole]), data.labels[order])
    workers = load_dataset(
        "imagenet", "train", data_dir=imagenet_tree, image_size=32, num_workers=2
    )
    resumed = list(workers.iterate(order[16:], 8, seed=3))
    for (images, labels), (again, labels_again) in zip(whole[2:], resumed, strict=True):
        assert torch.equal(images, again)
        assert torch.equal(labels, labels_again)
    other, _ = next(data.iterate(order, 8, seed=4))
    assert not torch.equal(other, whole[0][0])


def test_folder_set_gives_test_images_whole_and_centred(imagenet_tree):
    data = load_dataset("imagenet", "test", data_dir=imagenet_tree, image_size=28, num_workers=0)
    images, _ = next(data.iterate(torch.tensor([4]), 1, seed=0))
    source = Image.open(imagenet_tree / "source" / "4.JPEG")  # 52 x 82
    short = source.resize((32, round(82 * 32 / 52)), Image.Resampling.BILINEAR)
    expected = np.asarray(short.crop((2, 11, 30, 39))).transpose(2, 0, 1)
    np.testing.assert_array_equal(images[0], expected)
    assert (data.image_size, data.num_classes, len(data)) == ((28, 28), 1000, 1000)
    assert data.boxes is None


def test_folder_set_fingerprint_follows_names_and_sizes(imagenet_tree):
    train, again, test = (
        load_dataset("imagenet", split, data_dir=imagenet_tree).fingerprint
        for split in ("train", "train", "test")
    )
    assert train == again != test


@pytest.mark.parametrize("num_workers", [0, 2])
def test_folder_set_names_the_image_it_cannot_read(tmp_path, imagenet_tree, num_workers):
    data = load_dataset("imagenet", "test", data_dir=imagenet_tree, num_workers=num_workers)
    files = data.files.copy()
    files[0] = b"broken.JPEG"
    broken = type(data)(**{**vars(data), "root": tmp_path, "files": files})
    (tmp_path / "broken.JPEG").write_bytes(b"\xff\xd8 no more")
    with pytest.raises(OSError, match=r"broken\.JPEG.*fetch the file again"):
        list(broken.iterate(torch.tensor([0]), 1, seed=0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            ("cifer10", "train", {}),
            r"no data set 'cifer10'; did you mean cifar10, cifar100[?] valid: digits",
        ),
        (("cifar10", "val", {}), "no split of cifar10 'val'; .*train, test .*given as test"),
        (("cifar10", "train", {"image_size": 64}), "cifar10: image_size=64.*choose 32"),
        (("imagenet", "train", {"image_size": 0}), "imagenet: image_size=0.*choose 1 or more"),
        (("cifar10", "train", {"seed": 1}), "no option of cifar10 'seed'; valid: none"),
        (
            ("digits", "train", {"digit": 1}),
            "no option of digits 'digit'; .*valid: digits_per_image",
        ),
        (("imagenet", "train", {"download": True}), "imagenet cannot be downloaded.*data_dir"),
    ],
)
def test_impossible_requests_are_named(call, message):
    name, split, options = call
    with pytest.raises(ValueError, match=message):
        load_dataset(name, split, **options)


def test_a_part_of_imagenet_must_be_asked_for(tmp_path, imagenet_tree):
    for name in sorted(os.listdir(imagenet_tree / "val"))[:3]:
        (tmp_path / "val").mkdir(exist_ok=True)
        (tmp_path / "val" / name).symlink_to(imagenet_tree / "val" / name)
    with pytest.raises(ValueError, match=r"1000 classes, but the test images .* have 3 .*missing"):
        load_dataset("imagenet", "test", data_dir=tmp_path, image_size=32)
    part = load_dataset("imagenet", "test", data_dir=tmp_path, image_size=32, partial=True)
    assert len(part) == 3 and part.labels.tolist() == [0, 1, 2]


def put(root: Path, split: str, *names: str) -> None:
    """One image a class, as red as its place in `names`."""
    for red, name in enumerate(names):
        path = root / split / name / "0.png"
        path.parent.mkdir(parents=True)
        Image.new("RGB", (8, 8), (red, 0, 0)).save(path)


def load_part(root: Path, split: str, **options):
    options = {"image_size": 8, "num_workers": 0, "partial": True} | options
    return load_dataset("imagenet", split, data_dir=root, **options)


def reds(images, label: int) -> list[int]:
    """The red of a class's images."""
    batches = images.iterate(torch.arange(len(images)), 8, seed=0)
    return [int(image[0, 0, 0]) for pixels, labels in batches
            for image, own in zip(pixels, labels.tolist()) if own == label]  # fmt: skip


@pytest.mark.parametrize("sharded", [False, True])
def test_a_split_takes_the_numbers_of_another(tmp_path, sharded):
    put(tmp_path, "train", "cat", "dog", "owl")
    put(tmp_path, "val", "owl", "dog")
    root = tmp_path / "shards" if sharded else tmp_path
    if sharded:
        make_shards("imagenet", tmp_path, root, splits=["test"], processes=1, progress=False)
    train = load_part(tmp_path, "train")
    test = load_part(root, "test", class_names=train.identifiers)
    assert test.class_names == ("cat", "dog", "owl") and test.num_classes == 3
    assert [reds(test, label) for label in range(3)] == [[], [1], [0]]
    assert test.fingerprint == load_part(root, "test").fingerprint
    with pytest.raises(ValueError, match=r"test images .* do not have: 'owl'; .*: 'cat'") as e:
        load_part(root, "test", class_names=("cat", "dog"))
    assert str(root) in str(e.value)


def test_folders_called_by_numbers_stand_for_the_classes_of_train(tmp_path):
    """ImageNetV2 beside ImageNet's own train."""
    names = [f"n{number:02}" for number in range(11)]
    put(tmp_path, "train", *names)
    put(tmp_path, "val", *map(str, range(11)))
    test = load_part(tmp_path, "test", class_names=load_part(tmp_path, "train").identifiers)
    assert test.class_names == tuple(names)
    assert [reds(test, label) for label in range(11)] == [[red] for red in range(11)]
    with pytest.raises(
        ValueError,
        match=r"do not have: '0', '1', '2', '3', '4', \.\.\. \(11 in all\); only in",
    ):
        load_part(tmp_path, "test", class_names=names[:10])


def test_words_and_boxes_follow_the_numbers():
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    boxes = torch.zeros(2, 2, 4, dtype=torch.int16)
    box_labels = torch.tensor([[0, -1], [1, 1]])
    half = (0.5, 0.5, 0.5)
    data = ImageSet("toy", "test", images, torch.tensor([0, 1]), ("a cat", "an owl"), half, half,
                    boxes, box_labels, ("n1", "n3"))  # fmt: skip
    assert data.identifiers == ("n1", "n3")
    other = data.renumber([2, 0], ("n3", "n2", "n1"))
    assert other.labels.tolist() == [2, 0] and other.box_labels.tolist() == [[2, -1], [0, 0]]
    assert other.class_names == ("an owl", "n2", "a cat")
    assert other.identifiers == other.class_ids == ("n3", "n2", "n1")


def test_other_classes_than_a_runs_are_named():
    digits = load_dataset("digits", "test", num_images=10)
    check_same_classes(digits, [str(digit) for digit in range(10)], "run x")
    with pytest.raises(
        ValueError, match=r"than run x, 2 in all: 0 is '0', not '1'; 1 is '1', not '0'; give"
    ):
        check_same_classes(digits, list("1023456789"), "run x")
    with pytest.raises(ValueError, match=r"test images of digits .* 1 in all: 9 is '9', not None"):
        check_same_classes(digits, list("012345678"), "run x")
    check_same_classes(digits, list("abcdefghij"), "run x")  # folders 0 ... 9 are these classes


def test_a_file_that_is_gone_counts_in_the_fingerprint(tmp_path):
    put(tmp_path, "train", "cat", "dog")
    whole = load_part(tmp_path, "train").fingerprint
    (tmp_path / "train" / "dog" / "0.png").unlink()
    os.symlink("/nowhere", tmp_path / "train" / "dog" / "0.png")
    gone = load_part(tmp_path, "train", skip_limit=1)
    assert gone.fingerprint != whole
    assert [len(labels) for _, labels in gone.iterate(torch.arange(2), 2, seed=0)] == [1]
    assert gone.faults.describe()["names"] == ["train/dog/0.png"]
    with pytest.raises(OSError, match=r"cannot read 1 of 2 images .*dog.*remove"):
        make_shards("imagenet", tmp_path, tmp_path / "shards", processes=1, progress=False)


def test_shards_take_every_option_of_folders(tmp_path):
    put(tmp_path, "train", "cat", "dog")
    make_shards("imagenet", tmp_path, tmp_path / "out", splits=["train"], processes=1,
                progress=False)  # fmt: skip
    given = {"num_workers": 1, "partial": True, "skip_limit": 7, "squeeze": True}
    assert set(given) == set(dataset_info("imagenet").options)
    for root in (tmp_path, tmp_path / "out"):
        images = load_part(root, "train", **given)
        assert (images.num_workers, images.squeeze, images.faults.limit) == (1, True, 7)
        assert reds(images, 1) == [1]
