"""NesT behind timm's names: what its scripts, features and tracers ask of a model.

timm's own model tests state the same for its models; `small` narrows a registered model, so that
every name is tried.
"""

import copy
import subprocess
import sys

import pytest
import timm
import timm.data
import timm.optim
import torch
from safetensors.torch import save_file
from torch import fx, nn
from torch.autograd.graph import saved_tensors_hooks

import nestlib
from nestlib.models.nest import NEST_MODELS, NesT
from nestlib.models.stochastic_depth import StochasticDepth
from nestlib.models.weights import load_weights, save_weights

EVERY_MODEL = pytest.mark.parametrize("name", NEST_MODELS)


def small(name="nest_tiny_cifar", **options):
    """A registered model, narrow and with few heads, made by timm."""
    torch.manual_seed(0)
    narrow = {"embed_dim": 12, "num_heads": 1} | ({"top_depth": 2} if "imagenet" in name else {})
    return timm.create_model(f"nestlib_{name}", **narrow | {"num_classes": 7} | options).eval()


def images_for(model, batch=2, size=None):
    size = size or model.default_cfg["input_size"][1:]
    return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(1))


# Registry and configuration


def test_timm_lists_the_models():
    assert timm.list_models("nestlib_*") == sorted(f"nestlib_{name}" for name in NEST_MODELS)
    published = timm.list_pretrained("nestlib_*")
    assert published == [
        f"nestlib_nest_{size}_imagenet.goog_in1k" for size in ("base", "small", "tiny")
    ]
    for name in published:
        theirs = name.replace("nestlib_", "").replace("_imagenet", "_jx")
        assert timm.get_pretrained_cfg(name).hf_hub_id == f"timm/{theirs}"


@EVERY_MODEL
def test_the_configuration_describes_the_model(name):
    """Before a model is made, and of one that differs from the default."""
    registered = timm.get_pretrained_cfg(f"nestlib_{name}")
    model = small(name, in_chans=1)
    assert registered.fixed_input_size and registered.input_size == (3, *model.img_size)
    config = timm.data.resolve_model_data_config(model)
    assert config["input_size"] == (1, *model.img_size)
    assert (config["mean"], config["std"]) == (registered.mean, registered.std)
    imagenet = timm.get_pretrained_cfg("nest_tiny")
    assert (config["mean"] == imagenet.mean) == ("cifar" not in name)
    assert config["crop_pct"] == (imagenet.crop_pct if "imagenet" in name else 1.0)
    features = model.forward_features(images_for(model)[:, :1])
    assert features.shape[2:] == model.default_cfg["pool_size"]
    for part in ("first_conv", "classifier"):
        assert f"{model.default_cfg[part]}.weight" in model.state_dict()
    assert model.default_cfg["num_classes"] == 7 and registered.num_classes == 1000


def test_the_data_of_another_size_is_of_that_size():
    model = small(img_size=(32, 64))
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 32, 64)
    model.set_input_size(64)
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 64, 64)
    assert model.default_cfg["pool_size"] == (8, 8)


# Maps by hierarchy


@EVERY_MODEL
def test_features_only_gives_the_maps_that_it_announces(name):
    model = small(name)
    backbone = small(name, features_only=True).eval()
    images = images_for(model)
    with torch.no_grad():
        maps, expected = backbone(images), model.features(images)
    assert len(maps) == len(expected) == len(model.hierarchies)
    assert backbone.feature_info.channels() == [found.shape[1] for found in maps]
    for found, reduction, wanted in zip(maps, backbone.feature_info.reduction(), expected.values()):
        assert torch.equal(found, wanted)
        assert found.shape[2] == images.shape[2] / reduction


@pytest.mark.parametrize(
    ("out_indices", "levels"),
    [((0, 2), [0, 2]), ((2, 0), [2, 0]), ((-1,), [3]), (2, [2, 3]), ([1], [1])],
)
def test_out_indices_choose_maps_and_drop_what_they_do_not_need(out_indices, levels):
    whole, images = small(), torch.randn(1, 3, 32, 32)
    backbone = small(features_only=True, out_indices=out_indices)
    load_weights(whole, whole.state_dict())
    expected = whole.features(images)
    found = backbone(images)
    assert len(found) == len(levels)
    for level, tensor, stride in zip(levels, found, backbone.feature_info.reduction()):
        torch.testing.assert_close(tensor, expected[level])
        assert stride == whole.strides[level]
    sum(tensor.sum() for tensor in found).backward()
    assert all(p.grad is not None for p in backbone.parameters())
    assert len(backbone.model.hierarchies) == max(levels) + 1


def test_hooks_on_blocks_are_refused():
    with pytest.raises(ValueError, match=r"no feature_cls 'hook'; .*valid: getter"):
        small(features_only=True, feature_cls="hook")


