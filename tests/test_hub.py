"""A model comes back from a folder or from the Hub as it went, with a card of its record's numbers.

The Hub's side is a server of this file: the client that talks to it is huggingface_hub itself.
"""

import base64
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from huggingface_hub import HfApi, ModelCard
from safetensors import safe_open

import nestlib
from nestlib.cli.main import main
from nestlib.metrics.intervals import wilson
from nestlib.models import NesTDecoder, create_generator, list_generators, list_models
from nestlib.models.nest import NEST_MODELS
from nestlib.models.weights import hash_weights
from nestlib.recipes.named import get_recipe, list_recipes
from nestlib.recipes.recipe import GanRecipe
from nestlib.records import Record, Store
from nestlib.runs import hub
from nestlib.runs.hub import load_pretrained, push_run, save_model, save_pretrained_run
from nestlib.runs.run import carry_out
from nestlib.runs.weights import commit_weights, weights_path

NARROW = {
    name: {"embed_dim": 12, "num_heads": 3, **({"top_depth": 2} if "imagenet" in name else {})}
    for name in NEST_MODELS
}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def answers(model, *shape):
    with torch.inference_mode():
        return model.eval()(torch.linspace(-2, 2, torch.Size(shape).numel()).reshape(shape).sin())


def shaken(model):
    """Weights large enough that every part of the model shows in what it answers."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("name", NEST_MODELS)
def test_every_nest_comes_back(name, tmp_path):
    """To load_pretrained, to Hugging Face's from_pretrained, and to timm."""
    options = NARROW[name] | {"num_classes": 7, "drop_path_rate": 0.3}
    model = shaken(nestlib.create_model(name, **options))
    save_model(model, tmp_path, name, **options)
    shape = (2, 3, *model.img_size)
    expected = answers(model, *shape)
    assert expected.std() > 0.01
    for again in (
        load_pretrained(tmp_path), nestlib.NesT.from_pretrained(tmp_path),
        timm.create_model(f"local-dir:{tmp_path}", pretrained=True),
    ):  # fmt: skip
        assert torch.equal(answers(again, *shape), expected)
        assert again.num_classes == 7 and tuple(again.img_size) == model.img_size
    edge = 2 * model.img_size[0]
    larger = nestlib.create_model(name, img_size=edge, **options)
    nestlib.load_weights(larger, tmp_path / "model.safetensors")
    again = nestlib.NesT.from_pretrained(tmp_path, img_size=edge)
    assert torch.equal(answers(again, 1, 3, edge, edge), answers(larger, 1, 3, edge, edge))


@pytest.mark.parametrize("read", [load_pretrained, nestlib.NesT.from_pretrained])
def test_a_model_that_was_changed_comes_back_as_it_is(read, tmp_path):
    """Another head, another image size: timm's config and the mixin's follow."""
    options = NARROW["nest_tiny_64"] | {"num_classes": 7, "aggregation": "conv3x3_ln_avgpool3x3"}
    model = shaken(nestlib.create_model("nest_tiny_64", **options))
    model.reset_classifier(3)
    model.set_input_size((64, 128))
    for folder in (tmp_path / "ours", tmp_path / "mixin"):
        if folder.name == "ours":
            save_model(model, folder, "nest_tiny_64", **options)
        elif read is not load_pretrained:
            model.save_pretrained(folder)
        else:
            continue
        again = read(folder)
        assert torch.equal(answers(again, 2, 3, 64, 128), answers(model, 2, 3, 64, 128))
        assert again.num_classes == 3
    other = timm.create_model(f"local-dir:{tmp_path / 'ours'}", pretrained=True, num_classes=5)
    assert torch.equal(other.hierarchies[0][0].fc1.weight, model.hierarchies[0][0].fc1.weight)
    assert other.num_classes == 5


