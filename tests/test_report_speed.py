"""Ratios to timm are those of the rounds; a target is met, missed or not measured."""

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from nestbook.benchmarks.rivals import MODELS, RIVALS
from nestbook.report.rivals import plot_all_rivals, plot_rivals
from nestbook.report.speed import (
    BEST,
    MATMUL,
    TARGETS,
    Target,
    judge,
    make_speed_point,
    ratios_table,
    reach,
    rivals_tables,
    say_speed,
    targets_table,
)
from nestbook.report.tables import HERE, NOT_RUN, Number
from nestlib.records import Record

SVG = "{http://www.w3.org/2000/svg}"
GFLOPS = {"nest_tiny": 5.0, "nest_tiny_cifar": 2.0, "deit_small": 4.0, "swin_tiny": 4.5}
ROUNDS = 5


def row(name, forward, train=None, **others):
    """Timed so fast in each round."""
    speeds = {"forward": forward, "train": train or forward}
    return {
        "name": name, "image_size": MODELS[RIVALS[name].model].image_size, "batch_size": 8,
        "gflops": GFLOPS[RIVALS[name].model],
        "paths": {"forward": {"memory_format": "channels_last", "fused_attention": None}}, **others,
        "images_per_second": {
            mode: {"median": sorted(r)[len(r) // 2] if r else None, "rounds": r}
            for mode, r in speeds.items()
        },
    }  # fmt: skip


def record_of(*rows, run_id="bench/speed-full-x-fp32", kind="cpu", precision="fp32", budget="full"):
    settings = {
        "threads": 2, "precision": precision, "torch": "2", "rounds_done": ROUNDS, "warmup": 1,
        "seconds_per_round": 1.0, "flop_counter": "counter", "budget": budget,
        "logit_differences": {"nest_tiny": 3e-7},
        "matmul_tflops": {"size": 2048, "median": 0.5, "rounds": [0.5] * ROUNDS},
    }  # fmt: skip
    environment = {"device": f"a {kind}", "device_kind": kind, "finished": "2026-11-24",
                   "packages": {"timm": "1"}}  # fmt: skip
    return Record(run_id, "bench", settings, environment, {r["name"]: r for r in rows})


def cell(table, name, column):
    place = table.columns.index(column) if isinstance(column, str) else column
    (found,) = [r for r in table.rows if r[0] == name]
    return found[place]


def table_of(record):
    (table,) = rivals_tables(record, [])
    return table


X_FORWARD, X_TRAINING = 6, 7  # columns; two others are called "training" as well

PAIR = (
    row("nestlib nest_tiny", [20.0, 30.0, 40.0, 36.0, 30.0], [8.0] * ROUNDS),
    row("timm nest_tiny", [10.0, 20.0, 20.0, 20.0, 20.0], [4.0, 5.0, 8.0, 8.0, 10.0]),
)


def test_ratios_to_timm_are_medians_of_the_rounds_own():
    table = table_of(record_of(*PAIR))
    # Round by round 2, 1.5, 2, 1.8 and 1.5 forward; 2, 1.6, 1, 1 and 0.8 in training.
    forward, train = (
        cell(table, "nestlib nest_tiny", column) for column in (X_FORWARD, X_TRAINING)
    )
    assert (forward.value, forward.spread, forward.n) == (1.8, 0.25, 5)
    assert (train.value, train.spread) == (1.0, 0.6)
    assert forward.source == HERE
    assert cell(table, "timm nest_tiny", X_FORWARD) == "1"


def test_tflops_and_share_of_the_matrix_product():
    table = table_of(record_of(*PAIR))
    # 2 x 5e9 x 30 operations a second are 0.3 TFLOP/s, 60 % of 0.5.
    assert cell(table, "nestlib nest_tiny", "TFLOP/s, forward").value == pytest.approx(0.3)
    share = cell(table, "nestlib nest_tiny", "% of a matrix product")
    assert share.value == pytest.approx(60) and share.spread == pytest.approx(20)


def test_every_run_stands_in_the_table_once_with_its_source_and_smoke_nowhere():
    here, other = record_of(*PAIR), record_of(*PAIR, run_id="bench/speed-full-y-bf16", kind="cuda")
    smoke = record_of(*PAIR, run_id="bench/speed-smoke-x-fp32", budget="smoke")
    tables = rivals_tables(here, [other, replace(here), smoke])
    assert len(tables) == 2 and "a cuda, fp32" in tables[1].caption
    for table, source in zip(tables, (HERE, other.run_id)):
        assert [r[0] for r in table.rows] == ["nestlib nest_tiny", "timm nest_tiny"]
        assert cell(table, "nestlib nest_tiny", 2).source == source
        details = " ".join(table.sources.details)
        assert "nest_tiny 3e-07" in details and "2048x2048" in details


def test_paths_are_named_for_each_step_where_they_differ():
    fused, plain = (
        {"memory_format": "channels_last", "fused_attention": fused} for fused in (True, False)
    )
    one = row("timm nest_tiny", [1.0], paths={"forward": fused, "train": fused})
    two = row("timm deit_small tuned", [1.0], paths={"forward": plain, "train": fused})
    note = table_of(record_of(one, two)).sources.details[-1]
    assert note.endswith(
        "channels last, fused attention (timm nest_tiny | timm deit_small tuned, training); "
        "channels last, plain attention (timm deit_small tuned, forward)"
    )


def test_what_failed_says_so_once_and_the_rest_stays():
    failed = row("timm swin_tiny tuned", [9.0] * ROUNDS, error="OutOfMemoryError: full")
    failed["images_per_second"]["train"] = {"median": None, "rounds": []}
    never = row("timm deit_small tuned", [], error="BackendCompilerFailed: no compiler")
    del never["paths"]
    table = table_of(record_of(*PAIR, failed, never))
    assert cell(table, "timm swin_tiny tuned", 2).value == 9
    (swin, deit) = [
        r for r in table.rows if r[0] in ("timm swin_tiny tuned", "timm deit_small tuned")
    ][::-1]
    assert swin.count("OutOfMemoryError: full") == 1 and swin[3] == "OutOfMemoryError: full"
    assert deit[2] == "BackendCompilerFailed: no compiler" and deit[3] == ""


def test_without_a_run_nothing_looks_like_a_number():
    assert rivals_tables(None, []) == []
    targets = targets_table(None, [])
    assert {r[-2:] for r in targets.rows} == {(NOT_RUN, "")} and len(targets.rows) == len(TARGETS)
    assert targets.sources is None
    picture = plot_rivals(None, [])
    assert picture.tooltips == {} and not any(axes.texts for axes in picture.figure.axes)
    point = make_speed_point(None, [])
    assert "Nothing has been timed" in point.sentence and len(point.chips) == 1


def test_the_sentence_has_both_factors_of_each_precision_and_of_a_gpu_alone_once_it_ran():
    tuned = row("timm nest_tiny tuned", [24.0] * ROUNDS, [16.0] * ROUNDS)
    runs = [record_of(*PAIR, tuned, run_id=p, precision=p) for p in ("bf16", "fp32")]
    sentence = say_speed(None, runs)
    assert "out of the box, a forward pass of NesT-T is 1.80 times as fast in fp32" in sentence
    assert "and 1.80 times in bf16 (a training step: 1.00 and 1.00)" in sentence
    slower = "(a training step: 0.50 and 0.50; below 1 is slower)"
    assert f"it is 1.25 and 1.25 times as fast {slower}" in sentence
    assert [c.text for c in make_speed_point(None, runs).chips] == [
        "measured: 5 rounds, a cpu, fp32", "measured: 5 rounds, a cpu, bf16", "GPU: not run",
    ]  # fmt: skip
    forward = [row(r["name"], r["images_per_second"]["forward"]["rounds"]) for r in PAIR]
    for one in forward:
        one["images_per_second"]["train"] = {"median": None, "rounds": []}
    gpu = record_of(*forward, run_id="gpu", kind="cuda", precision="bf16")
    sentence = say_speed(None, [*runs, gpu])
    assert sentence.startswith("On a cuda, ") and "training step" not in sentence
    assert "fastest form it is 1.80 times as fast." in sentence
    assert [c.text for c in make_speed_point(None, [gpu]).chips] == [
        "measured: 5 rounds, a cuda, bf16"
    ]


def test_targets_name_contenders_that_the_bench_has():
    for target in TARGETS:
        assert target.contender in RIVALS
        assert target.against.removesuffix(BEST) in (*RIVALS, MATMUL)


TARGET = Target("cpu", "fp32", "nestlib nest_tiny", "forward", "timm nest_tiny", 1.5)


@pytest.mark.parametrize(
    ("value", "n", "verdict"),
    [(1.5, 5, "met"), (1.499, 5, "missed"), (2.0, 4, "not measured: 4 of 5 rounds")],
)
def test_a_target_is_met_from_its_bound_on_and_in_five_rounds(value, n, verdict):
    assert judge(Number(value, "x", n=n), TARGET) == verdict
    assert judge(None, TARGET) == "not measured"


def test_a_yardstick_is_its_own_measure_and_tuned_is_held_against_as_it_comes():
    rows = [
        row("timm deit_small tuned", [50.0] * ROUNDS),
        row("timm nest_tiny tuned", [9.0] * ROUNDS),
    ]
    table = table_of(record_of(*PAIR, *rows))
    cells = {r[0]: r for r in table.rows}
    assert cells["timm deit_small tuned"][6] == "1"
    base = cells["timm nest_tiny"][2].value
    assert cells["timm nest_tiny tuned"][6].value == pytest.approx(9 / base, rel=0.01)


def test_targets_are_reached_in_their_own_unit():
    record = record_of(*PAIR, row("timm deit_small tuned", [50.0] * ROUNDS))
    assert reach(record, TARGET, "x").value == 1.8
    of_matmul = replace(TARGET, against=MATMUL, unit="TFLOP/s")
    assert reach(record, of_matmul, "x").value == pytest.approx(0.6)
    of_deit = replace(TARGET, against="timm deit_small tuned", unit="TFLOP/s")
    assert reach(record, of_deit, "x").value == pytest.approx(30 * 5 / (50 * 4))
    assert reach(record, replace(TARGET, against="timm swin_tiny tuned"), "x") is None


def test_the_short_form_holds_ours_against_timm_and_the_product():
    others = (
        row("timm nest_tiny tuned", [24.0] * ROUNDS),
        row("timm nest_tiny fp32", [5.0] * ROUNDS),
    )
    long = record_of(*PAIR, *others, run_id="long", precision="bf16")
    short = record_of(*PAIR, run_id="short", precision="bf16")
    table = ratios_table(None, [short, long, record_of(*PAIR, run_id="fp32")])
    assert [r[:3] for r in table.rows] == [
        (f"CPU, {precision}", "nest_tiny", step)
        for precision in ("bf16", "fp32") for step in ("forward", "training")
    ]  # fmt: skip
    as_it_comes, best, fp32, product = table.rows[0][3:]
    assert (as_it_comes.value, best.value, fp32.value) == (1.8, 1.25, 6.0)
    assert product.value == pytest.approx(0.6) and product.source == "long"
    assert table.rows[2][5] == ""  # no fp32 beside a run of fp32
    assert ratios_table(None, []).rows[0][0] == NOT_RUN


def test_at_its_best_is_the_fastest_of_a_models_forms_in_the_runs_precision():
    rows = [
        row("timm nest_tiny tuned", [12.0] * ROUNDS, [9.0] * ROUNDS),
        row("timm nest_tiny tuned compiled", [15.0] * ROUNDS, [2.0] * ROUNDS),
        row("timm nest_tiny fp32", [99.0] * ROUNDS),
        row("timm deit_small tuned", [99.0] * ROUNDS),
    ]
    slow = row("timm nest_tiny", [10.0] * ROUNDS, [4.0] * ROUNDS)
    record = record_of(PAIR[0], slow, *rows)
    best = replace(TARGET, against="timm nest_tiny at its best")
    assert reach(record, best, "x").value == 2.0  # 30 over the compiled form's 15
    assert reach(record, replace(best, mode="train"), "x").value == pytest.approx(8 / 9, rel=1e-2)
    alone = record_of(PAIR[0])
    assert reach(alone, best, "x") is None


def test_targets_take_runs_of_their_device_and_precision_with_enough_rounds():
    few = record_of(row("nestlib nest_tiny", [30.0]), row("timm nest_tiny", [10.0]), run_id="few")
    full = record_of(*PAIR, run_id="full")
    other = record_of(*PAIR, run_id="bf16", precision="bf16")
    gpu = record_of(*PAIR, run_id="gpu", kind="cuda")

    def first(*records):
        table = targets_table(records[0], records[1:])
        return next(r for r in table.rows if r[:4] == (
            "CPU, fp32", "nest_tiny", "forward", "timm nest_tiny"
        ))  # fmt: skip

    assert first(few, full)[-2:] == (Number(1.8, "full", 2, 5, 0.25), "missed")
    measured, verdict = first(few)[-2:]
    assert verdict == "not measured: 1 of 5 rounds" and measured.source == HERE
    more = record_of(*PAIR, row("timm nest_tiny tuned", [12.0] * ROUNDS), run_id="more")
    assert first(None, full, more)[-2].source == "more"
    assert first(other, gpu)[-2:] == (NOT_RUN, "")


def test_picture_draws_each_timed_contender_of_each_run_with_its_figures():
    never = row("timm deit_small tuned", [], error="BackendCompilerFailed: no compiler")
    cifar = [row(f"{library} nest_tiny_cifar", [50.0] * ROUNDS) for library in ("nestlib", "timm")]
    runs = record_of(*PAIR, never, *cifar), record_of(*PAIR, run_id="gpu", kind="cuda")
    shorter = record_of(*PAIR, run_id="of the same machine")
    picture = plot_all_rivals(shorter, runs)
    root = ElementTree.fromstring(picture.to_svg())
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert len(titles) == 2 * 4 + 2 * 2
    (text,) = [t for t in titles if t.startswith("nestlib nest_tiny, forward") and "gpu" in t]
    assert "1.80 ± 0.25 x the TFLOP/s of timm nest_tiny, n = 5 rounds" in text
    assert "30.0 ± 10.0 images/s at batch 8" in text
    errors = [t for axes in picture.figure.axes for t in axes.texts if "Failed" in t.get_text()]
    assert len(errors) == 2
    upper, lower = picture.figure.axes[0], picture.figure.axes[2]
    assert upper.get_position().y0 > lower.get_position().y1
    assert len(upper.get_yticks()) == 2  # a GPU stands above
    places = lower.get_yticks()
    assert places[3] - places[2] > places[1] - places[0]  # air between the input sizes


def test_the_pages_picture_has_nest_alone_as_it_runs_and_fp32_first():
    forms = ("timm nest_tiny tuned", "timm nest_tiny tuned compiled", "timm nest_tiny fp32",
             "timm deit_small tuned")  # fmt: skip
    others = [row(name, [9.0] * ROUNDS) for name in forms]
    runs = [record_of(*PAIR, *others, run_id=p, precision=p) for p in ("bf16", "fp32")]
    picture = plot_rivals(None, runs)
    upper, lower = picture.figure.axes[0], picture.figure.axes[2]
    labels = [label.get_text() for label in upper.get_yticklabels()]
    assert labels == [f"NesT-T at 224x224: {form}" for form in ("here", "timm", "timm tuned")]
    assert upper.get_title(loc="left") == "a cpu, fp32"
    assert lower.get_title(loc="left") == "a cpu, bf16"
