"""The run plan: in its order, nothing twice, each entry possible and short enough; one failed run
costs the others nothing."""

import re
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from PIL import Image

from nestbook.benchmarks import bench, rates
from nestbook.paper import FIGURE6_NEST3_TINY
from nestbook.profiles import registry
from nestbook.profiles.choices import attention_choices
from nestbook.profiles.growth import growth
from nestbook.profiles.input_rate import input_rates
from nestbook.profiles.roofline import roofline
from nestbook.recipes.rows import TABLE1
from nestbook.report.run_plan import (
    coverage_table,
    items_table,
    make_plan_point,
    plan_table,
    session_table,
)
from nestbook.run_plan import entries as run_plan
from nestbook.run_plan.checks import check_entries, parse_command
from nestbook.run_plan.entries import (
    HEADLINE,
    TRAIN_MINUTES,
    Entry,
    cut,
    find_coverage,
    list_entries,
    list_left_out,
    list_overrides,
    run_entries,
)
from nestbook.sweeps.plans import hard, soft
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import GanRecipe, Recipe, with_overrides
from nestlib.records import Record
from nestlib.runs.run import carry_out


def test_the_plan_is_the_issues():
    entries = list_entries()
    assert [entry.item for entry in entries] == sorted(entry.item for entry in entries)
    assert len({entry.name for entry in entries}) == len(entries)
    assert {entry.item for entry in entries} == set(range(1, 9))
    assert all(entry.title and entry.decides for entry in entries)
    benches = [entry.bench for entry in entries if entry.item == 1]
    assert benches[0] == "speed" and {"table1", "table2", "figure7"} <= set(benches)
    second, third = (next(e.recipe for e in entries if e.item == item) for item in (2, 3))
    assert second == get_recipe("cifar10/nest_tiny_s2_depth3") and second.epochs == 300
    assert third.name == "cifar10/nest_tiny"
    planned = [e for e in (*entries, *list_left_out()) if e.item == 4]
    assert {e.recipe.name for e in planned} == {TABLE1[row].recipe for row in run_plan.RIVALS}
    trained = [entry.recipe for entry in entries if entry.recipe]
    assert {r.dataset for r in trained} == {"cifar10", "tiny_imagenet"}


def test_every_run_takes_minutes_and_what_does_not_is_left_out(store):
    """By costs of each network itself; the plan cuts a figure's bars by one of them."""
    runs = [entry for entry in list_entries() if entry.recipe and entry.recipe.name != HEADLINE]
    assert all(entry.minutes <= TRAIN_MINUTES for entry in runs)
    left_out = list_left_out()
    assert left_out and not {e.name for e in left_out} & {e.name for e in list_entries()}
    models = {entry.recipe.name: entry for entry in left_out}
    assert all(entry.minutes > TRAIN_MINUTES for entry in models.values())
    assert {entry.recipe.epochs for entry in left_out} == {30}
    note, whole = items_table([], store, left_out).sources.details
    assert note.startswith(f"{len(left_out)} runs are left out") and HEADLINE in whole


@pytest.mark.parametrize(("minutes", "epochs"), [(3, 300), (8.1, 200), (20, 100), (100, 30)])
def test_a_recipe_is_cut_to_the_longest_schedule_that_fits(monkeypatch, minutes, epochs):
    """minutes: of 300 epochs."""
    monkeypatch.setattr(run_plan, "expect_minutes", lambda recipe: minutes * recipe.epochs / 300)
    recipe = get_recipe("cifar10/swin_tiny")
    assert cut(recipe) == replace(recipe, epochs=epochs)
    shorter = get_recipe("cifar10/swin_tiny", epochs=40)
    assert cut(shorter).epochs == min(40, epochs)


def test_a_generator_is_cut_by_steps(monkeypatch):
    monkeypatch.setattr(run_plan, "expect_minutes", lambda recipe: recipe.steps / 2500)
    assert cut(get_recipe("tiny_imagenet/gan_nest")).steps == 20_000


