"""Exported graphs compute what the model does, for any batch, and hold nothing of this machine."""

import copy
import importlib.util
import json
import re
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from timm.models.nest import Nest
from torch.export import Dim

from nestlib.cli import main as cli
from nestlib.data.datasets import dataset_info, load_dataset
from nestlib.models import create_generator, create_model, export, linear
from nestlib.models.attention import ATTENTIONS
from nestlib.models.export import OtherOutputs, export_onnx, export_program
from nestlib.models.nest import NEST_MODELS, NesT
from nestlib.models.weights import save_weights
from nestlib.runs.weights import load_trained

BATCHES = (1, 2, 5)  # 1 is a size that torch.export likes to take for a constant
SMALL = partial(NesT, 32, 4, (12, 24), (3, 3), (1, 1), num_classes=7)
NARROW = {"embed_dim": 12, "num_classes": 7}  # three heads of 4 or four of 3
needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))),
    reason="needs `pip install 'nestlib[onnx]'`",
)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small model, and the bytes of its file."""
    model, path = SMALL(), tmp_path_factory.mktemp("onnx") / "small.onnx"
    export_onnx(model, path)
    return model, path.read_bytes()


def narrow(name, **options):
    """A model of NesT's family, with the image size and hierarchies that it has."""
    depths = {"top_depth": 2} if name.endswith("_imagenet") else {}
    return create_model(name, **NARROW, **depths, **options)


def decoder():
    return create_generator("nest_decoder", img_size=16, embed_dim=16, latent_dim=8, depths=[1, 1])


def outputs(model, images):
    with torch.no_grad():
        return model.eval()(images)


def open_file(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    infer = lambda x: torch.from_numpy(session.run([made.name], {given.name: x.numpy()})[0])  # noqa: E731
    return session, infer


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in NEST_MODELS), ("nest_tiny_cifar", {"attention": "multi_head"}),
     ("nest_tiny_imagenet", {"attention": "multi_query"})],
)  # fmt: skip
def test_every_nest_exports_for_any_batch(name, options):
    model = narrow(name, **options)
    program = export_program(model).module()
    for batch in BATCHES:
        images = torch.randn(batch, 3, *model.img_size)
        torch.testing.assert_close(program(images), outputs(model, images), rtol=1e-4, atol=1e-6)


def test_a_decoder_exports_for_any_batch():
    model = decoder()
    program = export_program(model).module()
    for batch in BATCHES:
        noise = torch.randn(batch, 8)
        torch.testing.assert_close(program(noise), outputs(model, noise), rtol=1e-4, atol=1e-6)


def test_the_batch_alone_is_free():
    program = export_program(SMALL())
    (images,) = [n for n in program.graph.nodes if n.name in program.graph_signature.user_inputs]
    batch, *others = images.meta["val"].shape
    assert others == [3, 32, 32]
    limits = program.range_constraints[batch.node.expr]
    assert limits.lower == 1 and limits.upper > 10**9


def test_a_graph_holds_the_portable_forms(monkeypatch):
    """Not those that this CPU is faster with: plain attention, linear layers as convolutions."""
    monkeypatch.setattr(linear, "prefers_convolutions", lambda: True)
    model = SMALL(attention="multi_query")
    found = Counter(str(node.target) for node in export_program(model).graph.nodes)
    layers = sum(map(len, model.hierarchies))
    assert found["aten.scaled_dot_product_attention.default"] == layers
    assert found["aten.linear.default"] == 4 * layers + 2  # and the patches' and the head
    assert found["aten.conv2d.default"] == len(model.aggregations)


def test_a_model_stays_as_it_is():
    model = SMALL(drop_path_rate=0.5).bfloat16().train()
    model.set_grad_checkpointing()
    model.norm.eval()
    modes = [module.training for module in model.modules()]
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    program = export_program(model).module()
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    images = torch.randn(3, 3, 32, 32, dtype=torch.bfloat16)
    assert torch.equal(program(images), program(images))  # nothing is dropped
    torch.testing.assert_close(program(images), outputs(model, images), rtol=0.1, atol=0.02)


def test_other_sizes_are_refused():
    model = SMALL()
    program = export_program(model).module()
    for images in (torch.randn(2, 3, 64, 64), torch.randn(2, 1, 32, 32)):
        with pytest.raises(AssertionError, match="Guard failed: images"):
            program(images)
    with pytest.raises(ValueError, match=r"do not divide into blocks.*nearest: 32x32"):
        export_program(model, img_size=40)
    with pytest.raises(ValueError, match="a Linear does not name its image size; give img_size"):
        export_program(torch.nn.Linear(3, 3))


def timms():
    """A small NesT of timm's; at 32 pixels with blocks of 4x4 patches, as SMALL has them."""
    return Nest(
        32, patch_size=4, num_levels=2, embed_dims=(12, 24), num_heads=(3, 3), depths=(1, 1),
        num_classes=7,
    )  # fmt: skip


