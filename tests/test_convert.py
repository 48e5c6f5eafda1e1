"""`nest convert`: the weights of others, written for this library, give the same logits."""

import hashlib
import json
import sys
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from foreign_files import (
    as_flax,
    make_timms,
    published_tree,
    save_hub,
    save_safetensors,
    save_torch,
    save_training,
    train_state,
    write,
)
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import nestlib
from nestlib.cli import main as cli
from nestlib.models.checkpoints import JAX, OURS, Foreign, read_foreign
from nestlib.models.convert import choose_model, convert_weights
from nestlib.models.nest import NEST_MODELS
from nestlib.models.weights import ForeignWeights, from_flax, load_weights

NARROW = {"embed_dim": 12, "num_heads": 3}  # of nest_tiny_cifar


@pytest.fixture
def checkpoint(tmp_path):
    """A small checkpoint of the authors' code."""
    return write(tmp_path / "ckpt-39.flax", as_flax(train_state(published_tree())))


@pytest.fixture(scope="module")
def timms():
    return make_timms()


def load(done):
    model = nestlib.create_model(done.model, **done.options).eval()
    return load_weights(model, done.path)


def logits(model, size=32):
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = model(images)
    assert found.std() > 0.05
    return found


@pytest.mark.parametrize("place", ["optimizer/target", "params", "params/params", "target", ""])
@pytest.mark.parametrize(
    "how", [{}, {"chunk": 50}, {"kind": "bfloat16"}, {"kind": "bfloat16", "chunk": 50}], ids=str
)
def test_a_jax_checkpoint_gives_its_logits_back(tmp_path, place, how):
    params = published_tree()
    tree = as_flax(params, **how)
    for name in reversed(list(filter(None, place.split("/")))):
        tree = {name: tree}
    source = write(tmp_path / "weights.bin", tree)  # the name tells nothing
    done = convert_weights(source, tmp_path / "out.safetensors", model="nest_tiny_cifar", **NARROW)
    assert (done.source.kind, done.source.place) == (JAX, place)
    assert done.options == {"num_classes": 5, "activation": "gelu_tanh", **NARROW}
    expected = nestlib.create_model("nest_tiny_cifar", **done.options).eval()
    load_weights(expected, from_flax(params, expected))
    exact = "kind" not in how
    assert torch.equal(logits(load(done)), logits(expected)) == exact
    if not exact:
        torch.testing.assert_close(logits(load(done)), logits(expected), atol=0.1, rtol=0)


def test_metadata_say_where_weights_come_from(checkpoint, tmp_path):
    convert_weights(checkpoint, tmp_path / "out.safetensors", **NARROW)
    with safe_open(tmp_path / "out.safetensors", "pt") as file:
        said = file.metadata()
    assert json.loads(said.pop("model_options")) == {
        "num_classes": 5, "activation": "gelu_tanh", **NARROW
    }  # fmt: skip
    assert len(said.pop("tensors_sha256")) == 64
    assert said == {
        "format": "pt", "source": "ckpt-39.flax", "nestlib": nestlib.__version__,
        "source_sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "model": "nest_tiny_cifar",
    }  # fmt: skip


