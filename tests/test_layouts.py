"""Every layout of a data set gives the same samples; a fault is named with its remedy."""

import hashlib
import pickle
import tarfile
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

from nestlib.data import layouts
from nestlib.data.containers import ImageSet
from nestlib.data.datasets import find_dataset, load_dataset

REAL = Path(__file__).parents[1] / ".." / "shared" / "data"
CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def pixels(seed: int, size=(32, 32)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)


def save(path: Path, seed: int, size=(32, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(seed, size)).save(path)


@pytest.fixture
def cifar_tree(tmp_path) -> Path:
    """CIFAR-10 in small: three images a class in train, two in test."""
    root = tmp_path / "tree"
    for split, count in (("train", 3), ("test", 2)):
        for c, name in enumerate(CLASSES):
            for i in range(count):
                save(root / split / name / f"{name}_s_{i:06}.png", 10 * c + i + 1000 * (count == 2))
    return root


def pack(source: Path, target: Path, *members: str) -> None:
    with tarfile.open(target, "w:xz") as archive:
        for member in members:
            archive.add(source / member, f"any/{member}")


def same(one: ImageSet, other: ImageSet) -> bool:
    return one.fingerprint == other.fingerprint and one.class_names == other.class_names


def test_tree_is_read_in_order_of_class_and_name(cifar_tree, caplog):
    data = load_dataset("cifar10", "train", data_dir=cifar_tree)
    assert "holds 30 train images, the published set 50000" in caplog.text
    assert data.class_names == tuple(CLASSES)
    assert data.labels.tolist() == sorted(list(range(10)) * 3)
    for index in (0, 4, 29):
        expected = pixels(10 * (index // 3) + index % 3).transpose(2, 0, 1)
        np.testing.assert_array_equal(data.images[index], expected)
    assert data.images.is_contiguous()
    assert (len(data), data.image_size, data.num_classes) == (30, (32, 32), 10)


def test_packs_and_nested_folder_equal_the_tree(cifar_tree, tmp_path):
    halves = [f"train/{name}" for name in CLASSES]
    packs = tmp_path / "packs"
    packs.mkdir()
    pack(cifar_tree, packs / "train-a.tar.xz", *halves[5:])  # not in order, and it does not matter
    pack(cifar_tree, packs / "train-b.tar.xz", *halves[:5])
    tree = load_dataset("cifar10", "train", data_dir=cifar_tree)
    assert same(tree, load_dataset("cifar10", "train", data_dir=packs))
    nested = tmp_path / "nested"
    nested.mkdir()
    (nested / "cifar10").symlink_to(cifar_tree)
    assert same(tree, load_dataset("cifar10", "train", data_dir=nested))


def test_data_dir_comes_from_the_environment(cifar_tree, tmp_path, monkeypatch):
    (tmp_path / "cifar10").symlink_to(cifar_tree)
    monkeypatch.setenv("NESTLIB_DATA", str(tmp_path))
    assert len(load_dataset("cifar10", "test")) == 20
    monkeypatch.delenv("NESTLIB_DATA")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"data/cifar10"):
        load_dataset("cifar10", "test")


def test_data_dir_is_the_projects_in_each_of_its_folders(cifar_tree, tmp_path, monkeypatch):
    """`nest train --download` is called at its root, a notebook works in experiments/."""
    monkeypatch.delenv("NESTLIB_DATA", raising=False)
    (tmp_path / "experiments").mkdir()
    (tmp_path / "_config.yml").touch()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cifar10").symlink_to(cifar_tree)
    monkeypatch.chdir(tmp_path / "experiments")
    assert len(load_dataset("cifar10", "test")) == 20


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "tiny_imagenet", "imagenet"])
def test_images_are_looked_for_without_being_read(name, tmp_path):
    """The same message, and nothing is left behind."""
    with pytest.raises(FileNotFoundError) as found:
        find_dataset(name, "train", tmp_path)
    with pytest.raises(FileNotFoundError) as loaded:
        load_dataset(name, "train", data_dir=tmp_path)
    assert str(found.value) == str(loaded.value)
    assert not list(tmp_path.iterdir())
    find_dataset("digits", "train", tmp_path)


