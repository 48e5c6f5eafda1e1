"""Stochastic depth: in training, branches of residual layers are dropped by sample."""

from torch import Tensor, nn


class StochasticDepth(nn.Module):
    """In training, drop a sample's branch at a rate and scale the others up (arXiv 1603.09382).

    The same as torchvision's by rows, whose import takes as long as torch's.
    """

    def __init__(self, p: float):
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, N, C) -> (B, T, N, C)."""
        if not self.training or not self.p:
            return x
        kept = x.new_empty([x.shape[0], 1, 1, 1]).bernoulli_(1 - self.p)
        return x * kept.div_(1 - self.p)
