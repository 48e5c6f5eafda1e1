"""Every layout of a data set gives the same samples; a fault is named with its remedy."""

import bz2
import gzip
import hashlib
import io
import lzma
import pickle
import shutil
import tarfile
import zipfile
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.readers.reader_image_folder import ReaderImageFolder
from torchvision.datasets import CIFAR10, ImageFolder
from torchvision.datasets.folder import find_classes

from nestbook.evaluations.imagenet_boxes import load_imagenet_boxes
from nestlib.data import layouts
from nestlib.data.containers import ImageSet
from nestlib.data.datasets import find_dataset, load_dataset
from nestlib.data.folders import class_order, list_tree
from nestlib.data.imagenet_val import read_solution

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


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["10", "9", "100", "0"], ["0", "9", "10", "100"]),
        (["007", "10", "0001"], ["0001", "007", "10"]),
        (["10", "9", "cat"], ["10", "9", "cat"]),
        (["b", "B", "a", "a"], ["B", "a", "b"]),
    ],
)
def test_classes_are_numbered_by_value_or_by_text(names, expected, tmp_path):
    assert class_order(names) == expected
    if not all(map(str.isdigit, names)):  # torchvision numbers all of them by text
        for name in names:
            (tmp_path / name).mkdir(exist_ok=True)
        assert find_classes(tmp_path)[0] == expected


def test_timm_and_torchvision_number_class_folders_differently(tmp_path):
    """As the loader's page says; ours are torchvision's, but images that lie deeper are none."""
    for name in ("cat10", "cat2", "a/x"):
        save(tmp_path / name / "0.png", 0)
    assert ReaderImageFolder(str(tmp_path)).class_to_idx == {"cat2": 0, "cat10": 1, "x": 2}
    assert ImageFolder(tmp_path).class_to_idx == {"a": 0, "cat10": 1, "cat2": 2}
    assert len(ImageFolder(tmp_path)) == 3
    with pytest.raises(ValueError, match=r"class folder .*/a holds no image"):
        list_tree(tmp_path)
    shutil.rmtree(tmp_path / "a")
    assert [file.class_name for file in list_tree(tmp_path)] == ["cat10", "cat2"]


@pytest.mark.parametrize("packed", [False, True])
def test_folders_called_by_numbers_are_these_classes(packed, tmp_path):
    for number in range(100):
        save(tmp_path / "test" / str(number) / "0.png", number)
    if packed:
        pack(tmp_path, tmp_path / "test.tar.xz", "test")
        shutil.rmtree(tmp_path / "test")
    data = load_dataset("cifar100", "test", data_dir=tmp_path)
    assert data.labels.tolist() == list(range(100))
    np.testing.assert_array_equal(data.images[10], pixels(10).transpose(2, 0, 1))


def test_an_image_or_pack_that_is_there_twice_is_named(cifar_tree, tmp_path):
    packs = tmp_path / "packs"
    packs.mkdir()
    pack(cifar_tree, packs / "test.tar.xz", "test")
    shutil.copy(packs / "test.tar.xz", packs / "test (1).tar.xz")
    with pytest.raises(
        ValueError, match=r"airplane comes twice, in .*test \(1\).* and in .*test\."
    ):
        load_dataset("cifar10", "test", data_dir=packs)
    (packs / "test (1).tar.xz").unlink()
    pack(cifar_tree, packs / "test.tar.xz", "test", "test/cat/cat_s_000001.png")
    with pytest.raises(ValueError, match=r"cat_s_000001\.png of class cat comes twice.*remove one"):
        load_dataset("cifar10", "test", data_dir=packs)


def test_what_is_left_out_is_counted_once_with_its_reason(tmp_path, caplog):
    for name in ("a/1.JPG", "b/images/1.png", "b/2.png"):
        save(tmp_path / name, 0)
    assert len(list_tree(tmp_path)) == 2
    assert caplog.messages == [
        f"{tmp_path}: files left out, 1 in all: 1 beside a folder `images`, which is read "
        f"instead ({tmp_path}/b/2.png)"
    ]
    caplog.clear()
    for name in ("a/x/y/1.png", "a/x/2.jpg", "3.png", "a/4.gif", "b/images/5.bmp"):
        save(tmp_path / name, 0)
    for name in (".DS_Store", "a/Thumbs.db", "a/boxes.txt", "b/1.xml", "a/x/notes"):
        (tmp_path / name).touch()
    for name in ("._a", "a/._1.JPG"):
        (tmp_path / name).touch()
    assert len(list_tree(tmp_path)) == 2
    (message,) = caplog.messages
    assert "files left out, 8 in all" in message
    for count, reason in (
        (1, "not directly in a class folder"), (2, "hidden"), (2, "of another kind than .jpeg,"),
        (2, "in folders that are not read"), (1, "beside a folder `images`"),
    ):  # fmt: skip
        assert f"{count} {reason}" in message