def test_found_images_are_not_decoded(cifar_tree, monkeypatch):
    monkeypatch.setattr(layouts, "decode_entries", None)
    monkeypatch.setattr(layouts, "load_or_build", None)
    find_dataset("cifar10", "test", cifar_tree)


def test_cache_equals_fresh_decode_and_is_used(cifar_tree, monkeypatch):
    fresh = load_dataset("cifar10", "train", data_dir=cifar_tree)
    with monkeypatch.context() as context:
        context.setattr(layouts, "decode_entries", None)  # decoding again would fail
        assert same(fresh, load_dataset("cifar10", "train", data_dir=cifar_tree))


def test_changed_source_is_decoded_again(cifar_tree):
    before = load_dataset("cifar10", "train", data_dir=cifar_tree)
    save(cifar_tree / "train" / "cat" / "cat_s_000000.png", 77)
    after = load_dataset("cifar10", "train", data_dir=cifar_tree)
    assert before.fingerprint != after.fingerprint


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_damaged_cache_is_rebuilt(cifar_tree, damage, caplog):
    fresh = load_dataset("cifar10", "train", data_dir=cifar_tree)
    (cached,) = (cifar_tree / ".nestlib_cache").iterdir()
    data = bytearray(cached.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    cached.write_bytes({"cut": data[:5000], "flip": data, "empty": b""}[damage])
    assert same(fresh, load_dataset("cifar10", "train", data_dir=cifar_tree))
    assert "damaged" in caplog.text
    (rebuilt,) = (cifar_tree / ".nestlib_cache").iterdir()
    assert rebuilt.stat().st_size == len(data)


def test_read_only_folder_is_left_alone(cifar_tree, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    cifar_tree.chmod(0o555)
    load_dataset("cifar10", "test", data_dir=cifar_tree)
    cifar_tree.chmod(0o755)
    assert not (cifar_tree / ".nestlib_cache").exists()
    assert len(list((tmp_path / "home" / ".cache" / "nestlib").iterdir())) == 1


def official_cifar(folder: Path, tree: Path) -> type[CIFAR10]:
    """Write `tree` as the official pickles, shuffled; returns torchvision's class for them."""
    folder.mkdir(parents=True)
    sums = {}

    def write(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()

    def batch(paths):
        data = np.stack([np.asarray(Image.open(p)).transpose(2, 0, 1).ravel() for p in paths])
        labels = [CLASSES.index(p.parent.name) for p in paths]
        return {"data": data, "labels": labels, "filenames": [p.name for p in paths]}

    train = sorted(tree.glob("train/*/*"), key=lambda p: hashlib.md5(p.name.encode()).digest())
    write("data_batch_1", batch(train[:20]))
    write("data_batch_2", batch(train[20:]))
    write("test_batch", batch(sorted(tree.glob("test/*/*"))))
    write("batches.meta", {"label_names": CLASSES})

    class Small(CIFAR10):
        train_list = (
            ("data_batch_1", sums["data_batch_1"]),
            ("data_batch_2", sums["data_batch_2"]),
        )
        test_list = (("test_batch", sums["test_batch"]),)
        meta = MappingProxyType(
            {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
        )

    return Small


def test_official_files_equal_the_tree(cifar_tree, tmp_path, monkeypatch):
    root = tmp_path / "official"
    official = official_cifar(root / CIFAR10.base_folder, cifar_tree)
    monkeypatch.setitem(layouts.OFFICIAL_CIFAR, "cifar10", official)
    for split in ("train", "test"):
        tree = load_dataset("cifar10", split, data_dir=cifar_tree)
        assert same(tree, load_dataset("cifar10", split, data_dir=root))
    (root / CIFAR10.base_folder / "data_batch_2").write_bytes(b"")
    with pytest.raises(OSError, match=r"data_batch_2 is missing or damaged.*remove"):
        load_dataset("cifar10", "train", data_dir=root)


def test_download_is_whole_or_leaves_nothing(cifar_tree, tmp_path, monkeypatch, capsys):
    official = official_cifar(tmp_path / "remote" / CIFAR10.base_folder, cifar_tree)
    root, broken = tmp_path / "fetched", [True]

    def fetch(self):
        (Path(self.root) / CIFAR10.base_folder).mkdir()
        if broken[0]:
            raise OSError("connection lost")
        for source in (tmp_path / "remote" / CIFAR10.base_folder).iterdir():
            (Path(self.root) / CIFAR10.base_folder / source.name).write_bytes(source.read_bytes())

    monkeypatch.setattr(official, "download", fetch)
    monkeypatch.setitem(layouts.OFFICIAL_CIFAR, "cifar10", official)
    with pytest.raises(OSError, match=r"connection lost.*nothing of it was kept"):
        load_dataset("cifar10", "test", data_dir=root, download=True)
    assert list(root.iterdir()) == []
    broken[0] = False
    data = load_dataset("cifar10", "test", data_dir=root, download=True)
    assert len(data) == 20
    assert f"170 MB, from {CIFAR10.url} to {root}" in capsys.readouterr().err
    assert [path.name for path in root.iterdir()] == [CIFAR10.base_folder]


@pytest.fixture
def tiny_official(tmp_path) -> Path:
    """The official layout in small: 200 classes, train images 0 and 300, one grey val image."""
    root = tmp_path / "tiny" / "tiny-imagenet-200"
    wnids = [f"n{c:08}" for c in range(200)]
    rows = []
    for c, wnid in enumerate(wnids):
        boxes = ""
        for number in (0, 300):
            save(root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", c + number, (64, 64))
            boxes += f"{wnid}_{number}.JPEG\t{c % 60}\t1\t63\t{2 + c % 60}\n"
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(boxes)
        rows.append(f"val_{c}.JPEG\t{wnid}\t0\t1\t2\t{c % 64}")
        save(root / "val" / "images" / f"val_{c}.JPEG", c + 1, (64, 64))
    Image.new("L", (64, 64), 99).save(root / "val" / "images" / "val_0.JPEG")
    (root / "val" / "val_annotations.txt").write_text("\n".join(rows[::-1]))
    (root / "wnids.txt").write_text("\n".join(wnids[::-1]))  # the first 100 are the last by name
    (root / "words.txt").write_text("\n".join(f"{w}\tthing {w[-3:]}" for w in wnids))
    return root


def test_tiny_imagenet_from_the_official_folder(tiny_official):
    train = load_dataset("tiny_imagenet", "train", data_dir=tiny_official)
    test = load_dataset("tiny_imagenet", "test", data_dir=tiny_official.parent)
    assert len(train) == len(test) == 100
    assert train.class_names == test.class_names
    assert train.class_names[0] == "thing 100"
    assert train.boxes[5].tolist() == [[105 % 60, 1, 63, 2 + 105 % 60]]
    assert test.boxes[5].tolist() == [[0, 1, 2, 105 % 64]]
    assert train.box_labels[5].tolist() == [5]
    whole = load_dataset("tiny_imagenet_200", "test", data_dir=tiny_official)
    assert (len(whole), whole.num_classes) == (200, 200)
    assert (whole.images[0] == 99).all()  # the grey image, three channels of it
    assert len(load_dataset("tiny_imagenet_200", "train", data_dir=tiny_official)) == 400


def test_tiny_imagenet_pack_equals_its_tree(tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    lines = ["split,wnid,file,x0,y0,x1,y1"]
    for c in range(100):
        save(tree / "val" / f"n{c:08}" / f"val_{c}.JPEG", c, (64, 64))
        if c:  # the first image goes without a box
            lines.append(f"val,n{c:08},val_{c}.JPEG,{c % 9},1,20,{c % 64}")
    (tree / "boxes.csv").write_text("\r\n".join(lines))
    (tree / "classes.tsv").write_text("n00000007\tseven of them\n")
    pack(tree, tmp_path / layouts.TINY_PACK, "boxes.csv", "classes.tsv", "val")
    one = load_dataset("tiny_imagenet", "test", data_dir=tree)
    monkeypatch.setenv("NESTLIB_DATA", str(tmp_path))
    other = load_dataset("tiny_imagenet", "test")  # found beside the sets' own folders
    assert same(one, other)
    assert torch.equal(one.boxes, other.boxes)
    assert one.boxes[0].tolist() == [[-1] * 4]
    assert one.box_labels[:2].tolist() == [[-1], [1]]
    assert one.boxes[12].tolist() == [[3, 1, 20, 12]]
    assert one.class_names[6:8] == ("n00000006", "seven of them")


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("cifar10", r"(?s)train/<class>/<image>.*train\*\.tar\.xz"),
        ("cifar100", r"(?s)cifar-100-python/.*download=True\).*169 MB"),
        ("tiny_imagenet", r"(?s)tiny-imagenet-200\.zip.*boxes\.csv.*tiny-imagenet-100\.tar\.xz"),
        ("imagenet", r"(?s)train/<wnid>/<image>\.JPEG.*image-net\.org"),
    ],
)
def test_missing_folder_says_what_to_put_where(name, remedy, tmp_path):
    with pytest.raises(FileNotFoundError, match=remedy) as raised:
        load_dataset(name, "train", data_dir=tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in str(raised.value)
    assert "NESTLIB_DATA" in str(raised.value)
    assert not (tmp_path / "nowhere").exists()


def test_faults_in_a_tree_are_named(cifar_tree):
    bad = cifar_tree / "train" / "deer" / "deer_s_000001.png"
    good = bad.read_bytes()
    bad.write_bytes(good[:200])
    with pytest.raises(OSError, match=r"deer_s_000001\.png.*fetch the file again, or remove it"):
        load_dataset("cifar10", "train", data_dir=cifar_tree)
    save(bad, 0, (30, 40))
    with pytest.raises(ValueError, match=r"deer_s_000001\.png is 30 x 40 pixels, expected 32 x 32"):
        load_dataset("cifar10", "train", data_dir=cifar_tree)
    for path in bad.parent.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"class folder .*deer holds no image.*remove the folder"):
        load_dataset("cifar10", "train", data_dir=cifar_tree)
    bad.parent.rmdir()
    with pytest.raises(ValueError, match=r"cifar10 has 10 classes, but .* have 9 \(airplane,.*"):
        load_dataset("cifar10", "train", data_dir=cifar_tree)


def test_damaged_pack_is_named(cifar_tree, tmp_path):
    path = tmp_path / "test.tar.xz"
    pack(cifar_tree, path, "test")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(OSError, match=r"pack .*test\.tar\.xz is damaged.*fetch it again"):
        load_dataset("cifar10", "test", data_dir=tmp_path)


@pytest.mark.skipif(
    not (REAL / "cifar10" / "test.tar.xz").is_file(), reason="needs ../shared/data/cifar10"
)
def test_real_cifar10_test_images(tmp_path):
    (tmp_path / "test.tar.xz").symlink_to((REAL / "cifar10" / "test.tar.xz").resolve())
    data = load_dataset("cifar10", "test", data_dir=tmp_path)
    assert data.class_names == tuple(CLASSES)
    assert torch.bincount(data.labels).tolist() == [1000] * 10
    mean = data.images.double().mean((0, 2, 3)) / 255
    assert mean.sub(torch.tensor(data.mean)).abs().max() < 0.01
    assert data.fingerprint.startswith("35837969")
    assert same(data, load_dataset("cifar10", "test", data_dir=tmp_path))
