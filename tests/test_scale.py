"""The model of scale: its limits, and what its tables say where nothing was measured."""

import json
import math
from dataclasses import replace
from functools import partial
from statistics import median

import pytest

from nestbook.benchmarks import scaling
from nestbook.benchmarks.scaling import RANKS, Job, Rates, predict
from nestbook.report.scale import (
    faults_table,
    make_faults_point,
    make_scale_point,
    plot_scale,
    scale_table,
    scaling_table,
)
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, Store, open_store

JOB = Job(num_images=10_240, batch_size=1024, epochs=36, num_params=250_000)  # 1 MB of gradients


def test_one_device_takes_its_images_by_its_rate():
    found = predict(JOB, Rates(images_per_second=1024, bytes_per_second=1e6), 1)
    assert found.step_seconds == (1, 1) and found.efficiency == (1, 1)
    assert found.hours == pytest.approx((0.1, 0.1))  # 36 epochs of 10 steps


def test_two_devices_by_hand():
    """Half a second of arithmetic, and 2 * (1/2) * 1 MB at 4 MB/s."""
    found = predict(JOB, Rates(1024, 4e6), 2)
    assert found.step_seconds == pytest.approx((0.5, 0.75))
    assert found.efficiency == pytest.approx((2 / 3, 1))
    slow_loader = predict(JOB, Rates(1024, 4e6, loader=256), 2)
    assert slow_loader.step_seconds == pytest.approx((2, 2))


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("rate", [3.0, 900.0, 5e4])
@pytest.mark.parametrize("bandwidth", [1e6, 25e9])
@pytest.mark.parametrize("loader", [None, 40.0, 1e6])
def test_bounds_hold(ranks, rate, bandwidth, loader):
    """A ring counted message by message sends what the formula says; no run beats its devices."""
    found = predict(JOB, Rates(rate, bandwidth, loader), ranks)
    chunk = JOB.num_params * 4 / ranks
    ring = sum(chunk / bandwidth for _ in range(2 * (ranks - 1)))  # reduce-scatter, all-gather
    compute = JOB.batch_size / ranks / rate
    least, most = found.step_seconds
    assert 0 < found.efficiency[0] <= found.efficiency[1] <= 1
    assert least <= most and least >= max(compute, ring) * (1 - 1e-9)
    if loader is None:
        assert math.isclose(most, compute + ring, rel_tol=1e-9)
    assert found.hours[0] >= predict(JOB, Rates(rate, bandwidth, loader), 1).hours[0] / ranks * (
        1 - 1e-9
    )


@pytest.mark.parametrize(("ranks", "rates"), [(2048, Rates(1, 1)), (0, Rates(1, 1)),
                                              (1, Rates(0, 1)), (1, Rates(1, -1))])  # fmt: skip
def test_what_cannot_be_is_refused(ranks, rates):
    with pytest.raises(ValueError, match="1 to 1024 ranks and rates above 0"):
        predict(JOB, rates, ranks)


def test_the_loader_is_what_its_record_shows_of_a_core_times_the_cores():
    benched = open_store().find_benches("loader")
    measured = benched[0]
    rates = measured.summary["sets"]["photos"]["rates"]["shards, bytes for a GPU"]
    cores = measured.summary["settings"]["workers"]
    found = scaling.loader_rate(benched, own_rate=0, cores=cores)
    assert found.images_per_second == pytest.approx(median(rates["images_per_second"]))
    assert measured.run_id in found.source
    doubled = scaling.loader_rate(benched, own_rate=0, cores=2 * cores)
    assert doubled.images_per_second == pytest.approx(2 * found.images_per_second)
    assert scaling.loader_rate(benched, own_rate=40, cores=cores).images_per_second == 40
    fast = scaling.device_rates([], own_rate=1e6, gb_per_second=25.0, loader=found)["your GPU"]
    job = scaling.imagenet_job(300)
    wait = job.batch_size / found.images_per_second
    assert predict(job, fast.rates, 1).step_seconds == pytest.approx((wait, wait))


