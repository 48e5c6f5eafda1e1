"""Budget small: what its bars have in common, where its learning rates come from, its order."""

import pytest
import torch

from nestbook.recipes.narrow import SMALL_IMAGES_SEEN, SMALL_SUBSET, small_schedule
from nestbook.recipes.rows import TABLE1
from nestbook.sweeps import forecast, small
from nestbook.sweeps.cost import count_images_seen
from nestbook.sweeps.plans import RATES, SWEEPS, plan, small_seeds
from nestbook.sweeps.runner import Outcome
from nestbook.sweeps.small import ORDER, find_rates, find_unsettled, runs_by_line
from nestlib.metrics.cost import count_params
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import to_dict
from nestlib.records import Record, Store, device_name, open_store

FAMILIES = {row: entry.small for row, entry in TABLE1.items() if entry.small}
OTHERWISE = {"precision", "figure7"}  # sweeps that do not belong to budget small


def add(store, recipe, seconds=600.0, threads=1, device="", **summary):
    """A made-up record, of this test alone."""
    device = device or device_name(torch.device("cpu"))
    environment = {"device": device, "threads": threads, "data": {}}
    summary = {"train_seconds": seconds, **summary}
    store.add(Record(recipe.run_id, "train", to_dict(recipe), environment, summary))


def bars_of(name):
    return plan(name, "small", [0, 1, 2])


@pytest.fixture(scope="module")
def all_runs():
    return [recipe for runs in runs_by_line().values() for recipe in runs]


def test_seven_families_are_of_equal_size():
    sizes = {}
    for row, name in FAMILIES.items():
        with torch.device("meta"):
            sizes[row] = count_params(get_recipe(name).build_model(10))
    assert len(sizes) == 7
    assert all(300_000 <= size <= 400_000 for size in sizes.values())
    ours = sizes["NesT-T"]
    assert all(abs(size - ours) < 0.07 * ours for size in sizes.values()), sizes


# What runs have in common


def test_runs_see_equally_many_images_of_one_subset_but_where_that_is_asked(all_runs):
    narrow = [recipe for recipe in all_runs if recipe.name.startswith("small/")]
    assert {recipe.dataset for recipe in all_runs} == {"cifar10"}
    assert {recipe.precision for recipe in all_runs} == {"bf16"}
    assert {recipe.budget for recipe in all_runs} == {"small"}
    for recipe in narrow:
        assert recipe.warmup_epochs == pytest.approx(0.05 * recipe.epochs)
        assert recipe.epochs / recipe.evaluate_every in (5, 6)
    asked = {
        recipe.run_id for name in ("figure4", "training_images") for row in bars_of(name).values()
        for recipe in row
    }  # fmt: skip
    usual = [recipe for recipe in narrow if recipe.run_id not in asked]
    assert {recipe.train_subset for recipe in usual} == {SMALL_SUBSET}
    assert {count_images_seen(recipe) for recipe in usual} == {SMALL_IMAGES_SEEN}


def test_bars_of_a_figure_have_the_same_seeds_images_and_schedule():
    for name in set(SWEEPS) - OTHERWISE - {"figure4", "flagship"}:
        bars = bars_of(name)
        assert {tuple(recipe.seed for recipe in row) for row in bars.values()} == {(0, 1, 2)}
        assert {count_images_seen(r) for row in bars.values() for r in row} == {SMALL_IMAGES_SEEN}
        if name != "training_images":
            assert len({r.train_subset for row in bars.values() for r in row}) == 1
    for (panel, _, step), (recipe, *_) in bars_of("figure4").items():
        epochs = int(step) if panel == "epochs" else SMALL_IMAGES_SEEN // SMALL_SUBSET
        assert (recipe.train_subset, recipe.epochs) == (SMALL_SUBSET, epochs)
    for (_, number), (recipe, *_) in bars_of("training_images").items():
        assert recipe.train_subset == int(number.replace(",", ""))


def test_what_a_bar_changes_is_what_it_is_named_for():
    """Models apart, bars of one family differ in nothing else, but the optimizer of convnets."""
    base = to_dict(get_recipe("small/nest_narrow"))
    for name in ("figure5", "figure6", "figure_a1", "table_a3"):
        for recipe, *_ in bars_of(name).values():
            other = to_dict(recipe)
            assert {key for key in base if base[key] != other[key]} <= {"model_options"}
    own = {"name", "model", "model_options", "lr_per_256"}
    for (_, row), (recipe, *_) in bars_of("table1").items():
        other = to_dict(recipe)
        convnet = {"optimizer", "weight_decay", "clip_grad_norm"}
        allowed = own | (convnet if row in ("Pyramid-164-48", "WRN28-10") else set())
        assert {key for key in base if base[key] != other[key]} <= allowed