@pytest.mark.parametrize("latent_dim", [16, None])
def test_the_decoder_comes_back(latent_dim, tmp_path):
    options = {"img_size": 32, "embed_dim": 64, "num_heads": 4, "depths": [1, 2, 1],
               "latent_dim": latent_dim, "unsampling": "NN-C3"}  # fmt: skip
    model = shaken(create_generator("nest_decoder", **options))
    save_model(model, tmp_path / "ours", "nest_decoder", **options)
    model.save_pretrained(tmp_path / "mixin")
    shape = (2, model.latent_dim)
    for again in (
        load_pretrained(tmp_path / "ours"), NesTDecoder.from_pretrained(tmp_path / "ours"),
        NesTDecoder.from_pretrained(tmp_path / "mixin"),
    ):  # fmt: skip
        assert torch.equal(answers(again, *shape), answers(model, *shape))


NEST = {"img_size": 32, "patch_size": 2, "embed_dims": [12, 24], "num_heads": [3, 3],
        "depths": [1, 2], "num_classes": 5}  # fmt: skip
DECODER = {"img_size": 16, "embed_dims": [16, 64], "num_heads": [2, 4], "depths": [1, 1],
           "latent_dim": 8}  # fmt: skip
# Every argument of a constructor, with a value that is not its default.
MADE_WITH = {
    nestlib.NesT: NEST | {
        "block_size": 4, "global_pool": "", "in_chans": 1, "attention": "multi_query",
        "mlp_ratio": 2.5, "activation": "relu", "pos_embed": "shared", "aggregation": "avgpool3x3",
        "aggregation_plane": "block", "aggregation_padding": "symmetric", "drop_rate": 0.25,
        "drop_path_rate": 0.125,
    },
    NesTDecoder: DECODER | {"unsampling": "NN-C3", "attention": "multi_query", "mlp_ratio": 2.5},
}  # fmt: skip
ARGUMENTS = [(kind, name) for kind, made_with in MADE_WITH.items() for name in made_with]
# What the mixin alone would write as the argument's default, or as something else.
NO_PLAIN_VALUES = [
    np.int64(6), np.float32(6), np.float64(6), np.bool_(True), np.str_("relu"), np.array([6, 6]),
    torch.tensor(6), torch.float16, torch.relu, torch.nn.ReLU, Path("relu"), [np.int64(6), 6],
]  # fmt: skip


def build(kind, name):
    """A model that has a value of its own for one argument."""
    usual = {nestlib.NesT: NEST, NesTDecoder: DECODER}[kind]
    value = MADE_WITH[kind][name]
    more = {"num_classes": 0} if name == "global_pool" else {}  # a map has no classes
    return kind(**usual | {name: value} | more)


@pytest.mark.parametrize(("kind", "name"), ARGUMENTS)
def test_every_argument_comes_back(kind, name, tmp_path):
    assert MADE_WITH[kind].keys() == inspect.signature(kind).parameters.keys()
    default = inspect.signature(kind).parameters[name].default
    value, model = MADE_WITH[kind][name], shaken(build(kind, name))
    assert value != default
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())[name] == value
    again = kind.from_pretrained(tmp_path)
    assert again._hub_mixin_config == model._hub_mixin_config
    assert str(again) == str(model)
    shape = (2, model.latent_dim) if kind is NesTDecoder else (2, model.in_chans, 32, 32)
    assert torch.equal(answers(again, *shape), answers(model, *shape))


@pytest.mark.parametrize(("kind", "name"), ARGUMENTS)
def test_what_config_json_does_not_hold_is_refused(kind, name):
    usual = {nestlib.NesT: NEST, NesTDecoder: DECODER}[kind]
    for value in NO_PLAIN_VALUES:
        with pytest.raises(ValueError, match=f"{kind.__name__}: {name} is .*must be ") as raised:
            kind(**usual | {name: value})
        first = value[0] if isinstance(value, list) else value
        assert str(raised.value).endswith("by .tolist()") == hasattr(first, "tolist")


def test_a_positional_argument_and_a_tuple_come_back(tmp_path):
    model = nestlib.NesT((16, 32), 2, (12, 24), (3, 3), (1, 1), num_classes=2)
    model.save_pretrained(tmp_path)
    again = nestlib.NesT.from_pretrained(tmp_path)
    assert (again.img_size, again.embed_dims, again.patch_size) == ((16, 32), [12, 24], 2)


def test_a_list_that_is_changed_later_does_not_change_the_config(tmp_path):
    dims = [12, 24]
    model = nestlib.NesT(**NEST | {"embed_dims": dims})
    dims[0] = 6
    model.save_pretrained(tmp_path)
    assert nestlib.NesT.from_pretrained(tmp_path).embed_dims == [12, 24]