def test_what_is_left_out_of_a_pack_is_counted(cifar_tree, tmp_path, caplog):
    save(cifar_tree / "test" / "cat" / "more" / "1.png", 0)
    save(cifar_tree / "test" / "cat" / "2.gif", 0)
    pack(cifar_tree, tmp_path / "test.tar.xz", "test")
    assert len(load_dataset("cifar10", "test", data_dir=tmp_path)) == 20
    assert "files left out, 2 in all" in caplog.text
    assert "cat/2.gif" in caplog.text and "cat/more/1.png" in caplog.text


def test_a_link_to_nowhere_is_named(cifar_tree):
    (cifar_tree / "test" / "cat" / "gone.png").symlink_to("/nowhere/1.png")
    with pytest.raises(OSError, match=r"cannot read .*gone\.png .*fetch it again, or remove it"):
        load_dataset("cifar10", "test", data_dir=cifar_tree)


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


@pytest.mark.parametrize("declared", ["shape", "compressed", "version"])
def test_a_cache_that_declares_more_than_it_holds_is_rebuilt(cifar_tree, declared, caplog):
    fresh = load_dataset("cifar10", "train", data_dir=cifar_tree)
    (cached,) = (cifar_tree / ".nestlib_cache").iterdir()
    images = fresh.images.numpy()
    if declared == "compressed":
        np.savez_compressed(cached, images=np.zeros((2000, 3, 32, 32), np.uint8))
        reason = "unpacked it has 6,144,128 bytes, more than"
    else:
        header = {"shape": (2**30, *images.shape[1:]), "fortran_order": False, "descr": "|u1"}
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, header)
        data = stream.getvalue() + images.tobytes()
        if declared == "version":
            data = data[:6] + b"\3" + data[7:]
        with zipfile.ZipFile(cached, "w") as archive:
            archive.writestr("images.npy", data)
        reason = "declares uint8 (1073741824, 3, 32, 32), but 92,160 bytes follow"
        reason = "version (3, 0)" if declared == "version" else reason
    assert same(fresh, load_dataset("cifar10", "train", data_dir=cifar_tree))
    assert reason in caplog.text


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


def test_official_archive_is_read_as_it_is(cifar_tree, tmp_path, monkeypatch):
    """No network, and a folder that may not be written to."""
    official = official_cifar(tmp_path / "remote" / CIFAR10.base_folder, cifar_tree)
    monkeypatch.setitem(layouts.OFFICIAL_CIFAR, "cifar10", official)
    monkeypatch.setattr(official, "download", None)
    root = tmp_path / "at_hand"
    root.mkdir()
    archive = root / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "remote" / CIFAR10.base_folder, CIFAR10.base_folder)
    for split in ("train", "test"):
        tree = load_dataset("cifar10", split, data_dir=cifar_tree)
        assert same(tree, load_dataset("cifar10", split, data_dir=root, download=True))
    assert list(root.iterdir()) == [archive]
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-3000])
    with pytest.raises(OSError, match=r"cifar-10-python\.tar\.gz is damaged.*remove it"):
        load_dataset("cifar10", "test", data_dir=root)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cifar_tree / "test", "test")
    with pytest.raises(OSError, match=r"test_batch is missing or damaged.*remove"):
        load_dataset("cifar10", "test", data_dir=root)


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


