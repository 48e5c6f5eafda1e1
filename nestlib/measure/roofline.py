"""Where the time of a forward pass goes, part by part, beside the least that the machine needs.

Two floors hold for each part: its FLOPs at the rate of a large matrix product, and its bytes (each
operator's inputs, weights and outputs, once) at the rate of a large copy. Both rates are measured
in the same process. A part far above both loses time that better code could win.
"""

import math
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

from nestlib.measure.cost import running_mode
from nestlib.measure.speed import PRECISIONS

aten = torch.ops.aten
RATE_SECONDS = 1.0  # for which the machine's own rates are tried, each

# What an aten operator does, by its name without a trailing underscore; the first that fits.
KINDS = {
    "matrix products": r"mm|addmm",
    "attention": r"bmm|baddbmm|_softmax|.*attention.*",  # nothing else here multiplies in batches
    "convolutions": r"convolution",
    "norms": r".*(layer|batch|group|rms)_norm.*",
    "activations": r"gelu|relu|silu|hardtanh",
    "pooling": r".*pool.*|mean",
    "additions": r"add",
    "copies": r"clone|copy|_to_copy|cat|stack|roll|constant_pad_nd",
}


@dataclass(frozen=True)
class Machine:
    """The rates that floors are computed from."""

    flops_per_second: float  # two FLOPs a multiply-add
    bytes_per_second: float  # read and written


def measure_machine(device: str | torch.device, precision: str = "fp32") -> Machine:
    """Both rates of a device, in about two seconds."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    return Machine(measure_matmul_rate(device, dtype), measure_bandwidth(device))


def measure_matmul_rate(device: str | torch.device, dtype: torch.dtype = torch.float32) -> float:
    """FLOPs a second (two a multiply-add) of a large square matrix product, the fastest found."""
    edge = 8192 if torch.device(device).type == "cuda" else 2048
    a, b = (torch.randn(edge, edge, device=device).to(dtype) for _ in range(2))
    return 2 * edge**3 / _fastest(partial(torch.mm, a, b, out=torch.empty_like(a)), device)


def measure_bandwidth(device: str | torch.device) -> float:
    """Bytes a second, read and written, of a copy too large for any cache, the fastest found."""
    size = 2**30 if torch.device(device).type == "cuda" else 2**28  # bytes
    source = torch.ones(size, dtype=torch.uint8, device=device)
    return 2 * size / _fastest(partial(torch.empty_like(source).copy_, source), device)


def _fastest(action: Callable, device: str | torch.device) -> float:
    """Least seconds of a call: calls that a neighbour disturbs are left out."""
    device = torch.device(device)
    action()
    times, end = [], time.perf_counter() + RATE_SECONDS
    while not times or time.perf_counter() < end:
        _synchronize(device)
        start = time.perf_counter()
        action()
        _synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)


def roofline(
    model: nn.Module, images: Tensor, *, precision: str = "fp32", rounds: int = 10, warmup: int = 2,
    machine: Machine | None = None,
) -> dict:  # fmt: skip
    """Time the parts of a forward pass (evaluation, eager, no gradients); returns JSON-ready data.

    Rounds time the pass as a whole and then by parts, in turn. The result holds settings, machine
    (its two rates), whole_seconds (median), parts_seconds (sum over the parts' medians), the rounds
    of both, overhead (median over rounds of parts / whole, less 1: what timing single operators
    adds, less the host's work between them, which no part holds), copy_seconds (of operators that
    compute nothing) and parts, in the order in which they first run. A part holds name, calls
    (operators that are no views), seconds, copy_seconds, gflop (10**9 FLOPs, two a multiply-add:
    products and convolutions only), mbytes (10**6), arithmetic_floor_seconds and
    bytes_floor_seconds.

    Bytes are those that each operator by itself must move: inputs, weights and outputs once. Fewer
    operators would need fewer. A part can be faster than its floor: from a cache, or where a kernel
    does better than the matrix product that the rate is of.

    Args:
        images: (B, 3, H, W), on the model's device; model and images keep their memory format.
        precision: "fp32" or "bf16" (autocast).
        machine: rates measured before; by default they are measured here.

    Raises:
        ValueError: unknown precision, or fewer than one round.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r} is unknown; use one of {PRECISIONS}")
    if rounds < 1:
        raise ValueError(f"rounds {rounds} would measure nothing; use 1 or more")
    device = images.device
    # As in `bench`: convolutions get TF32 only where matrix products do, or no floor would hold.
    tf32 = torch.get_float32_matmul_precision() != "highest"
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    with (
        torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32),
        running_mode(model, training=False), torch.no_grad(),
    ):  # fmt: skip
        machine = machine or measure_machine(device, precision)
        whole, by_parts = [], []
        for number in range(warmup + rounds):
            with autocast:
                seconds = _time_whole(model, images)
            with autocast:
                parts = count_parts(model, images)
            if number >= warmup:
                whole.append(seconds)
                by_parts.append(parts)
    settings = {
        "batch_size": len(images), "image_size": images.shape[-1], "precision": precision,
        "rounds": rounds, "warmup": warmup, "device": str(device), "tf32": tf32,
        "threads": torch.get_num_threads(), "torch": torch.__version__,
    }  # fmt: skip
    return {"settings": settings, **_summarize(machine, whole, by_parts)}