def test_a_config_of_ones_own_adds_entries(tmp_path):
    """huggingface_hub 2.4 writes it in place of what the model was made with."""
    with pytest.raises(TypeError, match="no option \\['config'\\]"):
        nestlib.NesT(**NEST, config={"drop_rate": 0.5})
    model = shaken(nestlib.NesT(**NEST | {"activation": "relu"}))
    model.save_pretrained(tmp_path, config={"note": "mine"})
    assert json.loads((tmp_path / "config.json").read_text())["note"] == "mine"
    again = nestlib.NesT.from_pretrained(tmp_path)
    assert torch.equal(answers(again, 1, 3, 32, 32), answers(model, 1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"config has activation, .*activation='relu'; use other"):
        model.save_pretrained(tmp_path, config={"activation": "gelu", "note": "mine"})
    options = {"embed_dim": 12, "num_heads": 3, "num_classes": 7}
    model = nestlib.create_model("nest_tiny_cifar", **options)
    for config, error in (({"activation": "relu"}, ValueError), ({"x": np.int64(1)}, TypeError)):
        with pytest.raises(error, match=r"config has activation|int64 is not JSON"):
            save_model(model, tmp_path / "out", "nest_tiny_cifar", config=config, **options)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [({"depths": [1, 3]}, "Missing key"), ({"depths": [1, 1]}, "Unexpected key"),
     ({"num_classes": 0}, "Unexpected key.*head")],
)  # fmt: skip
def test_weights_of_another_model_are_refused(change, said, tmp_path):
    """huggingface_hub 2.4 leaves layers without weights random."""
    nestlib.NesT(**NEST).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"(?s){said}"):
        nestlib.NesT.from_pretrained(tmp_path, **change)
    nestlib.NesT.from_pretrained(tmp_path, strict=False, **change)


def narrow_families():
    """A recipe of each model or generator that has a narrow one, rivals included."""
    found = {}
    for name in list_recipes():
        recipe = get_recipe(name)
        built = recipe.generator if isinstance(recipe, GanRecipe) else recipe.model
        if recipe.dataset == "digits" and built not in NEST_MODELS:
            found.setdefault(built, recipe)
    return found


FAMILIES = narrow_families()


def test_the_families_are_of_every_library():
    from nestbook.peers import library_of

    built = {library_of(name) for name in FAMILIES}
    assert built == {library_of(name) for name in list_models()}
    assert set(list_generators()) <= FAMILIES.keys()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_comes_back(name, tmp_path):
    recipe, size = FAMILIES[name], FAMILIES[name].image_size
    if isinstance(recipe, GanRecipe):
        model, options = recipe.build_generator(), recipe.generator_options
        shape = (2, model.latent_dim)
    else:
        model, options = recipe.build_model(7), recipe.model_options | {"num_classes": 7}
        shape = (2, 3, size, size)
    model = shaken(model)
    save_model(model, tmp_path, name, img_size=size, **options)
    again = load_pretrained(tmp_path)
    assert hash_weights(again) == hash_weights(model)
    assert torch.equal(answers(again, *shape), answers(model, *shape))


def test_other_options_than_the_models_are_refused(tmp_path):
    model = nestlib.create_model("nest_tiny_cifar", embed_dim=24, num_classes=7)
    with pytest.raises(ValueError, match=r"is not what nest_tiny_cifar is with .*head\.weight.*"):
        save_model(model, tmp_path / "out", "nest_tiny_cifar", embed_dim=48)
    with pytest.raises(ValueError, match=r": activation differ; give the options"):
        options = {"embed_dim": 24, "num_classes": 7, "activation": "relu"}
        save_model(model, tmp_path / "out", "nest_tiny_cifar", **options)
    with pytest.raises(ValueError, match="no model 'nest_tiny_cifer'; did you mean"):
        save_model(model, tmp_path / "out", "nest_tiny_cifer", embed_dim=24)
    assert not (tmp_path / "out").exists()


