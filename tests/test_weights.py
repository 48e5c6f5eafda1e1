"""Our NesT computes what timm's and what the published JAX code compute."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import timm
import torch
from safetensors.torch import save_file

import nestlib
from nestbook.peers import PUBLISHED as PUBLISHED_NAMES
from nestlib.models.weights import (
    ForeignWeights,
    from_flax,
    from_timm,
    load_published,
    load_weights,
    save_weights,
)

PUBLISHED = json.loads((Path(__file__).parent / "published" / "nest_logits.json").read_text())
SHAPES = {
    "multi_query": dict(img_size=8, patch_size=1, embed_dims=(24,) * 3, num_heads=(3,) * 3,
                        depths=(1, 2, 1)),
    "multi_head": dict(img_size=12, patch_size=2, embed_dims=(16, 32), num_heads=(2, 4),
                       depths=(1, 2)),
}  # fmt: skip


def timm_nest(name, **options):
    """timm's model with weights large enough that every part of it shows in the logits."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
@pytest.mark.parametrize(("suffix", "padding"), [("_jx", "same"), ("", "symmetric")])
def test_logits_equal_timms(size, suffix, padding):
    theirs = timm_nest(f"nest_{size}{suffix}")
    ours = nestlib.create_model(
        f"nest_{size}_imagenet", num_classes=10, aggregation_padding=padding
    ).eval()
    load_weights(ours, from_timm(theirs.state_dict(), ours))
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        expected = theirs(images)
        assert expected.std() > 0.1
        torch.testing.assert_close(ours(images), expected, atol=1e-4, rtol=0)


def test_timms_paddings_differ():
    """The parity above would be empty if both paddings gave the same."""
    theirs = timm_nest("nest_tiny_jx")
    ours = nestlib.create_model(
        "nest_tiny_imagenet", num_classes=10, aggregation_padding="symmetric"
    ).eval()
    load_weights(ours, from_timm(theirs.state_dict(), ours))
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert (ours(images) - theirs(images)).abs().max() > 1e-2


@pytest.mark.parametrize("size", [(448, 448), (224, 448)])
def test_weights_load_at_another_size(size):
    """timm's own do not (1.0.31); at 448 the answer equals timm's with the same embeddings."""
    source = timm_nest("nest_tiny_jx")
    ours = nestlib.create_model("nest_tiny_imagenet", num_classes=10, img_size=size).eval()
    load_weights(ours, from_timm(source.state_dict(), ours))
    images = torch.randn(1, 3, *size)
    with torch.inference_mode():
        logits = ours(images)
    assert torch.isfinite(logits).all()
    if size == (448, 448):
        theirs = timm.create_model("nest_tiny_jx", num_classes=10, img_size=448).eval()
        resized = {f"levels.{i}.pos_embed": p.data for i, p in enumerate(ours.pos_embeds)}
        theirs.load_state_dict(source.state_dict() | resized)
        with torch.inference_mode():
            torch.testing.assert_close(theirs(images), logits, atol=1e-4, rtol=0)


def published_tree(shapes):
    """The nested dict of a published checkpoint, filled with numbers that depend on the path."""
    tree = {}
    for path, shape in shapes.items():
        *folders, leaf = path.split("/")
        node = tree
        for folder in folders:
            node = node.setdefault(folder, {})
        draw = np.random.default_rng(zlib.crc32(f"/{path}".encode()))
        node[leaf] = (0.3 * draw.standard_normal(shape)).astype(np.float32)
    return tree


@pytest.mark.parametrize("attention", SHAPES)
def test_logits_equal_the_published_code(attention):
    """Numbers that the authors' JAX model gave for the same parameters and images."""
    shape, published = SHAPES[attention], PUBLISHED["models"][attention]
    model = nestlib.NesT(**shape, num_classes=5, attention=attention, activation="gelu_tanh").eval()
    load_weights(model, from_flax(published_tree(published["shapes"]), model))
    size = shape["img_size"]
    images = np.random.default_rng(0).standard_normal((2, size, size, 3)).astype(np.float32)
    with torch.no_grad():
        logits = model(torch.from_numpy(images).permute(0, 3, 1, 2))
    torch.testing.assert_close(logits, torch.tensor(published["logits"]), atol=1e-5, rtol=0)


