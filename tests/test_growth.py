"""Growth finds the slope that was planted; an axis that must end says why, and the others go on."""

import json
import re
import time
from functools import partial
from xml.etree import ElementTree

import pytest
import torch
from torch import nn

from nestbook.profiles.growth import Point, Series, fit_growth, growth, nest_series
from nestbook.report.growth import growth_table, plot_growth
from nestlib.metrics.cost import count_gflops

SVG = "{http://www.w3.org/2000/svg}"


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Slow(nn.Module):
    """A classifier that makes the clock advance by a power of the values that it is given."""

    def __init__(self, clock, power=1.0, full_at=None):
        super().__init__()
        self.clock, self.power, self.full_at = clock, power, full_at
        self.head = nn.Linear(3, 10)

    def forward(self, images):
        if not images.is_meta:
            if self.full_at is not None and images.shape[-1] >= self.full_at:
                raise torch.OutOfMemoryError("out of memory\nand 30 lines of advice")
            self.clock.now += 1e-3 * (images.numel() / 48) ** self.power
        return self.head(images.mean((2, 3)))


def over_pixels(name, build, sizes=(4, 8, 16)):
    return Series(name, "pixels", [Point(size**2, build, 1, size) for size in sizes])


def run(*series, **options):
    return growth(series, **{"rounds": 2, "progress": False} | options)


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock)
    return clock


@pytest.fixture
def planted(clock):
    """Two models, of slope 1 and 2, over pixels; the first over the batch too."""
    linear = partial(Slow, clock)
    batches = Series("linear", "batch", [Point(b, linear, b, 4) for b in (1, 2, 4)])
    return run(batches, over_pixels("linear", linear),
               over_pixels("square", partial(Slow, clock, 2.0)))  # fmt: skip


def test_planted_exponents_are_found(planted):
    found = {(line["name"], line["axis"], line["mode"]): line for line in planted["lines"]}
    assert len(found) == 6
    for (name, axis, mode), line in found.items():
        fit, slope = line["seconds"], 2 if name == "square" else 1
        assert fit["exponent"] == pytest.approx(slope), (name, axis, mode)
        assert fit["last_exponent"] == pytest.approx(slope)
        assert fit["quadratic_share"] == pytest.approx(slope - 1)
        assert line["stopped"] is None
        assert all(len(point["seconds"]["rounds"]) == 2 for point in line["points"])
    of_batch = found["linear", "batch", "forward"]
    assert of_batch["multiply_adds"]["exponent"] == pytest.approx(1)
    assert [p["multiply_adds"] for p in of_batch["points"]] == pytest.approx([30, 60, 120])
    json.dumps(planted, allow_nan=False)


def test_mixed_growth_shows_at_the_end():
    x = [1.0, 2.0, 4.0]
    fit = fit_growth(x, [3 * v + v**2 for v in x])
    assert fit["quadratic_share"] == pytest.approx(4 / 7)
    assert 1 < fit["exponent"] < fit["last_exponent"] < 2
    assert fit_growth([1], [1]) is None and fit_growth([1, 2], [0, 1]) is None


def test_axis_out_of_memory_keeps_its_reason_and_the_others_go_on(clock):
    full, small = partial(Slow, clock, full_at=16), partial(Slow, clock)
    result = run(over_pixels("full", full), over_pixels("small", small))
    for line in result["lines"]:
        if line["name"] == "full":
            assert line["stopped"] == "256 pixels per image: OutOfMemoryError: out of memory"
            assert [point["x"] for point in line["points"]] == [16, 64]
            assert line["seconds"]["exponent"] == pytest.approx(1)
        else:
            assert line["stopped"] is None and len(line["points"]) == 3


def test_what_a_cpu_cannot_hold_is_refused_before_it_is_built(clock, monkeypatch):
    monkeypatch.setattr("nestbook.benchmarks.memory._free_memory", lambda: 100)
    devices = []

    def build():
        devices.append(torch.get_default_device().type)
        return Slow(clock)

    result = run(over_pixels("none", build), train=False)
    (line,) = result["lines"]
    assert set(devices) == {"meta"} and line["points"] == [] and line["seconds"] is None
    assert re.search("^16 pixels per image: MemoryError: .*needs 0.0 GB", line["stopped"])
    json.dumps(result, allow_nan=False)
    table = growth_table(result, "this machine")
    assert table.rows[0][1] == "pixels, none" and line["stopped"] in table.sources.details[-1]
    with pytest.raises(ValueError, match="no line has a point"):
        plot_growth(result, "a machine")


def test_slow_steps_end_a_line_measured_or_foreseen(clock):
    foreseen = run(over_pixels("linear", partial(Slow, clock)), step_limit_s=0.01)
    for line in foreseen["lines"]:
        assert line["stopped"].endswith("about 0.0 s per step, limit 0.01 s")
        assert [point["x"] for point in line["points"]] == [16, 64]
    measured = run(over_pixels("square", partial(Slow, clock, 2.0)), step_limit_s=0.01)
    for line in measured["lines"]:
        assert [point["x"] for point in line["points"]] == [16]


def test_time_limit_cuts_rounds_but_not_the_first(clock):
    series = over_pixels("linear", partial(Slow, clock))
    result = run(series, rounds=50, time_limit_s=0)
    assert result["settings"]["rounds_done"] == 1
    assert len(result["lines"][0]["points"][0]["seconds"]["rounds"]) == 1


def test_bad_settings_say_the_valid_ones(clock):
    series = Series("a", "width", [])
    with pytest.raises(ValueError, match="batch, pixels, depth"):
        run(series)
    with pytest.raises(ValueError, match="bf16"):
        run(precision="fp16")
    with pytest.raises(ValueError, match="1 or more"):
        run(rounds=0)


def test_arithmetic_of_nest_is_linear_in_pixels_with_fixed_blocks_only():
    batch, fixed, fitted, deit, depth = nest_series(image_sizes=(224, 448), depths=(1, 2))
    exponents = []
    for series in (fixed, fitted, deit):
        with torch.device("meta"):
            ends = [count_gflops(point.build(), point.image_size) for point in series.points]
        exponents.append(fit_growth([p.x for p in series.points], ends)["exponent"])
    assert exponents[0] == pytest.approx(1, abs=1e-3)
    assert exponents[1] > 1.1 and exponents[2] > 1.1
    with torch.device("meta"):
        blocks = [point.build().num_blocks for point in fixed.points]
        assert fitted.points[1].build().num_blocks == [16, 4, 1]
        assert [len(h) for h in depth.points[1].build().hierarchies] == [2, 2, 2]
    assert blocks == [[16, 4, 1], [64, 16, 4]]
    assert len({point.build for point in batch.points}) == 1  # so the model is built once


def test_table_and_picture_show_every_line(planted):
    table = growth_table(planted, "this machine")
    assert len(table.rows) == 6
    assert table.rows[-1][:3] == ("square", "pixels, 4² to 16²", "training")
    assert str(table.rows[-1][3]) == "2.00" and table.rows[-1][5].value == pytest.approx(100)
    assert table.rows[0][5] == ""  # a batch's share of a square says nothing
    picture = plot_growth(planted, "a machine & its cores")
    root = ElementTree.fromstring(picture.to_svg())
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert len(titles) == 6 * 3 * 2  # lines, points, panels
    assert all("a machine & its cores" in title and "n = 2" in title for title in titles)
    assert len(picture.figure.axes) == 4