def _time_whole(model: nn.Module, images: Tensor) -> float:
    _synchronize(images.device)
    start = time.perf_counter()
    model(images)
    _synchronize(images.device)
    return time.perf_counter() - start


@dataclass
class Part:
    """Totals of the operators that run in one part of a model, in one pass."""

    calls: int = 0
    seconds: float = 0.0
    copy_seconds: float = 0.0
    flops: int = 0
    bytes: int = 0


def count_parts(model: nn.Module, images: Tensor) -> dict[str, Part]:
    """Run the model once as it is; what each part took and had to do, in running order."""
    with _OperatorTimer(model, images.device) as timer:
        model(images)
    _synchronize(images.device)
    parts: dict[str, Part] = {}
    for operator in timer.operators:
        part = parts.setdefault(operator.part, Part())
        seconds = _seconds_between(operator.begin, operator.end)
        part.calls += 1
        part.seconds += seconds
        part.copy_seconds += seconds * (operator.kind == "copies")
        part.flops += operator.flops
        part.bytes += operator.bytes
    return parts


def _summarize(machine: Machine, whole: list[float], by_parts: list[Mapping[str, Part]]) -> dict:
    """Medians over rounds, floors and shares, ready for JSON."""
    rows = []
    for name, part in by_parts[0].items():
        rows.append({
            "name": name,
            "calls": part.calls,
            "seconds": statistics.median(parts[name].seconds for parts in by_parts),
            "copy_seconds": statistics.median(parts[name].copy_seconds for parts in by_parts),
            "gflop": part.flops / 1e9,
            "mbytes": part.bytes / 1e6,
            "arithmetic_floor_seconds": part.flops / machine.flops_per_second,
            "bytes_floor_seconds": part.bytes / machine.bytes_per_second,
        })  # fmt: skip
    sums = [sum(part.seconds for part in parts.values()) for parts in by_parts]
    return {
        "machine": {
            "matmul_gflop_per_second": machine.flops_per_second / 1e9,
            "copy_gbyte_per_second": machine.bytes_per_second / 1e9,
        },
        "whole_seconds": statistics.median(whole),
        "whole_rounds": whole,
        "parts_seconds": sum(row["seconds"] for row in rows),
        "parts_rounds": sums,
        "overhead": statistics.median(a / b for a, b in zip(sums, whole)) - 1,
        "copy_seconds": sum(row["copy_seconds"] for row in rows),
        "parts": rows,
    }


@dataclass(frozen=True)
class _Operator:
    """One call; begin and end are seconds on a CPU and events on a GPU."""

    part: str
    kind: str
    flops: int
    bytes: int
    begin: "float | torch.cuda.Event"
    end: "float | torch.cuda.Event"


@dataclass
class _Frame:
    """A module that is running, and which of its children have run in this call."""

    path: str
    done: list[str] = field(default_factory=list)


