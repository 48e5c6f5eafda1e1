"""Measure images per second of models in turn, and what each model costs.

Speeds of different runs do not compare: clocks, neighbours and libraries move. So `bench` times all
contenders within one process, A B C A B C ..., and reports every round's value beside the median.
A plain matrix product takes its turn too: what the machine can do at best, at that time.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from nestbook.benchmarks.memory import check_fits, check_free, measure_memory_mb
from nestbook.benchmarks.rates import (
    MatrixProduct,
    attempt,
    check_settings,
    count_rounds,
    describe_settings,
    equal_tf32,
    fill,
    time_steps,
)
from nestlib.metrics.cost import FLOP_COUNTER, count_gflops, count_params, make_input
from nestlib.models.mode import running_mode
from nestlib.precision import autocast

MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Contender:
    """A model to be timed on images (batch_size, 3, image_size, image_size), or on noise for such.

    compile: run it by torch.compile; what does not compile is the row's error.
    precision: its own, whatever the bench's is; None: the bench's.
    tuned: on the fastest of its library's paths (`_Runner._choose_paths`), not as it comes.
    """

    name: str
    build: Callable[[], nn.Module]
    image_size: int  # pixels
    batch_size: int
    compile: bool = False
    tuned: bool = True
    precision: str | None = None


@dataclass(frozen=True)
class _Path:
    """One way to run a model; fused_attention is None if the model's own default is kept."""

    memory_format: str
    fused_attention: bool | None


