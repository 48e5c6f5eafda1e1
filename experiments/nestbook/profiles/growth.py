"""How time and memory grow with the batch, the image's pixels and the depth, one axis at a time.

NesT's cost is linear in pixels as long as its blocks keep their size: a larger image then has more
blocks. `NesT` by default fits its blocks to the image instead (one block at the top), so that they
grow with it and attention becomes quadratic, as in a plain ViT. Both are measured, and DeiT-S.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from nestbook.benchmarks.memory import check_fits, measure_memory_mb
from nestbook.benchmarks.rates import (
    attempt,
    check_settings,
    count_rounds,
    describe_settings,
    time_step,
)
from nestbook.peers import PEERS
from nestlib.choices import check_choice
from nestlib.metrics.cost import count_gflops
from nestlib.models.mode import running_mode
from nestlib.models.nest import NesT
from nestlib.precision import autocast

AXES = {"batch": "images", "pixels": "pixels per image", "depth": "layers per hierarchy"}
MODES = ("forward", "train")
STEP_SECONDS = 0.2  # a point is run for about so long in each round


@dataclass(frozen=True)
class Point:
    """A model to run on images (batch_size, 3, image_size, image_size), at `x` of its axis.

    Points that share a `build` share the model that it builds.
    """

    x: float
    build: Callable[[], nn.Module]
    batch_size: int
    image_size: int  # pixels


@dataclass(frozen=True)
class Series:
    """Points along one axis (of AXES), the least first."""

    name: str
    axis: str
    points: Sequence[Point]


def nest_series(
    batch_sizes: Sequence[int] = (1, 2, 4, 8), image_sizes: Sequence[int] = (224, 448, 672, 896),
    depths: Sequence[int] = (1, 2, 4),
) -> list[Series]:  # fmt: skip
    """NesT-T along each axis from 224 x 224 at batch 1 (depth: batch 2), and DeiT-S over pixels.

    A block of 14 x 14 patches is 56 pixels wide at first and 224 at the top, so sizes must be
    multiples of 224.
    """
    build_deit = partial(PEERS["deit_small_imagenet"], num_classes=1000)
    build_nest = partial(NesT, 224)  # NesT's own widths, heads and depths are NesT-T's
    fixed, fitted, full = [], [], []
    for size in image_sizes:
        fixed.append(Point(size**2, partial(NesT, size, block_size=14), 1, size))
        fitted.append(Point(size**2, partial(NesT, size), 1, size))
        full.append(Point(size**2, partial(build_deit, img_size=size), 1, size))
    name = "NesT-T, blocks of 14x14 patches"
    return [
        Series(name, "batch", [Point(batch, build_nest, batch, 224) for batch in batch_sizes]),
        Series(name, "pixels", fixed),
        Series("NesT-T, blocks fitted to the image", "pixels", fitted),
        Series("DeiT-S", "pixels", full),
        Series(name, "depth", [
            Point(depth, partial(NesT, 224, depths=(depth,) * 3), 2, 224) for depth in depths
        ]),
    ]  # fmt: skip


def growth(
    series: Sequence[Series] | None = None, *, device: str | torch.device = "cpu",
    precision: str = "fp32", train: bool = True, rounds: int = 3, step_limit_s: float = 1.5,
    time_limit_s: float | None = 60, progress: bool = True,
) -> dict:  # fmt: skip
    """Time and memory along each series; returns JSON-ready {"settings": ..., "lines": [...]}.

    A line is a series in one mode: "forward" (evaluation, no gradients) or "train" (forward,
    cross-entropy, backward; no optimizer, whose cost knows no images). It holds name, axis, mode,
    memory_kind (`measure_memory_mb`), stopped (why the axis ends before its last point, or None),
    points (x, batch_size, image_size, multiply_adds of the batch's forward pass, memory_mb and
    seconds: the median step and every round's) and, under the name of each of the last three,
    what `fit_growth` finds.

    Points are timed in turn, so a slow minute of the machine falls on all of them. Where a point
    does not fit the memory or a step would take longer than step_limit_s, its line ends.

    Args:
        series: default `nest_series()`, about a minute on two cores.
        precision: "fp32" or "bf16" (autocast).
        time_limit_s: no further round is begun that would probably end later; the first always is.

    Raises:
        ValueError: unknown precision or axis, or fewer than one round.
    """
    series, device = nest_series() if series is None else series, torch.device(device)
    check_settings(precision, rounds)
    for axis in (one.axis for one in series):
        check_choice("axis", axis, AXES)
    models: dict[Callable, nn.Module] = {}
    modes = MODES if train else MODES[:1]
    lines = [_Line(s, mode, device, precision, models) for s in series for mode in modes]
    start = time.perf_counter()
    with tqdm(total=len(lines) * (1 + rounds), disable=not progress, unit="line") as bar:
        for line in lines:
            line.prepare(step_limit_s)
            bar.update()
        for number in count_rounds(rounds, start, time_limit_s):
            for line in lines:
                line.run_round()
                bar.update()
            rounds_done = number
    settings = describe_settings(
        device, precision, rounds, rounds_done=rounds_done, step_limit_s=step_limit_s,
        time_limit_s=time_limit_s, seconds=time.perf_counter() - start,
    )  # fmt: skip
    return {"settings": settings, "lines": [line.finish() for line in lines]}


def fit_growth(xs: Sequence[float], ys: Sequence[float]) -> dict[str, float] | None:
    """How y grows with x, None for fewer than two points or a y that is not above 0.

    Returns:
        exponent: slope of log y over log x.  last_exponent: the same between the last two points.
        quadratic_share: of y = a x + b x**2 (fitted to y / x), the second term's part at the last
        point.
    """
    if len(xs) < 2 or min(ys) <= 0:
        return None
    x, y = np.array(xs, dtype=float), np.array(ys, dtype=float)
    b, a = np.polyfit(x, y / x, 1)
    return {
        "exponent": float(np.polyfit(np.log(x), np.log(y), 1)[0]),
        "last_exponent": float(np.diff(np.log(y))[-1] / np.diff(np.log(x))[-1]),
        "quadratic_share": float(b * x[-1] / (a + b * x[-1])),
    }


@dataclass
class _Ready:
    """A point whose model and images are there; result: its part of the row."""

    model: nn.Module
    images: Tensor
    result: dict
    seconds: float  # of one step, when it was warmed up


class _Line:
    """A series in one mode; `models` is shared by all lines."""

    def __init__(
        self, series: Series, mode: str, device: torch.device, precision: str,
        models: dict[Callable, nn.Module],
    ):  # fmt: skip
        self.series, self.device, self.models = series, device, models
        self.training = mode == "train"
        self.autocast = partial(autocast, precision, device)
        self.ready: list[_Ready] = []
        self.row = {"name": series.name, "axis": series.axis, "mode": mode, "stopped": None}

    def prepare(self, limit: float) -> None:
        """Build and warm up one point after the other, until one is too much."""
        for point in self.series.points:
            if reason := attempt(partial(self._add, point, limit)):
                self.row["stopped"] = f"{point.x:,g} {AXES[self.series.axis]}: {reason}"
                if self.device.type == "cuda":
                    torch.cuda.empty_cache()
                return

    def _add(self, point: Point, limit: float) -> None:
        self._check_time(point, limit)
        self.ready.append(self._prepare(point, limit))

    def _check_time(self, point: Point, limit: float) -> None:
        """Refuse a point that takes too long even if time grows no faster than linearly."""
        if self.ready:
            last = self.ready[-1]
            expected = last.seconds * point.x / last.result["x"]
            if expected > limit:
                raise StepLimitError(f"about {expected:.1f} s per step, limit {limit:g} s")

    def _prepare(self, point: Point, limit: float) -> _Ready:
        batch, size = point.batch_size, point.image_size
        with torch.device("meta"):  # counts and checks before any memory is taken
            sketch = point.build()
            multiply_adds = batch * count_gflops(sketch, size) * 1e9
            if self.device.type == "cpu":  # a GPU says itself that it is full
                check_fits(sketch, batch, size, train=self.training)
        if point.build not in self.models:
            self.models[point.build] = point.build().to(self.device)
        model = self.models[point.build]
        images = torch.randn(batch, 3, size, size, device=self.device)
        start = time.perf_counter()
        with self.autocast():
            memory, self.row["memory_kind"] = measure_memory_mb(model, images, self.training)
        seconds = time.perf_counter() - start
        ready = _Ready(model, images, {
            "x": point.x, "batch_size": batch, "image_size": size,
            "multiply_adds": multiply_adds, "memory_mb": memory,
            "seconds": {"median": math.nan, "rounds": []},
        }, seconds)  # fmt: skip
        if self.device.type == "cuda":  # where the first pass may have loaded libraries
            ready.seconds = self._time(ready, 0.0)
        if ready.seconds > limit:
            raise StepLimitError(f"{ready.seconds:.1f} s per step, limit {limit:g} s")
        return ready

    def _time(self, ready: _Ready, seconds: float) -> float:
        """Seconds of a step, run for so many seconds or once."""
        with running_mode(ready.model, self.training), torch.set_grad_enabled(self.training):
            return time_step(partial(self._step, ready), self.device, seconds)

    def _step(self, ready: _Ready) -> None:
        with self.autocast():
            logits = ready.model(ready.images)
        if self.training:
            F.cross_entropy(logits, logits.detach().argmax(1)).backward()
            ready.model.zero_grad(set_to_none=True)

    def run_round(self) -> None:
        for ready in self.ready:
            seconds = ready.result["seconds"]
            seconds["rounds"].append(self._time(ready, STEP_SECONDS))
            seconds["median"] = statistics.median(seconds["rounds"])

    def finish(self) -> dict:
        """The row, with the fits over its points; memory is given back."""
        points = [ready.result for ready in self.ready]
        self.ready.clear()
        xs, row = [point["x"] for point in points], self.row | {"points": points}
        row["seconds"] = fit_growth(xs, [point["seconds"]["median"] for point in points])
        for name in ("memory_mb", "multiply_adds"):
            row[name] = fit_growth(xs, [point[name] for point in points])
        return row


class StepLimitError(RuntimeError):
    """A step takes longer than the caller allows."""
