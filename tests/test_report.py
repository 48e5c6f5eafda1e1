"""Tables say where each number is from; what did not run says so."""

import html
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from markdown_it import MarkdownIt

from nestbook import paper
from nestbook.recipes.rows import TABLE1, TABLES
from nestbook.report import cost, overview, rows
from nestbook.report.cost import cost_table, cost_tables
from nestbook.report.overview import save_readme
from nestbook.report.rows import rows_table, say_rows, settings_table
from nestbook.report.table1 import (
    plot_table1,
    say_table1,
    splits_table,
    table1,
    table1_quick,
    table1_real,
)
from nestbook.report.table2 import plot_table2, say_table2, table2, table2_own, weights_table
from nestbook.report.table_a1 import say_table_a1, table_a1
from nestbook.report.tables import (
    HERE,
    NOT_RUN,
    PAPER,
    Link,
    Number,
    Table,
    mean_of,
    save,
    significant,
)
from nestlib.project import PROJECT, PUBLISH
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import to_dict
from nestlib.records import Record, Store, open_store

ENVIRONMENT = {"device": "a GPU", "device_kind": "cuda", "threads": 1, "finished": "2026-11-22"}


def train_record(name, seed, top1):
    recipe = get_recipe(name, seed=seed)
    summary = {"test/top1": top1, "num_params": 6_000_000, "train_seconds": 60.0}
    environment = ENVIRONMENT | {"data": {"test": {"images": 10_000}}}
    return Record(recipe.run_id, "train", to_dict(recipe), environment, summary)


def bench_record(run_id, budget="full"):
    row = {"name": "NesT-T", "params": 6_006_730, "gflops": 1.0, "memory_mb": 50.0,
           "memory_kind": "device peak", "batch_size": 8,
           "images_per_second": {"forward": {"median": 100.0, "rounds": [90.0, 100.0, 106.0]}},
           }  # fmt: skip
    settings = {"threads": 2, "precision": "fp32", "torch": "2", "rounds_done": 3, "warmup": 1,
                "flop_counter": "counter", "budget": budget}  # fmt: skip
    return Record(run_id, "bench", settings, ENVIRONMENT, {"NesT-T": row})


def with_row(record, name, forward, train=(), **others):
    """The record with one more row, timed so fast in each round."""
    speeds = {"forward": forward, "train": train}
    row = {
        "name": name, "batch_size": 8, "params": 10**6, "gflops": 1.0, "memory_mb": 1.0,
        "memory_kind": "device peak", **others,
        "images_per_second": {
            mode: {"median": float(np.median(rounds)) if rounds else None, "rounds": list(rounds)}
            for mode, rounds in speeds.items()
        },
    }  # fmt: skip
    return replace(record, summary=record.summary | {name: row})


def cell(table, row, column):
    (found,) = [r for r in table.rows if r[0] == row]
    return found[table.columns.index(column)]


def test_without_records_every_cell_of_ours_says_so(store):
    table = table1(store)
    assert [row[0] for row in table.rows] == list(paper.TABLE1)
    for row in table.rows:
        ours = [row[table.columns.index(c)] for c in table.columns if c.endswith(", here")]
        assert ours == [NOT_RUN, NOT_RUN]
    numbers = [c for row in table.rows for c in row if isinstance(c, Number)]
    assert {number.source for number in numbers} == {PAPER}


def test_records_show_mean_spread_n_and_ids(store):
    for seed, top1 in ((0, 95.0), (1, 96.0), (2, 97.0)):
        store.add(train_record("cifar10/nest_tiny", seed, top1))
    table = table1(store)
    shown = cell(table, "NesT-T", "C10, here")
    assert str(shown) == "96.00 ± 1.00" and shown.n == 3
    assert table.sources.line == "3 runs on a GPU, 10,000 test images"
    assert all(run_id in table.sources.details[0] for run_id in shown.source.split(", "))
    assert cell(table, "NesT-S", "C10, here") == NOT_RUN


