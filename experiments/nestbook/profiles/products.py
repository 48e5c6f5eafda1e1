"""The two ways to compute a linear layer on a CPU, timed on NesT's own layers."""

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import torch
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from nestbook.profiles.choices import describe_settings, time_choices
from nestlib.models.linear import Linear, convolve, is_convolved
from nestlib.precision import check_precision

# By what `nestlib.models.linear` chooses between.
CHOICES: dict[str, Callable] = {
    "linear": lambda layer, x: F.linear(x, layer.weight, layer.bias),
    "convolution": lambda layer, x: convolve(layer, x),
}


@dataclass(frozen=True)
class Product:
    """A linear layer of `width_in` to `width_out` on images of so many words each."""

    layer: str
    images: int
    words: int
    width_in: int
    width_out: int


def product_choices(
    products: Iterable[Product], *, device: torch.device, precision: str = "fp32",
    rounds: int = 5, seconds_per_round: float = 0.2, progress: bool = True,
) -> dict:  # fmt: skip
    """Time every way on every layer, in turn, with weights and inputs in the precision itself.

    Returns:
        JSON-ready {"settings": {...}, "rows": [...]}; a row holds a Product's fields, gflop of a
        forward pass, rule (the way that `Linear` takes there), and seconds: {choice: {"forward":
        [a round's seconds, ...], "train": [...]}}, train with the gradients of input, weight, bias.

    Raises:
        ValueError: unknown precision.
    """
    check_precision(precision)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    rows = []
    for product in tqdm(list(products), desc="products", unit="layer", disable=not progress):
        layer = Linear(product.width_in, product.width_out).to(device, dtype)
        shape = product.images, product.words, product.width_in
        x = torch.randn(shape, device=device, dtype=dtype, requires_grad=True)
        steps = {name: _steps(layer, x, compute) for name, compute in CHOICES.items()}
        flops = 2 * product.images * product.words * product.width_in * product.width_out
        rows.append({
            **asdict(product), "gflop": flops / 1e9,
            "rule": "convolution" if is_convolved(x) else "linear",
            "seconds": time_choices(
                steps, device, rounds=rounds, seconds_per_round=seconds_per_round
            ),
        })  # fmt: skip
    return {
        "settings": describe_settings(device, precision, rounds, seconds_per_round), "rows": rows
    }  # fmt: skip


def _steps(layer: nn.Linear, x: torch.Tensor, compute: Callable) -> dict[str, Callable]:
    gradient = torch.randn(*x.shape[:-1], layer.out_features, dtype=x.dtype, device=x.device)

    def forward() -> None:
        with torch.no_grad():
            compute(layer, x)

    def train() -> None:
        torch.autograd.grad(compute(layer, x), (x, layer.weight, layer.bias), gradient)

    return {"forward": forward, "train": train}
