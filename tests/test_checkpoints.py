"""The weights of others are read by what is in a file, and every damaged file is refused."""

import os
import pickle
import struct
import tracemalloc
import zipfile
from functools import reduce
from pathlib import Path

import msgpack
import numpy as np
import pytest
import torch
from foreign_files import as_flax, published_tree, train_state, write
from safetensors.torch import save_file

import nestlib
from nestlib.models.checkpoints import read_foreign
from nestlib.models.flax_files import read_flax_params
from nestlib.models.weights import ForeignWeights

LEAVES = Path(__file__).parent / "published" / "leaves.flax"


def test_what_flax_wrote_is_read():
    """leaves.flax is of flax 0.12.8 with jax 0.10.2: serialization.to_bytes of the tree below under
    {"step": 7, "optimizer": {"target": {"PatchEmbedding_0": ...}, "state": {"beta": 0.9, "none":
    None, "z": 1 + 2j}}}, MAX_CHUNK_SIZE being 64 bytes, and float16 of a.astype(np.float16)."""
    a = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 8
    expected = {
        "chunked": a, "bfloat16": a[0], "float16": a[0].astype(np.float16),
        "chunked_bfloat16": a.repeat(2, 0), "scalar": np.float32(1.5), "int64": np.arange(3),
        "bool": np.array([True, False]), "empty": np.zeros((0, 3), np.float32),
    }  # fmt: skip
    params, place = read_flax_params(LEAVES)
    assert place == "optimizer/target" and params["PatchEmbedding_0"].keys() == expected.keys()
    for name, array in params["PatchEmbedding_0"].items():
        assert array.dtype == expected[name].dtype, name
        np.testing.assert_array_equal(array, expected[name], name)


def test_the_folder_that_the_download_leaves(tmp_path):
    folder = tmp_path / "nest-t"
    folder.mkdir()
    for name in ("ckpt-39.index", "ckpt-39.data-00000-of-00001"):
        (folder / name).write_bytes(b"\0\0\1")
    with pytest.raises(FileNotFoundError, match=r"nest-t holds no ckpt-.*, but ckpt-39.data"):
        read_foreign(folder)
    for step, classes in ((9, 4), (39, 5), (100, 6)):
        write(folder / f"ckpt-{step}.flax", as_flax(published_tree(classes=classes)))
    assert read_foreign(folder).name == "nest-t/ckpt-100.flax"  # the newest
    (folder / "checkpoint").write_text('model_checkpoint_path: "ckpt-39"\n')
    found = read_foreign(folder)
    assert found.path == folder / "ckpt-39.flax"
    assert found.weights["Dense_0"]["bias"].shape == (5,)
    with pytest.raises(OSError, match=r"ckpt-39.index is not a flax checkpoint.*ends in .flax"):
        read_foreign(folder / "ckpt-39.index")


def test_a_safetensors_file_is_told_whatever_its_header_is_long(tmp_path):
    """The length stands first, and begins like a flax checkpoint's or a pickle's first byte."""
    tensors, starts = {"pos_embeds.0": torch.zeros(1)}, set()
    for length in (*range(0, 2048, 8), *range(41_000, 41_600, 8)):
        save_file(tensors, tmp_path / "a", metadata={"a": "x" * length})
        starts.add((tmp_path / "a").read_bytes()[:2])
        assert read_foreign(tmp_path / "a").kind == "nestlib's weights"
    assert {b"\x80\2", b"\x88\xa1"} <= starts