CIFAR, IMAGENET = {"depths": (3,) * 4}, {"edge": 14, "patch": 4, "multi_query": False}
PUBLISHED_SHAPES = {
    "nest_tiny_cifar": {**CIFAR, "dims": (192,) * 4, "heads": (3,) * 4},
    "nest_small_cifar": {**CIFAR, "dims": (384,) * 4, "heads": (6,) * 4},
    "nest_base_cifar": {**CIFAR, "dims": (768,) * 4, "heads": (12,) * 4},
    "nest_tiny_imagenet": {
        **IMAGENET, "dims": (96, 192, 384), "heads": (3, 6, 12), "depths": (2, 2, 8)
    },
    "nest_small_imagenet": {
        **IMAGENET, "dims": (96, 192, 384), "heads": (3, 6, 12), "depths": (2, 2, 20)
    },
    "nest_base_imagenet": {
        **IMAGENET, "dims": (128, 256, 512), "heads": (4, 8, 16), "depths": (2, 2, 20)
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED_SHAPES)
def test_published_checkpoints_are_told_by_their_shapes(name):
    zero = np.zeros((), np.float32)
    tree = published_tree(
        **PUBLISHED_SHAPES[name], classes=7, draw=lambda shape: np.broadcast_to(zero, shape)
    )
    options = {"num_classes": 7, "activation": "gelu_tanh"}
    assert choose_model(Foreign(Path("x"), "x", JAX, "", tree), None, {}) == (name, options)
    with torch.device("meta"):  # each leaf has a place, and each place a leaf
        model = nestlib.create_model(name, **options)
    state = from_flax(tree, model)
    assert {k: tuple(t.shape) for k, t in state.items()} == {
        k: tuple(t.shape) for k, t in model.state_dict().items() if k != "pos_embed_size"
    }


@pytest.mark.parametrize("name", NEST_MODELS)
@pytest.mark.parametrize(
    "options",
    [{}, {"num_classes": 0, "in_chans": 1}, {"attention": "multi_query"}, {"block_size": 2},
     {"img_size": (64, 128)}],
    ids=str,
)  # fmt: skip
def test_our_own_weights_are_told_by_their_shapes(name, options):
    given = {"num_classes": 3, **options}
    if "img_size" in options and name.endswith("imagenet"):
        given["img_size"] = (224, 448)
    with torch.device("meta"):
        model = nestlib.create_model(name, **given)
    state = model.state_dict() | {"pos_embed_size": torch.tensor(model.img_size)}
    found, chosen = choose_model(Foreign(Path("x"), "x", OURS, "", state), None, {})
    with torch.device("meta"):
        again = nestlib.create_model(found, **chosen)
    assert found == name
    assert str(again) == str(model) and again.grids == model.grids
    assert again.block_size == model.block_size


@pytest.mark.parametrize(
    "save",
    [save_safetensors, save_torch, save_training, save_hub,
     lambda *at: save_torch(*at, _use_new_zipfile_serialization=False)],
    ids=["safetensors", "torch", "train.py", "hub", "old torch"],
)  # fmt: skip
def test_timms_weights_give_timms_logits(timms, save, tmp_path):
    source = save(timms, tmp_path)
    done = convert_weights(source, tmp_path / "out.safetensors", embed_dim=24)
    assert done.model == "nest_tiny_imagenet"
    assert done.options == {"num_classes": 5, "embed_dim": 24, "img_size": 32}
    torch.testing.assert_close(logits(load(done)), logits(timms), atol=1e-5, rtol=0)
    assert done.unsure_of_padding == (save is not save_training and save is not save_hub)


def test_timms_name_tells_the_padding(timms, tmp_path):
    folder = save_hub(timms, tmp_path, "nest_tiny")
    done = convert_weights(folder, tmp_path / "out.safetensors", embed_dim=24)
    assert done.options["aggregation_padding"] == "symmetric" and not done.unsure_of_padding
    done = convert_weights(
        folder, tmp_path / "out.safetensors", embed_dim=24, aggregation_padding="same"
    )
    assert done.options["aggregation_padding"] == "same"


def test_half_precision_becomes_float32(timms, tmp_path):
    save_file({k: t.bfloat16() for k, t in timms.state_dict().items()}, tmp_path / "half")
    done = convert_weights(tmp_path / "half", tmp_path / "out.safetensors", embed_dim=24)
    kinds = {name: tensor.dtype for name, tensor in load_file(done.path).items()}
    assert kinds.pop("pos_embed_size") == torch.int64 and set(kinds.values()) == {torch.float32}
    torch.testing.assert_close(logits(load(done)), logits(timms), atol=0.1, rtol=0)


def test_weights_of_our_own_training_in_torchs_file(tmp_path):
    """As timm's train.py leaves those of nestlib_nest_tiny_cifar."""
    model = nestlib.create_model("nest_tiny_cifar", num_classes=3, **NARROW).eval()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "last.pth.tar")
    done = convert_weights(tmp_path / "last.pth.tar", tmp_path / "out.safetensors", **NARROW)
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(load(done)(images), model(images))


def test_embeddings_are_resized_if_asked(checkpoint, tmp_path):
    done = convert_weights(checkpoint, tmp_path / "out.safetensors", img_size=64, **NARROW)
    small = convert_weights(checkpoint, tmp_path / "small.safetensors", **NARROW)
    larger = nestlib.create_model("nest_tiny_cifar", **{**small.options, "img_size": 64}).eval()
    load_weights(larger, small.path)
    assert torch.equal(logits(load(done), 64), logits(larger, 64))