def test_intermediates_come_with_the_last_map():
    model, images = small(), torch.randn(2, 3, 32, 64)
    expected = model.features(images)
    last, maps = model.forward_intermediates(images)
    assert torch.equal(last, model.forward_features(images))
    assert all(map(torch.equal, maps, expected.values()))
    last, (top, second) = model.forward_intermediates(images, [-1, 1], norm=True)
    assert torch.equal(top, last) and torch.equal(second, expected[1])
    (channels_last,) = model.forward_intermediates(
        images, 1, output_fmt="NHWC", intermediates_only=True
    )
    assert torch.equal(channels_last, expected[3].permute(0, 2, 3, 1))


def test_stop_early_runs_no_hierarchy_behind_the_last_that_is_asked_for():
    model, images, ran = small(), torch.randn(1, 3, 32, 32), []
    for level, hierarchy in enumerate(model.hierarchies):
        hierarchy.register_forward_hook(lambda *_, level=level: ran.append(level))
    last, (first,) = model.forward_intermediates(images, [1], stop_early=True)
    assert ran == [0, 1] and torch.equal(last, first)
    model.forward_intermediates(images, [1])
    assert ran == [0, 1, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([4], r"indices is \[4\], must be a list of levels -4 to 3: the model has \[0, 1, 2, 3\]"),
        ([0, -5], r"indices is \[0, -5\], must be a list of levels -4 to 3"),
        (5, "indices is 5, must be as a number of levels 1 to 4"),
        (0, "indices is 0, must be as a number of levels 1 to 4"),
        ([], r"indices is \[\], must be a list of levels"),
    ],
)
def test_levels_that_a_model_does_not_have_are_refused(indices, message):
    model = small()
    for use in (model.prune_intermediate_layers, lambda i: model.forward_intermediates(None, i)):
        with pytest.raises(ValueError, match=message):
            use(indices)
    with pytest.raises(ValueError, match=r"no output_fmt 'NLC'; .*valid: NCHW, NHWC"):
        model.forward_intermediates(None, output_fmt="NLC")


def test_pruning_to_the_top_leaves_the_norm_unless_it_is_to_go():
    model, images = small(), torch.randn(1, 3, 32, 32)
    expected = model.forward_features(images)
    assert copy.deepcopy(model).prune_intermediate_layers([-1], prune_head=False) == [3]
    assert model.prune_intermediate_layers([0, 3]) == [0, 3]
    assert torch.equal(model(images), expected)  # head and pooling have gone
    model.prune_intermediate_layers([3], prune_norm=True)
    assert torch.equal(model(images), model.features(images)[3])


# Graphs: torch.fx and TorchScript

GRAPHS = [
    {}, {"attention": "multi_head", "num_heads": 2}, {"pos_embed": "shared"},
    {"aggregation_plane": "block"}, {"aggregation": "patch_merge"},
    {"aggregation": "query_sampling2x2"}, {"aggregation_padding": "symmetric"},
]  # fmt: skip


@EVERY_MODEL
def test_fx_traces_every_model(name):
    model = small(name)
    graph, images = fx.symbolic_trace(model), images_for(model)
    with torch.no_grad():
        assert torch.equal(graph(images), model(images))
    graph(images).square().mean().backward()
    assert all(p.grad is not None for p in graph.parameters())


@pytest.mark.parametrize("options", GRAPHS)
def test_graphs_take_any_batch_and_image_size(options):
    model = small(**options)
    graphs = fx.symbolic_trace(model), torch.jit.script(model)
    with torch.no_grad():
        for batch, size in ((1, (32, 32)), (3, (32, 32)), (2, (64, 32))):
            images = images_for(model, batch, size)
            for graph in graphs:
                torch.testing.assert_close(graph(images), model(images))
    with pytest.raises(ValueError, match=r"images of 20x32 pixels .*\(nearest: 32x32\)"):
        graphs[0](images_for(model, 1, (20, 32)))
    with pytest.raises(torch.jit.Error, match=r"images of 20x32 pixels .*\(nearest: 32x32\)"):
        graphs[1](images_for(model, 1, (20, 32)))


def test_torchscript_survives_a_file_and_follows_train_and_eval(tmp_path):
    model = small(drop_path_rate=0.9, drop_rate=0.5)
    torch.jit.script(model).save(tmp_path / "model.pt")
    again, images = torch.jit.load(tmp_path / "model.pt"), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again(images), model(images))
        again.train()
        assert not torch.allclose(again(images), again(images))
        torch.testing.assert_close(again.eval()(images), model(images))
    assert isinstance(model, NesT)  # the graph is another module
    assert {n for n, _ in again.named_parameters()} == {n for n, _ in model.named_parameters()}


# Gradient checkpointing


