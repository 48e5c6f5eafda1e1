from dataclasses import replace
from functools import partial

import pytest
import timm
import torch

from nestbook.benchmarks import bench
from nestbook.benchmarks.bench import bench_id, choose_rows, find_or_run_bench, run_bench
from nestbook.benchmarks.rates import MATMUL_SIZES
from nestbook.benchmarks.rivals import MODELS, RIVALS, Model, Rival, measure_differences
from nestbook.recipes.rows import FIGURE7_GENERATORS, TABLES
from nestbook.report.speed import MIN_ROUNDS, TARGETS
from nestlib.metrics.cost import count_gflops, count_params
from nestlib.models import create_generator
from nestlib.models.stochastic_depth import StochasticDepth


@pytest.fixture(autouse=True)
def _small_product(monkeypatch):
    monkeypatch.setitem(MATMUL_SIZES, "cpu", 128)


def test_bench_of_other_rows_or_torch_is_made_again(store, monkeypatch):
    made = find_or_run_bench("table1", store, "smoke", device="cpu")
    rows = dict.fromkeys(choose_rows("table1", "light"), made.summary["NesT-T"])
    light = bench_id("table1", "light", torch.device("cpu"), "fp32")
    monkeypatch.setattr("nestbook.benchmarks.bench.run_bench", lambda *_, **__: "again")
    for summary, settings in (
        (made.summary, made.recipe),
        (rows, made.recipe | {"torch": "1.0"}),
        (rows, made.recipe | {"threads": 99}),
    ):
        store.add(replace(made, run_id=light, summary=summary, recipe=settings))
        assert find_or_run_bench("table1", store, "quick", device="cpu") == "again"


def test_a_committed_bench_of_such_a_machine_serves_if_asked(store, monkeypatch):
    made = find_or_run_bench("table1", store, "smoke", device="cpu")
    monkeypatch.setattr("nestbook.benchmarks.bench.run_bench", lambda *_, **__: "again")
    rows = dict.fromkeys(choose_rows("table1", "full"), made.summary["NesT-T"])
    full = replace(made, run_id="bench/table1-full-x", summary=rows)
    store.add(full, committed=True)

    def find(**how):
        return find_or_run_bench("table1", store, "quick", device="cpu", **how)

    assert find() == "again" and find(unless_committed=True) is None
    for other in (
        replace(full, environment=made.environment | {"device": "another"}),
        replace(full, recipe=made.recipe | {"torch": "1.0"}),
        replace(full, recipe=made.recipe | {"precision": "bf16"}),
        replace(full, summary=made.summary),
    ):
        store.add(other, committed=True)
        assert find(unless_committed=True) == "again"


def test_bench_leaves_a_record_that_is_found_again(store, monkeypatch):
    record = find_or_run_bench("table1", store, "smoke", device="cpu")
    assert record.kind == "bench" and list(record.summary) == ["NesT-T"]
    row = record.summary["NesT-T"]
    assert row["images_per_second"]["forward"]["median"] > 0
    assert row["images_per_second"]["train"]["median"] > 0
    assert record.recipe["budget"] == "smoke" and record.environment["device_kind"] == "cpu"
    monkeypatch.setattr(bench, "bench", lambda *_, **__: pytest.fail("timed again"))
    light = bench_id("table1", "light", torch.device("cpu"), "fp32")
    rows = dict.fromkeys(choose_rows("table1", "light"), row)
    store.add(replace(record, run_id=light, summary=rows))
    assert find_or_run_bench("table1", store, "quick", device="cpu").run_id == light
    assert store.find_benches("table1") == []  # nothing is committed unasked


@pytest.mark.parametrize("table", TABLES)
def test_full_and_quick_benches_hold_every_row(table):
    assert choose_rows(table, "full") == choose_rows(table, "quick") == list(TABLES[table])
    assert set(choose_rows(table, "light")) < set(TABLES[table])
    assert choose_rows(table, "smoke") == ["NesT-T"]


def test_bench_id_names_rows_device_and_precision():
    name = bench_id("table1", "full", torch.device("cpu"), "bf16")
    assert name.startswith("bench/table1-full-") and name.endswith("-bf16")


@pytest.mark.parametrize(
    ("table", "form", "message"),
    [("table9", "full", "no bench 'table9'; .* valid: table1, table2, small, figure7, speed"),
     ("table1", "all", "no form of a bench 'all'; .*valid: full, quick, light, smoke")],
)  # fmt: skip
def test_unknown_benches_are_refused(store, table, form, message):
    with pytest.raises(ValueError, match=message):
        run_bench(table, store, form=form, device="cpu")