def test_weights_of_another_shape_are_refused(timms, tmp_path):
    source = save_safetensors(timms, tmp_path)
    with pytest.raises(ForeignWeights, match=r"weights.dat is of another shape than every named "
                       r"model: images of 32x32 in 3 channels, .* 12 layers"):  # fmt: skip
        convert_weights(source, tmp_path / "out.safetensors")
    with pytest.raises(ForeignWeights, match=r"of another shape than nest_tiny_cifar"):
        convert_weights(source, tmp_path / "out.safetensors", model="nest_tiny_cifar")


def test_timms_names_are_fetched(timms, tmp_path, monkeypatch):
    asked = []

    def download(repo, name):
        asked.append((repo, name))
        return str(save_hub(timms, tmp_path) / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    for name in ("nest_tiny_jx.goog_in1k", "nest_tiny_jx"):
        done = convert_weights(name, tmp_path / "out.safetensors", embed_dim=24)
        assert asked.pop() == ("timm/nest_tiny_jx.goog_in1k", "model.safetensors")
        assert done.source.name == "timm/nest_tiny_jx.goog_in1k/model.safetensors"
        assert "aggregation_padding" not in done.options and not done.unsure_of_padding

    def fail(*_):
        raise huggingface_hub.errors.LocalEntryNotFoundError("no way\nat all")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(OSError, match=r"nest_tiny_jx could not be fetched.*\(no way\); check"):
        read_foreign("nest_tiny_jx")


DAMAGES = {
    "left out": lambda t: None, "shorter": lambda t: t[..., :-1].contiguous(),
    "another axis": lambda t: t[None], "not finite": lambda t: t * float("nan"),
    "complex": lambda t: t.to(torch.complex64),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize(
    "name",
    ["patch_embed.proj.weight", "levels.1.pos_embed", "levels.2.pool.conv.weight",
     "levels.0.transformer_encoder.1.attn.proj.weight",
     "levels.2.transformer_encoder.3.norm1.weight", "head.weight", "head.bias"],
)  # fmt: skip
def test_damaged_tensors_are_refused_by_the_files_name(name, damage, timms, tmp_path):
    state = timms.state_dict()
    state[name] = DAMAGES[damage](state[name])
    if state[name] is None:
        del state[name]
    if (name, damage) == ("head.weight", "left out"):
        state.pop("head.bias")  # of no classes at all there is a model
        state["head.more"] = torch.zeros(1)
    save_file(state, tmp_path / "weights.dat")
    with pytest.raises(ForeignWeights, match=r"weights.dat") as raised:
        convert_weights(tmp_path / "weights.dat", tmp_path / "out.safetensors", embed_dim=24)
    assert len(str(raised.value)) < 1000 and "\n" not in str(raised.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_heads_of_a_jax_checkpoint_are_checked(tmp_path):
    path = write(tmp_path / "a.flax", as_flax(published_tree(heads=(2,) * 4)))
    with pytest.raises(ForeignWeights, match=r"a.flax does not fit nest_tiny_cifar .* 2 heads"):
        convert_weights(path, tmp_path / "out.safetensors", **NARROW)


@pytest.mark.parametrize(
    "size", [torch.zeros(3, dtype=torch.int64), torch.tensor([8.0, float("inf")]),
             torch.tensor([2**40, 2**40]), torch.tensor([-8, -8]), torch.tensor([0, 0])],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("model", [None, "nest_tiny_cifar"])
def test_an_impossible_size_is_refused_by_the_files_name(size, model, tmp_path):
    state = nestlib.create_model("nest_tiny_cifar", num_classes=3, **NARROW).state_dict()
    save_file({**state, "pos_embed_size": size}, tmp_path / "weights.dat")
    with pytest.raises(ValueError, match=r"weights.dat"):
        convert_weights(
            tmp_path / "weights.dat", tmp_path / "out.safetensors", model=model, **NARROW
        )


def test_an_option_that_no_model_takes_is_named(checkpoint, tmp_path):
    with pytest.raises(ForeignWeights, match=r"'img_size': 33, .*33x33 pixels do not divide"):
        convert_weights(checkpoint, tmp_path / "out.safetensors", img_size=33, **NARROW)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_classes": 3}, "num_classes follows from the weights"),
        ({"pretrained": True}, "pretrained follows from the weights"),
        ({"model": "nest_tiny"}, "no NesT 'nest_tiny'; did you mean .*nest_tiny_cifar"),
        ({"model": "vgg"}, "no NesT 'vgg'"),
        ({"model": "nest_tiny_cifar", "embed_dims": 3}, "no option"),
        ({"model": "nest_tiny_cifar", "img_size": 33}, "33x33 pixels do not divide"),
        ({"model": "nest_tiny_cifar", "activation": "tanh"}, "no activation 'tanh'"),
    ],
)
def test_options_that_do_not_fit(options, said, checkpoint, tmp_path):
    with pytest.raises(ValueError, match=said):
        convert_weights(checkpoint, tmp_path / "out.safetensors", **{**NARROW, **options})


def test_only_weights_are_replaced(checkpoint, tmp_path):
    out = tmp_path / "out.safetensors"
    out.write_text("a letter, not to be lost")
    with pytest.raises(ValueError, match=r"out.safetensors exists and is no .safetensors file"):
        convert_weights(checkpoint, out, **NARROW)
    assert out.read_text() == "a letter, not to be lost"
    with pytest.raises(ValueError, match=r"must end in .safetensors"):
        convert_weights(checkpoint, tmp_path / "out.bin", **NARROW)
    out.unlink()
    convert_weights(checkpoint, out, **NARROW)
    again = convert_weights(checkpoint, out, **NARROW)
    assert again.path == out
    before = out.read_bytes()
    with pytest.raises(ValueError, match=r"out.safetensors is the source itself"):
        convert_weights(out, out, **NARROW)
    with pytest.raises(ForeignWeights):
        convert_weights(checkpoint, out, model="nest_small_cifar")
    assert out.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"out.safetensors", "ckpt-39.flax"}


def call(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["nest", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code


def test_the_command_says_how_to_load_what_it_wrote(checkpoint, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out.safetensors"
    narrow = ["--set", "embed_dim=12", "--set", "num_heads=3"]
    assert call(monkeypatch, "convert", checkpoint, out, *narrow) == 0
    read, took, wrote, line = capsys.readouterr().out.splitlines()
    assert read == f"read ckpt-39.flax: {JAX} (optimizer/target)"
    assert took.startswith("took it for nest_tiny_cifar, by its shapes; ")
    assert wrote.startswith(f"wrote {out}, ") and wrote.endswith("load it in Python:")
    model = eval(line, {"nestlib": nestlib}).eval()
    expected = nestlib.create_model("nest_tiny_cifar", num_classes=5, activation="gelu_tanh",
                                    **NARROW).eval()  # fmt: skip
    load_weights(expected, from_flax(published_tree(), expected))
    assert torch.equal(logits(model), logits(expected))


def test_the_command_says_what_it_cannot_know(timms, tmp_path, monkeypatch, capsys):
    source, out = save_torch(timms, tmp_path), tmp_path / "out.safetensors"
    words = ["convert", source, out, "--model", "nest_tiny_imagenet", "--set", "embed_dim=24"]
    assert call(monkeypatch, *words) == 0
    said, noted = capsys.readouterr()
    assert "took it for nest_tiny_imagenet, as asked; " in said
    assert "add --set aggregation_padding=symmetric" in noted
    assert call(monkeypatch, *words, "--set", "aggregation_padding=symmetric") == 0
    said, noted = capsys.readouterr()
    assert "aggregation_padding='symmetric'" in said and not noted


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["absent.flax", "out.safetensors"], "'absent.flax' is no file or folder"),
        (["ckpt-39.flax", "out.bin"], "out.bin must end in .safetensors"),
        (["ckpt-39.flax", "out.safetensors"], "of another shape than every named model"),
        (["ckpt-39.flax", "o.safetensors", "--set", "x"], "'x' is not an assignment"),
        (["ckpt-39.flax", "o.safetensors", "--model", "vgg"], "no NesT 'vgg'"),
    ],
)
def test_errors_of_the_command_are_one_line(words, said, checkpoint, monkeypatch):
    monkeypatch.chdir(checkpoint.parent)
    code = call(monkeypatch, "convert", *words)
    assert code.startswith("nest: ") and said in code and "\n" not in code


@pytest.mark.network
@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_the_published_weights_of_timm(size, tmp_path):
    name = f"nest_{size}_jx.goog_in1k"
    done = convert_weights(name, tmp_path / "out.safetensors")
    assert (done.model, done.options) == (f"nest_{size}_imagenet", {"num_classes": 1000})
    theirs = timm.create_model(name, pretrained=True).eval()
    torch.testing.assert_close(logits(load(done), 224), logits(theirs, 224), atol=1e-4, rtol=0)