def test_expected_minutes_are_multiply_adds_over_the_assumed_rate(tiny_recipe):
    double = Entry(1, "", replace(tiny_recipe, epochs=2 * tiny_recipe.epochs))
    assert double.minutes == pytest.approx(2 * Entry(1, "", tiny_recipe).minutes)
    macs = run_plan.estimate_cost(tiny_recipe) * 1e9
    assert Entry(1, "", tiny_recipe).minutes * 60 * 100e12 == pytest.approx(2 * macs)


def test_what_has_no_record_is_run_in_order_and_failures_are_passed_over(
    tiny_recipe, store, tmp_path, monkeypatch
):
    broken = replace(tiny_recipe, name="digits/deit_narrow", dataset="cifar10", dataset_options={})
    entries = [
        Entry(1, "a bench", bench="table1"), Entry(2, "no data", broken), Entry(3, "", tiny_recipe)
    ]  # fmt: skip
    monkeypatch.setattr(run_plan, "list_entries", lambda: entries)
    said = []
    how = {
        "data_root": tmp_path,
        "runs_dir": tmp_path / "runs",
        "device": "cpu",
        "say": said.append,
    }
    assert not run_entries(store, max_seconds=60, **how)  # the bench is not begun with so little
    assert [line.split(":")[0] for line in said] == [broken.run_id] * 2 + [tiny_recipe.run_id] * 2
    assert "failed: FileNotFoundError" in said[1] and said[-1].endswith("done")
    record = store.find(tiny_recipe.run_id)
    assert (
        record is not None and (tmp_path / "weights" / f"{tiny_recipe.run_id}.safetensors").exists()
    )
    assert entries[2].find(store) is None  # as it was made on a CPU
    gpu = replace(record, environment=record.environment | {"device_kind": "cuda"})
    store.add(gpu, committed=True)
    assert entries[2].find(store) == gpu
    said.clear()
    assert run_entries(store, only=3, **how) and said == []


@pytest.mark.parametrize(("device", "again"), [("cpu", False), ("cuda", True)])
def test_a_record_of_a_cpu_is_not_taken_for_a_gpus(
    tiny_recipe, store, tmp_path, monkeypatch, device, again
):
    """The plan asks for a GPU's: the run is made, though a fresh record of it is there."""
    cpu = carry_out(tiny_recipe, store, runs_dir=tmp_path, device="cpu", progress_bar=False)
    asked = []
    monkeypatch.setattr(run_plan, "resolve_device", torch.device)  # as where there is a GPU
    monkeypatch.setattr(run_plan, "carry_out", lambda *_, **how: asked.append(how["again"]))
    run_plan._carry_out(Entry(1, "", tiny_recipe), store, None, tmp_path, 60, device)
    assert asked == [again]
    gpu = replace(cpu, environment=cpu.environment | {"device_kind": "cuda"})
    store.add(cpu, committed=True)
    store.add(gpu)  # found behind the committed one
    assert Entry(1, "", tiny_recipe).find(store) == gpu


def test_a_bench_has_its_record_in_full_form_and_its_own_precision(store):
    environment = {"device_kind": "cuda", "device": "a GPU", "finished": "2026"}
    speed, explaining = Entry(1, "", bench="speed"), Entry(1, "", bench="explaining")
    for run_id in ("bench/speed-smoke-gpu-bf16", "bench/speed-full-gpu-fp32",
                   "bench/explaining-full-gpu-bf16"):  # fmt: skip
        store.add(Record(run_id, "bench", {}, environment, {}), committed=True)
    assert speed.find(store) is None and explaining.find(store) is None
    for run_id in ("bench/speed-full-gpu-bf16", "bench/explaining-full-gpu-fp32"):
        store.add(Record(run_id, "bench", {}, environment, {}), committed=True)
    assert speed.find(store).run_id == "bench/speed-full-gpu-bf16"
    assert explaining.find(store).run_id == "bench/explaining-full-gpu-fp32"