@pytest.mark.parametrize("build", [SMALL, timms])
def test_torch_refuses_a_free_image_size(build):
    """As the page says, even of sizes that all divide into blocks."""
    images, edge = torch.zeros(2, 3, 32, 32), 32 * Dim("edge")
    with pytest.raises(torch._dynamo.exc.UserError, match="Constraints violated"):
        torch.export.export(build(), (images,), dynamic_shapes=({2: edge, 3: edge},))


def test_another_image_size_without_a_graph_is_taken_by_ours_alone():
    images = torch.zeros(1, 3, 64, 64)
    assert outputs(SMALL(), images).shape == (1, 7)
    with pytest.raises(AssertionError, match=r"Input height \(64\) doesn't match model \(32\)"):
        outputs(timms(), images)


@needs_onnx
@pytest.mark.slow
def test_torchs_exporter_takes_our_nest_and_timms_without_fused_attention():
    """torch 2.14.1 and timm 1.0.31, as the page says."""
    images = torch.zeros(1, 3, 224, 224)
    write = lambda model: torch.onnx.export(model.eval(), (images,), verbose=False)  # noqa: E731
    with pytest.raises(torch.onnx.errors.OnnxExporterError, match="only 4D query, key, and value"):
        write(timm.create_model("nest_tiny"))
    for model in (
        timm.create_model("nest_tiny", exportable=True), create_model("nest_tiny_imagenet")
    ):  # fmt: skip
        (logits,) = write(model).model_proto.graph.output
        assert [size.dim_value for size in logits.type.tensor_type.shape.dim] == [1, 1000]


def test_a_graph_can_be_of_another_size():
    model = SMALL()
    images = torch.randn(2, 3, 64, 32)
    program = export_program(model, img_size=(64, 32)).module()
    torch.testing.assert_close(program(images), outputs(model, images), rtol=1e-4, atol=1e-6)


@needs_onnx
@pytest.mark.parametrize(
    "name", ["nest_tiny_cifar", pytest.param("nest_tiny_imagenet", marks=pytest.mark.slow)]
)
def test_onnxruntime_computes_the_whole_models(name, tmp_path):
    torch.manual_seed(0)
    model = create_model(name)
    difference = export_onnx(model, tmp_path / "model.onnx")
    session, infer = open_file(tmp_path / "model.onnx")
    assert session.get_inputs()[0].shape == ["batch", 3, *model.img_size]
    found = [difference]
    for batch in BATCHES:
        images = torch.randn(batch, 3, *model.img_size)
        found.append((infer(images) - outputs(model, images)).abs().max().item())
    assert 0 < max(found) < 5e-6, found  # of logits up to 1


@needs_onnx
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_file_says_what_it_takes_and_what_it_is(attention, tmp_path, monkeypatch):
    import onnx

    monkeypatch.setattr(linear, "prefers_convolutions", lambda: True)
    model = SMALL(attention=attention).train()
    path = tmp_path / "new" / "model.onnx"
    export_onnx(model, path, metadata={"run_id": "x-s0", "mean": (0.5, 0.25, 1)})
    assert model.training
    session, infer = open_file(path)
    (images,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.shape) == ("images", ["batch", 3, 32, 32])
    assert (logits.name, logits.shape) == ("logits", ["batch", 7])
    says = session.get_modelmeta().custom_metadata_map
    assert says["run_id"] == "x-s0" and json.loads(says["mean"]) == [0.5, 0.25, 1]
    proto = onnx.load(path)
    kinds = [node.op_type for node in proto.graph.node]
    assert {node.domain for node in proto.graph.node} == {""}  # ONNX's own operators alone
    assert kinds.count("Conv") == 1 and kinds.count("Softmax") == sum(map(len, model.hierarchies))
    with pytest.raises(Exception, match=r"(?s)invalid dimensions.*Got: 64 Expected: 32"):
        infer(torch.randn(1, 3, 64, 64))


@needs_onnx
def test_a_file_has_no_path_of_this_machine_and_equal_bytes(small, tmp_path):
    model, data = small
    export_onnx(model, tmp_path / "again.onnx")
    assert data == (tmp_path / "again.onnx").read_bytes()
    for text in (str(Path(linear.__file__).parent), "site-packages", "nest.py"):
        assert text.encode() not in data


@needs_onnx
def test_without_a_head_the_output_is_features(tmp_path):
    export_onnx(SMALL(num_classes=0), tmp_path / "x.onnx")
    (features,) = open_file(tmp_path / "x.onnx")[0].get_outputs()
    assert (features.name, features.shape) == ("features", ["batch", 24])


@needs_onnx
def test_a_decoder_is_written_in_fp32(tmp_path):
    model = decoder().bfloat16()
    assert export_onnx(model, tmp_path / "x.onnx") < 1e-5
    assert next(model.parameters()).dtype == torch.bfloat16
    session, infer = open_file(tmp_path / "x.onnx")
    (noise,), (images,) = session.get_inputs(), session.get_outputs()
    assert (noise.name, images.name, images.shape) == ("noise", "images", ["batch", 3, 16, 16])
    assert infer(torch.randn(5, 8)).shape == (5, 3, 16, 16)


