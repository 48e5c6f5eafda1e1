"""Images a second of models, measured in turn, with what each costs.

Speeds of different runs do not compare: clocks, neighbours and libraries move. So `bench` times all
contenders within one process, A B C A B C ..., and reports every round's value beside the median.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from nestlib.measure.cost import (
    FLOP_COUNTER,
    check_fits,
    count_gflops,
    count_params,
    measure_memory_mb,
    running_mode,
)

PRECISIONS = ("fp32", "bf16")
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True)
class Contender:
    """A model to be timed on images (batch_size, 3, image_size, image_size)."""

    name: str
    build: Callable[[], nn.Module]
    image_size: int  # pixels
    batch_size: int


class _Runner:
    """One contender on its device, and the row of results that it fills."""

    def __init__(self, contender: Contender, device: torch.device, precision: str, train: bool):
        self.contender, self.device = contender, device
        self.synchronize = partial(torch.get_device_module(device).synchronize, device)
        bf16 = precision == "bf16"
        self.autocast = partial(torch.autocast, device.type, torch.bfloat16, enabled=bf16)
        self.steps = {"forward": self._forward} | ({"train": self._train} if train else {})
        self.row = {
            "name": contender.name, "image_size": contender.image_size,
            "batch_size": contender.batch_size, "n": 0,
            "images_per_second": {mode: {"median": None, "rounds": []} for mode in self.steps},
        }  # fmt: skip

    def attempt(self, action: Callable, *args) -> None:
        """Run `action`; what a machine can lack (memory, a library) ends this row only."""
        if "error" in self.row:
            return
        try:
            action(*args)
        except (RuntimeError, MemoryError, ImportError) as error:
            reason = (str(error).splitlines() or ["no message"])[0]
            self.row["error"] = f"{type(error).__name__}: {reason}"
        # Outside the handler, whose traceback would keep the tensors of the failed pass alive.
        if "error" in self.row:
            self.release()

    def prepare(self, warmup: int) -> None:
        """Build, count, measure memory and warm up."""
        size, batch = self.contender.image_size, self.contender.batch_size
        with torch.device("meta"):  # counts need no memory, so a model too large has them too
            sketch = self.contender.build()
            self.row["params"] = count_params(sketch)
            self.row["gflops"] = count_gflops(sketch, size)
            if self.device.type == "cpu":  # a GPU says itself that it is full
                check_fits(sketch, batch, size, train="train" in self.steps)
        self.model = self.contender.build().to(self.device)
        self.images = torch.randn(batch, 3, size, size, device=self.device)
        with running_mode(self.model, training=False), torch.no_grad():
            num_classes = self.model(self.images[:1]).shape[-1]
        self.labels = torch.randint(num_classes, (batch,), device=self.device)
        self._choose_path()
        with self.autocast():
            self.row["memory_mb"], self.row["memory_kind"] = measure_memory_mb(
                self.model, self.images
            )
        for mode in self.steps:
            self._time(mode, iterations=warmup)

    def _choose_path(self) -> None:
        """Keep the fastest of the model's own paths, timed on a quarter of the batch.

        A convnet can have its channels last; attention that can run fused but does not by default
        (timm's Swin) may. Every peer shall run as fast as its library lets it.
        """
        formats = MEMORY_FORMATS if _has_spatial_convs(self.model) else ["contiguous"]
        unfused = [m for m in self.model.modules() if getattr(m, "fused_attn", True) is False]
        paths, seconds = list(product(formats, [False, True] if unfused else [None])), {}
        whole, mode = (self.images, self.labels), list(self.steps)[-1]
        for path in paths if len(paths) > 1 else ():
            self.images, self.labels = (part[: -(-len(part) // 4)] for part in whole)
            self._use_path(path, unfused)
            self._time(mode, iterations=1)
            seconds[path] = self._time(mode, iterations=2)
        self.images, self.labels = whole
        path = min(seconds, key=seconds.get) if seconds else paths[0]
        self._use_path(path, unfused)
        self.row["memory_format"], self.row["fused_attention"] = path

    def _use_path(self, path: tuple[str, bool | None], unfused: list[nn.Module]) -> None:
        memory_format, fused = MEMORY_FORMATS[path[0]], path[1]
        self.model.to(memory_format=memory_format)
        self.images = self.images.contiguous(memory_format=memory_format)
        for module in unfused:
            module.fused_attn = fused
        # A new optimizer, because fused AdamW's state must have the weights' layout.
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)

    def _forward(self) -> None:
        with torch.inference_mode(), self.autocast():
            self.model(self.images)

    def _train(self) -> None:
        with self.autocast():
            loss = F.cross_entropy(self.model(self.images), self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def _time(self, mode: str, iterations: int) -> float:
        """Seconds that so many steps take, from an idle device to an idle device."""
        with running_mode(self.model, training=mode == "train"):
            self.synchronize()
            start = time.perf_counter()
            for _ in range(iterations):
                self.steps[mode]()
            self.synchronize()
            return time.perf_counter() - start

    def run_round(self, seconds: float) -> None:
        """Time every mode for at least `seconds` (and one step), and note its images a second."""
        for mode in self.steps:
            done, elapsed = 1, self._time(mode, iterations=1)
            while elapsed < seconds:
                # As many as should fill the rest: to wait for the device costs a queue refill.
                more = math.ceil((seconds - elapsed) * done / elapsed)
                elapsed += self._time(mode, more)
                done += more
            speeds = self.row["images_per_second"][mode]
            speeds["rounds"].append(done * self.contender.batch_size / elapsed)
            speeds["median"] = statistics.median(speeds["rounds"])
        self.row["n"] += 1
        # While others run, only weights and optimizer state stay.
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
    and memory_kind (`measure_memory_mb`), memory_format and fused_attention (the path chosen; None
    where the model leaves no choice), n (rounds done) and images_per_second:
    for "forward" (evaluation mode, no gradients) and, with `train`, "train" (forward,
    cross-entropy, backward, AdamW) the median and every round's value. A contender that fails or
    does not fit keeps what was measured until then, gets the reason as "error", and is skipped.

    Args:
        precision: "fp32" or "bf16" (autocast).
        seconds_per_round: least time a contender is run for in each round and mode.
        warmup: untimed steps of each mode before the first round.
        time_limit_s: no further round is begun that would probably end later than this many
            seconds after the call; the first is always run.

    Raises:
        ValueError: unknown precision, fewer than one round, or contenders that share a name.
    """
    _check(contenders, precision, rounds)
    settings = {
        "precision": precision, "rounds": rounds, "seconds_per_round": seconds_per_round,
        "warmup": warmup, "time_limit_s": time_limit_s, **_machine(torch.device(device)),
    }  # fmt: skip
    start = time.perf_counter()
    runners = [_Runner(c, torch.device(device), precision, train) for c in contenders]
    # Convolutions get TF32 only where matrix products do: torch's defaults would favour convnets.
    tf32 = torch.get_float32_matmul_precision() != "highest"
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32):
        with tqdm(total=len(runners) * (1 + rounds), disable=not progress, unit="turn") as bar:
            _in_turn(runners, bar, _Runner.prepare, warmup)
            rounds_done = 0
            while rounds_done < rounds:
                began = time.perf_counter()
                _in_turn(runners, bar, _Runner.run_round, seconds_per_round)
                now, rounds_done = time.perf_counter(), rounds_done + 1
                if time_limit_s is not None and now + (now - began) > start + time_limit_s:
                    break
    for runner in runners:
        runner.release()
    settings |= {"rounds_done": rounds_done, "seconds": time.perf_counter() - start, "tf32": tf32}
    return {"settings": settings, "rows": [runner.row for runner in runners]}


def _in_turn(runners: Sequence[_Runner], bar: tqdm, action: Callable, *args) -> None:
    """One turn of `action` for every contender, in order."""
    for runner in runners:
        bar.set_description(runner.contender.name)
        runner.attempt(partial(action, runner), *args)
        bar.update()


def _check(contenders: Sequence[Contender], precision: str, rounds: int) -> None:
    names = [contender.name for contender in contenders]
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; use one of {PRECISIONS}")
    if rounds < 1:
        raise ValueError(f"rounds {rounds} would measure nothing; use 1 or more")
    if len(set(names)) < len(names):
        raise ValueError(f"contenders {names} share a name; name each differently")


def _machine(device: torch.device) -> dict:
    """What the numbers depend on, beside the settings and the machine itself."""
    return {
        "device": str(device), "threads": torch.get_num_threads(), "torch": torch.__version__,
        "flop_counter": FLOP_COUNTER,
    }  # fmt: skip