def test_tables_show_records_of_gpus_and_count_the_papers_bars(tiny_recipe, store, monkeypatch):
    tiny_recipe = replace(tiny_recipe, name="digits/nest_narrow")  # a command names its recipe
    entries = [Entry(1, "benches", bench="speed"), Entry(2, "a run", tiny_recipe)]
    table = plan_table(entries, store)
    assert table.columns == ("Item", "Command", "Minutes") and "0 of 2" in table.caption
    environment = {"device_kind": "cuda", "device": "a GPU", "data": {}, "finished": "2026"}
    store.add(Record(tiny_recipe.run_id, "train", {}, environment, {}), committed=True)
    table = plan_table(entries, store)
    assert [row[-1] for row in table.rows] == ["", f"{tiny_recipe.run_id} (a GPU)"]
    assert table.columns[-1] == "Record" and "1 of 2" in table.caption
    assert [row[3] for row in items_table(entries, store).rows] == ["0 of 1", "1 of 1"]
    found = find_coverage(store)
    assert {"table1, cifar10", "table2", "figure_a1", "figure7"} <= set(found)
    assert coverage_table({"x": {"a": [1], "b": []}}).rows == [("x", "2", "1")]
    titles = [row[0] for row in coverage_table(found).rows]
    assert {"Table 1, CIFAR-10", "Table 2", "Figure A1", "Figure 7"} <= set(titles)


def test_the_page_says_what_a_session_decides_until_a_record_does(store):
    entries = list_entries()
    headline, following = (get_recipe(name) for name in (HEADLINE, "cifar10/nest_tiny"))
    point, table = make_plan_point(entries, store), session_table(store)
    assert f"So far 0 of the plan's {len(entries)} runs" in point.sentence
    assert "12 minutes, is to decide whether NesT here" in point.sentence
    assert f"the paper's {FIGURE6_NEST3_TINY[0]} % on CIFAR-10" in point.sentence
    assert [row[0] for row in table.rows] == ["1", "1", "1", "2"] and HEADLINE in str(table)
    environment = {"device_kind": "cuda", "device": "a GPU", "data": {}, "finished": "2026"}
    store.add(Record(headline.run_id, "train", {}, environment, {}), committed=True)
    store.add(Record("bench/speed-session-gpu-bf16", "bench", {}, environment, {}), committed=True)
    point, table = make_plan_point(entries, store), session_table(store)
    assert "is to decide what" in point.sentence and following.name in point.sentence
    assert "times NesT here" not in str(table)


# Is each entry one that the machine would take?


def test_every_entry_would_be_taken_by_a_gpu(store):
    """Those too that are left out because they take too long."""
    everything = sorted([*list_entries(), *list_left_out()], key=lambda entry: entry.item)
    assert len(everything) > 130 and check_entries(everything, "cuda", store) == []


def test_every_command_makes_its_own_entry():
    for entry in list_entries():
        asked = parse_command(entry.command)
        assert asked["device"] == "cuda" and asked["commit_record"] is True
        if entry.recipe:
            named = get_recipe(asked["recipe"], seed=asked["seed"])
            assert with_overrides(named, asked["set_"]) == entry.recipe
            for each in asked["set_"]:  # none says nothing
                rest = [other for other in asked["set_"] if other != each]
                assert with_overrides(named, rest).run_id != entry.recipe.run_id
        else:
            assert (asked["name"], asked["precision"]) == (entry.bench, entry.precision)
            assert asked.get("form", "full") == "full"