@pytest.mark.parametrize("place", ["{wnid}", "{wnid}/images", "images/{wnid}"])
@pytest.mark.parametrize("left", ["table", "folder", "table and folder", "nothing"])
def test_tiny_imagenet_val_is_read_as_scripts_sort_it(tiny_official, place, left):
    official = load_dataset("tiny_imagenet_200", "test", data_dir=tiny_official)
    val = tiny_official / "val"
    for line in (val / "val_annotations.txt").read_text().splitlines():
        file, wnid, *_ = line.split("\t")
        target = val / place.format(wnid=wnid)
        target.mkdir(parents=True, exist_ok=True)
        (val / "images" / file).rename(target / file)
    if "folder" not in left and not place.startswith("images"):
        (val / "images").rmdir()
    if "table" not in left:
        (val / "val_annotations.txt").unlink()
    data = load_dataset("tiny_imagenet_200", "test", data_dir=tiny_official)
    assert same(official, data)
    assert ("table" in left) == (data.boxes is not None and torch.equal(data.boxes, official.boxes))


def test_copied_val_images_may_stay_beside_their_folders(tiny_official):
    official = load_dataset("tiny_imagenet_200", "test", data_dir=tiny_official)
    val = tiny_official / "val"
    for line in (val / "val_annotations.txt").read_text().splitlines():
        file, wnid, *_ = line.split("\t")
        (val / wnid).mkdir()
        shutil.copy(val / "images" / file, val / wnid / file)
    assert same(official, load_dataset("tiny_imagenet_200", "test", data_dir=tiny_official))
    (val / "val_annotations.txt").unlink()
    assert same(official, load_dataset("tiny_imagenet_200", "test", data_dir=tiny_official))


def test_faults_of_tiny_imagenets_table_are_named(tiny_official, caplog):
    table = tiny_official / "val" / "val_annotations.txt"
    rows = table.read_text().splitlines()

    def load(lines):
        table.write_text("\n".join(lines))
        return load_dataset("tiny_imagenet_200", "test", data_dir=tiny_official)

    whole = load(rows)
    assert same(whole, load(["", *(row.replace("\t", "  ") for row in rows), " "]))
    with pytest.raises(ValueError, match=r"line 3: 'val_7\.JPEG' is no file and wnid"):
        load([*rows[:2], "val_7.JPEG", *rows[2:]])
    with pytest.raises(
        ValueError, match=r"val_annotations\.txt, line 201: names val_\d+\.JPEG again"
    ):
        load([*rows, rows[5]])
    save(tiny_official / "val" / "images" / "other.JPEG", 0, (64, 64))
    assert same(whole, load(rows))
    assert "1 not named in" in caplog.text and "other.JPEG" in caplog.text
    table.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"are in val_annotations\.txt, which .*val does not hold"
    ):
        load_dataset("tiny_imagenet_200", "test", data_dir=tiny_official)


@pytest.mark.parametrize("given", ["", "ILSVRC", "ILSVRC/Data/CLS-LOC"])
def test_imagenet_is_read_as_kaggles_archive_unpacks(given, tmp_path):
    root = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
    truth, rows = {3: "n02", 1: "n10", 2: "n02"}, ["ImageId,PredictionString"]
    for wnid in ("n02", "n10"):
        save(root / "train" / wnid / f"{wnid}_1.JPEG", 5)
    for number, wnid in truth.items():
        name = f"ILSVRC2012_val_{number:08}"
        save(root / "val" / f"{name}.JPEG", number)
        rows.append(f"{name},{wnid} 1 2 30 31 {wnid} 4 5 6 7 ")
        box = tmp_path / "ILSVRC" / "Annotations" / "CLS-LOC" / "val" / f"{name}.xml"
        box.parent.mkdir(parents=True, exist_ok=True)
        box.write_text(
            "<annotation><size><width>32</width><height>32</height></size><object>"
            f"<name>{wnid}</name><bndbox><xmin>{number}</xmin><ymin>2</ymin><xmax>30</xmax>"
            "<ymax>31</ymax></bndbox></object></annotation>"
        )
    options = {"data_dir": tmp_path / given, "partial": True, "num_workers": 0}
    with pytest.raises(FileNotFoundError, match=r"LOC_val_solution\.csv .*; neither is in .*put"):
        load_dataset("imagenet", "test", **options)
    table = tmp_path / "LOC_val_solution.csv"
    table.write_text("\n".join(rows))
    test = load_dataset("imagenet", "test", **options)
    names = [Path(file.decode()).name for file in test.files]
    assert names == [f"ILSVRC2012_val_{number:08}.JPEG" for number in (2, 3, 1)]
    assert (test.labels.tolist(), test.class_names) == ([0, 0, 1], ("n02", "n10"))
    assert load_imagenet_boxes(test, 32)[:, 0, 0].tolist() == [2, 3, 1]
    assert load_dataset("imagenet", "train", **options).labels.tolist() == [0, 1]
    table.write_text("ImageId,PredictionString\nILSVRC2012_val_00000001")
    with pytest.raises(OSError, match=r"LOC_val_solution\.csv, line 2, .*fetch it again"):
        load_dataset("imagenet", "test", **options)
    table.write_text("ImageId,PredictionString\nILSVRC2012_val_00000009,n02 1 2 3 4")
    with pytest.raises(ValueError, match=r"names none of the images in .*val"):
        load_dataset("imagenet", "test", **options)


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


