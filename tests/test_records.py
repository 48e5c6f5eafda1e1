import json
import re
from dataclasses import replace

import pytest
import torch

from nestlib import records
from nestlib.project import find_project_root
from nestlib.recipes.named import get_recipe
from nestlib.records import (
    Record,
    RecordError,
    describe_environment,
    device_name,
    load_record,
    open_store,
)


def record(recipe, **summary):
    return Record(
        recipe.run_id, "train", {"seed": recipe.seed}, {"finished": "2026-01-01"}, summary
    )


def test_record_round_trips(store):
    recipe = get_recipe("cifar10/nest_tiny", seed=2)
    path = store.add(record(recipe, top1=96.0))
    assert path == store.local / "cifar10" / f"nest_tiny-s2-{recipe.config_hash}.json"
    assert store.find(recipe.run_id) == record(recipe, top1=96.0)
    assert store.find("cifar10/other-s0-00000000") is None


def test_seeds_of_a_recipe_are_found_and_other_recipes_are_not(store):
    recipes = [get_recipe("cifar10/nest_tiny", seed=seed) for seed in (1, 0)]
    for recipe in recipes:
        store.add(record(recipe))
    store.add(record(get_recipe("cifar10/nest_tiny", epochs=30)))
    store.add(record(get_recipe("cifar10/nest_tiny_s2_depth3")))
    assert [r.recipe["seed"] for r in store.find_seeds(recipes[0])] == [0, 1]


def test_committed_record_comes_first(store):
    recipe = get_recipe("cifar10/nest_tiny")
    store.add(record(recipe, top1=1.0))
    store.add(record(recipe, top1=2.0), committed=True)
    assert store.find(recipe.run_id).summary == {"top1": 2.0}
    assert [r.summary for r in store.find_seeds(recipe)] == [{"top1": 2.0}]


@pytest.mark.parametrize(
    "text", ["{", '{"run_id": 1}', "[]", "3", "", "\0", "[" * 100_000, '{"summary": NaN}']
)
def test_broken_record_is_named(tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(RecordError, match=r"broken.json is not a record .*; restore the file"):
        load_record(path)


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_newer_nestlibs_record_is_answered_with_an_update(store):
    """Whatever fields it has beside."""
    path = store.add(record(get_recipe("cifar10/nest_tiny")))
    change(path, schema=2, news=1, recipe="another form")
    message = "made by a newer nestlib, schema 2; this one reads 1: update nestlib"
    with pytest.raises(RecordError, match=message):
        load_record(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema": 0}, "its schema is 0, this nestlib reads 1"),
        ({"schema": True}, "its schema is True"),
        ({"schema": "1"}, "its schema is '1'"),
        ({"news": 1}, "unexpected keyword argument 'news'"),
        ({"recipe": []}, r"its recipe is \[\]"),
        ({"summary": None}, "its summary is None"),
        ({"epochs": {}}, "its epochs is {}"),
        ({"run_id": 7}, "its run_id is 7"),
    ],
)
def test_wrong_fields_are_named_and_nothing_is_to_be_deleted(store, changes, reason):
    path = store.add(record(get_recipe("cifar10/nest_tiny")))
    change(path, **changes)
    with pytest.raises(RecordError, match=f"{path.name} is not a record .*{reason}") as raised:
        store.find(get_recipe("cifar10/nest_tiny").run_id)
    assert "delete" not in str(raised.value)


def real(store, name="cifar10/nest_narrow-s0-8a3e1ba5"):
    """A committed record's values and its file in the test's own store."""
    committed = open_store(find_project_root()).committed / f"{name}.json"
    path = store.local / f"{name}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(committed.read_bytes())
    return path, json.loads(path.read_bytes())