def test_overrides_are_the_fewest_and_hold_options_augmentation_and_lessons():
    teacher = get_recipe("cifar10/pyramid164_48").run_id
    base = get_recipe(HEADLINE)
    recipe = replace(
        base, epochs=60, model_options={**base.model_options, "num_heads": 6},
        augmentation=replace(base.augmentation, flip=0.0), distillation=soft(teacher), seed=2,
    )  # fmt: skip
    assert list_overrides(base) == []
    found = list_overrides(recipe)
    assert sorted(found) == sorted([
        "epochs=60", "model_options.num_heads=6", "augmentation.flip=0.0",
        f"distillation.teacher={teacher}", "distillation.kind=soft", "distillation.weight=0.1",
        "distillation.temperature=3.0",
    ])  # fmt: skip
    assert with_overrides(get_recipe(HEADLINE, seed=2), found) == recipe
    words = Entry(1, "", recipe).command.split()
    assert words[-5:] == ["--seed", "2", "--device", "cuda", "--commit-record"]


def test_a_profile_in_a_precision_that_it_refuses_is_found_before(store, monkeypatch):
    """The plan once asked for this one in bf16, and could never be finished."""
    monkeypatch.setattr(Entry, "precision", "bf16")
    faults = check_entries([Entry(1, "", bench="explaining")], store=store)
    assert faults == [
        "bench/explaining: explaining is measured in fp32, not bf16; give --precision fp32"
    ]


def test_faults_of_entries_are_found_and_named(store, monkeypatch):
    student = get_recipe("cifar10/nest_tiny", epochs=30)
    teacher = get_recipe("cifar10/pyramid164_48")
    taught = Entry(2, "", replace(student, distillation=hard(teacher.run_id)))
    others = get_recipe("cifar100/pyramid164_48")
    elsewhere = Entry(2, "", replace(student, distillation=hard(others.run_id)))
    monkeypatch.setattr(run_plan, "PROFILES", (*run_plan.PROFILES, "products"))
    monkeypatch.setattr("nestbook.run_plan.checks.PROFILES", run_plan.PROFILES)
    named = get_recipe("cifar10/nest_tiny_s2_depth3")
    plain = Entry(1, "", replace(named, model_options={}))  # no --set takes an option away
    for entries, message in (
        ([taught], "has no record and is not an earlier entry"),
        ([Entry(1, "", others), elsewhere], "it has 10 classes and its teacher .* has 100"),
        ([Entry(1, "", bench="products")], "products is measured only on the CPU"),
        ([Entry(1, "", bench="table9")], "no bench 'table9'"),
        ([plain], f"its command makes run {named.run_id}, not {plain.name}"),
    ):
        (fault,) = check_entries(entries, "cuda", store)
        assert re.match(f"{entries[-1].name}: .*{message}", fault)
    assert check_entries([Entry(1, "", teacher), taught], "cuda", store) == []
    store.add(Record(teacher.run_id, "train", {}, {}, {}))
    assert check_entries([taught], "cuda", store) == []


def test_commands_that_nest_does_not_take_are_named():
    with pytest.raises(ValueError, match=r"not a command; `nest` has .*train"):
        parse_command("nest trane cifar10/nest_tiny")
    with pytest.raises(ValueError, match=r"is not taken: .*--epoch"):
        parse_command("nest train cifar10/nest_tiny --epoch 3")


@pytest.mark.parametrize(
    "sizes", ["ROOFLINE_BATCH", "GROWTH_BATCHES", "ATTENTION_WORDS", "INPUT_BATCH"]
)
def test_profiles_have_sizes_for_both_devices(sizes):
    assert set(getattr(registry, sizes)) == {"cpu", "cuda"}


# One entry of each kind, carried out on the CPU


FAMILIES = ("nest", "deit", "pvt", "swin", "cct", "wrn", "pyramid", "resnet")
GENERATORS = ("nest_decoder", "transgan", "sagan_convnet")
KINDS = (*FAMILIES, *GENERATORS, *run_plan.BENCHES, *run_plan.PROFILES)
CLASSES = {"cifar10": 10, "tiny_imagenet": 100}


def _kind(entry):
    if entry.recipe is None:
        return entry.bench
    recipe = entry.recipe
    return getattr(recipe, "generator", None) or recipe.model.split("_")[0].rstrip("0123456789")