def test_tables_of_tiny_imagenet_are_read_as_people_save_them(tiny_official):
    before = load_dataset("tiny_imagenet_200", "test", data_dir=tiny_official)
    table, words = tiny_official / "val" / "val_annotations.txt", tiny_official / "words.txt"
    lines = [line.split("\t") for line in table.read_text().splitlines()]
    exchanged = [[*start, x1, y1, x0, f"{y0}.2"] for *start, x0, y0, x1, y1 in lines]
    table.write_bytes("\r\n\r\n".join(map(" ".join, exchanged)).encode())
    words.write_bytes(b"\r\n" + words.read_bytes().replace(b"thing", "caf\xe9".encode("latin-1")))
    after = load_dataset("tiny_imagenet_200", "test", data_dir=tiny_official)
    assert after.fingerprint == before.fingerprint and torch.equal(after.boxes, before.boxes)
    assert after.class_names[7] == "caf\xe9 007"


def test_faults_in_tables_of_boxes_are_named(tiny_official):
    table = tiny_official / "train" / "n00000150" / "n00000150_boxes.txt"
    table.write_text("n00000150_0.JPEG\t90\t1\t95\t9\n")
    fault = r"n00000150_boxes\.txt, line 1: the box 90, 1, 95, 9 is outside .*correct the line"
    for name in ("tiny_imagenet", "tiny_imagenet_200"):
        with pytest.raises(ValueError, match=fault):
            load_dataset(name, "train", data_dir=tiny_official)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("cifar10", r"(?s)train/<class>/<image>.*train\*\.tar\.xz"),
        ("cifar100", r"(?s)cifar-100-python/.*169 MB.*download=True\)"),
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
    with pytest.raises(ValueError, match=r"cifar10 has 10 classes, but .* have 9 \('airplane',.*"):
        load_dataset("cifar10", "train", data_dir=cifar_tree)


def test_damaged_pack_is_named(cifar_tree, tmp_path):
    path = tmp_path / "test.tar.xz"
    pack(cifar_tree, path, "test")
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(OSError, match=r"(?s)test\.tar\.xz is damaged.*fetch it again"):
        load_dataset("cifar10", "test", data_dir=tmp_path)


def cut_at_a_member(tar: bytes) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return tar[: archive.getmembers()[-1].offset]


@pytest.mark.parametrize("compressor", [lzma, gzip, bz2], ids=lambda module: module.__name__)
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda tar, compress: compress(cut_at_a_member(tar)), "breaks off at byte"),
        (lambda tar, compress: compress(tar + tar), "more follows its end at byte"),
        (lambda tar, compress: compress(tar) * 2, "more follows its end at byte"),
    ],
    ids=["cut at a member's end", "joined, then compressed", "compressed, then joined"],
)
def test_a_pack_that_lacks_images_is_refused(spoil, message, compressor, cifar_tree, tmp_path):
    path = tmp_path / "test.tar.xz"
    pack(cifar_tree, path, "test")
    tar = lzma.decompress(path.read_bytes())
    path.write_bytes(spoil(tar, compressor.compress))
    with pytest.raises(OSError, match=rf"test\.tar\.xz is damaged .*{message} .*fetch it again"):
        load_dataset("cifar10", "test", data_dir=tmp_path)