def stale(record):
    """As where the code of its model has changed since."""
    return replace(record, environment=record.environment | {"probe": [1.0] * 8})


@pytest.mark.filterwarnings("ignore:the record of")
def test_stale_records_stand_in_no_table_and_no_picture(store):
    """Of three seeds the middle one is stale: bars refuse it, so all tables do."""
    for name in ("cifar10/nest_tiny", "imagenet/nest_tiny", "cifar10/nest_narrow"):
        for seed, top1 in ((0, 95.0), (1, 50.0), (2, 97.0)):
            record = train_record(name, seed, top1)
            store.add(stale(record) if seed == 1 else record, committed=True)
    shown = cell(table1(store), "NesT-T", "C10, here")
    assert (shown.value, shown.n) == (96.0, 2)
    assert cell(table2(store, {}), "NesT-T", "Top-1, trained here").value == 96.0
    assert table1_real(store, ["cifar10/nest_narrow"]).rows[0][1].value == 96.0
    bench = [bench_record("bench/table1-full-y")]
    assert "96.00" in plot_table1(store, None, bench)[0].tooltips["here-speed-nest-t"]
    speed, params = plot_table2(store, {}, bench_record("bench/table2-full-y"), [])
    assert "96.00" in speed.tooltips["here-speed-nest-t"]
    assert "96.00" in params.tooltips["here-params-nest-t"]
    rows = {row[0].text: row for row in overview.results_table(store).rows}
    assert rows["NesT-T, CIFAR-10 top-1 (%)"][2].value == 96.0
    assert rows["NesT-T, ImageNet top-1 (%)"][2].value == 96.0
    (narrow,) = (row for name, row in rows.items() if "all CIFAR-10 images" in name)
    assert narrow[2].value == 96.0
    name = "tiny_imagenet/nest_narrow"
    store.add(stale(train_record(name, 0, 10.0)))
    table = table2_own(store, {name: evaluation_record(name, 10.0)})
    assert table.rows[0][1] == NOT_RUN


def test_a_fresh_record_of_this_checkout_stands_for_a_stale_committed_one(store):
    record = train_record("cifar10/nest_tiny", 0, 95.0)
    store.add(stale(record), committed=True)
    store.add(replace(record, summary=record.summary | {"test/top1": 94.0}))
    assert cell(table1(store), "NesT-T", "C10, here").value == 94.0


def test_quick_and_other_recipes_never_stand_in_a_cifar_cell(store):
    store.add(train_record("digits/nest_narrow", 0, 50.0))
    store.add(train_record("cifar10/nest_narrow", 0, 70.0))
    store.add(train_record("cifar10/nest_tiny_s2_depth3", 0, 94.0))
    assert table1(store).rows == table1(Store(store.local / "x", store.local)).rows
    assert cell(table1(store), "NesT-T", "C10, here") == NOT_RUN
    real = table1_real(store, ["cifar10/nest_narrow"])
    assert str(real.rows[0][1]) == "70.00"
    assert real.rows[0][2].value == pytest.approx(
        100 * 1.96 * (0.7 * 0.3 / 10_000) ** 0.5, rel=1e-3
    )


def test_own_bench_comes_before_committed_ones_and_each_machine_has_a_table():
    here, committed = bench_record("bench/table1-quick-x-fp32"), bench_record("bench/table1-full-y")
    elsewhere = replace(committed, environment=ENVIRONMENT | {"device": "Intel Xeon CPU, 2 cores"})
    first, second = cost_tables("table1", here, [elsewhere])
    assert cell(first, "NesT-T", "Training images/s") == NOT_RUN
    assert cell(first, "NesT-T", "Images/s").source == HERE and HERE in first.caption
    assert second.caption == "Table 1, cost on Xeon, 2 cores, fp32"
    assert cell(second, "NesT-T", "Images/s").source == committed.run_id
    assert any("bench/table1-full-y" in detail for detail in second.sources.details)
    speed = cell(second, "NesT-T", "Images/s")
    assert str(speed) == "100 ± 8" and speed.n == 3
    # Of one machine and precision one run stands: the one that timed most.
    more = with_row(bench_record("bench/table1-full-z"), "Swin-T", [1.0])
    (only,) = cost_tables("table1", None, [committed, more])
    assert [row[0] for row in only.rows] == ["Swin-T", "NesT-T"]