def test_a_nest_resized_here_is_one_resized_by_the_published_code():
    """libml/utils.py: each block's embeddings, by scipy's zoom of order 1, for larger images."""
    shape, published = SHAPES["multi_head"], PUBLISHED["models"]["multi_head"]
    build = lambda size: nestlib.NesT(**shape | {"img_size": size}, num_classes=5).eval()  # noqa: E731
    tree = published_tree(published["shapes"])
    ours, theirs = build(24), build(24)
    load_weights(ours, from_flax(tree, build(12)))
    for name in ("PositionEmbedding_0", "PositionEmbedding_1"):
        pos = tree[name]["pos_embedding"]
        _, blocks, n, d = pos.shape
        edge = round(n**0.5)
        zoomed = scipy.ndimage.zoom(pos.reshape(1, blocks, edge, edge, d), (1, 1, 2, 2, 1), order=1)
        tree[name]["pos_embedding"] = zoomed.reshape(1, blocks, 4 * n, d)
    load_weights(theirs, from_flax(tree, theirs))
    images = torch.randn(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = ours(images)
        assert logits.std() > 0.1
        torch.testing.assert_close(logits, theirs(images), atol=1e-5, rtol=0)


def test_foreign_trees_are_refused():
    model = nestlib.NesT(**SHAPES["multi_head"], num_classes=5)
    with pytest.raises(ForeignWeights, match="not a timm NesT state dict"):
        from_timm({"blocks.0.weight": torch.zeros(1)}, model)
    with pytest.raises(ForeignWeights, match="not a published NesT tree"):
        from_flax({"Conv_0": {}}, model)
    assert issubclass(ForeignWeights, KeyError) and issubclass(ForeignWeights, ValueError)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("levels.0.transformer_encoder.0.attn.proj.weight", torch.zeros(16, 15)),
        ("levels.0.transformer_encoder.0.attn.proj.weight", torch.zeros(16)),
        ("levels.7.transformer_encoder.0.attn.proj.weight", torch.zeros(16, 16)),
    ],
)
def test_timms_state_of_another_model_is_refused_by_name(name, tensor):
    model = nestlib.NesT(**SHAPES["multi_head"], num_classes=5)
    state = {"levels.0.pos_embed": torch.zeros(1, 4, 9, 16), name: tensor}
    with pytest.raises(ForeignWeights, match=name):
        from_timm(state, model)


DAMAGES = {
    "shorter": lambda a: a[..., :-1], "one more axis": lambda a: a[None],
    "empty": lambda a: a[..., :0], "a number": lambda a: np.float32(1), "a text": lambda a: "1.5",
    "texts": lambda a: a.astype(str), "objects": lambda a: a.astype(object), "None": lambda a: None,
    "ragged": lambda a: [[1.0, 2.0], [3.0]], "not finite": lambda a: a * np.nan,
    "complex": lambda a: a.astype(complex), "switches": lambda a: a > 0,
    "a branch": lambda a: {"deeper": a},
}  # fmt: skip


@pytest.mark.parametrize("attention", SHAPES)
@pytest.mark.parametrize("damage", [*DAMAGES.values(), None], ids=[*DAMAGES, "missing"])
def test_every_wrong_leaf_of_a_published_tree_is_named(attention, damage):
    shapes = PUBLISHED["models"][attention]["shapes"]
    model = nestlib.NesT(**SHAPES[attention], num_classes=5, attention=attention)
    for path in shapes:
        tree = published_tree(shapes)
        *folders, leaf = path.split("/")
        branch = tree
        for folder in folders:
            branch = branch[folder]
        value = branch.pop(leaf)
        if damage is not None:
            branch[leaf] = damage(value)
        with pytest.raises(ForeignWeights) as raised:
            load_weights(model, from_flax(tree, model))
        block = "/".join(folders)  # of a head's kernel that is too short the bias tells
        assert path in str(raised.value) or block in str(raised.value), raised.value


def test_leaves_that_the_model_has_no_place_for_are_named():
    model = nestlib.NesT(**SHAPES["multi_head"], num_classes=5)
    tree = published_tree(PUBLISHED["models"]["multi_head"]["shapes"])
    tree["ConvPool_7"] = {"Conv_0": {"bias": np.zeros(3)}}
    with pytest.raises(ForeignWeights, match="no place for the tree's ConvPool_7/Conv_0/bias"):
        from_flax(tree, model)
    other = nestlib.NesT(**SHAPES["multi_head"], num_classes=5, attention="multi_query")
    tree = published_tree(PUBLISHED["models"]["multi_head"]["shapes"])
    with pytest.raises(ForeignWeights, match=r"MultiQueryAttention_0\), unlike the model"):
        from_flax(tree, other)


