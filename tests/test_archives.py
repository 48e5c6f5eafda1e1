"""ImageNet's tars, as handed out and as people pack them again; its val images in one folder."""

import io
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from nestlib.data import imagenet_val
from nestlib.data.archives import TARS, list_sources
from nestlib.data.datasets import load_dataset

TRAIN = {"n02/n02_1.JPEG": 1, "n02/n02_2.JPEG": 2, "n10/n10_7.JPEG": 3}
VAL = {1: "n10", 2: "n02", 3: "n10"}


def photo(red: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (9, 9), (red, 0, 0)).save(stream, "png")
    return stream.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def folder(tar: tarfile.TarFile, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    tar.addfile(info)


def tar_of(files: dict[str, bytes], *folders: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name in folders:
            folder(tar, name)
        for name, data in files.items():
            add(tar, name, data)
    return stream.getvalue()


def tars_of_classes(prefix: str, within: str) -> dict[str, bytes]:
    """A tar a class, and what macOS lays beside each."""
    found = {}
    for wnid in ("n10", "n02"):
        inner = {f"{within}{Path(n).name}": photo(r) for n, r in TRAIN.items() if wnid in n}
        found |= {f"{prefix}._{wnid}.tar": b"AppleDouble", f"{prefix}{wnid}.tar": tar_of(inner)}
    return found


def read(source) -> bytes:
    with open(source.path, "rb") as file:
        file.seek(source.offset)
        return file.read(source.size)


@pytest.mark.parametrize(
    "packed",
    [
        tar_of(tars_of_classes("", "")),
        tar_of(tars_of_classes("./", "./"), "."),
        tar_of(tars_of_classes("ILSVRC2012_img_train/", "n00/"), "ILSVRC2012_img_train"),
        tar_of({name: photo(red) for name, red in TRAIN.items()}, "n02", "n10"),
        tar_of({f"./train/{n}": photo(red) for n, red in TRAIN.items()}, "./train", "./train/n02"),
    ],
    ids=["as handed out", "from .", "in a folder", "class folders", "train and class folders"],
)
def test_train_tar_packed_again(packed, tmp_path, caplog):
    (tmp_path / TARS["train"]).write_bytes(packed)
    found = list_sources("imagenet", "train", tmp_path)
    assert [(one.class_name, one.file) for one in found] == [
        (name[:3], f"train/{name}") for name in TRAIN
    ]
    assert [read(one) for one in found] == [photo(red) for red in TRAIN.values()]
    assert ("2 hidden" in caplog.text) == (b"AppleDouble" in packed)


def test_an_image_that_a_tar_holds_twice_is_named(tmp_path):
    twice = tars_of_classes("", "") | tars_of_classes("copy/", "")
    (tmp_path / TARS["train"]).write_bytes(tar_of(twice))
    with pytest.raises(ValueError, match=r"img_train\.tar contains train/n02/n02_1\.JPEG twice"):
        list_sources("imagenet", "train", tmp_path)


@pytest.mark.parametrize("within", ["", "./", "val/"])
def test_val_tar_packed_again(within, tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet_val, "read_ground_truth", lambda _: list(VAL.values()))
    (tmp_path / imagenet_val.DEVKIT).touch()
    files = {f"{within}ILSVRC2012_val_{number:08}.JPEG": photo(number) for number in VAL}
    beside = {f"{within}._ILSVRC2012_val_00000001.JPEG": b"AppleDouble"}
    (tmp_path / TARS["test"]).write_bytes(tar_of(files | beside, within or "."))
    found = list_sources("imagenet", "test", tmp_path)
    assert [(one.class_name, read(one)) for one in found] == [
        ("n02", photo(2)), ("n10", photo(1)), ("n10", photo(3)),
    ]  # fmt: skip
    assert found[0].file == "val/n02/ILSVRC2012_val_00000002.JPEG"
    (tmp_path / TARS["test"]).write_bytes(tar_of({"ILSVRC2012_val_00000004.JPEG": photo(4)}))
    with pytest.raises(OSError, match=r"ILSVRC2012_val_00000004\.JPEG has no class in .*devkit"):
        list_sources("imagenet", "test", tmp_path)


def test_val_images_in_one_folder_get_their_classes_from_the_kit(tmp_path, monkeypatch):
    monkeypatch.setattr(imagenet_val, "read_ground_truth", lambda _: list(VAL.values()))
    (tmp_path / imagenet_val.DEVKIT).touch()
    (tmp_path / "val").mkdir()
    for number in VAL:
        (tmp_path / "val" / f"ILSVRC2012_val_{number:08}.JPEG").write_bytes(photo(number))
    test = load_dataset("imagenet", "test", data_dir=tmp_path, partial=True, num_workers=0)
    reds = [test.read_image(index).getpixel((0, 0))[0] for index in range(3)]
    assert reds == [2, 1, 3] and test.labels.tolist() == [0, 1, 1]
    assert [read(one) for one in list_sources("imagenet", "test", tmp_path)] == [
        photo(red) for red in reds
    ]


def test_links_in_a_tar_are_counted(tmp_path, caplog):
    """As `jdupes -L` leaves them."""
    with tarfile.open(tmp_path / TARS["train"], "w") as tar:
        add(tar, "n02/n02_1.JPEG", photo(1))
        add(tar, "n10/images/n10_2.JPEG", photo(2))
        for name, kind in (("n10/twin.JPEG", tarfile.LNKTYPE), ("n10/other.JPEG", tarfile.SYMTYPE)):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, "n02/n02_1.JPEG"
            tar.addfile(link)
    found = list_sources("imagenet", "train", tmp_path)
    assert [(one.class_name, Path(one.file).name) for one in found] == [
        ("n02", "n02_1.JPEG"), ("n10", "n10_2.JPEG"),
    ]  # fmt: skip
    assert "2 in all: 2 links in a tar" in caplog.text