@pytest.mark.parametrize("subset", [1_000, 2_500, 10_000, 50_000])
def test_every_subset_sees_the_same_number_of_images(subset):
    recipe = get_recipe("small/nest_narrow", **small_schedule(subset))
    assert recipe.train_subset == subset
    assert count_images_seen(recipe) == SMALL_IMAGES_SEEN


def test_a_subset_that_gives_no_whole_epochs_is_refused():
    with pytest.raises(ValueError, match="not a whole number of epochs of 7000"):
        small_schedule(7_000)


def test_sweeps_without_small_runs_say_so():
    with pytest.raises(ValueError, match="figure7 has no runs at budget small"):
        plan("figure7", "small")
    with pytest.raises(ValueError, match="training_images has no runs at budget gpu"):
        plan("training_images", "gpu")


# Learning rates


def test_learning_rates_are_judged_on_held_out_images_alone():
    runs = plan("learning_rates", "small", [0])
    assert {row for row, _ in runs} == set(FAMILIES)
    for (row, rate), (recipe,) in runs.items():
        final = get_recipe(FAMILIES[row])
        assert recipe.held_out == 5_000 and recipe.train_subset == SMALL_SUBSET
        assert recipe.lr_per_256 == float(rate) and float(rate) in RATES[final.optimizer]
        assert final.lr_per_256 in RATES[final.optimizer]
        assert final.held_out is None


def test_rates_come_from_the_records_of_held_out_images():
    """Of the committed records; a family whose three runs are not all there is not asked."""
    store = open_store()
    for row, rates in find_rates(Store(store.committed, None)).items():
        assert rates.chosen == rates.best, row


def record_rates(store, best):
    for (row, rate), (recipe,) in plan("learning_rates", "small", [0]).items():
        top1 = 60.0 if float(rate) == best.get(row, get_recipe(FAMILIES[row]).lr_per_256) else 50.0
        add(store, recipe, **{"held_out/top1": top1})


def test_a_recipe_with_another_rate_than_the_best_is_named(store):
    assert find_rates(store) == {}
    assert set(find_unsettled(store)) == set(FAMILIES.values())
    record_rates(store, {})
    assert find_unsettled(store) == {}
    chosen = get_recipe("small/wrn_narrow").lr_per_256
    other = next(rate for rate in RATES["sgd"] if rate != chosen)
    record_rates(store, {"WRN28-10": other})
    assert find_unsettled(store) == {
        "small/wrn_narrow": f"small/wrn_narrow has lr_per_256={chosen:g} (50.00 % of the held-out "
        f"images), but {other:g} is better (60.00 %); set it in nestbook/recipes/narrow.py"
    }


# The order


def test_the_order_holds_every_sweep_once_and_begins_with_the_rates():
    lines = runs_by_line()
    assert list(lines) == list(ORDER) and ORDER[0].sweep == "learning_rates"
    assert {line.sweep for line in ORDER} == set(SWEEPS) - OTHERWISE
    ids = [recipe.run_id for runs in lines.values() for recipe in runs]
    assert len(ids) == len(set(ids))
    assert all(recipe.held_out for recipe in lines[ORDER[0]])
    assert not any(recipe.held_out for line in ORDER[1:] for recipe in lines[line])
    for line, runs in lines.items():
        assert max(recipe.seed for recipe in runs) == line.seeds - 1
        seeds = [recipe.seed for recipe in runs]
        assert seeds == sorted(seeds)  # a stopped sweep leaves every bar with as many


def test_every_bar_of_a_figure_has_the_seeds_that_its_lines_ask_for():
    """Counted over all lines; the bars at S = 1 and those of figure A1 alone have two."""
    ids = {recipe.run_id for runs in runs_by_line().values() for recipe in runs}
    for name in set(SWEEPS) - OTHERWISE - {"learning_rates", "flagship"}:
        bars = plan(name, "small", small_seeds(name))
        counts = {key: sum(r.run_id in ids for r in row) for key, row in bars.items()}
        asked = {"figure6": {2, 5}, "figure_a1": {2, 3}}.get(name, {len(small_seeds(name))})
        assert set(counts.values()) == asked, name