DAMAGES = {
    "{no": "is damaged", "[1]": "names no model of nestlib", "{}": "names no model of nestlib",
    '{"nestlib": {"kind": "model", "name": 1, "options": {}}}': "names no model",
    '{"nestlib": {"kind": "tree", "name": "x", "options": {}}}': "no kind of model 'tree'",
    '{"nestlib": {"kind": "model", "name": "os.system", "options": {}}}': "no model 'os.system'",
    '{"nestlib": {"kind": "model", "name": "digits/nest_narrow", "options": {}}}': "no model 'dig",
    '{"nestlib": {"kind": "model", "name": "nest_tiny_cifar", "options": {"x": 1}}}': "no option",
    '{"nestlib": {"kind": "model", "name": "nest_tiny_cifar", "options": {"patch_size": 0}}}':
        "patch_size is 0",
    '{"nestlib": {"kind": "model", "name": "nest_tiny_cifar", "options": {"embed_dim": 12}}}':
        "does not fit this NesT",
}  # fmt: skip


@pytest.mark.parametrize("text", DAMAGES)
def test_a_damaged_config_is_named(text, tmp_path):
    options = {"embed_dim": 24, "num_classes": 7}
    save_model(
        nestlib.create_model("nest_tiny_cifar", **options), tmp_path, "nest_tiny_cifar", **options
    )
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=DAMAGES[text]) as raised:
        load_pretrained(tmp_path)
    assert str(tmp_path) in str(raised.value) or "patch_size" in text


def test_a_model_without_pooling_comes_back_so(tmp_path):
    model = shaken(nestlib.create_model("nest_tiny_64", **NARROW["nest_tiny_64"]))
    model.reset_classifier(0, "")
    save_model(model, tmp_path, "nest_tiny_64", **NARROW["nest_tiny_64"])
    for read in (load_pretrained, nestlib.NesT.from_pretrained):
        assert torch.equal(answers(read(tmp_path), 1, 3, 64, 64), answers(model, 1, 3, 64, 64))


def test_missing_and_cut_files_are_named(tmp_path):
    options = {"embed_dim": 24, "num_classes": 7}
    save_model(
        nestlib.create_model("nest_tiny_cifar", **options), tmp_path, "nest_tiny_cifar", **options
    )
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(OSError, match=r"model.safetensors is not a whole .safetensors file"):
        load_pretrained(tmp_path)
    weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"no weights at .*model.safetensors"):
        load_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"no config.json in .*`nest push` wrote"):
        load_pretrained(tmp_path)


@pytest.fixture
def run(tiny_recipe, tmp_path):
    """A finished run of the tiny recipe: (recipe, store, runs_dir)."""
    recipe = replace(tiny_recipe, epochs=1, warmup_epochs=0, ema_decay=None)
    store = Store(tmp_path / "experiments" / "records", tmp_path / "local")
    carry_out(recipe, store, device="cpu", runs_dir=tmp_path / "runs", progress_bar=False)
    return recipe, store, tmp_path / "runs"


def read_card(run, folder) -> ModelCard:
    recipe, store, runs_dir = run
    save_pretrained_run(recipe, store, folder, runs_dir=runs_dir)
    return ModelCard.load(folder / "README.md")


def test_a_run_and_its_card(run, tmp_path):
    recipe, store, _ = run
    record, folder = store.find(recipe.run_id), tmp_path / "out"
    card = read_card(run, folder)
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "config.json", "model.safetensors"
    }  # fmt: skip
    model = load_pretrained(folder)
    assert hash_weights(model) == record.summary["weights_sha256"]
    with safe_open(folder / "model.safetensors", "pt") as file:
        assert file.metadata()["run_id"] == recipe.run_id
    data, found = card.data, {result.metric_name: result for result in card.data.eval_results}
    assert (data.license, data.library_name) == ("apache-2.0", "nestlib")
    assert data.pipeline_tag == "image-classification" and "arxiv:2105.12723" in data.tags
    top1, images = found["top-1"], record.environment["data"]["test"]["images"]
    assert top1.metric_value == record.summary["test/top1"]
    assert found["top-5"].metric_value == record.epochs[-1]["test/top5"]
    assert top1.dataset_args == {
        "images": images, "fingerprint": record.environment["data"]["test"]["fingerprint"]
    }  # fmt: skip
    hits = round(top1.metric_value * images / 100)
    shares = torch.tensor(wilson(hits, images))
    assert torch.allclose(torch.tensor(top1.metric_args["interval"]), 100 * shares, atol=1e-4)
    text, where = card.text, record.environment
    low, high = top1.metric_args["interval"]
    assert f"interval {low:.2f} to {high:.2f} %" in text
    for said in (
        recipe.run_id, f"{record.summary['test/top1']:.2f} %", f"{images:,} test images",
        where["data"]["train"]["fingerprint"], where["device"], where["packages"]["torch"],
        record.summary["weights_sha256"], "Apache License 2.0", "load_pretrained",
        *(f"| {field} | " for field in record.recipe),
    ):  # fmt: skip
        assert said in text, said
    assert "rounded to fp16" not in text
    config = json.loads((folder / "config.json").read_text())
    assert config["label_names"] == record.class_names
    assert config["pretrained_cfg"]["mean"] == [0.5, 0.5, 0.5]