def test_a_bar_in_a_cell_splits_no_row():
    """As a parser of GitHub's tables reads it."""
    words = ["a|b", "\\|", "x\\\\|y", "two\nlines", "|"]
    table = Table("caption", ("p|q", "n"), [(word, Number(1.0, PAPER)) for word in words])
    tokens = MarkdownIt("commonmark").enable("table").parse(table.to_markdown())
    cells = ["".join(part.content for part in t.children) for t in tokens if t.type == "inline"]
    shown = [word.replace("\n", " ") for word in words]
    assert cells[1:] == ["p|q", "n", *(cell for word in shown for cell in (word, "1.0"))]
    assert html.escape("a|b") in table._repr_html_()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (significant(1.3e-5, HERE), "1.3e-05"), (significant(-1.3e-5, HERE), "-1.3e-05"),
        (Number(1.3e-5, HERE, 4), "1.3e-05"), (Number(0.04, HERE, 1), "0.04"),
        (significant(0.00123, HERE, 2, 1e-4), "0.00123 ± 0.00010"), (Number(0.0, HERE, 2), "0.00"),
        (significant(1.3e-5, HERE, 2, 2e-6), "1.3e-05 ± 2e-06"),
        (significant(123456, HERE), "123,456"),
    ],
)  # fmt: skip
def test_a_small_number_is_not_shown_as_zero(number, text):
    assert str(number) == text
    assert float(text.split(" ±")[0].replace(",", "")) == pytest.approx(number.value, rel=5e-3)


def failed_row(name):
    """As measure.bench leaves a contender that could not be built or ran out of memory."""
    return {"name": name, "batch_size": 8, "error": "out of memory",
            "images_per_second": {"forward": {"median": None, "rounds": []}}}  # fmt: skip


def test_failed_rows_show_their_reason_and_the_others_their_numbers(store):
    record = bench_record("bench/table1-full-y")
    summary = {"WRN28-10": failed_row("WRN28-10"), **record.summary}
    record = replace(record, summary=summary)
    table = cost_table("table1", record, record)
    assert cell(table, "WRN28-10", "Params (M)") == "out of memory"
    assert cell(table, "WRN28-10", "x NesT-T, paper").value < 1
    counted = with_row(record, "WRN28-10", [], error="needs 40.0 GB")
    table = cost_table("table1", counted, counted)
    assert str(cell(table, "WRN28-10", "Params (M)")) == "1.00"
    assert cell(table, "WRN28-10", "Images/s") == "needs 40.0 GB"
    assert cell(table, "NesT-T", "Images/s").value == 100
    plot_table1(store, record, [])
    half = record.summary["NesT-T"] | {"error": "too large to train"}
    half["images_per_second"] = half["images_per_second"] | {
        "train": {"median": None, "rounds": []}
    }
    table = cost_table("table1", replace(record, summary={"NesT-T": half}))
    assert cell(table, "NesT-T", "Training images/s") == "too large to train"


def test_relative_speeds_are_ratios_within_one_run():
    record = with_row(bench_record("bench/table1-full-y"), "Swin-T", [45.0, 100.0, 106.0])
    table = cost_table("table1", record)
    # Rounds of NesT-T: 90, 100, 106. Round by round the ratios are 0.5, 1 and 1.
    assert str(cell(table, "Swin-T", "x NesT-T")) == "1.00 ± 0.25"
    assert cell(table, "Swin-T", "x NesT-T").source == "bench/table1-full-y"
    printed = paper.TABLE1["Swin-T"].images_per_second / paper.TABLE1["NesT-T"].images_per_second
    assert cell(table, "Swin-T", "x NesT-T, paper").value == pytest.approx(printed)
    assert "DeiT-T" not in [row[0] for row in table.rows]  # it was not timed
    without_anchor = replace(record, summary={"Swin-T": record.summary["Swin-T"]})
    assert cost_tables("table1", None, [without_anchor]) == []