def test_generators_are_timed_on_noise_and_never_trained(store, monkeypatch):
    """Narrow ones in their place: the 64x64 models take seconds a pass."""
    narrow = partial(create_generator, "nest_decoder", img_size=16, embed_dim=16, latent_dim=8)

    class Narrow:
        image_size, build_generator = 16, staticmethod(narrow)

    monkeypatch.setattr(bench, "get_recipe", lambda name: Narrow)
    record = find_or_run_bench("figure7", store, "smoke", device="cpu")
    row = record.summary["NesT"]
    assert set(row["images_per_second"]) == {"forward"} and "error" not in row
    assert row["params"] == count_params(narrow()) and row["images_per_second"]["forward"]["median"]
    assert choose_rows("figure7", "light") == list(FIGURE7_GENERATORS)


def test_a_generators_multiply_adds_are_those_of_an_image():
    """By hand: the linear layer, a layer on 64 tokens, and the Conv1x1."""
    model = create_generator("nest_decoder", img_size=8, embed_dim=16, depths=[1], latent_dim=4)
    layer = 64 * 16 * 16 * (3 + 1 + 4 + 4) + 2 * 64 * 64 * 16
    assert count_gflops(model, 8) == pytest.approx((4 * 1024 + layer + 64 * 16 * 3) / 1e9)


PAIRS = [name for name, model in MODELS.items() if set(model.builders) == {"nestlib", "timm"}]
CPU = torch.device("cpu")


def test_speed_bench_leaves_a_record_that_is_found_again(store, monkeypatch):
    ours, theirs = MODELS["nest_tiny_cifar"].builders.values()
    narrow = Model(32, {
        "nestlib": partial(ours, embed_dim=24), "timm": partial(theirs, embed_dims=24),
    })  # fmt: skip
    monkeypatch.setitem(MODELS, "nest_tiny_cifar", narrow)
    record = find_or_run_bench("speed", store, "smoke", "cpu")
    (row,) = record.summary.values()
    assert row["name"] == "nestlib nest_tiny_cifar" and row["batch_size"] == 2
    assert row["images_per_second"]["train"]["median"] > 0 and row["compile"] is False
    assert record.run_id.startswith("bench/speed-smoke-") and record.run_id.endswith("-fp32")
    assert record.recipe["matmul_tflops"]["median"] > 0
    assert list(record.recipe["logit_differences"]) == ["nest_tiny_cifar"]
    monkeypatch.setattr(bench, "bench", lambda *_, **__: pytest.fail("timed again"))
    light = bench_id("speed", "light", CPU, "bf16")
    rows = bench._rows_on(CPU, "speed", "light", "bf16")
    store.add(replace(record, run_id=light, summary=dict.fromkeys(rows, row)))
    assert find_or_run_bench("speed", store, "quick", "cpu", "bf16").run_id == light


@pytest.mark.parametrize(
    ("device", "form", "precision", "compiled", "others"),
    [
        ("cpu", "full", "bf16", 6, 2),
        ("cpu", "quick", "bf16", 0, 2),
        ("cpu", "quick", "fp32", 0, 0),
        ("cuda", "full", "bf16", 6, 0),
        ("cuda", "quick", "bf16", 6, 0),
    ],
)
def test_rivals_of_the_speed_bench(
    store, monkeypatch, device, form, precision, compiled, others
):  # fmt: skip
    """Compiled ones on a GPU, and on a CPU in the full form; fp32 beside bf16 on a CPU."""
    seen = []

    def fake(contenders, **_):
        seen.extend(contenders)
        return {"settings": {}, "rows": []}

    monkeypatch.setattr(bench, "bench", fake)
    monkeypatch.setattr(bench, "measure_differences", lambda *_: {})
    monkeypatch.setattr(bench, "resolve_device", lambda _: torch.device(device))
    monkeypatch.setattr(bench, "resolve_precision", lambda name, _: name)
    monkeypatch.setattr(bench, "describe_environment", lambda _: {})
    monkeypatch.setattr(bench, "device_name", lambda _: device)
    run_bench("speed", store, form=form, precision=precision)
    assert len([c for c in seen if not c.compile and c.precision is None]) == 8
    assert len([c for c in seen if c.compile]) == compiled
    assert [c.name for c in seen if c.precision] == [
        "timm nest_tiny fp32", "timm nest_tiny_cifar fp32"
    ][:others]  # fmt: skip
    assert {c.image_size for c in seen} == {224, 32}