def saved_bytes(run):
    """The result of `run`, and the bytes that autograd keeps of it for the backward pass."""
    seen = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        return run(), sum(seen.values())


@pytest.mark.parametrize("drop_path_rate", [0.0, 0.5])
def test_checkpointing_keeps_logits_and_gradients_and_less_memory(drop_path_rate):
    model = small(embed_dim=48, num_heads=3, drop_path_rate=drop_path_rate).train()
    images, results = images_for(model, 4), []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        torch.manual_seed(5)  # of stochastic depth
        logits, kept = saved_bytes(lambda: model(images))
        gradients = torch.autograd.grad(logits.square().mean(), list(model.parameters()))
        results.append((kept, [logits, *gradients]))
    (kept, expected), (kept_less, found) = results
    torch.testing.assert_close(found, expected)
    assert kept_less < 0.5 * kept
    model.set_grad_checkpointing(False)
    assert saved_bytes(lambda: model(images))[1] == kept


# Other sizes


@pytest.mark.parametrize("size", [64, (32, 96), 16])
@pytest.mark.parametrize("options", [{}, {"pos_embed": "shared"}])
def test_a_new_size_in_place_is_a_model_of_that_size_with_these_weights(size, options):
    model, fresh = small(**options), small(img_size=size, **options)
    nn.init.normal_(model.pos_embeds[1])
    load_weights(fresh, model.state_dict())
    parameters = list(model.parameters())
    model.set_input_size(size)
    assert all(a is b for a, b in zip(model.parameters(), parameters))
    assert (model.img_size, model.block_size) == (fresh.img_size, fresh.block_size)
    images = images_for(fresh)
    with torch.no_grad():
        assert torch.equal(model(images), fresh(images))
    assert model._model_args["img_size"] == model._traits["img_size"] == fresh.img_size


def test_a_size_with_blocks_of_its_own():
    model = small()
    model.set_input_size((64, 96), block_size=4)
    assert model.grids[-1] == (2, 3) and model(torch.randn(1, 3, 64, 96)).shape == (1, 7)
    before = copy.deepcopy(model.state_dict())
    for size, message in ((30, "multiple of 8"), ((64, 0), "img_size is"), ("large", "img_size")):
        with pytest.raises(ValueError, match=message):
            model.set_input_size(size)
    assert model.img_size == (64, 96)
    assert all(torch.equal(before[name], found) for name, found in model.state_dict().items())


def test_a_pruned_model_keeps_the_blocks_of_the_whole_one():
    whole, part = small(), small(features_only=True, out_indices=[1]).model
    load_weights(part, {n: t for n, t in whole.state_dict().items() if n in part.state_dict()})
    whole.set_input_size(64)
    part.set_input_size(64)
    images = images_for(whole)
    with torch.no_grad():
        assert torch.equal(part(images), whole.features(images)[1])


def test_the_hub_remembers_the_new_size(tmp_path):
    model = NesT(16, 1, (8, 8), (2, 2), (1, 1), num_classes=3).eval()
    model.set_input_size((16, 32))
    model.save_pretrained(tmp_path)
    again, images = NesT.from_pretrained(tmp_path).eval(), torch.randn(1, 3, 16, 32)
    assert again.img_size == (16, 32)
    assert torch.equal(again(images), model(images))


# Weights


@pytest.fixture
def published(tmp_path):
    """timm's NesT-T, narrow, with weights in a file as on the Hub."""
    torch.manual_seed(0)
    theirs = timm.models.nest.Nest(
        embed_dims=(12, 24, 48), num_heads=(1, 2, 4), depths=(2, 2, 8), pad_type="same"
    ).eval()
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    return theirs, {"file": str(tmp_path / "model.safetensors")}


def test_timm_loads_the_published_weights(published):
    theirs, file = published
    narrow = {"embed_dim": 12, "num_heads": 1, "top_depth": 8}
    ours = small("nest_tiny_imagenet", **narrow, num_classes=1000, pretrained=True,
                 pretrained_cfg_overlay=file)  # fmt: skip
    images = images_for(ours, 1)
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images), rtol=1e-4, atol=1e-4)
        gray = small("nest_tiny_imagenet", **narrow, num_classes=3, in_chans=1, pretrained=True,
                     pretrained_cfg_overlay=file)  # fmt: skip
        level = torch.randn(1, 1, 224, 224)
        torch.testing.assert_close(
            gray.forward_features(level), theirs.forward_features(level.expand(-1, 3, -1, -1)),
            rtol=1e-4, atol=1e-4,
        )  # fmt: skip
    assert gray.num_classes == 3


