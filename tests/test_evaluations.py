"""An evaluation is found or made once; what cannot be had is one line, and the others go on."""

import hashlib
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from test_accuracy import MEAN, STD, Lookup, expected, make_table, numbers, read_folder
from test_accuracy import save_classes as save_imagenet
from test_cli import run

from nestbook.evaluations import classifiers
from nestbook.evaluations.classifiers import NotScored, evaluate
from nestbook.peers import PUBLISHED
from nestbook.records import Failure
from nestlib.data import datasets
from nestlib.data.datasets import load_dataset
from nestlib.models.weights import hash_weights
from nestlib.recipes import named as recipes
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, Store
from nestlib.runs.run import carry_out
from nestlib.runs.subsets import take
from nestlib.runs.weights import commit_weights

NAMES = ["nest_tiny_imagenet", "swin_tiny_imagenet", "resnet50_imagenet"]
TINY = "digits/tiny"


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """A folder of three classes, four images each, that passes for the whole of ImageNet."""
    whole = replace(datasets.dataset_info("imagenet"), num_classes=3, num_test=12)
    monkeypatch.setitem(datasets._INFOS, "imagenet", whole)
    save_imagenet(tmp_path / "imagenet" / "val")
    return tmp_path / "imagenet"


class Hub:
    """The hub and timm, as far as they are asked: a file and a model for each name."""

    def __init__(self, cache, monkeypatch):
        self.cache, self.asked, self.built = cache, [], []
        self.models = {name: Lookup(make_table(i)) for i, name in enumerate(NAMES)}
        self.files = {repo_of(name): name.encode() for name in NAMES}
        for name in ("hf_hub_download", "get_hf_file_metadata", "create_model"):
            monkeypatch.setattr(classifiers, name, getattr(self, name))

    def hf_hub_download(self, repo, file, local_files_only):
        self.asked.append((repo, local_files_only))
        if repo not in self.files:
            raise LocalEntryNotFoundError("cannot find the requested files in the local cache")
        link = self.cache / repo / file
        blob = self.cache / hashlib.sha256(self.files[repo]).hexdigest()
        if not link.exists():
            link.parent.mkdir(parents=True)
            blob.write_bytes(self.files[repo])
            link.symlink_to(blob)
        return str(link)

    def get_hf_file_metadata(self, url):
        repo = next(repo for repo in self.files if repo in url)
        return SimpleNamespace(etag=hashlib.sha256(self.files[repo]).hexdigest())

    def create_model(self, name, *, pretrained, num_classes, img_size):
        assert (pretrained, num_classes, img_size) == (True, 1000, 224)
        self.built.append(name)
        return self.models[name]


def repo_of(name: str) -> str:
    return f"timm/{PUBLISHED[name]}"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    return Hub(tmp_path / "hub", monkeypatch)


def score(names, store, data_dir, **how):
    how = {"dataset": "imagenet", "device": "cpu", "progress": False} | how
    return evaluate(names, store, data_dir=data_dir, **how)


