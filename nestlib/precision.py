"""fp32 or bf16: which one a device computes itself, and what "auto" stands for."""

import warnings
from functools import cache

import torch

from nestlib.choices import check_choice
from nestlib.processor import has_bf16_products

PRECISIONS = ("fp32", "bf16")
CHOICES = (*PRECISIONS, "auto")
_TRIAL_SIZE, _TRIAL_SECONDS = 512, 0.05  # a product of milliseconds


def resolve_precision(name: str, device: torch.device) -> str:
    """The precision to run in: "auto" is bf16 if the device computes it itself, else fp32.

    Called once, where a run is started; what it gives stands in the run's recipe and record. bf16
    on a device that has to emulate it is right but slow: a warning says by how much, measured then.

    Raises:
        ValueError: an unknown name; the message lists the valid ones.
    """
    check_choice("precision", name, CHOICES)
    native = computes_bf16(device)
    if name == "auto":
        return "bf16" if native else "fp32"
    if name == "bf16" and not native:
        warnings.warn(
            f"this {device.type} emulates bf16: a product of two matrices of "
            f"{_TRIAL_SIZE}x{_TRIAL_SIZE} takes {_measure_slowdown(device):.1f} times as long as "
            "in fp32, measured just now; precision auto uses fp32 here",
            stacklevel=2,
        )
    return name


def check_precision(name: str) -> None:
    """Raise ValueError if a precision is not one of PRECISIONS."""
    check_choice("precision", name, PRECISIONS)


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context in which operators compute in a precision: bf16 if they gain by it, or fp32.

    On a CPU the first bf16 context makes every CPU autocast of this process compute layer norms in
    fp32, as CUDA's autocast does.
    """
    bf16 = precision == "bf16"
    if bf16 and device.type == "cpu":
        _compute_layer_norms_in_fp32()
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16)


@cache
def _compute_layer_norms_in_fp32() -> None:
    """Add layer norm to the operators that CPU autocast computes in fp32.

    torch's CPU kernel adds up the gradients of a layer norm's weights in the input's precision: in
    bf16 a sum of ones ends at 256 (findings/cpu_bf16_layer_norm_gradients_stop.sh).
    """
    torch.library.register_autocast("aten::layer_norm", "cpu", torch.float32)


def computes_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bf16 itself, by torch's own account of it."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return has_bf16_products()


def _measure_slowdown(device: torch.device) -> float:
    """How many times as long a product takes in bf16 as in fp32."""
    # Its import prints a warning of torch's where a CUDA toolkit is installed and no GPU is there.
    from torch.utils.benchmark import Timer

    medians = []
    for dtype in (torch.bfloat16, torch.float32):
        a = torch.ones(_TRIAL_SIZE, _TRIAL_SIZE, device=device, dtype=dtype)
        timer = Timer("a @ a", globals={"a": a}, num_threads=torch.get_num_threads())
        medians.append(timer.blocked_autorange(min_run_time=_TRIAL_SECONDS).median)
    return medians[0] / medians[1]