@pytest.mark.parametrize("half", [False, True])
def test_timm_loads_our_files(tmp_path, half):
    model = nestlib.create_model("nest_tiny_cifar", embed_dim=12, num_heads=1, num_classes=7)
    save_weights(model.eval(), tmp_path / "weights.safetensors", half=half)
    ours = small()
    nn.init.zeros_(ours.head.weight)
    timm.models.load_checkpoint(ours, str(tmp_path / "weights.safetensors"))
    images = images_for(ours)
    torch.testing.assert_close(ours(images), model(images), rtol=0, atol=1e-2 if half else 0)
    larger = small(img_size=64)
    timm.models.load_checkpoint(larger, str(tmp_path / "weights.safetensors"))
    assert larger(images_for(larger)).shape == (2, 7)
    with pytest.raises(RuntimeError, match=r"size mismatch for head\.weight"):
        timm.models.load_checkpoint(small(num_classes=3), str(tmp_path / "weights.safetensors"))


# Groups of parameters


def test_timms_optimizer_leaves_position_embeddings_undecayed():
    model = small()
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", weight_decay=0.05)
    undecayed = {
        id(p) for g in optimizer.param_groups if not g["weight_decay"] for p in g["params"]
    }
    assert {id(p) for p in model.pos_embeds} <= undecayed


def test_branches_are_dropped_where_a_rate_is_given_and_by_timms_nest_always():
    """book/reference.md says so of timm's train.py, which passes None on."""
    drops = [m for m in small(drop_path_rate=None).modules() if isinstance(m, StochasticDepth)]
    assert drops and not any(m.p for m in drops)
    for name in ("nest_tiny", "nest_small", "nest_base", "nest_tiny_jx"):
        with torch.device("meta"):
            theirs = timm.create_model(name, drop_path_rate=None)
        assert max(getattr(m, "drop_prob", 0) for m in theirs.modules()) == 0.5


def forward_order(model: NesT) -> list[str]:
    """Prefixes of all parameters as figure 1 runs them."""
    order = ["patch_embed."]
    for level, hierarchy in enumerate(model.hierarchies):
        order += [f"pos_embeds.{level}"]
        order += [f"hierarchies.{level}.{i}." for i in range(len(hierarchy))]
        order += [f"aggregations.{level}."]
    return [*order, "norm.", "head."]


@pytest.mark.parametrize("name", NEST_MODELS)
def test_timms_layer_decay_follows_the_forward_pass(name):
    with torch.device("meta"):
        model = timm.create_model(f"nestlib_{name}", num_classes=7)
    groups = timm.optim.param_groups_layer_decay(model, layer_decay=0.5)
    scales = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
    parts = [
        [scales.pop(id(p)) for n, p in model.named_parameters() if n.startswith(prefix)]
        for prefix in forward_order(model)
    ]
    assert not scales and all(len(set(part)) <= 1 for part in parts)  # all, each part of one scale
    in_order = [part[0] for part in parts if part]
    assert in_order == sorted(in_order)
    layers = sum(len(hierarchy) for hierarchy in model.hierarchies)
    # Patch embedding, every layer, head; a layer nearer to the image learns half as fast.
    assert sorted(set(in_order)) == [0.5 ** (layers + 1 - i) for i in range(layers + 2)]


def test_timms_coarse_groups_are_hierarchies():
    model = small()
    groups = timm.models.group_parameters(model, model.group_matcher(coarse=True))
    names = [{".".join(n.split(".")[:2]) for n in groups[i]} for i in range(6)]
    assert names[1] == {"pos_embeds.0", "hierarchies.0", "aggregations.0"}
    assert names[4] == {"pos_embeds.3", "hierarchies.3", "norm.weight", "norm.bias"}
    assert names[5] == {"head.weight", "head.bias"}


# timm's scripts


def run_script(*words, **options):
    return subprocess.run(
        [sys.executable, "-m", "nestlib.timm", *map(str, words)], capture_output=True, text=True,
        **options,
    )  # fmt: skip


def test_a_script_runs_as_by_itself_and_knows_the_models(tmp_path):
    script = tmp_path / "folder" / "validate.py"
    script.parent.mkdir()
    (script.parent / "beside.py").write_text("import timm\nknown = timm.list_models('nestlib_*')\n")
    script.write_text(
        "import sys\nfrom beside import known\n"
        "if __name__ == '__main__':\n    print(len(known), sys.argv)\n    sys.exit(3)\n"
    )
    done = run_script("folder/validate.py", "DATA", "--model", "x", cwd=tmp_path)
    words = ["folder/validate.py", "DATA", "--model", "x"]
    assert (done.returncode, done.stdout) == (3, f"{len(NEST_MODELS)} {words}\n"), done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [([], "no script is named; give the path"), (["train.py"], "train.py is no file; give the")],
)
def test_a_script_that_is_not_there_is_said(tmp_path, words, message):
    done = run_script(*words, cwd=tmp_path)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