def test_a_gpu_without_a_record_is_not_run_yet():
    job = scaling.imagenet_job(300)
    assert job.batch_size == get_recipe("imagenet/nest_tiny").batch_size
    loader = scaling.loader_rate([], own_rate=0, cores=8)
    limits = {"gb_per_second": 25.0, "loader": loader}
    shown = partial(scale_table, job, loader=loader, gb_per_second=25.0, price=1.0)
    none = shown(devices=scaling.device_rates([], own_rate=0, **limits))
    assert none.rows == [] and "No GPU has a row" in none.notes[-1]
    own = shown(devices=scaling.device_rates([], own_rate=900, **limits))
    assert [row[1] for row in own.rows] == [str(n) for n in RANKS]
    assert "Assumed, not measured" in own.notes[0] and "25 GB/s" in own.notes[0]
    assert not any("No GPU" in note for note in own.notes)
    slow = scaling.device_rates([], own_rate=2.91, **limits)
    assert [row[6].digits for row in shown(devices=slow).rows] == [1] * len(RANKS)
    texts = list(plot_scale(job, slow, None).tooltips.values())
    assert "\n36,685 hours\n" in texts[0] and "\n143 to " in texts[-1]  # no powers of ten
    assert own.rows[0][2].value == pytest.approx(300 * 1_281_167 // 1024 * 1024 / 900 / 3600, 1e-3)


def test_the_page_without_records_says_so(tmp_path):
    store = Store(tmp_path / "committed", tmp_path / "local")
    assert store.find("faults/two-ranks") is None
    assert "not run yet" in str(faults_table(None))
    assert "not run yet" in str(scaling_table(None))
    picture = plot_scale(scaling.imagenet_job(300), {}, None)
    assert picture.tooltips == {} and not any(axes.texts for axes in picture.figure.axes)
    assert "no step was measured" in make_scale_point(None, {}).sentence
    assert "No fault has been struck" in make_faults_point(None).sentence


@pytest.mark.parametrize(("two", "word"), [
    (0.9, "fails its only check: two ranks took 0.900 s per step on a box, against at most 0.600"),
    (0.55, "passes its only check: two ranks took 0.550 s per step on a box, predicted 0.500 to"),
    (0.4, "fails its only check: two ranks took 0.400 s per step on a box, against at least 0.500"),
])  # fmt: skip
def test_the_sentence_says_whether_the_check_holds(two, word):
    """One rank takes a second per step, so two take half of it, and the exchange of 0.1 s."""
    recipe = {"batch_size": 64, "num_params": 1000}
    summary = {"step_seconds": {"1": [1.0] * 3, "2": [two] * 3}, "exchange_seconds": [0.1] * 3}
    record = Record("bench/scaling-full-a", "bench", recipe, {"device": "a box"}, summary)
    point = make_scale_point(record, {})
    assert word in point.sentence and ("take longer" in point.sentence) == (two == 0.9)
    check = point.chips[0].text
    assert check == f"check {'passes' if 'passes' in word else 'fails'}: 3 turns, a box"
    assert any("GPU: no rate measured" in chip.text for chip in point.chips)
    gpu = {"x": scaling.Device(Rates(1, 1), "a record", "cuda")}
    assert not any("GPU" in chip.text for chip in make_scale_point(record, gpu).chips)


def test_committed_faults_lost_nothing():
    """The cluster page's table; it is data, so that a lost sample would show there."""
    record = open_store().find("faults/two-ranks")
    table = faults_table(record)
    assert len(table.rows) == len(record.summary) >= 5
    for name, row in record.summary.items():
        assert (row["outcome"], row["lost"], row["doubled"]) == ("ended", 0, 0), name
    hows = [row[1] for row in table.rows]
    assert "`scontrol requeue`" in hows and "`scancel --signal=USR1`" in hows
    assert "SIGSTOP of a rank, `--rank-timeout 15s`" in hows
    number = len(table.rows)
    assert f"{number} of {number} faults" in str(make_faults_point(record))
    name, row = next(iter(record.summary.items()))
    for spoiled in ({"lost": 1}, {"same_weights": False}, {"outcome": "hung"}):
        worse = replace(record, summary=record.summary | {name: row | spoiled})
        assert f"{number - 1} of {number} faults" in str(make_faults_point(worse))


@pytest.mark.slow  # half a minute
def test_ranks_are_timed_in_turn(tmp_path):
    record = scaling.measure_scaling(Store(tmp_path, tmp_path), rounds=1, steps=3)
    assert set(record.summary["step_seconds"]) == {"1", "2"}
    assert all(0 < s for turn in record.summary["step_seconds"].values() for s in turn)
    json.dumps(record.summary)
    assert "2 gloo ranks" in str(scaling_table(record))
    picture = plot_scale(scaling.imagenet_job(300), {}, record)
    assert len(picture.tooltips) == 2
    _, right = picture.figure.axes
    named = [text.get_text() for text in right.get_legend().get_texts()]
    assert named == ["predicted, at least", "predicted, at most"]
