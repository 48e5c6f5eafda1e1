"""ImageNet's tars, as handed out and as people pack them again, whole or not; its val images in one
folder."""

import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from nestlib.data import archives, imagenet_val, tars
from nestlib.data.archives import TARS, list_sources
from nestlib.data.datasets import load_dataset

TRAIN = {"n02/n02_1.JPEG": 1, "n02/n02_2.JPEG": 2, "n10/n10_7.JPEG": 3}
VAL = {1: "n10", 2: "n02", 3: "n10"}
GNU_TAR = shutil.which("tar") and b"GNU" in subprocess.check_output(["tar", "--version"])


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
    with pytest.raises(ValueError, match=r"img_train\.tar contains 'train/n02/n02_1\.JPEG' twice"):
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


def link(tar: tarfile.TarFile, name: str, target: str, kind: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    tar.addfile(info)


def test_symbolic_links_in_a_tar_are_counted(tmp_path, caplog):
    with tarfile.open(tmp_path / TARS["train"], "w") as tar:
        add(tar, "n02/n02_1.JPEG", photo(1))
        add(tar, "n10/images/n10_2.JPEG", photo(2))
        link(tar, "n10/other.JPEG", "../n02/n02_1.JPEG", tarfile.SYMTYPE)
    found = list_sources("imagenet", "train", tmp_path)
    assert [(one.class_name, Path(one.file).name) for one in found] == [
        ("n02", "n02_1.JPEG"), ("n10", "n10_2.JPEG"),
    ]  # fmt: skip
    assert "1 in all: 1 symbolic links in a tar" in caplog.text


# Tars that look whole


def webdatasets_images(path: Path) -> int:
    """How many samples with an image WebDataset's own reader finds."""
    wds = pytest.importorskip("webdataset")
    return sum("jpeg" in sample for sample in wds.WebDataset(str(path), shardshuffle=False))


@pytest.mark.skipif(not GNU_TAR, reason="needs GNU tar")
@pytest.mark.parametrize("kind", ["hard links", "tar -h of symbolic links"])
@pytest.mark.parametrize("within", [False, True], ids=["class folders", "tars of classes"])
def test_images_that_tar_stores_as_hard_links_are_read(kind, within, tmp_path, caplog):
    """As `jdupes -L` or `rdfind` leave a tree. WebDataset passes over them."""
    folder = tmp_path / "tree" / "n02"
    folder.mkdir(parents=True)
    (tmp_path / "one").write_bytes(photo(1))
    for number in range(3):
        make_link = os.link if kind == "hard links" else os.symlink
        make_link(tmp_path / "one", folder / f"n02_{number}.JPEG")
    packed, options = tmp_path / TARS["train"], ["-h"] * (kind != "hard links")
    subprocess.run(["tar", *options, "-cf", packed, "-C", folder.parent, "n02"], check=True)
    assert webdatasets_images(packed) == 1
    if within:
        packed.write_bytes(tar_of({"n02.tar": packed.read_bytes()}))
    found = list_sources("imagenet", "train", tmp_path)
    assert [one.file for one in found] == [f"train/n02/n02_{number}.JPEG" for number in range(3)]
    assert [read(one) for one in found] == [photo(1)] * 3
    assert not caplog.text


def test_a_hard_link_without_its_target_is_refused(tmp_path):
    with tarfile.open(tmp_path / TARS["train"], "w") as tar:
        add(tar, "n02/n02_1.JPEG", photo(1))
        link(tar, "n10/n10_7.JPEG", "n10/gone.JPEG", tarfile.LNKTYPE)
    with pytest.raises(
        OSError, match=r"n10_7\.JPEG is a hard link to n10/gone\.JPEG, .*--hard-dereference packs"
    ):
        list_sources("imagenet", "train", tmp_path)


FLAT = {name: photo(red) for name, red in TRAIN.items()}
WHOLE = tar_of(FLAT)
with tarfile.open(fileobj=io.BytesIO(WHOLE)) as _tar:
    THIRD = _tar.getmembers()[2].offset
SEEM_WHOLE = {
    "cut at a member's end": (WHOLE[:THIRD], f"breaks off at byte {THIRD:,}, before the zeros"),
    "cut within a header": (WHOLE[: THIRD + 99], f"breaks off at byte {THIRD:,}, before the zeros"),
    "joined by cat": (
        tar_of(dict(list(FLAT.items())[:2])) + tar_of(dict(list(FLAT.items())[2:])),
        f"more follows its end at byte {THIRD:,}; if `cat` joined tars, `tar -xif` unpacks them",
    ),
    "a block of zeros for a header": (
        WHOLE[:THIRD] + bytes(512) + WHOLE[THIRD + 512 :], f"follows its end at byte {THIRD:,}",
    ),
    "a damaged header": (
        WHOLE[:THIRD] + b"?" * 512 + WHOLE[THIRD + 512 :],
        f"byte {THIRD:,} begins neither a member nor the end",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("data", "message"), SEEM_WHOLE.values(), ids=SEEM_WHOLE)
@pytest.mark.parametrize("within", [False, True], ids=["class folders", "tars of classes"])
def test_a_tar_that_lacks_members_is_refused(data, message, within, tmp_path):
    packed = tmp_path / TARS["train"]
    packed.write_bytes(data)
    assert webdatasets_images(packed) == 2  # of three, without a word
    if within:
        packed.write_bytes(tar_of({"n02.tar": data}))
    with pytest.raises(OSError, match=f"is damaged .*{message}.*; fetch it again, or pack"):
        list_sources("imagenet", "train", tmp_path)


def test_zeros_after_the_end_are_no_fault(tmp_path):
    """GNU tar fills up to 10,240 bytes, others to 512, or with one block of zeros."""
    with tarfile.open(fileobj=io.BytesIO(WHOLE)) as tar:
        last = tar.getmembers()[-1]
    end = last.offset_data + 512  # an image is smaller than a block
    assert last.size < 512
    for zeros in (512, 1024, 3 * 2**20):
        (tmp_path / TARS["train"]).write_bytes(WHOLE[:end] + bytes(zeros))
        assert len(list_sources("imagenet", "train", tmp_path)) == 3


@pytest.mark.skipif(not GNU_TAR, reason="needs GNU tar")
def test_an_image_in_pieces_is_refused(tmp_path):
    """`tar --sparse` leaves out a file's holes, so its bytes have no place of their own."""
    path = tmp_path / "n02" / "n02_1.JPEG"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.write(photo(1))
        file.truncate(10**6)
    packed = tmp_path / TARS["train"]
    subprocess.run(["tar", "--sparse", "-cf", packed, "-C", tmp_path, "n02"], check=True)
    if packed.stat().st_size > 10**6:
        pytest.skip("this file system has no holes")
    with pytest.raises(OSError, match=r"n02_1\.JPEG was packed with tar's option --sparse"):
        list_sources("imagenet", "train", tmp_path)


def test_a_tar_of_both_splits_gives_one_and_counts_the_other(tmp_path, caplog):
    both = {f"{split}/{n}": photo(red) for split in ("train", "val") for n, red in TRAIN.items()}
    (tmp_path / TARS["train"]).write_bytes(tar_of(both))
    found = list_sources("imagenet", "train", tmp_path)
    assert [one.file for one in found] == [f"train/{name}" for name in TRAIN]
    assert f"{len(TRAIN)} in the folder of the other split (val/n" in caplog.text


def test_images_of_no_class_folder_in_a_tar_are_left_out(tmp_path, caplog):
    """A class called "." or ".." would lead out of the shards' own folders."""
    good = {f"./{name}": photo(red) for name, red in TRAIN.items()}
    loose = {"./a.JPEG": photo(7), "../b.JPEG": photo(8), "./.hidden/c.JPEG": photo(9)}
    (tmp_path / TARS["train"]).write_bytes(tar_of(good | loose))
    found = list_sources("imagenet", "train", tmp_path)
    assert [one.file for one in found] == [f"train/{name}" for name in TRAIN]
    assert "3 not directly in a class folder" in caplog.text


def test_a_pack_that_is_no_regular_file_is_refused_before_it_is_opened(tmp_path, short_time):
    os.mkfifo(tmp_path / "train.tar.xz")
    with pytest.raises(OSError, match=r"train\.tar\.xz is not a regular file; put the file itself"):
        load_dataset("cifar10", "train", data_dir=tmp_path)


def declare(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """The header of a member or note of `size` bytes."""
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    return info.tobuf(tarfile.GNU_FORMAT)


PACKS = {
    "train.tar.xz": (lzma.compress, "train/a/x.png"),
    "cifar-10-python.tar.gz": (gzip.compress, "cifar-10-batches-py/data_batch_1"),
}


@pytest.mark.parametrize("size", [2**29, 2**40])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
@pytest.mark.parametrize("pack", PACKS)
def test_a_member_of_a_pack_that_declares_too_much_is_not_read(tmp_path, pack, kind, size):
    compress, name = PACKS[pack]
    (tmp_path / pack).write_bytes(compress(declare(name, size, kind)))
    with pytest.raises(OSError, match=rf"(?s){pack} is damaged .* bytes'?; the limit is"):
        load_dataset("cifar10", "train", data_dir=tmp_path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (declare("other", 2**20) + bytes(2**20 + 1024), "1,049,088 unpacked bytes; the limit is"),
        (bytes(2**20 + 1024), "unpacked bytes; the limit is 1,000,000"),
        (declare("other", 0) * 12 + bytes(1024), "it has 11 members; the limit is 10"),
    ],
    ids=["members", "zeros after the end", "many members"],
)
@pytest.mark.parametrize("pack", PACKS)
def test_a_pack_that_unpacks_to_too_much_is_refused(tmp_path, pack, data, reason, monkeypatch):
    monkeypatch.setattr(tars, "MOST_UNPACKED", 10**6)
    monkeypatch.setattr(tars, "MOST_MEMBERS", 10)
    (tmp_path / pack).write_bytes(PACKS[pack][0](data))
    with pytest.raises(OSError, match=f"(?s){pack} is damaged .*{reason}"):
        load_dataset("cifar10", "train", data_dir=tmp_path)


def test_a_plain_tar_may_be_of_any_size(tmp_path, monkeypatch):
    monkeypatch.setattr(tars, "MOST_UNPACKED", 1000)
    monkeypatch.setattr(tars, "MOST_MEMBERS", 1)
    (tmp_path / TARS["train"]).write_bytes(tar_of({n: photo(red) for n, red in TRAIN.items()}))
    assert len(list_sources("imagenet", "train", tmp_path)) == 3


@pytest.mark.parametrize("packed", [True, False])
def test_an_image_too_large_to_be_read_is_named_before_anything_is_packed(
    tmp_path, monkeypatch, packed
):
    monkeypatch.setattr(archives, "MAX_IMAGE_BYTES", 100)
    if packed:
        (tmp_path / TARS["train"]).write_bytes(tar_of({"n1/a.png": photo(1) + bytes(100)}))
    else:
        (tmp_path / "train" / "n1").mkdir(parents=True)
        (tmp_path / "train" / "n1" / "a.png").write_bytes(photo(1) + bytes(100))
    with pytest.raises(OSError, match=r"a\.png has 17\d bytes.* limit"):
        list_sources("imagenet", "train", tmp_path)