def test_speeds_are_drawn_from_one_run_a_gpus_first():
    small, large = bench_record("bench/table1-light-x"), bench_record("bench/table1-full-x")
    large = with_row(large, "Swin-T", [1.0])
    assert cost.best_run(small, [large]) is large
    cpu = replace(large, run_id="cpu", environment=ENVIRONMENT | {"device_kind": "cpu"})
    assert cost.best_run(cpu, [small]) is small
    assert cost.best_run(None, [replace(small, recipe=small.recipe | {"budget": "smoke"})]) is None


def test_tables_of_rows_hold_all_29_and_explain_what_is_off(store):
    tables = {table: rows_table(table, store) for table in TABLES}
    assert [len(table.rows) for table in tables.values()] == [15, 14]
    differences = (Path(__file__).parents[1] / "book" / "differences.md").read_text()
    off = []
    for name, printed, here, difference, *_ in (r for t in tables.values() for r in t.rows):
        far = abs(here.value / printed.value - 1) > rows.TOLERANCE
        assert far == difference.endswith(")"), name
        if far:
            off.append(name)
            label = difference.split("(")[1].rstrip(")").lower()
            assert f"({label})=" in differences, name
    said = say_rows()
    assert f"{29 - len(off)} of the 29 rows" in said and all(name in said for name in off)
    assert cell(tables["table1"], "NesT-T", "Forward pass (s)") == NOT_RUN


def test_table_of_rows_shows_seconds_a_batch_of_committed_benches(store):
    record = with_row(bench_record("bench/table2-full-y"), "Swin-T", [4.0, 5.0, 2.0], [2.0])
    store.add(with_row(record, "ViT-B/16", [], error="out of memory"), committed=True)
    table = rows_table("table2", store)
    forward = cell(table, "Swin-T", "Forward pass (s)")
    assert str(forward) == "2.00 ± 1.20" and forward.n == 3  # 8 / 5, 8 / 4 and 8 / 2
    assert str(cell(table, "Swin-T", "Training step (s)")) == "4.00"
    assert cell(table, "ViT-B/16", "Forward pass (s)") == "out of memory"


def test_settings_name_what_a_row_has_of_its_own():
    by_recipe = {
        f"{table.columns[1].partition(': ')[2]}{row[1]}": dict(zip(table.columns, row))
        for table in map(settings_table, TABLES) for row in table.rows
    }  # fmt: skip
    assert list(by_recipe) == [row.recipe for rows in TABLES.values() for row in rows.values()]
    assert by_recipe["cifar10/pvt_base"]["Clip"] == "1"
    assert by_recipe["cifar10/wrn28_10"]["Augmentation"] == "crops, flips"
    assert by_recipe["cifar10/cct7_3x1"]["Augmentation"] == "full, no erasing"
    assert by_recipe["imagenet/nest_tiny"]["Augmentation"] == "full, colour jitter"
    assert by_recipe["cifar10/swin_tiny"]["Peak rate"] == "0.00025"


def evaluation_record(name, top1, limit=None):
    summary = {"top1": top1, "top5": 95.0, "images": limit or 50_000, "top1_half_width": 0.34,
               "weights_sha256": "0123456789abcdef"}  # fmt: skip
    recipe = {"name": name, "limit": limit}
    return Record(f"evaluate/imagenet/{name}", "evaluate", recipe, ENVIRONMENT, summary)


SCORED = "Top-1 of published weights, scored here"