@pytest.mark.parametrize(
    ("part", "changes", "reason"),
    [
        ("summary", {"test/top1": 101}, "summary, test/top1 is 101, must be a number of"),
        ("summary", {"test/top1": "96"}, "summary, test/top1 is '96', must be a number"),
        ("summary", {"train_seconds": -1}, "summary, train_seconds is -1"),
        ("summary", {"weights_sha256": "0"}, "summary, weights_sha256 is '0', must be a text"),
        ("summary", {"test/right": "/w=="}, "test/right is not of the 10000 images"),
        ("environment", {"finished": "soon"}, "environment, finished is 'soon', must be a text of"),
        ("environment", {"probe": [1.0]}, "environment, probe has 1 items, must have 8"),
        ("environment", {"data": {"test": {"images": 0}}}, "environment, data, test, images is 0"),
        ("recipe", {"epochs": 11}, "its recipe is that of another run, cifar10/nest_narrow-s0-"),
        ("recipe", {"seed": 1}, "its recipe is that of another run, cifar10/nest_narrow-s1-"),
        ("recipe", {"evaluate_every": True}, "recipe, evaluate_every is True"),
        ("recipe", {"speed": 1}, "its recipe has 'speed', which recipes do not have"),
    ],
)
def test_a_value_that_no_run_leaves_is_named(store, part, changes, reason):
    path, values = real(store)
    path.write_text(json.dumps(values | {part: values[part] | changes}))
    with pytest.raises(RecordError, match=f"{path.name} is not a record .*{reason}"):
        load_record(path)
    path.write_text(json.dumps(values))
    assert load_record(path).summary == values["summary"]


def test_whoever_asks_for_what_a_record_lacks_is_told_its_file(store):
    path, values = real(store)
    del values["summary"]["test/top1"], values["recipe"]["seed"]
    values["recipe"] = {"name": values["recipe"]["name"]}
    path.write_text(json.dumps(values))
    found = load_record(path)
    for ask in (lambda: found.top1, lambda: found.recipe["seed"], found.make_recipe):
        with pytest.raises(RecordError, match=f"{path.name} .*restore the file"):
            ask()
    assert found.summary.get("test/top1") is None and found == load_record(path)


def test_a_name_that_comes_twice_is_named(store):
    path, _ = real(store)
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 0, "seed": 0'))
    with pytest.raises(RecordError, match=f"{path.name} .*it names 'seed' twice"):
        load_record(path)


@pytest.mark.parametrize("kind", ["bench", "gan", "explain", "other"])
def test_a_record_of_another_kind_than_its_run_is_refused(store, kind):
    path, values = real(store)
    path.write_text(json.dumps(values | {"kind": kind}))
    with pytest.raises(RecordError, match=path.name):
        load_record(path)


def test_what_is_no_readable_file_is_no_missing_record(store):
    """Or a run would be made again beside a record that is only out of reach."""
    recipe = get_recipe("cifar10/nest_tiny")
    path = store.add(record(recipe))
    for make in (lambda: path.symlink_to(store.local / "nowhere"), path.mkdir):
        path.unlink()
        make()
        for ask, what in ((store.find, recipe.run_id), (store.find_seeds, recipe)):
            with pytest.raises(RecordError, match=f"{path.name} is not a record"):
                ask(what)


def test_a_run_id_is_the_whole_place_of_a_file(store):
    path, values = real(store, "bench/scaling-full-intel-r-xeon-r-processor-2-cores-fp32")
    change(path, run_id=path.stem)
    with pytest.raises(RecordError, match=path.name):
        store.find(f"bench/{path.stem}")
    change(path, run_id=f"bench/{path.stem}")
    assert store.find(f"bench/{path.stem}").summary == values["summary"]


def test_a_file_that_names_another_run_is_refused(store):
    """As where one is copied to another's name."""
    own, other = (get_recipe("cifar10/nest_tiny", seed=seed) for seed in (0, 1))
    path = store.add(record(own))
    copy = path.with_name(path.name.replace("-s0-", "-s1-"))
    copy.write_bytes(path.read_bytes())
    with pytest.raises(RecordError, match=f"{copy.name} holds the record of .*{own.run_id}"):
        store.find(other.run_id)
    with pytest.raises(RecordError, match="another run"):
        store.find_seeds(own)
    assert store.find(own.run_id) == record(own)


def test_every_committed_record_is_under_its_runs_name():
    store = open_store()
    found = store.all_committed()
    assert found
    for one in found:
        assert (store.committed / f"{one.run_id}.json").is_file()


def test_a_number_that_is_none_is_not_written(store):
    with pytest.raises(ValueError, match=r"Out of range float values .*: its summary, top1 is nan"):
        store.add(record(get_recipe("cifar10/nest_tiny"), top1=float("nan")))
    assert not list(store.local.rglob("*.json"))