def test_what_has_not_its_best_rate_is_not_begun(store, monkeypatch):
    swept = []

    def sweep(bars, store, **how):
        recipes = [recipe for row in bars.values() for recipe in row]
        swept.append((recipes, how))
        return [Outcome(recipe.run_id, state) for recipe in recipes]

    monkeypatch.setattr(small, "sweep", sweep)
    state = "stopped"
    small.sweep_small(store, processes=2)
    assert len(swept) == 1 and all(recipe.held_out for recipe in swept[0][0])
    # One family lacks its best rate: its runs, and those that it teaches, wait; the others go on.
    state, rates = "done", RATES["sgd"]
    chosen = get_recipe("small/pyramid_narrow").lr_per_256
    record_rates(store, {"Pyramid-164-48": next(rate for rate in rates if rate != chosen)})
    swept.clear()
    outcomes = small.sweep_small(store, processes=2)
    (_, (rest, how)) = swept
    assert how == {"processes": 2, "in_order": True}
    begun = {recipe.run_id for recipe in rest}
    runs = [recipe for line in ORDER[1:] for recipe in runs_by_line()[line]]
    waiting = {r.run_id for r in runs if r.name == "small/pyramid_narrow" or r.distillation}
    assert begun == {recipe.run_id for recipe in runs} - waiting and len(waiting) == 5 + 6
    failed = {o.run_id: o.text for o in outcomes if o.state == "failed"}
    assert set(failed) == waiting
    assert all("not started: small/pyramid_narrow has lr_per_256=" in t for t in failed.values())
    record_rates(store, {})
    swept.clear()
    small.sweep_small(store, processes=2)
    assert [recipe.run_id for recipe in swept[1][0]] == [recipe.run_id for recipe in runs]


# How long it takes


def test_hours_come_from_records_of_this_processor_else_from_timed_steps(store, monkeypatch):
    timed = []
    monkeypatch.setattr(forecast, "time_steps", lambda recipe: timed.append(recipe) or 0.25)
    one, other = get_recipe("small/nest_narrow"), get_recipe("small/deit_narrow")
    add(store, one, seconds=900.0)
    add(store, get_recipe("small/nest_narrow", seed=1), seconds=1000.0)
    add(store, get_recipe("small/nest_narrow", seed=2), seconds=5000.0, threads=2)
    add(store, other, seconds=10.0, device="Some other processor")
    flagship = get_recipe("cifar10/nest_flagship")
    add(store, flagship, seconds=7000.0)
    found = forecast.Forecast(store)
    assert found.seconds(one) == pytest.approx(950.0)
    # Another rate, subset or schedule is the same kind of step; another model is not.
    slower = get_recipe("small/nest_narrow", lr_per_256=1e-3, **small_schedule(1_000))
    assert found.seconds(slower) == pytest.approx(950.0)
    assert found.seconds(get_recipe("small/nest_narrow", **small_schedule(epochs=60))) == (
        pytest.approx(1900.0)
    )
    assert found.seconds(flagship) == pytest.approx(7000.0)
    assert timed == []
    assert found.seconds(other) == pytest.approx(0.25 * SMALL_IMAGES_SEEN / other.batch_size)
    assert found.seconds(other) and timed == [other]


def test_a_step_is_timed_as_a_run_takes_it(tiny_recipe):
    """With teacher and augmentation; the global generators are left as they are."""
    before = torch.get_rng_state()
    taught = plan("table_a2", "small", [0])["cifar10", "NesT", "PN", "standard", "hard"][0]
    assert forecast.time_steps(tiny_recipe) > 0
    assert taught.distillation and forecast.time_steps(taught) > 0
    assert torch.equal(torch.get_rng_state(), before)


def test_the_board_adds_up(store, tmp_path, monkeypatch):
    monkeypatch.setattr(forecast, "time_steps", lambda recipe: 0.36)
    record_rates(store, {})
    shown = small.show_small(store, tmp_path, 2).splitlines()
    rows = {line[:24].strip(): line[24:].split() for line in shown[1:-2]}
    assert [name for name in rows] == [line.name for line in ORDER]
    assert rows["learning_rates"] == ["21", "3.5", "0.0", "#" * 21]  # 600 s each, all there
    assert rows["figure5"][0] == str(len(rows["figure5"][3])) == "18"
    total = sum(float(row[1]) for row in rows.values())
    assert float(shown[-2].split()[1]) == pytest.approx(total, abs=0.05 * len(rows))
    left = float(shown[-2].split()[2])
    assert left == pytest.approx(total - 3.5, abs=0.05 * len(rows))
    assert f"2 parallel processes take {left / 2:.1f}"[:-1] in shown[-1]