@pytest.mark.parametrize("name", ["nest_tiny", "resnet50", "no/such.flax", "", "nest_tiny_jx.x"])
def test_names_that_stand_for_nothing(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nest_tiny_jx.goog_in1k|holds no ckpt"):
        read_foreign(name)


def packed(shape, kind="float32", data=b"\0" * 4):
    return msgpack.ExtType(1, msgpack.packb((shape, kind, data)))


def nested(depth):
    return reduce(lambda inner, _: {"a": inner}, range(depth), {})


HOSTILE = {  # leaf -> what the message says of it
    "a huge array": (packed((2**40,)), "are not 4 bytes"),
    "huge by huge": (packed((2**62, 2**62)), "are not 4 bytes"),
    "no axis is negative": (packed((-1, -1)), "its shape is"),
    "texts for lengths": (packed(("1",)), "its shape is"),
    "true for a length": (packed((True,)), "its shape is"),
    "many axes": (packed((1,) * 40), "not a whole array"),
    "objects": (packed((1,), "object"), "type 'object'"),
    "a structure": (packed((1,), "V4"), "type 'V4'"),
    "big end first": (packed((1,), ">f4"), "type '>f4'"),
    "no shape": (msgpack.ExtType(1, msgpack.packb(("float32", b"1234"))), "not packed as"),
    "no list": (msgpack.ExtType(1, msgpack.packb(5)), "not packed as"),
    "cut": (msgpack.ExtType(1, b"\x93\x91\xcd"), "not a whole array"),
    "a list without end": (msgpack.ExtType(1, b"\xdd\xff\xff\xff\xff"), "not a whole array"),
    "empty": (msgpack.ExtType(1, b""), "not a whole array"),
    "another extension": (msgpack.ExtType(9, b"abc"), "code=9"),
    "a complex number": (msgpack.ExtType(2, msgpack.packb((1.0, 2.0))), "code=2"),
    "a number": (3, "found 3"), "a text": ("x" * 999, "found 'xxx"), "nothing": (None, "None"),
    "pieces of others": (
        {"__msgpack_chunked_array__": True, "shape": {"0": 2}, "chunks": {"0": 1}}, "found 1"
    ),
    "few pieces": (
        {"__msgpack_chunked_array__": True, "shape": {"0": 2**40}, "chunks": {"0": packed((1,))}},
        "its chunks hold 1 numbers",
    ),
    "no piece": ({"__msgpack_chunked_array__": True, "shape": {}, "chunks": {}}, "hold 0 numbers"),
    "a piece left out": (
        {"__msgpack_chunked_array__": True, "shape": {"0": 1}, "chunks": {"1": packed((1,))}}, "'0'"
    ),
    "no pieces at all": ({"__msgpack_chunked_array__": True}, "'shape'"),
    "deep": (nested(60), "nested more than 32 deep"),
}  # fmt: skip


@pytest.mark.parametrize("leaf", HOSTILE)
def test_hostile_leaves_are_refused_by_name(leaf, tmp_path):
    value, said = HOSTILE[leaf]
    path = write(tmp_path / "ckpt-1.flax", {"params": {"PatchEmbedding_0": {"kernel": value}}})
    tracemalloc.start()
    with pytest.raises(ForeignWeights, match=r"ckpt-1.flax: .?params/PatchEmbedding_0/") as raised:
        read_foreign(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert said in str(raised.value) and len(str(raised.value)) < 500
    assert peak < 2**20


@pytest.mark.parametrize(
    "data",
    [
        b"\xdf\xff\xff\xff\xff\xa1a", b"\x81\xa1a\xdd\xff\xff\xff\xff" + bytes(2000),
        b"\x81\xa1a\xdd" + struct.pack(">I", 2**21) + bytes(2**21 - 4),
        b"\x81\xa1a\xc6\xff\xff\xff\xff" + bytes(2000), b"\x81\xa1\xff\x01",
        b"\x81\xa1a" * 5000, b"\x82\xa1a\x01\x91\x01\x01", b"\x81\xa1a\xc1",
        b"\x81\xa1a\x01\x01", b"\x81\xa1", b"\xde\1\1\xa1a",
    ],
    ids=["a map", "a list", "a list as long as the file", "bytes", "no UTF-8", "deep",
         "a list for a key", "a reserved byte", "more behind it", "an open text", "an open map"],
)  # fmt: skip
def test_hostile_files_are_refused_by_name(data, tmp_path):
    (tmp_path / "ckpt-1.flax").write_bytes(data)
    tracemalloc.start()
    with pytest.raises(OSError, match=r"ckpt-1.flax is not a whole flax checkpoint \(.+\); fetch"):
        read_foreign(tmp_path / "ckpt-1.flax")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def small_files(tmp_path):
    """A file of each kind, small."""
    model = nestlib.create_model("nest_tiny_cifar", num_classes=2, embed_dim=3, num_heads=1,
                                 num_hierarchies=2, patch_size=4)  # fmt: skip
    state = model.state_dict()
    torch.save(state, tmp_path / "a.pth")
    save_file(state, tmp_path / "a.safetensors")
    leaf = np.ones(3, np.float32)
    write(tmp_path / "a.flax", as_flax(train_state({"PatchEmbedding_0": {"a": leaf, "b": leaf}})))
    return [tmp_path / f"a.{kind}" for kind in ("pth", "safetensors", "flax")]


def test_cut_files_are_refused(tmp_path):
    for path in small_files(tmp_path):
        whole = path.read_bytes()
        lengths = {*range(min(len(whole), 40)), *range(0, len(whole), max(1, len(whole) // 40))}
        for length in sorted(lengths):
            path.write_bytes(whole[:length])
            with pytest.raises(OSError, match=rf"{path.name} (is|holds|could)"):
                read_foreign(path)


def test_flipped_bytes_end_in_no_other_error(tmp_path):
    rng = np.random.default_rng(0)
    for path in small_files(tmp_path):
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        refused = 0
        for _ in range(150):
            damaged = whole.copy()
            where = rng.integers(0, min(len(whole), 2000), 3)
            damaged[where] = rng.integers(0, 256, 3)
            path.write_bytes(damaged.tobytes())
            try:
                read_foreign(path)
            except (OSError, ValueError) as error:
                refused += path.name in str(error)
                assert path.name in str(error)
        assert refused > 20


class Strike:
    """Pickled, it would leave a file behind where it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(
    pickle.dumps(value)), lambda value, path: torch.save(
        value, path, _use_new_zipfile_serialization=False)],
    ids=["torch", "pickle", "old torch"])  # fmt: skip
def test_pickles_are_not_run(save, tmp_path):
    path, mark = tmp_path / "weights.bin", tmp_path / "struck"
    save({"levels.0.pos_embed": Strike(mark)}, path)
    with pytest.raises(OSError, match=r"weights.bin is refused: .*run any code; save the state"):
        read_foreign(path)
    assert not mark.exists()
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(OSError, match=r"weights.bin is refused: .*\(torch.nn.*Linear\)"):
        read_foreign(path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "begins with b''"), (b"a text, no weights", "begins with b'a text"),
        (b"\x89HDF\r\n\x1a\n", "HDF"), (b"PK\3\4" + bytes(30), "not a whole file of torch.save"),
        (b"\x80\x04K\x01.", "holds no NesT|not a whole file of torch.save"),
        (struct.pack("<Q", 2**60) + b"{}", "begins with"),
        (struct.pack("<Q", 100) + b"{}", "not a whole .safetensors"),
    ],
)  # fmt: skip
def test_files_of_other_kinds_are_refused(data, said, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(data)
    with pytest.raises((OSError, ForeignWeights), match=rf"x.safetensors .*({said})"):
        read_foreign(tmp_path / "x.safetensors")


def test_weights_of_other_models_are_refused(tmp_path):
    np.savez(tmp_path / "vit.npz", a=np.zeros(3))
    with pytest.raises(OSError, match=r"vit.npz is not a whole file of torch.save"):
        read_foreign(tmp_path / "vit.npz")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "other.pth")
    with pytest.raises(ForeignWeights, match=r"other.pth holds no NesT: .*weight, bias"):
        read_foreign(tmp_path / "other.pth")
    write(tmp_path / "vit.flax", as_flax(train_state({"Transformer": {"a": np.zeros(3)}})))
    with pytest.raises(ForeignWeights, match=r"vit.flax holds no NesT: PatchEmbedding_0 is nei"):
        read_foreign(tmp_path / "vit.flax")
    torch.save({"state_dict": {"levels.0.pos_embed": 3}}, tmp_path / "odd.pth")
    with pytest.raises(ForeignWeights, match=r"odd.pth: levels.0.pos_embed is not a plain tensor"):
        read_foreign(tmp_path / "odd.pth")


def test_a_view_that_repeats_one_number_is_refused(tmp_path):
    name = "levels.0.transformer_encoder.0.attn.proj.weight"
    state = {"levels.0.pos_embed": torch.zeros(1), name: torch.zeros(1).expand(2**25, 2**25)}
    torch.save(state, tmp_path / "large.pth")
    with pytest.raises(ForeignWeights, match=r"large.pth: levels.0.*proj.weight is not a plain"):
        read_foreign(tmp_path / "large.pth")


def test_an_archive_that_grows_is_refused(tmp_path):
    """torch unpacks compressed entries, though it never writes one."""
    packed, plain = tmp_path / "packed.pth", tmp_path / "plain.pth"
    for zeros, refused in ((2**18, True), (2, False)):
        torch.save({"pos_embeds.0": torch.zeros(zeros)}, plain)
        with (
            zipfile.ZipFile(plain) as source,
            zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as out,
        ):
            for entry in source.infolist():
                out.writestr(entry.filename, source.read(entry))
        assert read_foreign(plain).weights["pos_embeds.0"].shape == (zeros,)
        if refused:
            with pytest.raises(
                OSError, match=r"packed.pth has [\d,]+ bytes and would unpack to 1,"
            ):
                read_foreign(packed)
        else:
            assert read_foreign(packed).weights["pos_embeds.0"].shape == (zeros,)