def test_the_hub_reads_the_cards_own_results_back(run, tmp_path):
    """huggingface_hub's reader of a model-index gives what was written, and writes it again."""
    card = read_card(run, tmp_path / "out")
    again = ModelCard(str(card))
    assert again.data.eval_results == card.data.eval_results
    assert again.data.to_dict() == card.data.to_dict()


def with_summary(run, **changes) -> Record:
    recipe, store, _ = run
    record = store.find(recipe.run_id)
    changed = replace(record, summary=record.summary | changes)
    store.add(changed)
    return changed


def test_every_number_is_the_records(run, tmp_path):
    """What the record says decides, whatever it is."""
    before = read_card(run, tmp_path / "a").text
    with_summary(run, **{"test/top1": 37.5, "test/loss": 1.25, "train_seconds": 7200.0,
                         "num_params": 4_560_000, "reported_epoch": 977})  # fmt: skip
    after = read_card(run, tmp_path / "b").text
    for said in ("37.50 %", "1.2500", "7,200 s (2.00 h)", "4.56 M parameters", "after epoch 977"):
        assert said in after and said not in before


def test_held_out_images_are_called_so(run, tmp_path):
    recipe, store, _ = run
    record = store.find(recipe.run_id)
    summary = {key.replace("test/", "held_out/"): v for key, v in record.summary.items()}
    rows = [{k.replace("test/", "held_out/"): v for k, v in row.items()} for row in record.epochs]
    data = record.environment["data"]
    data["held_out"] = data.pop("test")
    store.add(replace(record, summary=summary, epochs=rows))
    card = read_card(run, tmp_path / "out")
    assert "held-out training images" in card.text and "test images |" not in card.text
    assert {result.dataset_split for result in card.data.eval_results} == {"train"}


def test_other_seeds_are_named(run, tmp_path):
    recipe, store, _ = run
    record = store.find(recipe.run_id)
    other = replace(recipe, seed=5)
    values = record.recipe | {"seed": 5}
    store.add(replace(record, run_id=other.run_id, recipe=values,
                      summary=record.summary | {"test/top1": 12.5}))  # fmt: skip
    text = read_card(run, tmp_path / "out").text
    assert re.search(r"top-1: seed 0 \d+\.\d\d %, seed 5 12\.50 %\.", text)


def test_rounded_weights_are_called_so(run, tmp_path):
    recipe, store, runs_dir = run
    commit_weights(recipe, store, runs_dir=runs_dir)
    weights_path(recipe, runs_dir).unlink()
    assert "rounded to fp16" in read_card(run, tmp_path / "out").text


@pytest.fixture
def generator_run(tmp_path):
    recipe = get_recipe("digits/gan_nest_narrow", dataset_options={"num_images": 32})
    options = {"embed_dim": 64, "depths": [1, 1, 1], "latent_dim": 8}
    recipe = replace(recipe, steps=2, steps_per_row=1, batch_size=4, num_samples=8,
                     generator_options=options)  # fmt: skip
    store = Store(tmp_path / "experiments" / "records", tmp_path / "local")
    carry_out(recipe, store, device="cpu", runs_dir=tmp_path / "runs", progress_bar=False)
    return recipe, store, tmp_path / "runs"