@cache
def _first_of_each_kind():
    return {_kind(entry): entry for entry in reversed(list_entries())}


def test_kinds_are_those_of_the_plan():
    assert set(_first_of_each_kind()) == set(KINDS)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    """CIFAR-10 and Tiny ImageNet-100 in small: an image a class of each split."""
    root, draws = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for dataset, size, splits in (
        ("cifar10", 32, ("train", "test")), ("tiny_imagenet", 64, ("train", "val"))
    ):  # fmt: skip
        for split in splits:
            for number in range(CLASSES[dataset]):
                path = root / dataset / split / f"c{number:03}" / f"c{number:03}_0.png"
                path.parent.mkdir(parents=True)
                Image.fromarray(draws.integers(0, 256, (size, size, 3), np.uint8)).save(path)
    return root


@pytest.fixture
def in_small(monkeypatch):
    """Benches of one row, and profiles of one round."""
    monkeypatch.setitem(rates.MATMUL_SIZES, "cpu", 128)
    monkeypatch.setitem(rates.COPY_BYTES, "cpu", 2**20)
    monkeypatch.setattr(rates, "RATE_SECONDS", 0.0)
    for forms in (bench.FORMS, bench.SPEED_FORMS):
        monkeypatch.setitem(forms, "full", bench.FORMS["smoke"])
    brief = {"rounds": 1, "seconds_per_round": 0.0}
    for name, value in {
        "INPUT_BATCH": {"cpu": 2}, "input_rates": partial(input_rates, **brief),
        "ATTENTION_WORDS": {"cpu": 392}, "attention_choices": partial(attention_choices, **brief),
        "ROOFLINE_BATCH": {"cpu": 1}, "roofline": partial(roofline, rounds=1, warmup=0),
        "GROWTH_BATCHES": {"cpu": (1, 2)},
        "growth": lambda series, **how: growth(series[:1], **how | {"rounds": 1}),
        "EXPLAINED": ("nest_tiny_cifar",), "EXPLAINED_IMAGES": 2,
    }.items():  # fmt: skip
        monkeypatch.setattr(registry, name, value)


def _shrink(recipe):
    """A step or two of it, otherwise as planned."""
    if isinstance(recipe, GanRecipe):
        small = dict(steps=1, batch_size=2, num_samples=2, train_limit=2)
        return replace(recipe, **GanRecipe.SMOKE | small)
    return replace(recipe, **Recipe.SMOKE | dict(batch_size=4, train_limit=4, test_limit=4))


def _carry_out(entry, store, data_root, runs_dir):
    data_dir = data_root / entry.recipe.dataset if entry.recipe else None
    return run_plan._carry_out(entry, store, data_dir, runs_dir, 600, "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_of_each_kind_runs(kind, store, data_root, tmp_path, in_small):
    entry = _first_of_each_kind()[kind]
    if entry.recipe:
        entry = replace(entry, recipe=_shrink(entry.recipe))
    record = _carry_out(entry, store, data_root, tmp_path / "runs")
    assert (store.committed / f"{record.run_id}.json").is_file()
    if entry.recipe:
        assert record.run_id == entry.name and record.recipe["precision"] == "bf16"
    elif kind in run_plan.BENCHES:
        assert not any("error" in row for row in record.summary.values())
    else:
        assert record.recipe["precision"] == entry.precision


@pytest.mark.slow
def test_a_distilled_entry_runs_behind_its_teacher(store, data_root, tmp_path):
    teacher = _shrink(get_recipe("cifar10/pyramid164_48"))
    student = _shrink(get_recipe(HEADLINE, distillation=hard(teacher.run_id)))
    for recipe in (teacher, student):
        record = _carry_out(Entry(1, "", recipe), store, data_root, tmp_path / "runs")
    assert record.environment["teacher"]["run_id"] == teacher.run_id