def test_published_models_are_scored_and_their_records_say_how(imagenet, store, hub):
    results = score(NAMES, store, imagenet)
    assert list(results) == NAMES == hub.built
    images = read_folder(imagenet)
    for index, name in enumerate(NAMES):
        record, table = results[name], make_table(index)
        known = expected(table, numbers(images))
        assert {key: record.summary[key] for key in known} == known
        assert (record.kind, record.run_id[:-8]) == ("evaluate", f"evaluate/imagenet/{name}-")
        file_sha256 = hashlib.sha256(name.encode()).hexdigest()
        assert record.summary["file_sha256"] == record.summary["hub_sha256"] == file_sha256
        assert record.summary["weights_file"] == f"{repo_of(name)}/model.safetensors"
        assert record.summary["weights_sha256"] == hash_weights(hub.models[name])
        assert record.summary["num_params"] == table.size
        assert 20 < record.summary["top1_half_width"] < 30  # of 12 images
        assert record.recipe["weights"] == PUBLISHED[name]
        assert record.recipe["view"]["interpolation"] == ("bicubic", "bilinear")[index // 2]
        assert record.recipe["batch_size"] == 16 and record.recipe["limit"] is None
        data = {"test": {"fingerprint": images.fingerprint, "images": 12}}
        assert record.environment["data"] == data
        assert record.environment["device_kind"] == "cpu" and record.environment["finished"]
        assert (store.local / f"{record.run_id}.json").is_file()


def test_found_records_are_loaded_and_nothing_is_built(imagenet, store, hub, monkeypatch):
    first = score(NAMES[:2], store, imagenet, committed=True)
    assert not store.local.exists()
    for name in ("fetch_weights", "create_model", "load_dataset", "measure_accuracy"):
        monkeypatch.setattr(classifiers, name, lambda *_, **__: pytest.fail("not again"))
    again = score(NAMES[:2], store, data_dir=None)  # without the images too
    summaries = [(record.run_id, record.summary) for record in again.values()]
    assert summaries == [(record.run_id, record.summary) for record in first.values()]


def test_only_what_is_missing_is_scored(imagenet, store, hub):
    score(NAMES[1:2], store, imagenet)
    assert list(score(NAMES, store, imagenet)) == NAMES
    assert hub.built == [NAMES[1], NAMES[0], NAMES[2]]


def test_all_that_decides_the_number_is_in_the_record_id(imagenet, store, hub, monkeypatch):
    changes = [{}, {"limit": 12}, {"limit": 5}, {"precision": "bf16"}]
    ids = {score(NAMES[:1], store, imagenet, **c)[NAMES[0]].run_id for c in changes}
    monkeypatch.setitem(PUBLISHED, NAMES[0], PUBLISHED["nest_small_imagenet"])
    hub.files[repo_of(NAMES[0])] = b"others"
    ids.add(score(NAMES[:1], store, imagenet)[NAMES[0]].run_id)
    assert len(ids) == 5
    assert score(NAMES[:1], store, imagenet, batch_size=3)[NAMES[0]].run_id in ids


def test_limit_scores_images_drawn_as_for_training(imagenet, store, hub):
    record = score(NAMES[:1], store, imagenet, limit=5)[NAMES[0]]
    drawn = take(read_folder(imagenet), 5)
    assert record.environment["data"]["test"]["fingerprint"] == drawn.fingerprint
    assert (record.summary["images"], record.recipe["limit"]) == (5, 5)


def test_without_a_network_the_others_go_on(imagenet, store, hub):
    for name in NAMES[:2]:
        del hub.files[repo_of(name)]
    results = score(NAMES, store, imagenet)
    for name in NAMES[:2]:
        assert results[name].startswith(f"{repo_of(name)}/model.safetensors is not in the cache")
        assert "hf download" in results[name] and "\n" not in results[name]
    assert results[NAMES[2]].summary["images"] == 12
    # One wait for a hub that does not answer is enough; what the cache holds is found all the same.
    assert [offline for _, offline in hub.asked] == [False, True, True]
    assert hub.built == NAMES[2:] and len(list(store.local.rglob("*.json"))) == 1


@pytest.mark.parametrize("linked", [True, False])
def test_damaged_download_is_named_and_not_built(imagenet, store, hub, linked):
    repo = repo_of(NAMES[0])
    path = hub.cache / repo / "model.safetensors"
    hub.hf_hub_download(repo, "model.safetensors", False)
    good = path.resolve()
    if not linked:  # as on a system without links: the hub is asked for the sum
        path.unlink()
        shutil.copy(good, path)
    path.write_bytes(b"damaged")
    results = score(NAMES[:2], store, imagenet)
    reason = results[NAMES[0]]
    assert hashlib.sha256(b"damaged").hexdigest() in reason and good.name in reason
    assert f"delete {path.resolve()} and fetch it again" in reason
    assert hub.built == NAMES[1:2] and results[NAMES[1]].summary["images"] == 12
    assert len(list(store.local.rglob("*.json"))) == 1


def test_what_fails_leaves_a_reason_and_no_record(imagenet, store, hub):
    hub.models[NAMES[0]] = Lookup(make_table(0), failure=torch.OutOfMemoryError("full\nof tensors"))
    del hub.models[NAMES[1]]  # the library raises what it likes
    results = score(NAMES, store, imagenet)
    assert results[NAMES[0]] == "OutOfMemoryError: full" and "swin_tiny" in results[NAMES[1]]
    assert results[NAMES[2]].summary["images"] == 12
    assert len(list(store.local.rglob("*.json"))) == 1


def test_missing_and_incomplete_images_are_reasons(imagenet, store, hub, tmp_path):
    assert "no test images in" in score(NAMES[:1], store, tmp_path / "absent")[NAMES[0]]
    next((imagenet / "val").rglob("*.JPEG")).unlink()
    reason = score(NAMES[:1], store, imagenet)[NAMES[0]]
    assert reason.startswith("imagenet has 12 test images, but 11 were found; fetch the whole set")
    assert hub.asked == [] and not store.local.exists()


def test_limit_takes_a_part_of_imagenet_and_is_always_made_anew(imagenet, store, hub):
    next((imagenet / "val").rglob("*.JPEG")).unlink()
    first = score(NAMES[:1], store, imagenet, limit=11)[NAMES[0]]
    fingerprint = take(read_folder(imagenet), 11).fingerprint
    assert first.environment["data"]["test"] == {"fingerprint": fingerprint, "images": 11}
    next((imagenet / "val").rglob("*.JPEG")).unlink()
    again = score(NAMES[:1], store, imagenet, limit=10)[NAMES[0]]
    assert again.summary["images"] == 10 and hub.built == NAMES[:1] * 2
    reason = score(NAMES[:1], store, imagenet, limit=11)[NAMES[0]]
    assert "has 10 images, not 11" in reason


def test_table2_without_images_loads_what_there_is(imagenet, store, hub):
    score(NAMES[:1], store, imagenet)
    hub.asked.clear()
    assert list(classifiers.evaluate_table2(store)) == NAMES[:1]
    assert classifiers.evaluate_table2(store, precision="bf16") == {} and hub.asked == []


def test_table2_is_scored_on_a_folder(imagenet, store, hub):
    results = classifiers.evaluate_table2(store, str(imagenet), device="cpu")
    assert list(results) == list(PUBLISHED)
    assert all(results[name].summary["images"] == 12 for name in NAMES)
    others = [results[name] for name in PUBLISHED if name not in NAMES]
    assert all("is not in the cache" in reason for reason in others)


@pytest.fixture
def tiny(monkeypatch):
    """A recipe that trains in a second, by name."""
    fields = dict(
        model="nest_tiny_cifar", epochs=2, ema_decay=0.5, dataset_options={"num_images": 96},
        model_options={"embed_dim": 12, "num_hierarchies": 2, "patch_size": 4},
    )  # fmt: skip
    monkeypatch.setitem(recipes.NAMED, TINY, ("a tiny NesT", fields))
    return get_recipe(TINY)


def score_run(store, runs_dir, **how):
    return score([TINY], store, None, dataset="digits", runs_dir=runs_dir, **how)[TINY]


def test_committed_weights_are_scored_where_the_runs_own_are_not(tiny, store, tmp_path):
    """As load_trained finds them; the record says that they are rounded, under an id of its own."""
    trained = carry_out(tiny, store, runs_dir=tmp_path / "runs", device="cpu", progress_bar=False)
    commit_weights(tiny, store, runs_dir=tmp_path / "runs")
    full = score_run(store, tmp_path / "runs", limit=32)
    shutil.rmtree(tmp_path / "runs")
    half = score_run(store, tmp_path / "runs", limit=32)
    assert half.recipe["rounded_to"] == "fp16" and "rounded_to" not in full.recipe
    assert half.run_id != full.run_id
    assert half.recipe["weights_sha256"] == trained.summary["weights_sha256"]
    assert half.summary["weights_sha256"] != full.summary["weights_sha256"]
    assert half.summary["loss"] == pytest.approx(full.summary["loss"], rel=1e-2)


def test_a_found_score_is_made_again_where_it_is_asked_for(tiny, store, tmp_path):
    carry_out(tiny, store, runs_dir=tmp_path / "runs", device="cpu", progress_bar=False)
    first = score_run(store, tmp_path / "runs")
    path = store.local / f"{first.run_id}.json"
    path.write_text(path.read_text().replace(str(first.summary["top1"]), "12.5"))
    assert score_run(store, tmp_path / "runs").summary["top1"] == 12.5
    assert score_run(store, tmp_path / "runs", again=True).summary["top1"] == first.summary["top1"]


def test_what_failed_is_an_error_in_the_end():
    failure = Failure.of(MemoryError())
    assert failure == "MemoryError" and len(Failure.of(ValueError("word " * 300))) <= 500
    classifiers.stop_at_failures({"a": "no finished run"}, {})
    with pytest.raises(NotScored, match=r"1 not scored; .* kept:\n  b: MemoryError"):
        classifiers.stop_at_failures({"a": "no finished run"}, {"b": failure})


def test_a_store_that_is_read_only_scores_nothing(tiny, store, tmp_path):
    carry_out(tiny, store, runs_dir=tmp_path / "runs", device="cpu", committed=True)
    committed = Store(store.committed, None)
    assert score_run(committed, tmp_path / "runs") == classifiers.NO_RECORD


def test_a_run_that_is_trained_again_has_no_score_and_says_why(tiny, store, tmp_path):
    how = {"runs_dir": tmp_path / "runs", "device": "cpu", "progress_bar": False}
    trained = carry_out(tiny, store, committed=True, **how)
    old = score_run(store, tmp_path / "runs", committed=True)
    committed = Store(store.committed, None)
    assert score_run(committed, tmp_path / "runs") == store.find(old.run_id)
    summary = trained.summary | {"weights_sha256": "0" * 64}
    store.add(replace(trained, summary=summary), committed=True)
    reason = score_run(committed, tmp_path / "runs")
    assert (
        old.run_id in reason and f"{trained.run_id} no longer has: it was trained again" in reason
    )


def test_classes_are_those_of_the_runs_record(tiny, store, tmp_path):
    """Other classes are refused and named."""
    how = {"runs_dir": tmp_path / "runs", "device": "cpu", "progress_bar": False}
    trained = carry_out(tiny, store, **how)
    data = trained.environment["data"]

    def rename(names):
        train = data["train"] | {"class_names": names}
        environment = trained.environment | {"data": data | {"train": train}}
        store.add(replace(trained, environment=environment))
        return score_run(store, tmp_path / "runs", limit=32)

    assert isinstance(rename(list("0123456789")), Record)
    strange = rename(["1", *map(str, range(2, 10)), "ten"])
    assert isinstance(strange, Failure) and "0" in strange and "classes" in strange
    environment = {k: v for k, v in trained.environment.items() if k != "data"}
    store.add(replace(trained, environment=environment))  # older records keep no names
    assert isinstance(score_run(store, tmp_path / "runs", limit=32), Record)


def test_run_is_scored_as_its_trainer_did(tiny, store, tmp_path):
    how = {"runs_dir": tmp_path / "runs", "device": "cpu", "progress_bar": False}
    trained = carry_out(tiny, store, **how)
    record = score_run(store, tmp_path / "runs")
    last = trained.epochs[-1]
    assert record.summary["top1"] == last["test/top1"]
    assert record.summary["top5"] == last["test/top5"]
    assert record.summary["loss"] == pytest.approx(last["test/loss"], rel=1e-6)
    assert record.summary["weights_sha256"] == trained.summary["weights_sha256"]
    assert record.recipe["weights"] == trained.run_id
    then = trained.environment["data"]["test"]
    assert record.environment["data"]["test"].items() <= then.items()
    shutil.rmtree(tmp_path / "runs")  # a committed record is found where its run is not
    assert score_run(store, tmp_path / "runs").summary == record.summary
    reason = score_run(store, tmp_path / "runs", limit=9)
    assert isinstance(reason, Failure)
    assert reason.startswith(f"the weights of {tiny.run_id} are neither at {tmp_path}")
    other = score_run(store, tmp_path / "runs", seed=1)
    assert other == f"no finished run {get_recipe(TINY, seed=1).run_id}; " + (
        f"`nest train {TINY} --seed 1` makes it"
    )


def test_weights_of_another_run_are_refused(tiny, store, tmp_path):
    how = {"runs_dir": tmp_path / "runs", "device": "cpu", "progress_bar": False}
    other = replace(tiny, seed=1)
    for recipe in (tiny, other):
        carry_out(recipe, store, **how)
    weights = "weights.safetensors"
    shutil.copy(tmp_path / "runs" / other.run_id / weights, tmp_path / "runs" / tiny.run_id)
    reason = score_run(store, tmp_path / "runs")
    assert "holds weights" in reason and f"the record of {tiny.run_id} names" in reason


def test_tiny_imagenet_takes_published_weights(store, hub, monkeypatch):
    """64-pixel images are resized to what the weights want, classes numbered by their wnids."""
    digits = load_dataset("digits", "test", num_images=2)
    wnids = ("n02123045", "n07753592")
    pixels = torch.stack([torch.full((3, 64, 64), 20 * k, dtype=torch.uint8) for k in (1, 2)])
    images = replace(
        digits, name="tiny_imagenet", images=pixels, labels=torch.tensor([0, 1]),
        class_names=("cat", "fruit"), class_ids=wnids, mean=MEAN, std=STD, boxes=None,
        box_labels=None,
    )  # fmt: skip
    monkeypatch.setattr(classifiers, "load_dataset", lambda *_, **__: images)
    info = replace(datasets.dataset_info("tiny_imagenet"), num_classes=2, num_test=2)
    monkeypatch.setitem(datasets._INFOS, "tiny_imagenet", info)
    table = make_table(0)
    table[0, 281], table[1, 954] = 90, -90
    hub.models[NAMES[0]] = Lookup(table)
    record = score(NAMES[:1], store, None, dataset="tiny_imagenet")[NAMES[0]]
    assert (record.summary["top1"], record.summary["top5"]) == (50, 50)


@pytest.mark.parametrize(
    ("names", "how", "message"),
    [
        (["nest_tyni"], {}, "'nest_tyni' is neither a recipe .* nor a model with published"),
        (NAMES, {"dataset": "cifar10"}, "cifar10 has others; choose one of imagenet, tiny"),
        (
            ["cifar10/nest_tiny"],
            {},
            "cifar10's classes, but imagenet has others; score it on cifar10",
        ),
        (NAMES, {"dataset": "imagnet"}, "no data set 'imagnet'"),
        (NAMES, {"precision": "fp8"}, "no precision 'fp8'"),
        (NAMES, {"limit": 0}, "limit 0 would score nothing"),
    ],
)
def test_mistakes_are_named(store, names, how, message):
    with pytest.raises(ValueError, match=message):
        score(names, store, None, **how)


def test_command_prints_a_line_each_and_says_what_is_missing(
    imagenet, hub, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    words = ["--data-dir", str(imagenet), "--device", "cpu", "--batch-size", "5"]
    code, out = run(monkeypatch, capsys, "evaluate", *NAMES[:2], *words)
    assert code == 0
    for line, name in zip(out.splitlines(), NAMES[:2], strict=True):
        assert line.startswith(f"{name}  top-1  33.33 % ± 2") and "top-5  66.67 %  n = 12" in line
        assert PUBLISHED[name] in line and f"evaluate/imagenet/{name}-" in line
    assert len(list((tmp_path / "runs" / "records").rglob("*.json"))) == 2
    del hub.files[repo_of(NAMES[2])]
    (tmp_path / "experiments").mkdir()
    (tmp_path / "_config.yml").touch()  # a project, which records are committed to
    words += ["--limit", "6", "--commit-record"]
    code, out = run(monkeypatch, capsys, "evaluate", NAMES[0], NAMES[2], *words)
    assert code == 1 and "n = 6" in out.splitlines()[0]
    assert out.splitlines()[1].startswith(f"{NAMES[2]}   not scored: {repo_of(NAMES[2])}/model")
    assert len(list((tmp_path / "experiments" / "records").rglob("*.json"))) == 1