@pytest.mark.parametrize("compressor", [lzma, gzip, bz2], ids=lambda module: module.__name__)
def test_a_pack_compressed_in_parts_is_read_whole(compressor, cifar_tree, tmp_path):
    """As parallel compressors write it. tarfile's stream, hence WebDataset, ends after one part."""
    path = tmp_path / "test.tar.xz"
    pack(cifar_tree, path, "test")
    tar = lzma.decompress(path.read_bytes())
    middle = tar.index(b"any/test/dog/")  # a header
    path.write_bytes(compressor.compress(tar[:middle]) + compressor.compress(tar[middle:]))
    tree = load_dataset("cifar10", "test", data_dir=cifar_tree)
    assert same(tree, load_dataset("cifar10", "test", data_dir=tmp_path))


def test_hard_links_in_a_pack_are_read(cifar_tree, tmp_path):
    """As `tar` and Python's tarfile store a file of several names, here copies of other classes."""
    for name in CLASSES[1:]:
        path = cifar_tree / "test" / name / "0.png"
        path.hardlink_to(cifar_tree / "test" / CLASSES[0] / f"{CLASSES[0]}_s_000000.png")
    tree = load_dataset("cifar10", "test", data_dir=cifar_tree)
    pack(cifar_tree, tmp_path / "test.tar.xz", "test")
    with tarfile.open(tmp_path / "test.tar.xz") as archive:
        assert sum(member.islnk() for member in archive) == 9
    packed = load_dataset("cifar10", "test", data_dir=tmp_path)
    assert len(packed) == 29 and same(packed, tree)


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


def test_a_copy_beside_the_images_of_tiny_imagenet_has_no_number(tiny_official):
    """As Windows calls copies; wnids.txt as Notepad saves it."""
    before = load_dataset("tiny_imagenet", "train", data_dir=tiny_official)
    image = next((tiny_official / "train").glob("*/images/*_0.JPEG"))
    image.with_stem(f"{image.stem} (1)").write_bytes(image.read_bytes())
    wnids = tiny_official / "wnids.txt"
    wnids.write_bytes(b"\xef\xbb\xbf" + wnids.read_bytes())
    after = load_dataset("tiny_imagenet", "train", data_dir=tiny_official)
    assert after.class_ids == before.class_ids and torch.equal(after.images, before.images)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ("a,n1\na,n2", "line 3, .*a is of n1 in an earlier line, here n2"),
        ("a,../x", "line 2, .*'a' is of class '../x'"),
        ("a,.", "line 2, .*'a' is of class '.'"),
        (",n1", "line 2, .*'' is of class 'n1'"),
        ("a", "line 2, does not tell"),
        ("a,", "line 2, does not tell"),
    ],
)
def test_a_wrong_line_of_kaggles_table_is_named(tmp_path, lines, reason):
    table = tmp_path / "LOC_val_solution.csv"
    table.write_text(f"ImageId,PredictionString\n{lines}\n")
    with pytest.raises(OSError, match=rf"LOC_val_solution\.csv, {reason}"):
        read_solution(table)
    table.write_bytes(b"ImageId,PredictionString\na\xff,n1\n")
    with pytest.raises(OSError, match=r"LOC_val_solution\.csv is not text in UTF-8"):
        read_solution(table)


def test_kaggles_table_as_people_save_it(tmp_path):
    table = tmp_path / "LOC_val_solution.csv"
    for text in (
        "\ufeffImageId,PredictionString\r\n\r\na,n1 1 2 3 4 n1 5 6 7 8 \r\nb,n2 0 0 1 1\r\n",
        'PredictionString,more,ImageId\n"n1 1 2 3 4",,a\nn2,x, b \nn2,y,b\n',
    ):
        table.write_bytes(text.encode())
        assert read_solution(table) == {"a": "n1", "b": "n2"}


def test_tiny_imagenets_table_as_people_save_it(tiny_official):
    """With a byte order mark, a heading, and names that hold spaces."""
    table, images = tiny_official / "val" / "val_annotations.txt", tiny_official / "val" / "images"
    plain = load_dataset("tiny_imagenet_200", "test", data_dir=tiny_official)
    (images / "val_0.JPEG").rename(images / "val 0.JPEG")
    rows = table.read_text().replace("val_0.JPEG", "val 0.JPEG")
    table.write_text(f"\ufeffFile\tWnid\tx0\ty0\tx1\ty1\r\n{rows}")
    saved = load_dataset("tiny_imagenet_200", "test", data_dir=tiny_official)
    assert sorted(saved.labels.tolist()) == sorted(plain.labels.tolist())
