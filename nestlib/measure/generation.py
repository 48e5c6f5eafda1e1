"""How near generated images are to real ones: the Fréchet distance of two Gaussians."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

SMALL_EDGE = 8  # of the planes that `pixel_statistics` looks at


@dataclass(frozen=True)
class Statistics:
    """Mean (D,) and covariance (D, D) of feature vectors, float64, of `n` images."""

    mean: Tensor
    covariance: Tensor
    n: int


def compute_statistics(features: Tensor) -> Statistics:
    """Mean and unbiased covariance of features (N, D), summed in float64.

    Raises:
        ValueError: fewer than two images have no covariance.
    """
    if len(features) < 2:
        raise ValueError(f"{len(features)} images have no covariance; give two or more")
    features = features.double()
    return Statistics(features.mean(0), torch.cov(features.T).reshape(features.shape[1], -1),
                      len(features))  # fmt: skip


def frechet_distance(first: Statistics, second: Statistics) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)): FID's formula (arXiv 1706.08500), squared.

    The last trace is that of the root of C1^(1/2) C2 C1^(1/2), which is symmetric, so that neither
    complex numbers nor a small number added to singular covariances are needed.
    """
    root = _root(first.covariance)
    middle = torch.linalg.eigvalsh(root @ second.covariance @ root).clamp(min=0).sqrt().sum()
    traces = first.covariance.trace() + second.covariance.trace()
    return float((first.mean - second.mean).square().sum() + traces - 2 * middle)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def pixel_features(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) in -1..1, made 8x8 by means and flattened: (B, 192).

    Colours and coarse shapes alone: enough to see, at every row of a history and with no network,
    whether samples come nearer to the data. It is no FID and stands in no table.
    """
    return F.adaptive_avg_pool2d(images.float().clamp(-1, 1), SMALL_EDGE).flatten(1)