def test_a_tree_of_other_classes_is_converted():
    """So that its head can be left out, and the rest fine-tuned."""
    tree = published_tree(PUBLISHED["models"]["multi_head"]["shapes"])
    state = from_flax(tree, nestlib.NesT(**SHAPES["multi_head"], num_classes=3))
    assert state["head.weight"].shape == (5, 32)


def test_published_tree_of_another_model_is_refused():
    tree = published_tree(PUBLISHED["models"]["multi_head"]["shapes"])
    shape = SHAPES["multi_head"]
    with pytest.raises(ValueError, match=r"the tree has 3 transformer layers, the model 2"):
        from_flax(tree, nestlib.NesT(**{**shape, "depths": (1, 1)}, num_classes=5))
    with pytest.raises(
        ValueError, match=r"hierarchies.0.0 has 2 heads in the tree, 4 in the model"
    ):
        from_flax(tree, nestlib.NesT(**{**shape, "num_heads": (4, 8)}, num_classes=5))


def oblong(**options):
    torch.manual_seed(0)
    shape = dict(img_size=(16, 32), patch_size=1, embed_dims=(8, 8), num_heads=(2, 2),
                 depths=(1, 1), block_size=8, num_classes=3)  # fmt: skip
    return nestlib.NesT(**(shape | options)).eval()


def test_oblong_weights_know_their_grid(tmp_path):
    """Landscape embeddings have portrait's shapes; they must be resized all the same."""
    landscape = oblong()
    save_weights(landscape, tmp_path / "weights.safetensors")
    portrait = load_weights(oblong(img_size=(32, 16)), tmp_path / "weights.safetensors")
    assert portrait.pos_embeds[0].shape == landscape.pos_embeds[0].shape
    assert not torch.equal(portrait.pos_embeds[0], landscape.pos_embeds[0])
    back = load_weights(oblong(), tmp_path / "weights.safetensors")
    assert torch.equal(back.pos_embeds[0], landscape.pos_embeds[0])
    images = torch.randn(1, 3, 32, 16)
    with torch.no_grad():  # forward resizes in the same way
        torch.testing.assert_close(landscape(images), portrait(images))


def test_oblong_weights_without_a_size_are_refused():
    state = oblong().state_dict()
    del state["pos_embed_size"]
    with pytest.raises(ValueError, match="8 blocks, which do not form a square"):
        oblong(img_size=(16, 16)).load_state_dict(state)


def test_many_places_become_one_by_their_mean():
    """A shared embedding takes the mean over blocks, not the first block's."""
    source = oblong(img_size=(32, 32))
    shared = oblong(img_size=(32, 32), pos_embed="shared")
    load_weights(shared, source.state_dict())
    expected = source.pos_embeds[0].mean(1, keepdim=True)
    torch.testing.assert_close(shared.pos_embeds[0], expected)


@pytest.mark.parametrize("options", [{}, {"num_classes": 7}, {"num_classes": 0}, {"in_chans": 1}])
def test_published_weights_start_models_with_other_heads(options, monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, pretrained, **k: create(*a, **k))
    model = nestlib.create_model("nest_tiny_imagenet", **options)
    before = model.hierarchies[0][0].fc1.weight.clone()
    load_published(model, "nest_tiny_jx")
    assert not torch.equal(model.hierarchies[0][0].fc1.weight, before)


@pytest.mark.parametrize(
    ("name", "options"),
    [("deit_small_imagenet", {"img_size": 64, "num_classes": 7}),
     ("swin_tiny_imagenet", {"img_size": 224, "num_classes": 1000}),
     ("resnet50_imagenet", {"img_size": 64, "num_classes": 0}),
     ("nest_tiny_imagenet", {"num_classes": 7})],
)  # fmt: skip
def test_pretrained_models_are_timms(name, options, monkeypatch):
    create, sources = timm.create_model, []

    def without_network(timm_name, pretrained=False, **rest):
        model = create(timm_name, **rest).eval()
        if pretrained:
            assert timm_name == PUBLISHED_NAMES[name]
            sources.append(model)
        return model

    monkeypatch.setattr(timm, "create_model", without_network)
    torch.manual_seed(0)
    model = nestlib.create_model(name, pretrained=True, **options).eval()
    images = torch.randn(1, 3, *[options.get("img_size", 224)] * 2)
    with torch.inference_mode():
        logits = model(images)
        torch.testing.assert_close(logits, sources[0](images), atol=1e-4, rtol=0)
    assert logits.shape[1] == (options["num_classes"] or 2048)


