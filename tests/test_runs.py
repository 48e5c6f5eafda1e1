import json
import resource
from dataclasses import replace

import pytest
import torch

from nestlib.data.datasets import load_dataset
from nestlib.records import RecordError, Store
from nestlib.runs import run as runs
from nestlib.runs.run import carry_out
from nestlib.runs.subsets import take
from nestlib.training import classifier, loop


def test_finished_run_keeps_its_record(tiny_recipe, store, tmp_path, monkeypatch):
    how = {"runs_dir": tmp_path / "runs", "device": "cpu", "progress_bar": False}
    first = carry_out(tiny_recipe, store, **how)
    monkeypatch.setattr(runs, "describe_environment", lambda _: {"device": "another machine"})
    assert carry_out(tiny_recipe, store, **how) == first


def test_record_of_a_resumed_run_names_every_machine(tiny_recipe, store, tmp_path, monkeypatch):
    how = {"runs_dir": tmp_path / "runs", "device": "cpu", "progress_bar": False}
    recipe = tiny_recipe
    monkeypatch.setattr(runs, "describe_environment", lambda _: {"device": "first machine"})
    assert carry_out(recipe, store, max_seconds=0, **how) is None
    monkeypatch.setattr(runs, "describe_environment", lambda _: {"device": "second machine"})
    environment = carry_out(recipe, store, **how).environment
    assert environment["device"] == "second machine"
    (earlier,) = environment["earlier_calls"]
    assert earlier["device"] == "first machine" and earlier["ranks"] == environment["ranks"] == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[1]",
        "[{",
        "[NaN]",
        "\0",
        "[" * 100_000,
        '[{"threads": "2"}]',
        '[{"started": "long ago"}]',
        '[{"ranks": 1, "ranks": 2}]',
        "[[]]",
    ],
)
def test_a_damaged_list_of_calls_is_set_aside(tiny_recipe, store, tmp_path, text):
    how = {"runs_dir": tmp_path / "runs", "device": "cpu", "progress_bar": False}
    recipe = replace(tiny_recipe, epochs=1, warmup_epochs=0)
    assert carry_out(recipe, store, max_seconds=0, **how) is None
    path = tmp_path / "runs" / recipe.run_id / "calls.json"
    path.write_text(text)
    with pytest.warns(UserWarning, match=r"calls.json is damaged .*kept as calls.json.damaged"):
        record = carry_out(recipe, store, **how)
    assert record.environment["earlier_calls"] == []
    assert path.with_name("calls.json.damaged").read_text() == text
    assert len(json.loads(path.read_text())) == 1


@pytest.mark.parametrize(("room", "name"), [(4_000, "weights.safetensors"), (0, ".json")])
def test_a_full_disk_names_the_file(tiny_recipe, store, tmp_path, monkeypatch, room, name):
    """At the run's end; then there is room again and the same call goes on."""
    how = {"runs_dir": tmp_path / "runs", "device": "cpu", "progress_bar": False}
    recipe, limit = replace(tiny_recipe, epochs=1, warmup_epochs=0), resource.RLIMIT_FSIZE
    soft, hard = resource.getrlimit(limit)
    where = (loop, "save_weights") if room else (Store, "add")
    write = getattr(*where)

    def write_on_a_full_disk(*args, **options):
        resource.setrlimit(limit, (room, hard))
        try:
            return write(*args, **options)
        finally:
            resource.setrlimit(limit, (soft, hard))

    monkeypatch.setattr(*where, write_on_a_full_disk)
    with pytest.raises(OSError, match=rf"File too large: '.*{recipe.run_id}.*{name}'"):
        carry_out(recipe, store, **how)
    monkeypatch.undo()
    monkeypatch.setattr(classifier.Trainer, "train_step", None)  # nothing is trained again
    assert carry_out(recipe, store, **how).summary["reported_epoch"] == 1


def test_a_result_that_no_record_can_keep_is_told_and_the_run_stays(
    tiny_recipe, store, tmp_path, monkeypatch
):
    how = {"runs_dir": tmp_path / "runs", "device": "cpu", "progress_bar": False}
    recipe = replace(tiny_recipe, epochs=1, warmup_epochs=0)
    describe_end = runs._describe_end
    odd = {"train_seconds": float("nan")}
    monkeypatch.setattr(runs, "_describe_end", lambda *end: describe_end(*end) | odd)
    with pytest.raises(RecordError, match=rf"{recipe.run_id}.json is not written .*train_seconds"):
        carry_out(recipe, store, **how)
    monkeypatch.undo()
    monkeypatch.setattr(classifier.Trainer, "train_step", None)
    assert carry_out(recipe, store, **how).summary["reported_epoch"] == 1


def test_smoke_run_always_runs(tiny_recipe, store):
    tiny_recipe = replace(tiny_recipe, budget="smoke")
    carry_out(tiny_recipe, store, device="cpu", progress_bar=False)
    path = store.local / f"{tiny_recipe.run_id}.json"
    written = path.stat().st_mtime_ns
    carry_out(tiny_recipe, store, device="cpu", progress_bar=False)
    assert path.stat().st_mtime_ns > written


def test_changed_recipe_is_another_run(tiny_recipe, store, tmp_path):
    how = {"runs_dir": tmp_path / "runs", "device": "cpu", "progress_bar": False}
    carry_out(replace(tiny_recipe, epochs=2), store, **how)
    assert store.find(replace(tiny_recipe, epochs=2, weight_decay=0.1).run_id) is None


def test_take_draws_the_same_images_each_time():
    digits = load_dataset("digits", "train", num_images=64)
    some = take(digits, 16)
    assert len(some) == 16 and torch.equal(some.images, take(digits, 16).images)
    assert some.boxes.shape[0] == 16
    with pytest.raises(ValueError, match="digits train has 64 images, not 65"):
        take(digits, 65)
