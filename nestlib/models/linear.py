"""Linear layers, by the faster of torch's two ways to compute them on this CPU."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nestlib.processor import prefers_convolutions


class Linear(nn.Linear):
    """torch's linear layer: the same weights, shapes and function.

    On processors where it is faster (`prefers_convolutions`) it is computed as a 1x1 convolution
    over (B, C, words, 1), channels last, for which nothing is copied. On GPUs, in float64 and where
    a graph is taken (torch.compile, export, tracing) it is torch's own linear.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, ..., in_features) -> (B, ..., out_features)"""
        return linear(x, self.weight, self.bias)


@torch.fx.wrap  # a traced graph chooses when it runs
def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """(B, ..., C) -> (B, ..., C') by the faster way; weight (C', C)."""
    if torch.jit.is_scripting():
        out = F.linear(x, weight, bias)
    else:
        out = convolve(x, weight, bias) if is_convolved(x) else F.linear(x, weight, bias)
    return out


def convolve(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`linear` as a 1x1 convolution."""
    words = math.prod(x.shape[1:-1])
    plane = x.reshape(len(x), words, 1, x.shape[-1]).permute(0, 3, 1, 2)
    out = F.conv2d(plane, weight[:, :, None, None], bias)
    return out.permute(0, 2, 3, 1).reshape(*x.shape[:-1], len(weight))


def is_convolved(x: Tensor) -> bool:
    """Whether `Linear` takes the convolution for an input (B, ..., C)."""
    possible = x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)
    if not possible or x.ndim < 3 or not x.numel():
        return False
    taken = torch.compiler.is_compiling() or torch.jit.is_tracing()
    return not taken and prefers_convolutions()