def test_a_generators_card_has_the_scores_of_its_very_weights(generator_run, tmp_path):
    recipe, store, _ = generator_run
    record = store.find(recipe.run_id)
    for network, sha256, distance in (
        ("digits", record.summary["weights_sha256"], 12.25), ("other", "0" * 64, 77.75),
    ):  # fmt: skip
        summary = {
            "generator_weights_sha256": sha256, "frechet_distance": distance, "num_samples": 2048,
            "num_reference": 32, "reference": "digits train", "feature_network": network,
        }  # fmt: skip
        name = f"score/{recipe.run_id}-{network}"
        recipe_of_score = {"run": recipe.run_id, "network": network}
        scored = Record(name, "score", recipe_of_score, record.environment, summary)
        store.add(scored, committed=True)
    card = read_card(generator_run, tmp_path / "out")
    assert "12.25" in card.text and "2,048 samples" in card.text and "77.75" not in card.text
    assert card.data.pipeline_tag == "unconditional-image-generation"
    assert card.data.eval_results is None
    noise = torch.randn(2, recipe.generator_options["latent_dim"])
    with torch.inference_mode():
        images = load_pretrained(tmp_path / "out")(noise)
        assert torch.equal(NesTDecoder.from_pretrained(tmp_path / "out")(noise), images)


def test_a_run_that_failed_is_not_published(generator_run, tmp_path):
    with_summary(generator_run, status="failed", failure="the loss is not finite")
    with pytest.raises(ValueError, match=r"failed \(the loss is not finite\); publish a run"):
        read_card(generator_run, tmp_path / "out")
    assert not (tmp_path / "out").exists()


class FakeHub(BaseHTTPRequestHandler):
    """The few answers of the Hub that an upload and a download take."""

    commit = "c" * 40
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, body, status=200, **headers):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append(self.path)
        files = self.server.files
        if not self.headers.get("Authorization") and "validate-yaml" not in self.path:
            self.reply({"error": "Invalid username or password."}, 401)
        elif self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self.reply({"url": f"{self.server.address}/me/nest", "name": "me/nest"})
        elif "/preupload/" in self.path:
            asked = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for f in asked]  # fmt: skip
            self.reply({"files": modes})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.reply({"commitUrl": f"{self.server.address}/me/nest/commit/{self.commit}",
                        "commitOid": self.commit, "pullRequestUrl": None})  # fmt: skip
        else:
            self.reply({"errors": [], "warnings": []})

    def do_GET(self):
        name = self.path.partition("?")[0].rpartition("/")[2]
        if self.path.startswith("/me/nest/resolve/") and name in self.server.files:
            self.reply(self.server.files[name], ETag=f'"{name}"', X_Repo_Commit=self.commit)
        elif self.path.startswith("/api/models/me/nest/tree/"):
            self.reply([{"type": "file", "path": path, "size": len(data), "oid": path}
                        for path, data in self.server.files.items()])  # fmt: skip
        elif self.path.startswith("/api/models/me/nest"):
            siblings = [{"rfilename": path} for path in self.server.files]
            self.reply({"id": "me/nest", "sha": self.commit, "siblings": siblings})
        else:
            self.reply({"error": "not found"}, 404, X_Error_Code="EntryNotFound")

    def do_HEAD(self):
        self.do_GET()


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeHub)
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.files, server.asked, server.created = {}, [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


READ = """
import torch, nestlib, timm
from nestlib.runs.hub import load_pretrained
images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
with torch.inference_mode():
    logits = [model.eval()(images) for model in (
        load_pretrained("me/nest"), nestlib.NesT.from_pretrained("me/nest"),
        timm.create_model("hf-hub:me/nest", pretrained=True))]
assert all(torch.equal(logits[0], other) for other in logits), logits
torch.save(logits[0], "logits.pt")
try:
    load_pretrained("me/absent")
except OSError as error:
    print(error)
"""


def test_a_run_goes_to_the_hub_and_comes_back(run, server, tmp_path):
    recipe, store, runs_dir = run
    api = HfApi(endpoint=server.address, token="hf_of_a_test")
    url = push_run(recipe, store, "me/nest", private=True, runs_dir=runs_dir, api=api)
    assert url.endswith(f"/me/nest/commit/{FakeHub.commit}")
    assert server.created[0]["name"] == "nest" and server.created[0]["organization"] == "me"
    assert server.files.keys() == {"README.md", "config.json", "model.safetensors"}
    assert 'load_pretrained("me/nest")' in server.files["README.md"].decode()
    environment = os.environ | {
        "HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0",
        "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", READ], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "me/absent is no folder here, and could not be fetched from the Hub" in done.stdout
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = hub.find_weights(recipe, store, runs_dir).load()(images)
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)


