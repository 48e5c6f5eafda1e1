"""Files of tensors tell damage by themselves, and a model is built only for weights that fit."""

import functools
import json
import struct
import tracemalloc

import pytest
import torch
from safetensors.torch import save, save_file

import nestlib
from nestlib.models import weights
from nestlib.models.nest import NesT
from nestlib.models.tensor_files import read_metadata, read_tensors, write_tensors
from nestlib.models.weights import (
    ForeignWeights,
    check_finite,
    hash_weights,
    load_new,
    load_weights,
)
from nestlib.runs.hub import load_pretrained, save_model

OPTIONS = {"embed_dim": 12, "num_hierarchies": 2, "patch_size": 4, "num_classes": 3}


def build(**changes):
    return nestlib.create_model("nest_tiny_cifar", **OPTIONS | changes)


def test_every_flipped_bit_of_the_numbers_is_seen(tmp_path):
    """Where safetensors' own reader sees none."""
    path, written = tmp_path / "a.safetensors", {"a": torch.arange(4.0), "b": torch.tensor([True])}
    write_tensors(path, written, {"run_id": "x"})
    assert read_metadata(path)["run_id"] == "x"
    whole = path.read_bytes()
    for bit in range(8 * 17):
        data = bytearray(whole)
        data[-1 - bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        with pytest.raises(OSError, match=r"a.safetensors is not a whole .*another SHA-256 than"):
            read_tensors(path)


def test_the_same_weights_give_the_same_bytes(tmp_path):
    """Where safetensors' own files differ, in the order of what is said of them."""
    tensors, said = {"b": torch.arange(3.0), "a": torch.tensor([1])}, {"é": "1", "b": '"', "a": "3"}
    files = [tmp_path / f"{number}.safetensors" for number in range(20)]
    for path in files:
        write_tensors(path, tensors, said)
    assert len({path.read_bytes() for path in files}) == 1
    assert len({save(tensors, metadata=said) for _ in files}) > 1
    assert {name: read_metadata(files[0])[name] for name in said} == said
    read = read_tensors(files[0])
    assert read.keys() == tensors.keys() and all(
        map(torch.equal, read.values(), map(tensors.get, read))
    )


def test_types_and_shapes_join_the_checksum(tmp_path):
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"a": torch.arange(6.0).reshape(2, 3)})
    whole = path.read_bytes()
    for old, new in ((b"[2,3]", b"[3,2]"), (b'"F32"', b'"I32"'), (b'"a":{', b'"b":{')):
        assert whole.count(old) == 1
        path.write_bytes(whole.replace(old, new))
        with pytest.raises(OSError, match="another SHA-256 than its header says"):
            read_tensors(path)


def test_files_of_others_have_no_checksum_and_load(tmp_path):
    model = build()
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    assert hash_weights(load_weights(build(), tmp_path / "a.safetensors")) == hash_weights(model)


def test_a_header_that_declares_too_much_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    entry = {"dtype": "F32", "shape": [2**38], "data_offsets": [0, 2**40]}
    header = json.dumps({"a": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    tracemalloc.start()
    with pytest.raises(OSError, match=r"a.safetensors is not a whole .safetensors file"):
        read_tensors(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float8_e5m2])
def test_numbers_that_no_training_leaves_are_refused(value, kind, tmp_path):
    model, path = build(), tmp_path / "a.safetensors"
    state = model.state_dict()
    bad = state["norm.weight"].clone()
    bad[3] = value
    save_file(state | {"norm.weight": bad.to(kind)}, path)
    expected = hash_weights(model)
    with pytest.raises(ValueError, match=r"a.safetensors .*norm.weight holds numbers that are not"):
        load_weights(model, path)
    assert hash_weights(model) == expected  # as it was
    with pytest.raises(ForeignWeights, match="b holds numbers that are not finite"):
        check_finite({"a": state["norm.weight"], "b": bad})


def test_what_float16_does_not_hold_is_not_written(tmp_path):
    model = build()
    with torch.no_grad():
        model.head.weight[0, 0] = 70_000
    with pytest.raises(ValueError, match=r"head.weight holds 7e\+04, more than float16's 65504"):
        weights.save_weights(model, tmp_path / "a.safetensors", half=True)
    assert not list(tmp_path.iterdir())
    weights.save_weights(model, tmp_path / "a.safetensors")
    assert hash_weights(load_weights(build(), tmp_path / "a.safetensors")) == hash_weights(model)


@pytest.mark.parametrize("change", [{"embed_dim": 9999}, {"num_classes": 10**6}, {"img_size": 64}])
def test_no_memory_is_taken_for_a_model_that_weights_do_not_fit(change, tmp_path, monkeypatch):
    """A config.json of a few bytes may name any model. img_size resizes embeddings, and fits."""
    save_model(build(), tmp_path, "nest_tiny_cifar", **OPTIONS)
    path, made = tmp_path / "config.json", []
    config = json.loads(path.read_text())
    config["nestlib"]["options"] |= change
    config |= {"num_classes": 10**6} if "num_classes" in change else {"embed_dims": [9999, 9999]}
    init = NesT.__init__

    @functools.wraps(init)
    def note(self, *args, **how):
        init(self, *args, **how)
        made.append(next(self.parameters()).device.type)

    monkeypatch.setattr(NesT, "__init__", note)
    path.write_text(json.dumps(config))
    if "img_size" in change:
        assert load_pretrained(tmp_path).img_size == (64, 64) and made == ["meta", "cpu"]
        return
    for load in (load_pretrained, NesT.from_pretrained):
        with pytest.raises(ValueError, match=rf"{tmp_path}.*(does not fit|at most 5e\+08)"):
            load(tmp_path)
    assert set(made) == {"meta"}


def test_models_of_too_many_numbers_are_refused(tmp_path, monkeypatch):
    weights.save_weights(build(), tmp_path / "a.safetensors")
    monkeypatch.setattr(weights, "MAX_PARAMS", 100)
    with pytest.raises(ValueError, match=r"a NesT with \de\+04 parameters is asked for, must have"):
        load_new(build, tmp_path / "a.safetensors")


def test_weights_beside_a_config_are_never_fetched(tmp_path):
    save_model(build(), tmp_path, "nest_tiny_cifar", **OPTIONS)
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"embed_dim": 12', '"pretrained": true'))
    with pytest.raises(ValueError, match=r"config.json: pretrained is no option"):
        load_pretrained(tmp_path)


@pytest.mark.parametrize("damage", [lambda d: d[:-5], lambda d: d[:-1] + b"?", lambda d: b"x"])
@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_from_pretrained_names_what_is_damaged(name, damage, tmp_path):
    build().save_pretrained(tmp_path)
    path = tmp_path / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises((OSError, ValueError), match=rf"{tmp_path}.*{name}.* make (it|both) again"):
        NesT.from_pretrained(tmp_path)