@needs_onnx
def test_a_file_that_differs_is_not_written(small, tmp_path, monkeypatch):
    model, data = small
    other = copy.deepcopy(model)
    torch.nn.init.normal_(other.head.bias)
    monkeypatch.setattr(export, "_make_onnx", lambda *_: data)
    with pytest.raises(OtherOutputs, match=r"differs from the model by up to .*no file is written"):
        export_onnx(other, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert export_onnx(other, tmp_path / "x.onnx") is None  # nothing to compare with


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_a_missing_package_is_named_with_its_extra(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(export, "export_program", lambda *_: pytest.fail("traced before"))
    with pytest.raises(ImportError, match=rf"{package} is missing: pip install 'nestlib\[onnx\]'"):
        export_onnx(SMALL(), tmp_path / "x.onnx")


@needs_onnx
def test_places_that_cannot_be_written_are_named(small, tmp_path, monkeypatch):
    model, data = small
    with pytest.raises(IsADirectoryError, match=f"{tmp_path} is a folder"):
        export_onnx(model, tmp_path)
    monkeypatch.setattr(export, "_make_onnx", lambda *_: data)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"{tmp_path}/file"):
        export_onnx(model, tmp_path / "file" / "x.onnx")
    with pytest.raises(FileExistsError, match=f"{tmp_path}/file exists, and its name is not"):
        export_onnx(model, tmp_path / "file")
    assert not (tmp_path / "file").read_bytes()


def nest(monkeypatch, capsys, *words):
    """What `nest export` answers: its code or message, and what it prints."""
    monkeypatch.setattr(sys, "argv", ["nest", "export", *map(str, words)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = capsys.readouterr()
    return end.value.code, told.out + told.err


@needs_onnx
def test_the_command_writes_a_recipes_trained_model(tmp_path, monkeypatch, capsys):
    path = tmp_path / "planted.onnx"
    code, told = nest(
        monkeypatch,
        capsys,
        "digits/nest_planted",
        "--seed",
        2,
        "--onnx",
        path,
        "--runs-dir",
        tmp_path,
    )  # the committed weights
    assert code == 0 and "differ from the model's by at most" in told and str(path) in told
    session, infer = open_file(path)
    says = session.get_modelmeta().custom_metadata_map
    mean, std = json.loads(says["mean"]), json.loads(says["std"])
    assert (
        says["run_id"].startswith("digits/nest_planted-s2-")
        and len(says["rounded_from_sha256"]) == 64
    )
    assert (mean, std) == tuple(
        map(list, (dataset_info("digits").mean, dataset_info("digits").std))
    )
    digits = load_dataset("digits", "test", image_size=64, num_images=20)
    images = digits.images / 255
    for channel, (m, s) in enumerate(zip(mean, std)):
        images[:, channel] = (images[:, channel] - m) / s
    expected = outputs(load_trained("digits/nest_planted", seed=2), images)
    torch.testing.assert_close(infer(images), expected, rtol=1e-4, atol=1e-4)


@needs_onnx
def test_the_command_writes_a_model_by_name(tmp_path, monkeypatch, capsys):
    """Random weights are said to be so; those of a file are taken."""
    monkeypatch.setattr("nestlib.models.create_model", lambda _, **options: SMALL(**options))
    path, weights = tmp_path / "x.onnx", tmp_path / "x.safetensors"
    code, told = nest(monkeypatch, capsys, "nest_tiny_cifar", "--onnx", path, "--num-classes", 3)
    assert code == 0 and "the weights are random; --pretrained or" in told
    assert open_file(path)[0].get_outputs()[0].shape == ["batch", 3]
    model = SMALL()
    save_weights(model, weights)
    code, told = nest(monkeypatch, capsys, "nest_tiny_cifar", "--onnx", path, "--weights", weights)
    assert code == 0 and "random" not in told
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(open_file(path)[1](images), outputs(model, images))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("nest_tiny_cifar", "nest_tiny_cifar is no recipe.* or --onnx FILE"),
        ("nest_tinny_cifar --onnx x", "no model 'nest_tinny_cifar'; did you mean nest_tiny_cifar"),
        ("digits/nest_planted --img-size 32", "without --onnx does not take --img-size"),
        ("digits/nest_planted --onnx x --weights y", "a recipe, .* does not take --weights"),
        ("nest_tiny_cifar --onnx x --seed 1", "a model .* does not take --seed"),
        ("nest_tiny_cifar --onnx x --pretrained", "nest_tiny_cifar has no published weights"),
        ("nest_tiny_cifar --onnx x --weights no", "no weights at no; give a .safetensors file"),
        ("nest_tiny_imagenet --onnx x --weights y --pretrained", "both name weights"),
        ("resnet50_imagenet --onnx x", "does not name its image size; give --img-size"),
    ],
)  # fmt: skip
def test_the_command_says_what_is_wrong(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, _ = nest(monkeypatch, capsys, *words.split())
    assert str(code).startswith("nest: ") and len(str(code).splitlines()) == 1
    assert re.search(message, code), code
    assert not list(tmp_path.iterdir())