@pytest.mark.parametrize(
    ("recipe", "reason"),
    [({"run": "a", "network": "digits"}, "its recipe is that of another run, score/a-digits"),
     ({"network": "digits"}, "there is no 'run' beside network")],
)  # fmt: skip
def test_a_score_under_another_runs_name_is_not_written(store, recipe, reason):
    facts = record(get_recipe("cifar10/nest_tiny")).environment
    wrong = Record("score/b-digits", "score", recipe, facts, {"num_samples": 2048})
    with pytest.raises(RecordError, match=rf"score/b-digits.json is not written .*{reason}"):
        store.add(wrong)
    assert not list(store.local.rglob("*.json"))


def test_a_score_that_is_copied_to_another_runs_name_is_refused(tmp_path):
    committed = open_store(find_project_root()).committed
    path = next(iter(sorted((committed / "score" / "digits").glob("*-digits.json"))))
    values = json.loads(path.read_bytes())
    other = values["run_id"].replace("-s0-", "-s9-").replace("-s1-", "-s9-")
    copy = tmp_path / f"{other}.json"
    copy.parent.mkdir(parents=True)
    copy.write_text(json.dumps({**values, "run_id": other}))
    with pytest.raises(RecordError, match=rf"that of another run, {re.escape(values['run_id'])}"):
        load_record(copy)


def test_environment_says_where_a_number_comes_from():
    environment = describe_environment(torch.device("cpu"))
    assert environment["packages"]["torch"] and environment["device"]
    assert {"commit", "dirty", "threads", "started"} <= set(environment)


@pytest.mark.parametrize("named", ["main", "abc", "0" * 65, "0123456\n", "| 0123456", "ABCDEF0"])
def test_a_copys_commit_is_a_commit(monkeypatch, named):
    monkeypatch.setattr(records, "find_clone", lambda: None)
    monkeypatch.setenv("NESTLIB_COMMIT", named)
    with pytest.raises(ValueError, match=r"NESTLIB_COMMIT is .*must be the hex digits of a commit"):
        describe_environment(torch.device("cpu"))
    for right, kept in (("0123abc", "0123abc"), ("", None)):
        monkeypatch.setenv("NESTLIB_COMMIT", right)
        assert describe_environment(torch.device("cpu"))["commit"] == kept


def test_project_root_is_found_from_inside(tmp_path):
    (tmp_path / "experiments" / "records").mkdir(parents=True)
    (tmp_path / "_config.yml").touch()
    assert find_project_root(tmp_path / "experiments" / "records") == tmp_path.resolve()


@pytest.mark.parametrize("named", ["nowhere", "file", "", "x" * 5000])
def test_a_variable_that_names_no_project_is_told(tmp_path, monkeypatch, named):
    """But not inside a project, where nothing asks it; and an empty one is none."""
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NESTLIB_PROJECT", str(tmp_path / named) if named else "")
    if named:
        with pytest.raises(FileNotFoundError, match=r"NESTLIB_PROJECT names '.*no checkout"):
            find_project_root()
    else:
        assert find_project_root() == tmp_path.resolve()
    (tmp_path / "experiments").mkdir()
    (tmp_path / "_config.yml").touch()
    assert find_project_root() == tmp_path.resolve()


def test_a_variable_names_the_project(tmp_path, monkeypatch):
    project = tmp_path / "project"
    (project / "experiments").mkdir(parents=True)
    (project / "_config.yml").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NESTLIB_PROJECT", str(project))
    assert find_project_root() == project


def test_processors_of_one_name_are_told_apart(monkeypatch, tmp_path):
    """Two generations that a cloud calls by one name; and a machine that does not say."""
    entry = "processor\t: {core}\nmodel name\t: AMD EPYC\ncpu family\t: {family}\nmodel\t\t: 17\n\n"
    names = set()
    for family in (25, 26):
        text = "".join(entry.format(core=core, family=family) for core in range(2))
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(records, "CPUINFO", tmp_path / "cpuinfo")
        names.add(device_name(torch.device("cpu")).rpartition(", ")[0])
    assert names == {"AMD EPYC (family 25, model 17)", "AMD EPYC (family 26, model 17)"}
    monkeypatch.setattr(records, "CPUINFO", tmp_path / "none")
    assert device_name(torch.device("cpu")).endswith(" cores")


def test_records_of_a_name_that_goes_on_are_no_seeds(store):
    """The hash leaves the name out, so it does not tell them apart."""
    recipe = get_recipe("cifar10/nest_tiny")
    for one in (recipe, replace(recipe, name="cifar10/nest_tiny-second")):
        store.add(record(one))
    assert [one.run_id for one in store.find_seeds(recipe)] == [recipe.run_id]