def test_forms_of_the_speed_bench():
    """Every verdict needs five rounds."""
    assert choose_rows("speed", "full") == choose_rows("speed", "quick") == list(RIVALS)
    light = {RIVALS[name].model for name in choose_rows("speed", "light")}
    assert light == set(PAIRS) == {"nest_tiny", "nest_tiny_cifar"}
    for form in ("full", "quick", "light", "session"):
        how = bench.SPEED_FORMS[form]
        assert how.rounds >= MIN_ROUNDS and how.time_limit_s is None
    assert bench.SPEED_FORMS.keys() == {*bench.FORMS, "session"}
    with pytest.raises(ValueError, match="no form of a bench 'session'"):
        bench.check_bench("table1", "session", "bf16", "cuda")


def test_a_session_times_ours_timms_and_a_yardstick_eager_and_compiled():
    """Forward alone, which decides the targets of nestbook.report.speed for a GPU."""
    rows = [RIVALS[contender.name] for contender in bench.check_bench(
        "speed", "session", "bf16", "cuda"
    )]  # fmt: skip
    assert {rival.name for rival in rows} == set(bench.SESSION_ROWS["cuda"])
    targets = [
        target for target in TARGETS if (target.device_kind, target.precision) == ("cuda", "bf16")
    ]
    needed = {name for target in targets for name in (target.contender, target.against)}
    assert needed and needed <= {rival.name for rival in rows}


@pytest.mark.parametrize("model", PAIRS)
def test_rivals_are_one_function_of_equal_work(model):
    assert 0 < measure_differences([model], CPU)[model] < 1e-5
    counts = []
    for library in ("nestlib", "timm"):
        with torch.device("meta"):
            sketch = Rival(model, library).build()
        size = MODELS[model].image_size
        counts.append((count_params(sketch), count_gflops(sketch, size)))
    assert counts[0] == pytest.approx(counts[1], rel=1e-9)


@pytest.mark.parametrize(
    ("model", "library"), [(name, library) for name in MODELS for library in MODELS[name].builders]
)
def test_no_rival_drops_branches(model, library):
    """timm's nest_* would at 0.5, its swin_* at 0.1, also for drop_path_rate=None."""
    with torch.device("meta"):
        rival = Rival(model, library).build()
        stock = timm.create_model("nest_tiny_jx", drop_path_rate=None)
    assert [p for p in map(drop_path_of, rival.modules()) if p] == []
    assert max(map(drop_path_of, stock.modules())) == 0.5


@pytest.mark.parametrize("table", ["table1", "table2", "small"])
def test_rows_of_a_table_are_timed_at_the_rates_of_their_recipes(table):
    rows = bench.check_bench(table, "light", "fp32", "cpu")
    found = {}
    for row in rows:
        with torch.device("meta"):
            found[row.name] = max(map(drop_path_of, row.build().modules()))
    expected = {
        "table1": {"Pyramid-164-48": 0, "WRN28-10": 0} | dict.fromkeys(
            ("DeiT-T", "PVT-T", "CCT-7/3x1", "Swin-T", "NesT-T"), 0.1
        ),
        "table2": {"ResNet-50": 0, "DeiT-S": 0.1, "Swin-T": 0.2, "NesT-T": 0.2},
        "small": dict.fromkeys(found, 0),
    }[table]  # fmt: skip
    assert found == pytest.approx(expected)


def drop_path_of(module) -> float:
    """The rate at which a module drops branches, of whichever library it is."""
    return module.p if isinstance(module, StochasticDepth) else getattr(module, "drop_prob", 0.0)


def test_a_yardstick_has_nothing_to_be_compared_with():
    assert measure_differences(["deit_small", "swin_tiny"], CPU) == {}


def test_rivals_of_other_outputs_are_refused_before_anything_is_timed(store, monkeypatch):
    model = MODELS["nest_tiny_cifar"]
    timm = model.builders["timm"]
    other = replace(model, builders=model.builders | {"timm": partial(timm, pad_type="")})
    monkeypatch.setitem(MODELS, "nest_tiny_cifar", other)
    monkeypatch.setattr(bench, "bench", lambda *_, **__: pytest.fail("timed"))
    names = "logits of nestlib nest_tiny_cifar and timm nest_tiny_cifar differ by 0.0"
    with pytest.raises(ValueError, match=f"{names}.* not one function"):
        run_bench("speed", store, form="smoke", device="cpu")
    assert not store.local.exists()


def test_building_a_rival_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    first, second = (RIVALS["timm nest_tiny_cifar"].build().head.weight for _ in range(2))
    assert torch.equal(first, second) and torch.equal(before, torch.get_rng_state())