def test_no_access_and_no_network_are_one_line(run, server):
    recipe, store, runs_dir = run
    for api in (
        HfApi(endpoint=server.address, token=False),
        HfApi(endpoint="http://127.0.0.1:9", token="hf_of_a_test"),
    ):
        with pytest.raises(OSError, match=r"could not be pushed to me/nest: .*hf auth login"):
            push_run(recipe, store, "me/nest", runs_dir=runs_dir, api=api)
    assert not server.files
    with pytest.raises(ValueError, match="me/nest/x"):
        push_run(recipe, store, "me/nest/x", runs_dir=runs_dir)


@pytest.mark.parametrize(
    "names", [["README.md"], ["README.md", "config.json"], ["model.safetensors"], ["config.json"]]
)
def test_files_of_something_else_are_not_replaced(run, tmp_path, names):
    """A config.json is no sign of a model of nestlib: other projects have one, too."""
    recipe, store, runs_dir = run
    folder = tmp_path / "project"
    folder.mkdir()
    for name in names:
        (folder / name).write_text('{"a project\'s": "own"}')
    with pytest.raises(FileExistsError, match=rf"{names[0]} would be replaced.*another folder"):
        save_pretrained_run(recipe, store, folder, runs_dir=runs_dir)
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    for name in names:
        assert (folder / name).read_text() == '{"a project\'s": "own"}'
        (folder / name).unlink()
    for _ in range(2):  # its own card is replaced
        save_pretrained_run(recipe, store, folder, runs_dir=runs_dir)


def test_the_command_writes_a_folder(tmp_path):
    """In a process of its own, in which nothing has registered NesTs with timm."""
    program = shutil.which("nest", path=Path(sys.executable).parent)
    done = subprocess.run(
        [program, "push", "digits/nest_planted", "--seed", "2", "--folder", "out"], cwd=tmp_path,
        env=os.environ | {"NESTLIB_PROJECT": str(Path(__file__).parents[1])}, capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "wrote README.md, config.json, model.safetensors to out\n"
    model = load_pretrained(tmp_path / "out")
    assert model.num_classes == 10
    again = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True)
    assert torch.equal(answers(again, 1, 3, 64, 64), answers(model, 1, 3, 64, 64))


def call(monkeypatch, *words):
    """Run `nest push` in this process; returns its exit code or last line."""
    monkeypatch.setattr(sys, "argv", ["nest", "push", "digits/nest_planted", "--seed", "2", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_the_command_pushes(server, monkeypatch, capsys):
    monkeypatch.setattr(
        hub, "HfApi", lambda **_: HfApi(endpoint=server.address, token="hf_of_a_test")
    )
    assert not call(monkeypatch, "me/nest", "--private")
    assert capsys.readouterr().out == (
        "pushed digits/nest_planted-s2-56ad650c: "
        f"{server.address}/me/nest/commit/{FakeHub.commit}\n"
    )
    assert server.created[0].get("private") or server.created[0].get("visibility") == "private"
    monkeypatch.setattr(hub, "HfApi", lambda **_: HfApi(endpoint="http://127.0.0.1:9", token="x"))
    said = call(monkeypatch, "me/nest")
    assert re.match(r"nest: .* could not be pushed to me/nest: ", said) and "\n" not in said


@pytest.mark.parametrize(
    "words", [[], ["me/nest", "--folder", "out"], ["--folder", "out", "--private"]]
)
def test_the_command_takes_one_destination(words, monkeypatch):
    said = call(monkeypatch, *words)
    assert re.match(r"nest: (give a repository|--folder, which uploads nothing, does not)", said)