def test_table2_keeps_paper_published_weights_and_own_runs_apart(store):
    reason = "weights could not be fetched"
    scored = {"nest_tiny_imagenet": evaluation_record("nest_tiny_imagenet", 81.4),
              "swin_tiny_imagenet": reason}  # fmt: skip
    table = table2(store, scored)
    assert [row[0] for row in table.rows] == list(paper.TABLE2)
    assert str(cell(table, "NesT-T", SCORED)) == "81.40"
    assert cell(table, "NesT-T", SCORED).source != PAPER
    assert cell(table, "NesT-T", "Top-1, trained here") == NOT_RUN
    assert cell(table, "Swin-T", SCORED) == "not scored"
    assert any(f"Swin-T: not scored: {reason}" == note for note in table.notes)
    assert cell(table, "NesT-S", SCORED) == NOT_RUN
    weights = weights_table(scored)
    assert cell(weights, "NesT-T", "Weights (timm)") == "nest_tiny_jx.goog_in1k"
    assert str(cell(weights, "NesT-T", "Top-5 (%), scored here")) == "95.00"
    assert any("sha256 0123456789ab" in detail for detail in weights.sources.details)
    store.add(train_record("imagenet/nest_small", 0, 80.0))
    table = table2(store, {})
    assert str(cell(table, "NesT-S", "Top-1, trained here")) == "80.00"
    assert cell(table, "NesT-S", SCORED) == NOT_RUN


def test_a_part_of_imagenet_is_marked_and_never_drawn(store):
    scored = {"nest_tiny_imagenet": evaluation_record("nest_tiny_imagenet", 100.0, limit=8)}
    shown = cell(table2(store, scored), "NesT-T", SCORED)
    assert str(shown) == "100.00 (of 8 images)"
    bench = bench_record("bench/table2-full-y")
    tips = plot_table2(store, scored, bench, [])[0].tooltips
    assert "from the paper, no record of ours" in tips["here-speed-nest-t"]
    scored = {"nest_tiny_imagenet": evaluation_record("nest_tiny_imagenet", 81.4)}
    tips = plot_table2(store, scored, bench, [])[0].tooltips
    assert "81.40, published weights nest_tiny_jx.goog_in1k" in tips["here-speed-nest-t"]


def test_the_sentence_of_table2_says_what_was_found_here(store):
    bench = with_row(bench_record("bench/table2-full-y"), "NesT-B", [40.0, 50.0, 60.0])
    bench = with_row(bench, "Swin-B", [100.0, 100.0, 100.0])
    said = say_table2(store, {}, bench, [])
    assert "NesT-B leads the 13 others with 83.8 %, 0.2 points above EffNet-B5" in said
    ratio = paper.TABLE2["NesT-B"].images_per_second / paper.TABLE2["Swin-B"].images_per_second
    assert f"{ratio:.2f} times Swin-B's images per second (0.500 ± 0.100 here, a GPU)" in said
    assert said.endswith("No accuracy has been trained or scored here: that needs ImageNet.")
    assert "here," not in say_table2(store, {}, None, [])
    part = {"nest_base_imagenet": evaluation_record("nest_base_imagenet", 99.0, limit=8)}
    assert "No accuracy" in say_table2(store, part, None, [])
    other = {"nest_tiny_imagenet": evaluation_record("nest_tiny_imagenet", 81.4)}
    assert "NesT-B has no accuracy from here yet; 1 of the other rows has one" in say_table2(
        store, other, None, []
    )
    whole = {"nest_base_imagenet": evaluation_record("nest_base_imagenet", 83.71)}
    assert "Its published weights score 83.71 % here." in say_table2(store, whole, None, [])
    store.add(train_record("imagenet/nest_base", 0, 83.5))
    assert "Trained here it reaches 83.50 % (n = 1)." in say_table2(store, whole, None, [])


