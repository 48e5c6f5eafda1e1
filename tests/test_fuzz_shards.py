"""Shards with damage that hypothesis makes: the same images are read, or the file is named."""

import copy
import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from nestlib.data.datasets import load_dataset
from nestlib.data.shard_maker import make_shards, verify_shards

OPTIONS = {"partial": True, "num_workers": 0, "image_size": 8}
MAKE = {"splits": ["train"], "processes": 1, "progress": False}
FEW = settings(
    max_examples=settings.default.max_examples * 2 // 5,  # each takes some milliseconds
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def read(place: Path) -> tuple:
    """All that a reader can see of the training images."""
    data = load_dataset("imagenet", "train", data_dir=place, **OPTIONS)
    images = [data.read_bytes(index) for index in range(len(data))]
    return data.class_names, data.labels.tolist(), data.files.tolist(), images


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("fuzz")
    for number in range(12):
        path = root / "source" / "train" / "abc"[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (8, 9, 3), np.uint8)
        Image.fromarray(noise).save(path)
    make_shards("imagenet", root / "source", root / "out", shard_mb=0.001, **MAKE)
    return root / "out"


@pytest.fixture(scope="module")
def whole(shards) -> tuple:
    return read(shards)


class Changed:
    """One file of the shards holds other bytes while the block runs."""

    def __init__(self, path: Path, data: bytes):
        self.path, self.data = path, data

    def __enter__(self):
        self.before = self.path.read_bytes()
        self.path.write_bytes(self.data)

    def __exit__(self, *_):
        self.path.write_bytes(self.before)


def check(shards: Path, whole: tuple, name: str) -> None:
    """The same is read, or an OSError (of an index of another format a ValueError) names it."""
    try:
        found = read(shards)
    except (OSError, ValueError) as error:
        assert name in str(error)
        assert any(name in fault for fault in verify_shards(shards, progress=False))
    else:
        assert found == whole


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from(["../x", "/etc/passwd", "..", "a", "0" * 64, 2**63, 10**400, "\ud800"]),
    st.lists(st.text(max_size=2), max_size=3), st.dictionaries(st.text(max_size=2), st.integers()),
)  # fmt: skip


def places_in(value, at=()) -> list:
    """The path of every value in JSON."""
    below = value.items() if isinstance(value, dict) else ()
    below = enumerate(value) if isinstance(value, list) else below
    return [at, *(place for key, part in below for place in places_in(part, (*at, key)))]


@FEW
@given(
    st.integers(0, 10_000), VALUES, st.sampled_from(["set", "remove", "twice", "reverse"]),
    st.booleans(),
)  # fmt: skip
@example(("table", "name"), "0", "set", True)
def test_any_change_in_an_index_is_seen_or_changes_nothing(shards, whole, place, value, how, older):
    """`place`: of the value that changes, or its number."""
    index = json.loads((shards / "train.json").read_text())
    if older:  # as nestlib wrote them before they had a checksum of their own
        del index["sha256"]
    if isinstance(place, int):
        place = places_in(index)[place % len(places_in(index))]
    changed = copy.deepcopy(index)
    if not place:
        changed = value
    else:
        parent = changed
        for key in place[:-1]:
            parent = parent[key]
        if how == "remove":
            del parent[place[-1]]
        elif how == "twice" and isinstance(parent, list):
            parent.append(parent[place[-1]])
        elif how == "reverse" and isinstance(parent[place[-1]], list):
            parent[place[-1]].reverse()
        else:
            parent[place[-1]] = value
    # Without a checksum other names of classes are as good as the first ones.
    assume(not older or "class_names" not in place[:1] or how == "remove")
    with Changed(shards / "train.json", json.dumps(changed).encode()):
        try:
            found = read(shards)
        except (OSError, ValueError) as error:
            assert "train" in str(error)
            assert any("train" in fault for fault in verify_shards(shards, progress=False))
        else:
            assert found == whole


@FEW
@given(st.data())
def test_any_other_bytes_of_a_file_are_seen_or_change_nothing(shards, whole, data):
    path = data.draw(st.sampled_from(sorted(shards.glob("train*"))))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "insert", "append"]))
    if how == "flip":
        content[at] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del content[at:]
    else:
        extra = data.draw(st.binary(min_size=1, max_size=600))
        place = at if how == "insert" else len(content)
        content[place:place] = extra
    with Changed(path, bytes(content)):
        check(shards, whole, path.name)
        if path.suffix == ".tar":  # padding is read by nobody, but check-shards tells
            (fault,) = verify_shards(shards, progress=False)
            assert path.name in fault
    assert verify_shards(shards, progress=False) == []


@FEW
@given(st.permutations(range(3)), st.integers(0, 11))
@example([1, 0, 2], 0)
def test_a_tar_with_its_members_in_another_order_is_named(shards, whole, order, number):
    paths = sorted(shards.glob("train-*.tar"))
    path = paths[number % len(paths)]
    with tarfile.open(path) as tar:
        members = [(member, tar.extractfile(member).read()) for member in tar]
    assume(list(order) != sorted(order))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for place in [*order, *range(3, len(members))]:
            member, data = members[place]
            tar.addfile(member, io.BytesIO(data))
    with Changed(path, packed.getvalue()):
        check(shards, whole, path.name)
        assert any(path.name in fault for fault in verify_shards(shards, progress=False))


NAMES = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]),
    min_size=1, max_size=8,
).filter(lambda name: name[0] not in "._" and name != "images")  # fmt: skip
TREES = st.dictionaries(
    NAMES, st.dictionaries(NAMES, st.binary(max_size=1500), min_size=1, max_size=4),
    min_size=1, max_size=4,
)  # fmt: skip


@settings(FEW, max_examples=settings.default.max_examples // 4)
@given(TREES, st.sampled_from([0.001, 0.002, 1.0]))
@example({"a ": {"x": b""}, "a": {"x": b"1", "y ": b"2" * 1200}}, 0.001)
@example({"10": {"1": b"x"}, "9": {"1": b"x"}}, 1.0)
def test_what_is_packed_is_read_again(tmp_path_factory, tree, shard_mb):
    """Any names, classes and bytes; or two images that would have one name are named."""
    root = tmp_path_factory.mktemp("tree")
    for class_name, images in tree.items():
        (root / "train" / class_name).mkdir(parents=True)
        for name, content in images.items():
            (root / "train" / class_name / f"{name}.jpg").write_bytes(content)
    plain = read(root)
    try:
        make_shards("imagenet", root, root / "out", shard_mb=shard_mb, **MAKE)
    except ValueError as error:
        assert "would both be sample" in str(error)
        stems = [(c, name.replace(".", "_")) for c, images in tree.items() for name in images]
        assert len(set(stems)) < len(stems)
        return
    assert read(root / "out") == plain
    assert verify_shards(root / "out", progress=False) == []
