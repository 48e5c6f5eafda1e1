"""Every operator that runs below autograd: how long it took, its FLOPs and bytes, and the part of a
model that it belongs to, by the modules that run and what it does.
"""

import math
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

aten = torch.ops.aten
# Beside views: they only make a tensor, which nothing reads or writes yet.
ALLOCATIONS = (
    aten._unsafe_view.default, aten.empty.memory_format, aten.empty_like.default,
    aten.empty_strided.default, aten.new_empty.default, aten.new_empty_strided.default,
)  # fmt: skip
# What an aten operator does, by its name without a trailing underscore; the first that fits.
KINDS = {
    "matrix products": r"mm|addmm",
    "attention": r"bmm|baddbmm|.*attention.*",  # nothing else here multiplies in batches
    "softmax": r"_(log_)?softmax(_backward_data)?",
    "convolutions": r"convolution(_backward)?",
    "norms": r".*(layer|batch|group|rms)_norm.*",
    "activations": r"(gelu|relu|silu|hardtanh|threshold)(_backward)?",
    "pooling": r".*pool.*|mean",
    "additions": r"add",
    "sums": r"sum",
    "copies": r"clone|copy|_to_copy|cat|stack|roll|constant_pad_nd",
    "optimizer": r"_fused_adamw",
}


@dataclass(frozen=True)
class Operator:
    """One call; begin and end are seconds on a CPU and events on a GPU."""

    part: str
    kind: str
    flops: int
    bytes: int
    begin: "float | torch.cuda.Event"
    end: "float | torch.cuda.Event"

    @property
    def seconds(self) -> float:
        """Known once the device is idle."""
        if isinstance(self.begin, float):
            return self.end - self.begin
        return self.begin.elapsed_time(self.end) / 1e3


@dataclass
class _Frame:
    """A module that is running, and which of its children have run in this call."""

    path: str
    done: list[str] = field(default_factory=list)


class OperatorTimer(TorchDispatchMode):
    """Notes every operator below autograd, with the module that runs it (the model itself, in a
    backward pass and in an optimizer's step).

    Views and allocations are run, but not noted: they move nothing. Their time, the host's, is in
    the whole pass.
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
        if func.is_view or func in ALLOCATIONS:
            return func(*args, **kwargs)
        begin = _mark(self.device)
        out = func(*args, **kwargs)
        end = _mark(self.device)
        kind, frame = operator_kind(func.overloadpacket.__name__), self.frames[-1]
        self.operators.append(Operator(
            self.name(frame.path, kind, frame.done), kind, _flops(func, args, kwargs, out),
            _bytes((args, kwargs)) + _bytes(out), begin, end,
        ))  # fmt: skip
        return out


def _mark(device: torch.device) -> "float | torch.cuda.Event":
    """The time now; on a GPU an event in its queue, so that the host's work is not measured."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _flops(func, args, kwargs, out) -> int:
    # torch's counter has no formula for the CPU's fused attention. Its backward pass counts as the
    # four products that the gradients need; the scores that it computes anew are its own affair.
    if func.overloadpacket is aten._scaled_dot_product_flash_attention_for_cpu:
        return sdpa_flop_count(*(x.shape for x in args[:3]))
    if func.overloadpacket is aten._scaled_dot_product_flash_attention_for_cpu_backward:
        return 2 * sdpa_flop_count(*(x.shape for x in args[1:4]))
    formula = flop_registry.get(func.overloadpacket)
    return formula(*args, **kwargs, out_val=out) if formula else 0


def _bytes(values) -> int:
    """Bytes of the tensors in `values`, each tensor once, without what `expand` repeats."""
    tensors = {id(x): x for x in tree_leaves(values) if isinstance(x, Tensor)}
    return sum(
        x.itemsize * math.prod(size for size, stride in zip(x.shape, x.stride()) if stride)
        for x in tensors.values()
    )


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