def test_the_sentence_of_table1_begins_with_the_papers_rows(store):
    nothing = say_table1([], store)
    assert nothing.startswith("None of the paper's 15 rows has been trained here. ")
    best = max(row.cifar10 for name, row in paper.TABLE1.items() if not name.startswith("NesT"))
    above = [
        name
        for name, row in paper.TABLE1.items()
        if row.cifar100 > paper.TABLE1["NesT-T"].cifar100 and not name.startswith("NesT")
    ]
    assert f"{best:.2f} % for the best other" in nothing and len(above) == 2
    assert f"78.69 %, below {len(above)} of its rivals" in nothing
    store.add(train_record("cifar10/swin_tiny", 0, 93.0))
    assert say_table1([], store).startswith("1 of the paper's 15 rows is trained here.")
    for seed, top1 in ((0, 95.0), (1, 96.0)):
        store.add(train_record("cifar10/nest_tiny", seed, top1))
    assert "NesT-T reaches 95.50 ± 0.71 % on CIFAR-10 here (n = 2; the paper prints 96.04 %)" in (
        say_table1([], store)
    )


def test_own_runs_stand_beside_their_training_records(store):
    name = "tiny_imagenet/nest_narrow"
    store.add(train_record(name, 0, 10.0))
    table = table2_own(store, {name: evaluation_record(name, 10.0)})
    assert [str(c) for c in table.rows[0]] == [name, "10.00", "10.00", "yes", "95.00"]
    table = table2_own(store, {name: evaluation_record(name, 10.1)})
    assert [str(c) for c in table.rows[0]] == [name, "10.00", "10.10", "no", "95.00"]
    table = table2_own(store, {name: "no weights at x"})
    assert [str(c) for c in table.rows[0]] == [name, "10.00", "not scored", "", ""]
    assert table.sources is None
    assert table.notes == [f"{name}: not scored: no weights at x"]


def test_records_of_cifar_never_stand_under_digits():
    records = {name: [train_record(row.recipe, 0, 95.0)] for name, row in TABLE1.items()}
    table = table1_quick(records)
    assert [row[1] for row in table.rows] == [row.quick for row in TABLE1.values() if row.quick]
    assert all(row[2] == NOT_RUN for row in table.rows)


def test_two_splits_of_the_digits_stand_side_by_side():
    """By the committed records; of a recipe that keeps its own split, the hash is as it was."""
    table = splits_table(replace(open_store(Path(__file__).parent), local=None))
    (_, plain, _), (_, by_form, _) = table.rows
    assert [row[2] for row in table.rows] == ["3", "3"]
    assert plain.source.split(", ")[0] == "digits/nest_narrow-s0-f08ca4b8"
    assert by_form.source.split(", ")[0] == "digits/nest_narrow-s0-f96e9cc9"
    gap, spread = abs(plain.value - by_form.value), max(plain.spread, by_form.spread)
    assert gap < spread  # as D19 says


def test_figures_table_a1_is_what_the_code_says():
    root = Path(__file__).parents[1]
    text = "\n".join(table.to_markdown() for table in table_a1())
    shown = (root / "figures" / "table_a1.md").read_text()
    assert shown.endswith(text) and say_table_a1() in shown


def test_smoke_results_are_never_shown():
    smoke = bench_record("bench/table1-smoke-x", budget="smoke")
    assert cost_tables("table1", smoke, []) == []
    recipe = get_recipe("digits/nest_narrow").at_budget("smoke")
    record = replace(train_record("digits/nest_narrow", 0, 11.0), recipe=to_dict(recipe))
    assert cell(table1_quick({"NesT-T": [record]}), "NesT", "Digits top-1 (%)") == NOT_RUN


def test_mean_and_spread_are_numpys():
    values = [1.0, 2.5, 4.0, 4.5]
    number = mean_of(values, "record")
    assert number.value == pytest.approx(np.mean(values))
    assert number.spread == pytest.approx(np.std(values, ddof=1))
    assert mean_of([3.0], "record").spread is None