def test_published_weights_of_another_shape_are_refused(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda *a, pretrained, **k: create(*a, **k))
    with torch.device("meta"), pytest.raises(RuntimeError, match=r"Unexpected key.*blocks\.2\."):
        nestlib.create_model(
            "deit_small_imagenet", pretrained=True, num_classes=10, img_size=224, depth=2
        )
    with pytest.raises(ValueError, match="deit_tiny_cifar has no published weights"):
        nestlib.create_model("deit_tiny_cifar", pretrained=True, num_classes=10, img_size=32)


def test_timms_configuration_names_the_published_weights():
    config = timm.create_model("nestlib_nest_tiny_imagenet").default_cfg
    assert config["hf_hub_id"] == timm.get_pretrained_cfg("nest_tiny_jx").hf_hub_id


def test_weights_survive_a_file(tmp_path):
    torch.manual_seed(0)
    model = nestlib.create_model("nest_tiny_cifar", embed_dim=48, num_classes=10).eval()
    save_weights(model, tmp_path / "full.safetensors")
    save_weights(model, tmp_path / "half.safetensors", half=True)
    again = nestlib.create_model("nest_tiny_cifar", embed_dim=48, num_classes=10).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        load_weights(again, tmp_path / "full.safetensors")
        assert torch.equal(again(images), model(images))
        load_weights(again, tmp_path / "half.safetensors")
        torch.testing.assert_close(again(images), model(images), atol=1e-2, rtol=0)
    with pytest.raises(FileNotFoundError, match="no weights at"):
        load_weights(again, tmp_path / "absent.safetensors")


def as_file(header, data=b""):
    """A .safetensors file of a header as it stands."""
    text = json.dumps(header).encode() if isinstance(header, dict | list) else header
    return len(text).to_bytes(8, "little") + text + data


def entry(kind, shape, size):
    return {"a": {"dtype": kind, "shape": shape, "data_offsets": [0, size]}}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x80\x04K\x01.", b"a text, and no weights\n", (2**60).to_bytes(8, "little") + b"{}",
        as_file(b"{no"), as_file(b'{"\xff": 1}'), as_file([1]),
        as_file(entry("X9", [1], 4), b"1234"),
        as_file(entry("F32", [2], 4), b"1234"), as_file(entry("F32", [-1], 4), b"1234"),
        as_file(entry("F6_E2M3", [16], 12), bytes(12)), as_file(entry("F32", [1], 4), b"123"),
        as_file(entry("F32", [2**40, 2**40], 4), b"1234"), as_file(entry("F32", [1], 4), b"12345"),
    ],
)  # fmt: skip
def test_a_damaged_file_is_an_oserror_that_names_it(tmp_path, data):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"weights.safetensors is not a whole .safetensors file"):
        load_weights(oblong(), path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("norm.weight", lambda t: t[:-1]), ("norm.weight", lambda t: t.int()),
        ("norm.weight", lambda t: t.to(torch.complex64)), ("pos_embed_size", lambda t: t.float()),
        ("pos_embed_size", lambda t: t[:1]), ("pos_embed_size", lambda t: t * 0),
        ("pos_embeds.0", lambda t: t[0]), ("pos_embeds.0", lambda t: t[:, :, :-1]),
        ("pos_embeds.0", lambda t: t[:, :3]), ("head.bias", None),
    ],
)  # fmt: skip
def test_a_file_of_another_model_is_a_valueerror_that_names_it(tmp_path, name, change):
    state = oblong().state_dict()
    value = state.pop(name)
    if change is not None:
        state[name] = change(value).contiguous()
    save_file(state, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match=r"weights.safetensors does not fit this NesT"):
        load_weights(oblong(), tmp_path / "weights.safetensors")


def test_hub_round_trip(tmp_path):
    """What push_to_hub uploads is what save_pretrained writes; from_pretrained reads it back."""
    model = nestlib.create_model(
        "nest_tiny_cifar", embed_dim=48, patch_size=2, num_classes=7
    ).eval()
    model.save_pretrained(tmp_path)
    again = nestlib.NesT.from_pretrained(tmp_path).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(again(images), model(images))
        larger = nestlib.NesT.from_pretrained(tmp_path, img_size=64).eval()
        assert larger(torch.randn(1, 3, 64, 64)).shape == (1, 7)
    again.reset_classifier(3)  # fine-tuned, then pushed again
    again.save_pretrained(tmp_path / "tuned")
    assert nestlib.NesT.from_pretrained(tmp_path / "tuned").head.out_features == 3
