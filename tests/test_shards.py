"""Shards: made whatever happens, read by index, once an epoch by any number of ranks."""

import hashlib
import io
import json
import os
import re
import socket
import sys
import tarfile
import time
import zlib
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision.datasets import ImageFolder

from nestlib.cli import main as cli
from nestlib.data import archives, imagenet_val, shard_maker, shard_writer, tars
from nestlib.data.datasets import load_dataset
from nestlib.data.faults import UnreadableImages
from nestlib.data.layouts import TINY_PACK
from nestlib.data.shard_maker import make_shards, verify_shards
from nestlib.data.shard_set import STREAMS, WINDOW, windowed_order
from nestlib.data.shards import hash_index, load_index
from nestlib.files import Held
from nestlib.training.devices import Ranks
from nestlib.training.seeding import epoch_order

FORK = get_context("fork")  # a fresh interpreter takes seconds to import torch
CLASSES, EACH = 5, 24
OPTIONS = {"partial": True, "num_workers": 0, "image_size": 16}


def jpeg(seed: int) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (20 + seed % 7, 30, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "jpeg")
    return stream.getvalue()


@pytest.fixture(scope="session")
def tree(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for split, each in (("train", EACH), ("val", 4)):
        for c in range(CLASSES):
            folder = root / split / f"n{c:08}"
            folder.mkdir(parents=True)
            for i in range(each):
                (folder / f"n{c:08}_{i}.JPEG").write_bytes(jpeg(100 * c + i))
    return root


def make(tree: Path, out: Path, **options) -> Path:
    options = {"shard_mb": 0.01, "processes": 2, "progress": False} | options
    make_shards("imagenet", tree, out, **options)
    return out


@pytest.fixture(scope="session")
def shards(tree, tmp_path_factory) -> Path:
    return make(tree, tmp_path_factory.mktemp("shards"))


def digest(folder: Path) -> str:
    files = sorted(path for path in folder.iterdir() if path.suffix in (".tar", ".npz", ".json"))
    return hashlib.sha256(b"".join(p.name.encode() + p.read_bytes() for p in files)).hexdigest()


def damage(path: Path, offset: int, data: bytes = b"\xff\0" * 8) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def copy(shards: Path, out: Path) -> Path:
    out.mkdir()
    for path in shards.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    return out


# What is in them


@pytest.mark.parametrize("split", ["train", "test"])
def test_shards_give_what_the_folder_gives(tree, shards, split):
    folder = load_dataset("imagenet", split, data_dir=tree, **OPTIONS)
    sharded = load_dataset("imagenet", split, data_dir=str(shards), **OPTIONS)
    assert len(sharded.index.shards) > 2 and len(sharded) == len(folder)
    assert sharded.fingerprint == folder.fingerprint
    assert sharded.class_names == folder.class_names
    order = torch.randperm(len(folder), generator=torch.Generator().manual_seed(0))
    pairs = zip(folder.iterate(order, 7, seed=3), sharded.iterate(order, 7, seed=3), strict=True)
    for (images, labels), (theirs, their_labels) in pairs:
        assert torch.equal(images, theirs) and torch.equal(labels, their_labels)


def test_images_are_image_folders(tree, shards):
    theirs = ImageFolder(tree / "train")
    ours = load_dataset("imagenet", "train", data_dir=shards, **OPTIONS)
    by_file = {os.path.relpath(path, tree): (path, label) for path, label in theirs.samples}
    assert len(by_file) == len(ours)
    for index, file in enumerate(ours.files.tolist()):
        path, label = by_file[os.fsdecode(file)]
        assert ours.labels[index] == label
        np.testing.assert_array_equal(ours.read_image(index), theirs.loader(path))


def test_webdatasets_own_reader_reads_them(tree, shards):
    wds = pytest.importorskip("webdataset")
    urls = [str(path) for path in sorted(shards.glob("train-*.tar"))]
    theirs = ImageFolder(tree / "train").class_to_idx
    raw, decoded = (wds.WebDataset(urls, shardshuffle=False) for _ in range(2))
    for sample in raw:
        key, class_name = sample["__key__"], sample["txt"].decode()
        assert sample["jpg"] == (tree / "train" / f"{key}.JPEG").read_bytes()
        assert key.startswith(f"{class_name}/")
    read = {sample["__key__"]: sample for sample in decoded.decode("pil")}
    assert len(read) == CLASSES * EACH
    for key, sample in read.items():
        assert sample["cls"] == theirs[sample["txt"]] == theirs[key.partition("/")[0]]
        with Image.open(tree / "train" / f"{key}.JPEG") as image:
            np.testing.assert_array_equal(sample["jpg"], image)


def test_timms_reader_takes_them_as_they_are(shards):
    pytest.importorskip("webdataset")
    reader = pytest.importorskip("timm.data.readers.reader_wds").ReaderWds
    last = sorted(shards.glob("train-*.tar"))[-1].stem.rpartition("-")[2]
    split = f"train-{{000000..{last}}}.tar|{CLASSES * EACH}"
    labels = [label for _, label in reader(str(shards), split=split)]
    assert np.bincount(labels).tolist() == [EACH] * CLASSES


def test_names_with_dots_and_underscores_reach_other_readers(tmp_path):
    """WebDataset splits names at the first dot and passes over folders called __<name>__."""
    wds = pytest.importorskip("webdataset")
    reader = pytest.importorskip("timm.data.readers.reader_wds").ReaderWds
    for k, name in enumerate(NAMES := ["__background__", "n1", "v1.2"]):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        for i, stem in enumerate(("a.b.c", "x")):
            (folder / f"{stem}.JPEG").write_bytes(jpeg(10 * k + i))
    (shard,) = make(tmp_path, tmp_path / "out", splits=["train"], shard_mb=1).glob("*.tar")
    for sample in wds.WebDataset(str(shard), shardshuffle=False):
        k, i = int(sample["cls"]), int(sample["__key__"].endswith("/x"))
        assert sample["txt"].decode() == NAMES[k] and sample["jpg"] == jpeg(10 * k + i)
        assert set(sample) - {"__key__", "__url__", "__local_path__"} == {"jpg", "cls", "txt"}
    labels = [label for _, label in reader(str(shard.parent), split=f"{shard.name}|6")]
    assert sorted(labels) == [0, 0, 1, 1, 2, 2]
    ours = load_dataset("imagenet", "train", data_dir=shard.parent, **OPTIONS)
    assert ours.class_names == tuple(NAMES) and b"train/v1.2/a.b.c.JPEG" in ours.files.tolist()


def test_shards_of_before_with_names_in_cls_are_read(tree, tmp_path):
    """As nestlib 2026-11 wrote them: one file for the class, and it held the name."""
    files = sorted((tree / "train").rglob("*.JPEG"))
    wnids = sorted({path.parent.name for path in files})
    places = []
    with tarfile.open(tmp_path / "train-000000.tar", "w", format=tarfile.GNU_FORMAT) as tar:
        for path in files:
            for suffix, data in ((".jpeg", path.read_bytes()), (".cls", path.parent.name.encode())):
                info = tarfile.TarInfo(f"{path.parent.name}/{path.stem}{suffix}")
                info.size = len(data)
                offset = tar.offset + 512
                tar.addfile(info, io.BytesIO(data))
                if suffix == ".jpeg":
                    places.append((0, offset, len(data), zlib.crc32(data)))
    np.savez_compressed(
        tmp_path / "train.npz", files=np.array([os.fsencode(p.relative_to(tree)) for p in files]),
        labels=np.array([wnids.index(p.parent.name) for p in files], np.int32),
        places=np.array(places),
    )  # fmt: skip
    index = {
        "format": 1, "name": "imagenet", "split": "train", "plan": "0" * 16,
        "images": len(files), "class_names": wnids, "table": described(tmp_path / "train.npz"),
        "shards": [described(tmp_path / "train-000000.tar") | {"images": len(files)}],
    }  # fmt: skip
    (tmp_path / "train.json").write_text(json.dumps(index))
    ours = load_dataset("imagenet", "train", data_dir=tmp_path, **OPTIONS)
    theirs = ImageFolder(tree / "train")
    assert ours.labels.tolist() == theirs.targets and ours.class_names == tuple(theirs.classes)
    for index, (path, _) in enumerate(theirs.samples):
        np.testing.assert_array_equal(ours.read_image(index), theirs.loader(path))
    assert verify_shards(tmp_path, progress=False) == []


def described(path: Path) -> dict:
    data = path.read_bytes()
    return {"name": path.name, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def write_tree(root: Path, names, split: str = "train", each: int = 2) -> Path:
    for k, name in enumerate(names):
        folder = os.path.join(os.fsencode(root / split), os.fsencode(name))
        os.makedirs(folder)
        for i in range(each):
            with open(os.path.join(folder, b"se\xf1or%d.jpg" % i), "wb") as file:
                file.write(jpeg(10 * k + i))
    return root


@pytest.mark.parametrize(
    "names", [(b"caf\xe9", b"dog", "Käse"), [*"0123456789", "10", "11"], ("with space", "a'b")]
)
def test_names_and_numbers_of_classes_are_the_folders(tmp_path, names):
    """Names that are not UTF-8, and folders that are numbers, which go by value."""
    source = write_tree(tmp_path / "source", names)
    out = make(source, tmp_path / "out", splits=["train"])
    folder, sharded = (
        load_dataset("imagenet", "train", data_dir=place, **OPTIONS) for place in (source, out)
    )
    assert sharded.class_names == folder.class_names
    assert sharded.files.tolist() == folder.files.tolist()
    assert sharded.labels.tolist() == folder.labels.tolist()
    assert sharded.fingerprint == folder.fingerprint
    if names[0] == "0":
        assert sharded.class_names == tuple(map(str, range(12)))
    for path in out.glob("*.tar"):  # as another reader sees it: bytes, not text
        with tarfile.open(path, encoding="latin-1") as tar:
            texts = [(m.name, tar.extractfile(m).read()) for m in tar if m.name.endswith(".txt")]
        assert texts and all(name.encode("latin-1").startswith(text + b"/") for name, text in texts)


@pytest.mark.parametrize("at_once", [True, False])
def test_splits_of_other_classes_are_refused_before_anything_is_packed(tmp_path, at_once):
    """A class that val lacks would shift all behind it."""
    write_tree(tmp_path, "abcd")
    write_tree(tmp_path, "abd", "val")
    out = tmp_path / "out"
    if not at_once:
        make(tmp_path, out, splits=["train"])
    before = sorted(path.name for path in out.glob("*"))
    with pytest.raises(ValueError, match=r"their 4 and 3 classes differently: 2 is 'c' and 'd'"):
        make(tmp_path, out, **{} if at_once else {"splits": ["test"]})
    assert sorted(path.name for path in out.glob("*")) == before or at_once
    assert not list(out.glob("val*"))
    other = make(tmp_path, tmp_path / "other", splits=["test"])
    make(tmp_path, out, splits=["train"])
    for path in other.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    (fault,) = verify_shards(out, progress=False)
    assert "differently: 2 is 'c' and 'd'" in fault


@pytest.mark.parametrize("option", ["--source", "--out"])
def test_shards_are_made_in_folders_alone(tree, tmp_path, monkeypatch, capsys, option):
    """Path("s3://bucket") would be a folder called s3: here."""
    monkeypatch.chdir(tmp_path)
    words = {"--source": str(tree), "--out": str(tmp_path / "out")} | {option: "s3://bucket/x"}
    monkeypatch.setattr(sys, "argv", ["nest", "shard", "imagenet", *chain(*words.items())])
    with pytest.raises(SystemExit):
        cli.main()
    assert "'s3://bucket/x' is no path on this machine" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shard_mb", [0, -1, float("nan"), float("inf"), 1e300, 1e-9])
def test_senseless_sizes_of_shards_are_refused(tree, tmp_path, shard_mb):
    with pytest.raises(ValueError, match=r"shard_mb is .*; give 0\.001 to 10,000 megabytes"):
        make(tree, tmp_path / "out", shard_mb=shard_mb)
    assert not (tmp_path / "out").exists()


def test_a_shard_is_a_fair_sample_in_training_and_in_order_in_testing(shards):
    train = load_dataset("imagenet", "train", data_dir=shards, **OPTIONS)
    first = train.labels[train.places[:, 0] == 0]
    assert len(first.unique()) > 2
    test = load_dataset("imagenet", "test", data_dir=shards, **OPTIONS)
    assert (np.diff(test.places[:, 0]) >= 0).all()


def test_checksums_are_those_of_the_files(shards):
    index = json.loads((shards / "train.json").read_text())
    for shard in index["shards"]:
        data = (shards / shard["name"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == shard["sha256"] and len(data) == shard["size"]
    data = load_dataset("imagenet", "train", data_dir=shards, **OPTIONS)
    for index, (_, _, size, crc) in enumerate(data.places.tolist()):
        raw = data.read_bytes(index)
        assert (len(raw), zlib.crc32(raw)) == (size, crc)


def test_official_tars_give_the_folders_shards(tree, shards, tmp_path, monkeypatch):
    """A tar of tars, a flat tar of val images, and the development kit's ground truth."""
    official, wnids = tmp_path / "official", [f"n{c:08}" for c in range(CLASSES)]
    official.mkdir()
    with tarfile.open(official / archives.TARS["train"], "w") as outer:
        for wnid in reversed(wnids):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as tar:
                for path in sorted((tree / "train" / wnid).iterdir()):
                    tar.add(path, path.name)
            outer.addfile(_info(f"{wnid}.tar", inner), inner)
    numbers, renamed = [], tmp_path / "renamed"
    with tarfile.open(official / archives.TARS["test"], "w") as tar:
        images = sorted((tree / "val").rglob("*.JPEG"), key=lambda path: path.stem[::-1])
        for number, path in enumerate(images, 1):
            name = f"ILSVRC2012_val_{number:08}.JPEG"
            tar.add(path, name)
            numbers.append(CLASSES - wnids.index(path.parent.name))  # ids in another order
            target = renamed / "val" / path.parent.name / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    os.symlink(tree / "train", renamed / "train")
    _write_devkit(official / imagenet_val.DEVKIT, dict(enumerate(reversed(wnids), 1)), numbers)
    with pytest.raises(OSError, match="is damaged; fetch it again"):  # its MD5 is another
        make(official, tmp_path / "a", splits=["test"])
    monkeypatch.setattr("torchvision.datasets.imagenet._verify_archive", lambda *_: None)
    assert digest(make(official, tmp_path / "a")) == digest(make(renamed, tmp_path / "b"))
    truth = [wnids[CLASSES - number] for number in numbers]
    assert imagenet_val.read_ground_truth(official / imagenet_val.DEVKIT) == truth
    (official / imagenet_val.DEVKIT).unlink()
    with pytest.raises(FileNotFoundError, match=f"{imagenet_val.DEVKIT}; neither is in"):
        make(official, tmp_path / "c", splits=["test"])


def _info(name: str, stream: io.BytesIO) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = stream.tell()
    stream.seek(0)
    return info


def _write_devkit(path: Path, wnids: dict[int, str], numbers: list[int]) -> None:
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"),
            ("num_children", "O")]  # fmt: skip
    synsets = np.array([(i, w, "word", "", 0) for i, w in wnids.items()], dtype=kind)
    meta = io.BytesIO()
    savemat(meta, {"synsets": synsets[:, None]})
    truth = io.BytesIO()
    truth.write("".join(f"{number}\n" for number in numbers).encode())
    with tarfile.open(path, "w:gz") as tar:
        root = "ILSVRC2012_devkit_t12/data"
        tar.addfile(_info(f"{root}/meta.mat", meta), meta)
        tar.addfile(_info(f"{root}/ILSVRC2012_validation_ground_truth.txt", truth), truth)


# Making, killed and resumed


def packed(root: Path, *folders: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as tar:
        for folder in folders:
            tar.add(root / folder, f"{root.name}/{folder}")
    return stream.getvalue()


def test_tiny_imagenets_pack_gives_the_folders_shards_or_is_refused(tmp_path):
    """Two of its images are one file, and `cat` joins two packs."""
    root = tmp_path / "tiny-imagenet-100"
    for split in ("train", "val"):
        write_tree(root, ["n1", "n2"], split, each=1)
    ((one,), (other,)) = ((root / "train" / name).iterdir() for name in ("n1", "n2"))
    other.unlink()
    other.hardlink_to(one)
    options = {"processes": 1, "progress": False}
    for place in ("whole", "joined"):
        (tmp_path / place).mkdir()
    (tmp_path / "whole" / TINY_PACK).write_bytes(packed(root, "train", "val"))
    for source in ("", "whole"):
        make_shards("tiny_imagenet", tmp_path / source, tmp_path / f"out-{source}", **options)
    assert digest(tmp_path / "out-whole") == digest(tmp_path / "out-")
    (tmp_path / "joined" / TINY_PACK).write_bytes(packed(root, "train") + packed(root, "val"))
    with pytest.raises(OSError, match=r"tar\.xz is damaged .more follows its end"):
        make_shards("tiny_imagenet", tmp_path / "joined", tmp_path / "out", **options)


def test_any_number_of_processes_makes_the_same_bytes(tree, shards, tmp_path):
    assert digest(make(tree, tmp_path / "one", processes=1)) == digest(shards)


def make_slowly(tree: Path, out: Path) -> None:
    inner = shard_writer._read

    def read(one):
        time.sleep(0.01)
        return inner(one)

    shard_writer._read = read
    make(tree, out)


def test_killed_maker_goes_on_to_the_same_bytes(tree, shards, tmp_path):
    out = tmp_path / "out"
    process = FORK.Process(target=make_slowly, args=(tree, out))
    process.start()
    while len(list(out.glob("train-*.tar"))) < 3:
        assert process.is_alive()
        time.sleep(0.005)
    process.kill()
    process.join()
    whole = {path.name: path.stat().st_ino for path in out.glob("train-*.tar")}
    assert not (out / "train.json").exists()
    with pytest.raises(FileNotFoundError, match="no train images"):  # half are no shards
        load_dataset("imagenet", "train", data_dir=out, **OPTIONS)
    for name in whole:
        assert (out / name).read_bytes() == (shards / name).read_bytes()
    for attempt in range(100):  # the killed one's processes see that within a moment
        try:
            make(tree, out)
            break
        except Held:
            assert attempt < 99
            time.sleep(0.1)
    assert digest(out) == digest(shards)
    kept = sum((out / name).stat().st_ino == inode for name, inode in whole.items())
    assert kept >= len(whole) - 2  # of those in place two may have lacked their note yet
    assert not list(out.glob(".*.part")) and not (out / ".making").exists()


def test_a_folder_of_other_shards_is_left_alone(tree, shards, tmp_path):
    out = copy(shards, tmp_path / "out")
    before = digest(out)
    assert make(tree, out) and digest(out) == before  # made already
    with pytest.raises(ValueError, match="holds train shards of other images or another size"):
        make(tree, out, shard_mb=0.02)
    assert digest(out) == before


def test_two_images_of_one_name_are_refused(tmp_path):
    for name in ("a.b.jpg", "a_b.png"):
        (tmp_path / "train" / "c").mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / "c" / name).write_bytes(jpeg(0))
    with pytest.raises(ValueError, match=r"'train/c/a\.b\.jpg' and 'train/c/a_b\.png' would both"):
        make(tmp_path, tmp_path / "out", splits=["train"])


def test_files_that_cannot_be_read_are_named_before_anything_is_packed(tmp_path):
    write_tree(tmp_path, "ab")
    for name in ("x", "y"):
        (tmp_path / "train" / "a" / f"{name}.jpg").symlink_to("gone")
    os.mkfifo(tmp_path / "train" / "b" / "z.jpg")  # to open it would wait for ever
    with pytest.raises(OSError, match=r"3 of 7 .*x\.jpg.*y\.jpg.*z\.jpg is not a regular file"):
        make(tmp_path, tmp_path / "out", splits=["train"])
    assert not list((tmp_path / "out").glob("train*"))


def test_an_image_that_goes_away_while_shards_are_made_costs_none_of_them(tmp_path, monkeypatch):
    write_tree(tmp_path, "abcd", each=20)
    cut = shard_maker.cut

    def cut_then_lose(*how):
        jobs = cut(*how)
        Path(jobs[3].sources[0].path).rename(tmp_path / "away")
        return jobs

    with monkeypatch.context() as patch:
        patch.setattr(shard_maker, "cut", cut_then_lose)
        with pytest.raises(OSError, match=r"cannot read image .*; fix this and run") as caught:
            make(tmp_path, tmp_path / "out", splits=["train"], processes=1)
    whole = {path: path.stat().st_ino for path in (tmp_path / "out").glob("*.tar")}
    assert len(whole) >= 3 and not list((tmp_path / "out").glob("*.json"))
    (tmp_path / "away").rename(re.search(r"image (\S+)", str(caught.value))[1])
    make(tmp_path, tmp_path / "out", splits=["train"])
    assert {path: path.stat().st_ino for path in whole} == whole
    assert verify_shards(tmp_path / "out", progress=False) == []


def test_a_process_that_is_killed_is_one_line_and_costs_no_shard(
    tree, shards, tmp_path, monkeypatch
):
    """As Linux does where memory ends."""
    inner, out = shard_writer._read, tmp_path / "out"

    def read(one):
        if len(list(out.glob("*.tar"))) == 2:
            os.kill(os.getpid(), 9)
        return inner(one)

    with monkeypatch.context() as patch:
        patch.setattr(shard_writer, "_read", read)  # the pool's processes are forked
        with pytest.raises(
            OSError, match="was killed, perhaps because memory ran out; run the command again"
        ):
            make(tree, out, processes=1)
    whole = {path: path.stat().st_ino for path in out.glob("*.tar")}
    assert digest(make(tree, out)) == digest(shards) and len(whole) == 2
    assert {path: path.stat().st_ino for path in whole} == whole


def test_a_shard_with_another_label_is_made_anew(tree, shards, tmp_path):
    out = copy(shards, tmp_path / "out")
    (out / "train.json").unlink()  # as after a kill
    path = out / "train-000001.tar"
    with tarfile.open(path) as tar:
        offset = next(m.offset_data for m in tar if m.name.endswith(".cls"))
    damage(path, offset, b"9")
    assert digest(make(tree, out)) == digest(shards)


def end_of_members(path: Path) -> int:
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1]
    return last.offset_data + 512  # a label


def cut_end(path: Path) -> None:
    os.truncate(path, end_of_members(path))


def cut_last_sample(path: Path) -> None:
    with tarfile.open(path) as tar:
        os.truncate(path, tar.getmembers()[-3].offset)


def join(path: Path) -> None:
    path.write_bytes(path.read_bytes() + path.with_name("train-000000.tar").read_bytes())


def pack_with_links(path: Path) -> None:
    """As a tree in which equal files were linked is packed."""
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    first: dict[bytes, str] = {}
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        for member, data in members:
            target = first.setdefault(data, member.name)
            if target == member.name:
                tar.addfile(member, io.BytesIO(data))
            else:
                member.type, member.linkname, member.size = tarfile.LNKTYPE, target, 0
                tar.addfile(member)


@pytest.mark.parametrize("change", [cut_end, cut_last_sample, join, pack_with_links])
def test_a_shard_that_looks_whole_but_is_not_is_refused_or_made_anew(
    tree, shards, tmp_path, change
):
    """By check-shards, by the reader, and by a maker that goes on."""
    out = copy(shards, tmp_path / "out")
    bad = out / "train-000001.tar"
    change(bad)
    with tarfile.open(bad) as tar:
        assert len(tar.getmembers()) > 3  # Python reads it as a whole one
    (fault,) = verify_shards(out, progress=False)
    assert "train-000001.tar is " in fault and "make or copy it again" in fault
    train = load_dataset("imagenet", "train", data_dir=out, **OPTIONS)
    within = np.flatnonzero(train.places[:, 0] == 1)
    with pytest.raises(OSError, match=r"train-000001\.tar is [\d,]+ bytes, the index says"):
        train.read_bytes(int(within[0]))
    (out / "train.json").unlink()  # as after a kill
    assert digest(make(tree, out)) == digest(shards)


def test_verify_names_the_shard_that_changed(shards, tmp_path):
    out = copy(shards, tmp_path / "out")
    assert verify_shards(out, progress=False) == []
    damage(out / "train-000001.tar", 5000)
    (out / "val-000000.tar").unlink()
    first, second = verify_shards(out, progress=False)
    assert "train-000001.tar has SHA-256" in first and "val-000000.tar is not there" in second


# The order


@pytest.mark.parametrize(("count", "batch"), [(1000, 48), (1003, 32), (997, 7), (10, 16), (64, 64)])
def test_every_image_once_and_batches_equal_for_any_ranks(count, batch):
    sharded = np.random.default_rng(0).integers(0, 40, count)
    order = windowed_order(sharded, batch, seed=5)
    assert sorted(order.tolist()) == list(range(count))
    assert torch.equal(order, windowed_order(sharded, batch, seed=5))
    if batch < count:
        assert not torch.equal(order, windowed_order(sharded, batch, seed=6))
    used = order[: count // batch * batch]
    for ranks in (r for r in (1, 2, 4, 8) if batch % r == 0):
        parts = [Ranks(rank, ranks).share(used, batch) for rank in range(ranks)]
        assert len({len(part) for part in parts}) == 1  # none waits for another at the end
        steps = [torch.cat([p.view(-1, batch // ranks)[s] for p in parts])
                 for s in range(len(used) // batch)]  # fmt: skip
        assert torch.equal(torch.cat([*steps, used[:0]]), used)


def test_ranks_read_shards_of_their_own_and_few_at_a_time():
    sharded = np.repeat(np.arange(320), 100)
    order = windowed_order(sharded, 256, seed=0)[: 32_000 // 256 * 256]
    seen = [set(sharded[Ranks(rank, 4).share(order, 256)]) for rank in range(4)]
    shared = sum(map(len, seen)) - len(set.union(*seen))
    assert shared <= 4  # of 320: those that a cut goes through
    open_now = [len(set(sharded[part])) for part in order.split(2560)]
    assert max(open_now) < STREAMS * (2 * WINDOW + 1)
    labels = np.arange(32_000) % 10  # balanced shards give balanced batches
    assert np.bincount(labels[order[:2560]]).min() > 200


def test_images_that_fill_no_batch_change_with_the_epoch():
    sharded = np.repeat(np.arange(10), 10)
    left = [frozenset(windowed_order(sharded, 32, seed)[96:].tolist()) for seed in range(20)]
    assert all(len(part) == 4 for part in left) and len(set(left)) > 15


@pytest.mark.parametrize("kind", ["shards", "folder"])
def test_resumed_within_an_epoch_gives_the_rest(tree, shards, kind):
    data = load_dataset("imagenet", "train", data_dir=shards if kind == "shards" else tree,
                        **OPTIONS | {"num_workers": 2})  # fmt: skip
    order = data.shuffle(7, 12)
    whole = list(data.iterate(order, 12, seed=1))
    for done, ranks in ((3, 1), (5, 2), (7, 4)):  # and with another number of ranks
        parts = [Ranks(rank, ranks).share(order[done * 12 :], 12) for rank in range(ranks)]
        rest = zip(*(data.iterate(part, 12 // ranks, seed=1) for part in parts), strict=True)
        for expected, batches in zip(whole[done:], rest, strict=True):
            images, labels = (torch.cat(halves) for halves in zip(*batches))
            assert torch.equal(images, expected[0]) and torch.equal(labels, expected[1])


def read_as_rank(rank: int, port: str, shards: Path, out: Path) -> None:
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1",
                   "MASTER_PORT": port}  # fmt: skip
    ranks = Ranks.join(torch.device("cpu"))
    data = load_dataset("imagenet", "train", data_dir=shards, **OPTIONS | {"num_workers": 1})
    mine = ranks.share(epoch_order(0, 3, data, 24), 24)
    labels = torch.cat([labels for _, labels in data.iterate(mine, 12, seed=0)])
    ranks.sum(torch.zeros(1))  # all come here: none waits for another
    torch.save((mine, labels), out / f"{rank}.pt")


def test_two_gloo_ranks_read_each_image_once(shards, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [
        FORK.Process(target=read_as_rank, args=(rank, port, shards, tmp_path)) for rank in range(2)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    (mine, labels), (theirs, their_labels) = (
        torch.load(tmp_path / f"{rank}.pt") for rank in range(2)
    )
    assert len(mine) == len(theirs) == len(labels) == len(their_labels) == CLASSES * EACH // 2
    assert sorted([*mine.tolist(), *theirs.tolist()]) == list(range(CLASSES * EACH))
    data = load_dataset("imagenet", "train", data_dir=shards, **OPTIONS)
    assert torch.equal(data.labels[mine], labels) and torch.equal(data.labels[theirs], their_labels)


# Faults


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", ["shards", "folder"])
def test_damaged_images_are_named_counted_once_and_left_out(
    tree, shards, tmp_path, kind, num_workers, caplog
):
    where = copy(shards, tmp_path / "out") if kind == "shards" else tmp_path / "tree"
    options = OPTIONS | {"num_workers": num_workers, "skip_limit": 2}
    if kind == "folder":
        for path in tree.rglob("*.JPEG"):
            target = where / path.relative_to(tree)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    data = load_dataset("imagenet", "train", data_dir=where, **options)
    for number, index in enumerate((4, 50)):
        if kind == "shards":
            shard, offset, size, _ = data.places[index].tolist()
            damage(where / data.index.shards[shard].name, offset + size // 2)  # decodes as JPEG
        else:
            path = where / os.fsdecode(data.files[index])
            path.write_bytes((b"not a JPEG", path.read_bytes()[:300])[number])
    for epoch in range(2):  # met again, they are the same two
        order = data.shuffle(epoch, 20)
        batches = list(data.iterate(order, 20, seed=epoch))
        assert sum(len(labels) for _, labels in batches) == CLASSES * EACH - 2
        kept = order[(order != 4) & (order != 50)]
        assert torch.equal(torch.cat([labels for _, labels in batches]), data.labels[kept])
        names = sorted(os.fsdecode(data.files[index]) for index in (4, 50))
        assert data.faults.describe() == {"count": 2, "limit": 2, "names": names}
    assert len(caplog.records) == 2 and names[0] in caplog.text
    data.faults.limit = 1
    with pytest.raises(
        UnreadableImages, match=r"images that cannot be read: 2; the option skip_limit allows 1"
    ) as caught:
        list(data.iterate(data.shuffle(2, 20), 20, seed=2))
    assert all(name in str(caught.value) for name in names)


@pytest.mark.parametrize("damage_it", ["cut", "gone"])
def test_a_damaged_shard_is_named_and_its_images_left_out(shards, tmp_path, damage_it, caplog):
    out = copy(shards, tmp_path / "out")
    path = out / "train-000002.tar"
    path.write_bytes(path.read_bytes()[:-1024]) if damage_it == "cut" else path.unlink()
    data = load_dataset("imagenet", "train", data_dir=out, **OPTIONS, skip_limit=20)
    lost = int((data.places[:, 0] == 2).sum())
    read = sum(len(labels) for _, labels in data.iterate(data.shuffle(0, 24), 24, seed=0))
    assert 0 < lost <= 20 and read == CLASSES * EACH - lost == len(data) - len(data.faults.found)
    assert len(caplog.records) == 1 and "train-000002.tar is" in caplog.text  # one reason, once


def test_no_test_image_may_be_missing(shards, tmp_path):
    out = copy(shards, tmp_path / "out")
    data = load_dataset("imagenet", "test", data_dir=out, **OPTIONS)
    shard, offset, *_ = data.places[3].tolist()
    damage(out / data.index.shards[shard].name, offset)
    with pytest.raises(
        UnreadableImages, match="images that cannot be read: 1; the option skip_limit allows 0"
    ):
        list(data.iterate(torch.arange(len(data)), 8, seed=0))


def test_a_batch_without_any_image_is_an_error(shards, tmp_path):
    out = copy(shards, tmp_path / "out")
    (out / "train-000002.tar").unlink()
    data = load_dataset("imagenet", "train", data_dir=out, **OPTIONS, skip_limit=100)
    lost = torch.from_numpy(np.flatnonzero(data.places[:, 0] == 2))
    with pytest.raises(OSError, match=r"none of the 3 images .* can be read: .*000002\.tar"):
        list(data.iterate(lost[:3], 3, seed=0))


def test_default_limit_is_one_in_a_thousand(shards):
    assert load_dataset("imagenet", "train", data_dir=shards, **OPTIONS).faults.limit == 0
    assert load_dataset(
        "imagenet", "train", data_dir=shards, **OPTIONS, skip_limit=3
    ).faults.limit == 3  # fmt: skip


def test_damaged_index_is_named(shards, tmp_path):
    out = copy(shards, tmp_path / "out")
    (out / "train.npz").write_bytes(b"short")
    with pytest.raises(OSError, match=r"train\.npz is 5 bytes, the index says \d+; make or"):
        load_dataset("imagenet", "train", data_dir=out, **OPTIONS)
    (out / "train.json").write_text('{"format": 9}')
    with pytest.raises(ValueError, match="has format 9, this nestlib reads 1"):
        load_dataset("imagenet", "train", data_dir=out, **OPTIONS)
    (out / "train.json").write_text("{}")
    with pytest.raises(OSError, match=r"train\.json is not an index of shards"):
        load_dataset("imagenet", "train", data_dir=out, **OPTIONS)


def test_every_byte_of_the_table_is_checked(shards, tmp_path):
    out = copy(shards, tmp_path / "out")
    path, whole = out / "train.npz", (shards / "train.npz").read_bytes()
    for offset in np.random.default_rng(0).integers(0, len(whole), 40).tolist():
        damaged = bytearray(whole)
        damaged[offset] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(OSError, match=r"train\.npz has SHA-256 \w+, the index says"):
            load_dataset("imagenet", "train", data_dir=out, **OPTIONS)
    (out / "val-000000.tar").write_bytes(b"")
    table, shard = verify_shards(out, progress=False)  # the other split is still checked
    assert "train.npz has SHA-256" in table and "val-000000.tar is 0 bytes" in shard


JUNK = {
    "no classes": lambda index: index.pop("class_names"),
    "null classes": lambda index: index.update(class_names=None),
    "classes a word": lambda index: index.update(class_names="abcde"),
    "classes of numbers": lambda index: index.update(class_names=[0, 1, 2, 3, 4]),
    "fewer classes": lambda index: index["class_names"].pop(),
    "a class twice": lambda index: index.update(class_names=["a", "b", "c", "d", "a"]),
    "null table": lambda index: index.update(table=None),
    "size a word": lambda index: index["table"].update(size="1"),
    "size true": lambda index: index["table"].update(size=True),
    "negative size": lambda index: index["shards"][0].update(size=-1),
    "huge size": lambda index: index["shards"][0].update(size=10**30),
    "small size": lambda index: index["shards"][0].update(size=600),
    "null name": lambda index: index["shards"][0].update(name=None),
    "another folder": lambda index: index["shards"][0].update(name="../train-000000.tar"),
    "another table": lambda index: index["table"].update(name="/etc/passwd"),
    "no sum": lambda index: index["table"].update(sha256=""),
    "no shards": lambda index: index.update(shards=[]),
    "shards a number": lambda index: index.update(shards=3),
    "no plan": lambda index: index.pop("plan"),
    "format null": lambda index: index.pop("format"),
}


@pytest.mark.parametrize("junk", JUNK)
def test_a_wrong_index_is_named(shards, tmp_path, junk):
    out = copy(shards, tmp_path / "out")
    index = json.loads((out / "train.json").read_text())
    index.pop("sha256")  # as older ones, which have none
    JUNK[junk](index)
    (out / "train.json").write_text(json.dumps(index))
    with pytest.raises(OSError, match=r"train\.json (is not an index of shards|does not fit)"):
        load_dataset("imagenet", "train", data_dir=out, **OPTIONS)
    (fault,) = verify_shards(out, progress=False)
    assert "train.json" in fault


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 99 + b"\xff", b"[" * 100_000, b"null", b"[1]", b'"x"']
)
def test_binary_junk_for_an_index_is_named_and_never_overwritten(tree, shards, tmp_path, data):
    out = copy(shards, tmp_path / "out")
    (out / "train.json").write_bytes(data)
    with pytest.raises(OSError, match=r"train\.json is not an index of shards"):
        load_dataset("imagenet", "train", data_dir=out, **OPTIONS)
    with pytest.raises(OSError, match=r"not an index .*: give another .*train\.json away"):
        make(tree, out)
    assert (out / "train.json").read_bytes() == data
    (out / "train.json").unlink()
    assert digest(make(tree, out)) == digest(shards)


@pytest.mark.parametrize(
    "arrays",
    [
        {"labels": np.full(CLASSES * EACH, 5)},
        {"labels": np.full(CLASSES * EACH, -1)},
        {"labels": np.zeros(CLASSES * EACH)},
        {"labels": np.zeros(3, int)},
        {"files": np.arange(CLASSES * EACH)},
        {"files": np.array([object()] * CLASSES * EACH)},
        {"places": np.full((CLASSES * EACH, 4), -1)},
        {"places": np.full((CLASSES * EACH, 4), 2**62)},
        {"places": np.zeros((CLASSES * EACH, 3), int)},
    ],
)
def test_a_table_of_nonsense_is_named(shards, tmp_path, arrays):
    """Its checksum is right."""
    out = copy(shards, tmp_path / "out")
    with np.load(out / "train.npz") as whole:
        np.savez(out / "train.npz", **dict(whole) | arrays)
    index = json.loads((out / "train.json").read_text())
    index["table"] = described(out / "train.npz")
    index["sha256"] = hash_index(index)
    (out / "train.json").write_text(json.dumps(index))
    with pytest.raises(OSError, match=r"train\.npz( is not a table of places|: \w+)"):
        load_dataset("imagenet", "train", data_dir=out, **OPTIONS)


def lie(index, **fields):
    index["shards"][0] |= fields


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda index: index["class_names"].reverse(), "changed after it was made, its SHA-256"),
        (lambda index: index.update(note=1), "changed after it was made"),
        (lambda index: (index.pop("sha256"), lie(index, images=1)), "tells of 120 images, its "),
        (lambda index: (index.pop("sha256"), index.pop("images"), lie(index, images=1)),
         r"000000\.tar holds 1 images, the table lists \d"),
        (lambda index: (index.pop("sha256"), lie(index, name=index["shards"][1]["name"])),
         "two shards have one name"),
        (lambda index: (index.pop("sha256"), index["class_names"].__setitem__(0, "\ud800")),
         "surrogates not allowed"),
        (lambda index: (index.pop("sha256"), index["table"].update(name="val.npz")),
         r"names 'val\.npz', which is no file of train"),
    ],
)  # fmt: skip
def test_an_index_that_does_not_add_up_is_named(shards, tmp_path, change, reason):
    out = copy(shards, tmp_path / "out")
    index = json.loads((out / "train.json").read_text())
    change(index)
    (out / "train.json").write_text(json.dumps(index))
    with pytest.raises(OSError, match=rf"train\.json .*{reason}"):
        load_index(out, "train")
    (fault,) = verify_shards(out, progress=False)
    assert "train.json" in fault


def test_space_and_order_in_an_index_change_nothing(shards, tmp_path):
    out = copy(shards, tmp_path / "out")
    index = json.loads((out / "train.json").read_text())
    (out / "train.json").write_text(
        json.dumps(dict(reversed(index.items())), separators=(",", ":"))
    )
    assert load_index(out, "train").class_names == load_index(shards, "train").class_names


@pytest.mark.parametrize(
    ("row", "column", "reason"), [(1, 1, "overlap"), (0, 2, "overlap|outside"), (0, 3, "CRC-32")]
)
def test_places_that_lie_are_named(shards, tmp_path, row, column, reason):
    """Their checksum is right."""
    out = copy(shards, tmp_path / "out")
    with np.load(out / "train.npz") as whole:
        arrays = dict(whole)
    first, second = np.flatnonzero(arrays["places"][:, 0] == arrays["places"][0, 0])[:2]
    rows = first, second
    arrays["places"][rows[row], column] = arrays["places"][first, column] + (0, 0, 9000, 1)[column]
    np.savez(out / "train.npz", **arrays)
    index = json.loads((out / "train.json").read_text())
    index["table"] = described(out / "train.npz")
    index["sha256"] = hash_index(index)
    (out / "train.json").write_text(json.dumps(index))
    with pytest.raises(OSError, match=reason):
        load_dataset("imagenet", "train", data_dir=out, **OPTIONS).read_bytes(int(rows[row]))


def test_a_table_that_unpacks_to_too_much_is_named(shards, monkeypatch):
    monkeypatch.setattr("nestlib.data.shards.TABLE_BYTES", 1000)
    with pytest.raises(OSError, match=r"train\.npz is not a table .*bytes, more than 1,000"):
        load_index(shards, "train")


def test_a_failing_disk_is_named(shards, tmp_path, monkeypatch):
    """Reading raises an error that names no file."""

    def fail(*_):
        raise OSError(5, "Input/output error")

    train = load_dataset("imagenet", "train", data_dir=shards, **OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", fail)
        with pytest.raises(OSError, match=r"cannot read image .*train-.*tar.*Input/output error"):
            train.read_bytes(0)
    monkeypatch.setattr(hashlib, "file_digest", fail)
    faults = verify_shards(shards, progress=False)
    assert len(faults) == len(list(shards.glob("*.tar")))
    assert all(".tar cannot be read ([Errno 5]" in fault for fault in faults)


@pytest.mark.parametrize("made", [True, False])
def test_a_maker_that_fails_before_a_shard_leaves_no_trace(tmp_path, made):
    out = tmp_path / "a" / "b"
    if made:
        out.mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="no train images"):
        make(tmp_path / "nowhere", out)
    assert not any(out.iterdir()) if made else not (tmp_path / "a").exists()


def test_what_a_killed_maker_unpacked_is_removed(tree, shards, tmp_path):
    (tmp_path / ".unpacked-x" / "train").mkdir(parents=True)
    assert digest(make(tree, tmp_path)) == digest(shards)
    assert not list(tmp_path.glob(".unpacked*"))


def test_a_full_disk_is_named_with_what_to_do(tree, shards, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", str(tmp_path / "train-000000.tar"))

    with monkeypatch.context() as patch:
        patch.setattr(shard_writer, "_add_member", full)
        with pytest.raises(OSError, match=r"make room, .*same command again.*train-000000\.tar"):
            make(tree, tmp_path / "out")
    assert digest(make(tree, tmp_path / "out")) == digest(shards)


@pytest.mark.parametrize("how", ["too much in it", "the disk is full"])
def test_a_pack_that_cannot_be_unpacked_is_named_and_leaves_nothing(tmp_path, monkeypatch, how):
    root = tmp_path / "tiny-imagenet-100"
    for split in ("train", "val"):
        write_tree(root, ["n1", "n2"], split)
    (tmp_path / "packs").mkdir()
    (tmp_path / "packs" / TINY_PACK).write_bytes(packed(root, "train", "val"))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    if how == "the disk is full":
        monkeypatch.setattr(tarfile, "copyfileobj", full)
        reason = r"as .*tar\.xz was unpacked; make room, or give a folder on a larger disk"
    else:
        monkeypatch.setattr(tars, "MOST_UNPACKED", 4000)
        reason = r"tar\.xz is damaged .*unpacked bytes; the limit is 4,000"
    with pytest.raises(OSError, match=reason):
        make_shards("tiny_imagenet", tmp_path / "packs", tmp_path / "out", progress=False)
    assert not (tmp_path / "out").exists()


def test_an_image_of_a_shard_that_is_too_large_is_not_read(shards, monkeypatch):
    train = load_dataset("imagenet", "train", data_dir=shards, **OPTIONS)
    monkeypatch.setattr("nestlib.data.shard_set.MAX_IMAGE_BYTES", 100)
    monkeypatch.setattr(os, "pread", None)
    with pytest.raises(OSError, match=r"cannot read image .*tar: train/.*; the limit is 100\)"):
        train.read_bytes(0)


def test_shards_that_would_lie_among_the_images_are_refused(tmp_path):
    write_tree(tmp_path, "ab")
    with pytest.raises(ValueError, match=r"lies among the images.* taken for a class; give"):
        make(tmp_path, tmp_path / "train" / "shards", splits=["train"])
    make(tmp_path, tmp_path / "shards", splits=["train"])
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is not a folder; give a folder"):
        make(tmp_path, tmp_path / "file", splits=["train"])


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"processes": 10**6}, "processes is 1000000, must be .*at most 1,024"),
        ({"processes": 2.5}, "processes is 2.5"),
        ({"processes": 0}, "processes is 0"),
        ({"splits": "train"}, "splits are 'train'; give a list"),
        ({"splits": []}, "splits are"),
        ({"splits": ["val"]}, "no split to make shards of 'val'"),
    ],
)
def test_senseless_requests_are_refused(tree, tmp_path, wrong, reason):
    """As many processes as are asked for would be forked at once."""
    with pytest.raises(ValueError, match=reason):
        make(tree, tmp_path / "out", **wrong)
    with pytest.raises(ValueError, match="no data set to make shards of 'cifar10'"):
        make_shards("cifar10", tree, tmp_path / "out")


def test_other_sets_have_no_shards():
    with pytest.raises(ValueError, match="cifar10 is not read from shards"):
        load_dataset("cifar10", "train", data_dir="http://127.0.0.1/shards")


def test_an_index_of_the_other_split_is_named(shards, tmp_path):
    out = copy(shards, tmp_path / "out")
    (out / "train.json").write_bytes((out / "val.json").read_bytes())
    with pytest.raises(OSError, match=r"train\.json .*of split test"):
        load_index(out, "train")
    assert any("train.json" in fault for fault in verify_shards(out, progress=False))


def test_a_list_of_labels_called_train_json_hides_no_tree(tree, tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    for split in ("train", "val"):
        (root / split).symlink_to(tree / split)
    (root / "train.json").write_text('[{"image": "n0/a.JPEG", "label": 0}]')
    options = {"partial": True, "num_workers": 0}
    found = load_dataset("imagenet", "train", data_dir=root, **options)
    plain = load_dataset("imagenet", "train", data_dir=tree, **options)
    assert found.files.tolist() == plain.files.tolist()


@pytest.mark.slow
def test_shards_are_the_same_where_nothing_is_forked(tree, shards, tmp_path, monkeypatch):
    """As on Windows."""
    monkeypatch.setattr(shard_maker, "START", "spawn")
    assert digest(make(tree, tmp_path / "out", processes=1)) == digest(shards)