def test_counts_of_table_a1_are_the_papers_where_they_fit():
    counted = table_a1()[2]
    for row in counted.rows:
        params, printed = row[-2:]
        if row[0].endswith("imagenet"):
            assert round(params.value) == printed.value
    printed = [row for row in counted.rows if row[0].endswith("cifar") and row[-1]]
    assert len(printed) == 6  # T, S, B by either attention at depth 4
    said = say_table_a1()
    assert said.startswith("3 of 3 ImageNet models") and said.endswith(
        "neither fits to the last digit."
    )
    for attention in ("multi_query", "multi_head"):
        counts = [str(row[-2]) for row in printed if row[1] == attention]  # as in the table
        assert "{}, {} and {}".format(*counts) in said


def test_table_refuses_rows_of_another_length():
    with pytest.raises(ValueError, match="1 cells under 2 columns"):
        Table("t", ("a", "b"), [("x",)])


def test_table_escapes_html_and_aligns_text():
    table = Table("a < b", ("name", "value"), [("x & y", Number(1234.5, PAPER))])
    assert "a &lt; b" in table._repr_html_() and "x &amp; y" in table._repr_html_()
    assert "| x & y | 1,234.5 |" in table.to_markdown()


def test_figure_is_the_same_bytes_each_time(store):
    first, second = (
        plot_table1(store, None, [bench_record("bench/table1-full-y")])[0].to_svg()
        for _ in range(2)
    )
    assert first == second and b"<dc:date>" not in first


def test_hollow_marks_say_whose_accuracy_it_is(store):
    """Without a record of ours the paper's accuracy may stand at our cost, and says so."""
    bench = with_row(bench_record("bench/table1-full-y"), "Swin-T", [50.0])
    store.add(train_record("cifar10/swin_tiny", 0, 93.0))
    tips = plot_table1(store, bench, [])[0].tooltips
    assert "from the paper, no record of ours" in tips["here-speed-nest-t"]
    assert "93" in tips["here-speed-swin-t"] and "cifar10/swin_tiny-s0" in tips["here-speed-swin-t"]
    assert "here-speed-deit-t" not in tips and "paper-speed-deit-t" in tips


@pytest.mark.parametrize(
    ("publishing", "budget", "folder"),
    [(False, "quick", "runs/figures"), (False, "smoke", "runs/smoke/figures"),
     (False, "paper", "runs/figures"), (True, "quick", "figures")],
)  # fmt: skip
def test_only_publishing_writes_the_committed_figures(
    publishing, budget, folder, monkeypatch, tmp_path, capsys
):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "_config.yml").touch()
    readme = f"{overview.START}\n{overview.END}\n"
    (tmp_path / "README.md").write_text(readme)
    monkeypatch.chdir(tmp_path / "experiments")
    monkeypatch.setenv(PUBLISH, "1" if publishing else "")
    (tmp_path / "page.md").touch()
    table = Table("A table", ("a",), [(Link("b", "page.md"),)])
    save("x", budget, [table])
    save_readme(table)
    (target,) = re.findall(r"\]\((.*?)\)", (tmp_path / folder / "x.md").read_text())
    assert (tmp_path / folder / target).resolve() == tmp_path / "page.md"
    (tmp_path / "page.md").unlink()
    written = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.md"))
    assert written == sorted(["README.md", f"{folder}/x.md"])
    assert f"wrote {folder}/x.md" in capsys.readouterr().out
    assert ((tmp_path / "README.md").read_text() == readme) != publishing
    assert open_store().read_only == publishing


def test_from_another_folder_the_whole_path_is_said(monkeypatch, tmp_path, capsys):
    project, elsewhere = tmp_path / "clone", tmp_path / "elsewhere"
    (project / "experiments").mkdir(parents=True)
    (project / "_config.yml").touch()
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv(PROJECT, str(project))
    save("x", "quick", [Table("A table", ("a",), [("b",)])])
    assert f"wrote {project}/runs/figures/x.md" in capsys.readouterr().out
    assert not list(elsewhere.iterdir())