class _Runner:
    """One contender on its device, and the row of results that it fills."""

    def __init__(self, contender: Contender, device: torch.device, precision: str, train: bool):
        self.contender, self.device = contender, device
        precision = contender.precision or precision
        self.autocast = partial(autocast, precision, device)
        self.steps = {"forward": self._forward} | ({"train": self._train} if train else {})
        self.row = {
            "name": contender.name, "image_size": contender.image_size,
            "batch_size": contender.batch_size, "tuned": contender.tuned,
            "compile": contender.compile, "precision": precision, "n": 0,
            "images_per_second": {mode: {"median": None, "rounds": []} for mode in self.steps},
        }  # fmt: skip

    def attempt(self, action: Callable, *args) -> None:
        """Run `action`; a lack of memory or of a library ends this row only."""
        if "error" in self.row:
            return
        if reason := attempt(partial(action, *args)):
            self.row["error"] = reason
            self.release()

    def prepare(self, warmup: int) -> None:
        """Build, count, measure memory and warm up."""
        size, batch = self.contender.image_size, self.contender.batch_size
        with torch.device("meta"):  # counts need no memory, so a model too large has them too
            sketch = self.contender.build()
            self.row["params"] = count_params(sketch)
            self.row["gflops"] = count_gflops(sketch, size)
            if self.device.type == "cpu":  # a GPU says itself that it is full
                self.pass_bytes = check_fits(sketch, batch, size, train="train" in self.steps)
        self.model = self.contender.build().to(self.device)
        self.images = make_input(self.model, batch, size, self.device)  # noise for a generator
        with running_mode(self.model, training=False), torch.no_grad():
            num_classes = self.model(self.images[:1]).shape[-1]
        self.labels = torch.randint(num_classes, (batch,), device=self.device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)
        self._choose_paths()
        self._time("forward", 1)  # cuDNN tries its algorithms now, whose work space is no result
        with self.autocast():
            self.row["memory_mb"], self.row["memory_kind"] = measure_memory_mb(
                self.model, self.images
            )
        if self.contender.compile:
            # Sizes fixed: models of one class share compiled code, and after a second size torch
            # would compile for any size, which is slower.
            self.model = torch.compile(self.model, dynamic=False)
        for mode in self.steps:
            self._time(mode, iterations=warmup)
        self._let_others_run()

    def _choose_paths(self) -> None:
        """Keep each mode's fastest path: the least of three times, paths in turn.

        A convnet can have its channels last; where a library lets attention run fused or not,
        either may be faster: timm's Swin has the fused kernels off by default, its NesT hands them
        tensors that they refuse. Every peer shall run as fast as its library lets it. A path that
        fails, by a kernel's limits say, is out. A model to be compiled is compiled on the path that
        is fastest without: to compile each takes minutes.
        """
        tuned = self.contender.tuned
        formats = MEMORY_FORMATS if tuned and _has_spatial_convs(self.model) else ["contiguous"]
        attentions = [m for m in self.model.modules() if tuned and hasattr(m, "fused_attn")]
        paths = [_Path(f, a) for f in formats for a in ([False, True] if attentions else [None])]
        self.attentions, self.path = attentions, None
        self.paths = dict.fromkeys(self.steps, paths[0])
        if len(paths) > 1:
            seconds = {(mode, path): [] for mode in self.steps for path in paths}
            # A quarter of the batch says enough on a CPU; on a GPU it would time the launches.
            whole, share = (self.images, self.labels), 4 if self.device.type == "cpu" else 1
            self.images, self.labels = (part[: -(-len(part) // share)] for part in whole)
            for _ in range(4):  # the first time warms up
                for path, mode in product(paths, self.steps):
                    self.paths[mode] = path
                    seconds[mode, path].append(self._time_or_fail(mode))
            self.images, self.labels = whole
            for mode in self.steps:
                self.paths[mode] = min(paths, key=lambda path: min(seconds[mode, path][1:]))
            self.path = None  # the whole batch has not its layout yet
        self.row["paths"] = {mode: asdict(path) for mode, path in self.paths.items()}

    def _time_or_fail(self, mode: str) -> float:
        try:
            return self._time(mode, iterations=1)
        except RuntimeError:
            return math.inf

    def _use_path(self, path: "_Path") -> None:
        if path == self.path:
            return
        memory_format = MEMORY_FORMATS[path.memory_format]
        self.model.to(memory_format=memory_format)
        if self.images.ndim == 4:  # noise has no layout
            self.images = self.images.contiguous(memory_format=memory_format)
        for state in self.optimizer.state.values():  # fused AdamW wants the weights' layout
            for name, value in state.items():
                if value.ndim == 4:
                    state[name] = value.contiguous(memory_format=memory_format)
        for module in self.attentions:
            module.fused_attn = path.fused_attention
        self.path = path

    def _forward(self) -> None:
        with torch.inference_mode(), self.autocast():
            self.model(self.images)

    def _train(self) -> None:
        train_step(self.model, self.optimizer, self.images, self.labels, self.autocast())

    def _time(self, mode: str, iterations: int) -> float:
        """Seconds that so many steps take, from an idle device to an idle device."""
        self._use_path(self.paths[mode])
        with running_mode(self.model, training=mode == "train"):
            return time_steps(self.steps[mode], self.device, iterations)

    def run_round(self, seconds: float) -> None:
        """Time every mode for at least `seconds` (and one step), and note its images per second.

        Behind another's turn the first step meets cold caches and memory that was given back to the
        system, so it is not timed.
        """
        if self.device.type == "cpu":  # others were prepared since
            check_free(self.pass_bytes)
        for mode in self.steps:
            self._time(mode, iterations=1)
            done, elapsed = fill(partial(self._time, mode), seconds)
            speeds = self.row["images_per_second"][mode]
            speeds["rounds"].append(done * self.contender.batch_size / elapsed)
            speeds["median"] = statistics.median(speeds["rounds"])
        self.row["n"] += 1
        self._let_others_run()

    def _let_others_run(self) -> None:
        """Keep nothing but weights and optimizer state."""
        self.optimizer.zero_grad(set_to_none=True)

    def release(self) -> None:
        """Give the memory back; the row stays."""
        self.model = self.optimizer = self.images = self.labels = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def _has_spatial_convs(model: nn.Module) -> bool:
    """Whether windows of a convolution overlap; a patch embedding's (kernel = stride) do not."""
    return any(
        isinstance(m, nn.Conv2d) and max(m.kernel_size) > max(m.stride) for m in model.modules()
    )


def bench(
    contenders: Sequence[Contender], *, device: str | torch.device, precision: str = "fp32",
    rounds: int = 5, seconds_per_round: float = 1.0, warmup: int = 2, train: bool = True,
    time_limit_s: float | None = None, progress: bool = True,
) -> dict:  # fmt: skip
    """Time contenders in turn; returns JSON-ready {"settings": {...}, "rows": [{...}, ...]}.

    A row holds params, gflops (multiply-adds an image), memory_mb of a forward pass at batch_size
    and memory_kind (`measure_memory_mb`; of the model before it is compiled), compile, precision,
    paths (each mode's fastest: memory_format, and fused_attention, None where there is no choice),
    n (rounds done) and images_per_second: for "forward" (evaluation mode, no gradients) and, with
    `train`, "train" (forward, cross-entropy, backward, AdamW) the median and every round's value.
    A contender that fails or does not fit keeps what was measured until then, gets the reason as
    "error", and is skipped. settings["matmul_tflops"] holds size, median and rounds of a square
    matrix product (nestbook.benchmarks.rates) in the same precision, timed at the end of each
    round.

    Args:
        precision: "fp32" or "bf16" (autocast).
        train: time a training step of classification too; False for generators.
        seconds_per_round: least time a contender is run for in each round and mode.
        warmup: untimed steps of each mode before the first round; one more begins each round.
        time_limit_s: no further round is begun that would probably end later than this many
            seconds after the call; the first is always run.

    Raises:
        ValueError: unknown precision, fewer than one round, or contenders that share a name.
    """
    check_settings(precision, rounds)
    names = [contender.name for contender in contenders]
    if len(set(names)) < len(names):
        raise ValueError(f"contenders {names} share a name; name each differently")
    start, device = time.perf_counter(), torch.device(device)
    runners = [_Runner(contender, device, precision, train) for contender in contenders]
    with equal_tf32() as tf32:
        matmul = MatrixProduct(device, precision)
        with tqdm(total=len(runners) * (1 + rounds), disable=not progress, unit="turn") as bar:
            _in_turn(runners, bar, _Runner.prepare, warmup)
            for number in count_rounds(rounds, start, time_limit_s):
                _in_turn(runners, bar, _Runner.run_round, seconds_per_round)
                matmul.run_round(seconds_per_round)
                rounds_done = number
    for runner in runners:
        runner.release()
    settings = describe_settings(
        device, precision, rounds, seconds_per_round=seconds_per_round, warmup=warmup,
        time_limit_s=time_limit_s, flop_counter=FLOP_COUNTER, rounds_done=rounds_done,
        seconds=time.perf_counter() - start, tf32=tf32, matmul_tflops=matmul.row,
    )  # fmt: skip
    return {"settings": settings, "rows": [runner.row for runner in runners]}


def prepare_alone(contender: Contender, device: torch.device, precision: str) -> str:
    """Bring a contender to its first timed forward pass, as `bench` does; return "" or its error.

    What torch compiles for it stays in torch's cache.
    """
    runner = _Runner(contender, device, precision, train=False)
    with equal_tf32():
        runner.attempt(runner.prepare, 1)
    return runner.row.get("error", "")


def _in_turn(runners: Sequence[_Runner], bar: tqdm, action: Callable, *args) -> None:
    """One turn of `action` for every contender, in order."""
    for runner in runners:
        bar.set_description(runner.contender.name)
        runner.attempt(partial(action, runner), *args)
        bar.update()


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, targets: Tensor,
    autocast: torch.autocast,
) -> None:  # fmt: skip
    """Forward, cross-entropy, backward, one step of the optimizer; targets as F.cross_entropy's."""
    with autocast:
        loss = F.cross_entropy(model(images), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