class _OperatorTimer(TorchDispatchMode):
    """Notes every operator below autograd, with the module that runs it.

    Views are run, but not noted: they move nothing. Their time, the host's, is in the whole pass.
    """

    def __init__(self, model: nn.Module, device: torch.device):
        super().__init__()
        self.model, self.device = model, device
        self.frames, self.operators = [_Frame("")], []
        self.name = name_nest_part if hasattr(model, "hierarchies") else name_part

    def __enter__(self):
        self.hooks = []
        for path, module in self.model.named_modules():
            if module is not self.model:  # the lowest frame stands for it
                self.hooks += [
                    module.register_forward_pre_hook(partial(self._begin_module, path)),
                    module.register_forward_hook(self._end_module),
                ]
        return super().__enter__()

    def __exit__(self, *error):
        for hook in self.hooks:
            hook.remove()
        return super().__exit__(*error)

    def _begin_module(self, path: str, *_) -> None:
        self.frames.append(_Frame(path))

    def _end_module(self, *_) -> None:
        ended = self.frames.pop()
        self.frames[-1].done.append(ended.path)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func.is_view or func is aten._unsafe_view.default:
            return func(*args, **kwargs)
        begin = _mark(self.device)
        out = func(*args, **kwargs)
        end = _mark(self.device)
        kind, frame = operator_kind(func.overloadpacket.__name__), self.frames[-1]
        self.operators.append(_Operator(
            self.name(frame.path, kind, frame.done), kind, _flops(func, args, kwargs, out),
            _bytes((args, kwargs)) + _bytes(out), begin, end,
        ))  # fmt: skip
        return out


def _mark(device: torch.device) -> "float | torch.cuda.Event":
    """Now. On a GPU an event in its queue, so that the host's work beside it is not measured."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _seconds_between(begin, end) -> float:
    return end - begin if isinstance(begin, float) else begin.elapsed_time(end) / 1e3


def _flops(func, args, kwargs, out) -> int:
    # torch's counter has no formula for the CPU's fused attention.
    if func.overloadpacket is aten._scaled_dot_product_flash_attention_for_cpu:
        return sdpa_flop_count(*(x.shape for x in args[:3]))
    formula = flop_registry.get(func.overloadpacket)
    return formula(*args, **kwargs, out_val=out) if formula else 0


def _bytes(values) -> int:
    """Bytes of the tensors in `values`, each tensor once, without what `expand` repeats."""
    tensors = {id(x): x for x in tree_leaves(values) if isinstance(x, Tensor)}
    return sum(
        x.itemsize * math.prod(size for size, stride in zip(x.shape, x.stride()) if stride)
        for x in tensors.values()
    )


def _synchronize(device: torch.device) -> None:
    if device.type != "meta":
        torch.get_device_module(device).synchronize(device)


def operator_kind(name: str) -> str:
    """One of KINDS for an aten operator's name, "other" if none fits."""
    name = name.removesuffix("_")
    return next((kind for kind, names in KINDS.items() if re.fullmatch(names, name)), "other")


def name_part(path: str, kind: str, done: Sequence[str]) -> str:
    """The part of any model that an operator belongs to: the outermost module, and its kind.

    Args:
        path: dotted name of the innermost running module, "" for the model itself.
        kind: `operator_kind`.
        done: children of that module that have already run in this call.
    """
    return f"{path.split('.')[0]}: {kind}" if path else kind


def name_nest_part(path: str, kind: str, done: Sequence[str]) -> str:
    """As `name_part`, for NesT: by its modules' names, what a module itself runs by its kind."""
    root, level, *names = [*path.split("."), "", ""]
    if root == "hierarchies":
        return f"hierarchy {level}: {_layer_part(names[1:-2], kind)}"
    if root == "aggregations":
        return f"aggregation {level}: {names[0] or _aggregation_part(kind, done)}"
    if root == "patch_embed":
        return "patch embedding"
    level = sum(child.startswith("hierarchies.") for child in done)
    if root != "" or "norm" in done:
        return "head"
    if level == 0 and kind == "copies":
        return "patch embedding"
    return f"hierarchy {level}: position embedding"


def _layer_part(names: Sequence[str], kind: str) -> str:
    """names: of the modules below a transformer layer, the innermost last."""
    innermost = names[-1] if names else ""
    if innermost == "attn":
        return {"copies": "attention's copies", "matrix products": kind}.get(kind, "attention")
    if innermost in ("", "drop_path"):
        return "residual additions" if kind == "additions" else kind
    return {"norm1": "norms", "norm2": "norms", "act": "activation"}.get(innermost, innermost)


def _aggregation_part(kind: str, done: Sequence[str]) -> str:
    if kind == "copies":
        return "block" if any(child.endswith(".conv") for child in done) else "unblock"
    return "pool" if kind == "pooling" else kind
