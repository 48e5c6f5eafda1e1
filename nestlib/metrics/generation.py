"""How close generated images are to real ones: FID and similar scores on a network's features.

A score is its whole pipeline, so `score_samples` returns with every number the feature network and
the checksum of its weights, the resize, the reference set and its fingerprint, both counts and the
seed. "fid", "inception_score" and "kid" are names for Inception-v3's features alone; by any other
network the same formulas are called frechet_distance, classifier_score and kernel_distance, and
compare with nothing published. The formulas are torch-fidelity's, on features.

Shapes: N images (N, 3, H, W) uint8; features (N, D), logits (N, K).
"""

import hashlib
import json
import logging
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from nestlib.arguments import Count, Range, Seed, check_argument
from nestlib.data.containers import FolderSet, ImageSet, check_bytes
from nestlib.metrics.features import FeatureNetwork
from nestlib.models.mode import running_mode
from nestlib.models.tensor_files import read_tensors, write_tensors

log_line = logging.getLogger(__name__)

SMALL_EDGE = 8  # of the planes that `pixel_features` looks at
BATCH = 50
MOST_VALUE = 1e100  # of a feature: float64 holds the products of such
MOST_SEED = 2**32 - 1  # numpy's, by which torch-fidelity draws
INCEPTION_SPLITS = 10
KID_SUBSETS, KID_SUBSET_SIZE = 100, 1000  # torch-fidelity's defaults


@dataclass(frozen=True)
class Statistics:
    """Mean (D,) and covariance (D, D) of feature vectors, float64, of `n` images."""

    mean: Tensor
    covariance: Tensor
    n: int


def compute_statistics(features: Tensor) -> Statistics:
    """Mean and unbiased covariance of features (N, D), summed in float64.

    Raises:
        ValueError: features that are none or not finite; fewer than two images have no covariance.
    """
    _check_finite("features", features)
    if len(features) < 2:
        raise ValueError(f"features of {len(features)} images have no covariance; give two or more")
    features = features.double()
    covariance = torch.cov(features.T).reshape(features.shape[1], -1)
    return Statistics(features.mean(0), covariance, len(features))


def _check_finite(name: str, values: Tensor) -> None:
    """Raise ValueError unless values are (N, D), real, finite, and their squares too."""
    real = isinstance(values, Tensor) and values.is_floating_point()
    if not real or values.ndim != 2 or not values.shape[1]:
        given = f"{values.dtype} {tuple(values.shape)}" if real else f"a {type(values).__name__}"
        raise ValueError(f"{name} are {given}; give a tensor (N, D) of real numbers")
    largest = values.abs().amax(1) if len(values) else values.new_zeros(1)
    wrong = ~(largest.double() <= MOST_VALUE)
    if wrong.any():
        raise ValueError(
            f"the {name} of image {int(wrong.nonzero()[0])} hold NaN, infinity or more than "
            f"{MOST_VALUE:g}; give finite images and a network of finite weights"
        )


def frechet_distance(first: Statistics, second: Statistics) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)): FID's formula (arXiv 1706.08500, equation 6).

    The last trace is that of the root of C1^(1/2) C2 C1^(1/2), which is symmetric: no complex
    numbers, and nothing is added to singular covariances. Training uses this form, which needs no
    library and runs where the features are; torch-fidelity's gives the same numbers. Warns where a
    covariance has no full rank.

    Raises:
        ValueError: statistics of different numbers of features, or not finite ones.
    """
    shapes = [tuple(one.mean.shape) for one in (first, second)]
    finite = all(x.isfinite().all() for one in (first, second) for x in (one.mean, one.covariance))
    if shapes[0] != shapes[1] or not finite:
        raise ValueError(
            f"statistics of features {shapes[0]} and {shapes[1]} have no distance; give finite "
            "ones by one network"
        )
    _warn_of_few(first.n, second.n, len(first.mean))
    root = _root(first.covariance)
    middle = torch.linalg.eigvalsh(root @ second.covariance @ root).clamp(min=0).sqrt().sum()
    traces = first.covariance.trace() + second.covariance.trace()
    return float((first.mean - second.mean).square().sum() + traces - 2 * middle)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _warn_of_few(first: int, second: int, num_features: int) -> str:
    """Warn of a Fréchet distance of too few images, and return the warning; "" for enough."""
    if min(first, second) > num_features:
        return ""
    note = (
        f"Fréchet distance of {first:,} and {second:,} images by {num_features:,} features: with "
        f"fewer than {num_features + 1:,} of each a covariance is singular, and the distance "
        "depends on their number; give more, or compare it only with distances of equally many"
    )
    warnings.warn(note, stacklevel=3)
    return note


def pixel_features(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) in -1..1, made 8x8 by means and flattened: (B, 192).

    Colours and coarse shapes alone: enough to see, at every row of a history and with no network,
    whether samples come nearer to the data. It is no FID and stands in no table.
    """
    return F.adaptive_avg_pool2d(images.float().clamp(-1, 1), SMALL_EDGE).flatten(1)


@torch.no_grad()
def generate(generator: nn.Module, count: int, *, seed: int) -> Tensor:
    """`count` images of a generator in evaluation mode, (count, 3, H, W) uint8 on the CPU.

    Noise is drawn on the CPU, so that a seed means the same images on every device but for
    rounding.

    Raises:
        ValueError: a count or a seed out of its range, or images that are NaN.
    """
    check_argument("generate", "count", count, Count)
    check_argument("generate", "seed", seed, Seed)
    device = next(generator.parameters()).device
    random = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, generator.latent_dim, generator=random)
    with running_mode(generator, training=False):
        parts = [to_bytes(generator(part.to(device))).cpu() for part in noise.split(BATCH)]
    return torch.cat(parts)


def to_bytes(images: Tensor) -> Tensor:
    """Images (B, 3, H, W) in -1..1, clipped, to the nearest of 0..255: uint8.

    Raises:
        ValueError: a value that is NaN, which would become any colour.
    """
    if images.isnan().any():
        raise ValueError("images hold NaN; give those of a generator of finite weights")
    return ((images.float().clamp(-1, 1) + 1) * 127.5).round().byte()


def score_samples(
    samples: Tensor, reference: ImageSet | FolderSet, network: FeatureNetwork, *,
    num_reference: int | None = None, seed: int = 0, cache_dir: Path | None = None,
    progress_bar: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Fréchet distance, inception score and kernel distance of samples (N, 3, H, W) uint8.

    Args:
        reference: the real images; those of its training split, as usual for FID.
        num_reference: how many of them, drawn by `seed`; None: all.
        seed: of that draw, of the inception score's splits and of the kernel distance's subsets.
        cache_dir: keeps the reference's features, by a hash of all that they follow from.

    Returns:
        Plain values: the three scores under the network's names for them, with the standard
        deviations over splits and subsets, and what they were computed with and from. A "note"
        where there are too few images for a Fréchet distance, which is warned of as well.

    Raises:
        ValueError: samples that are no images, fewer images than a score needs, more reference
            images than there are, a seed out of its range, or features that are not finite.
    """
    # Imported here because only who scores needs it.
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import isc_features_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric

    check_bytes(samples, "samples")
    check_argument("score_samples", "seed", seed, Annotated[int, Range(0, MOST_SEED)])
    check_argument("score_samples", "num_reference", num_reference, Count | None)
    count = len(reference) if num_reference is None else num_reference
    if count > len(reference) or min(count, len(samples)) < INCEPTION_SPLITS:
        raise ValueError(
            f"{len(samples)} samples and {count} of {len(reference)} reference images: give at "
            f"least {INCEPTION_SPLITS} of each, and at most as many as there are"
        )
    real = reference_features(
        reference, network, count, seed=seed, cache_dir=cache_dir, progress_bar=progress_bar
    )
    bar = tqdm(samples.split(BATCH), "generated images", disable=not progress_bar, leave=False)
    features, logits = compute_features(bar, network)
    for name, values in ("features", features), ("features", real), ("logits", logits):
        _check_finite(name, values)
    note = _warn_of_few(len(samples), count, features.shape[1])
    statistics = [fid_features_to_statistics(x.double()) for x in (features, real)]
    subset = min(KID_SUBSET_SIZE, count, len(samples))
    fid = fid_statistics_to_metric(*statistics, verbose=False)
    inception = isc_features_to_metric(logits, INCEPTION_SPLITS, shuffle=True, rng_seed=seed)
    kid = kid_features_to_metric(
        features.double(), real.double(), kid_subsets=KID_SUBSETS, kid_subset_size=subset,
        rng_seed=seed, verbose=False,
    )  # fmt: skip
    names = network.score_names
    return {
        names[0]: fid["frechet_inception_distance"],
        names[1]: inception["inception_score_mean"],
        f"{names[1]}_std": inception["inception_score_std"],
        names[2]: kid["kernel_inception_distance_mean"],
        f"{names[2]}_std": kid["kernel_inception_distance_std"],
        "num_samples": len(samples),
        "splits": INCEPTION_SPLITS,
        "subsets": [KID_SUBSETS, subset],
        **describe_reference(reference, network, count, seed),
        **({"note": note} if note else {}),
    }


def describe_reference(
    reference: ImageSet | FolderSet, network: FeatureNetwork, count: int, seed: int
) -> dict[str, Any]:
    """Everything that the reference's features depend on."""
    return {
        "feature_network": network.name,
        "feature_weights_sha256": network.weights_sha256,
        "resize": network.resize,
        "reference": f"{reference.name} {reference.split}",
        "reference_fingerprint": reference.fingerprint,
        "reference_size": list(reference.image_size),
        "num_reference": count,
        "seed": seed,
    }


def reference_features(
    reference: ImageSet | FolderSet, network: FeatureNetwork, count: int, *, seed: int,
    cache_dir: Path | None = None, progress_bar: bool = False,
) -> Tensor:  # fmt: skip
    """Features (count, D) float32 of real images, from the cache if they are there.

    The file's name is the hash of `describe_reference`; a damaged file is computed again.
    """
    facts = json.dumps(describe_reference(reference, network, count, seed), sort_keys=True)
    digest = hashlib.sha256(facts.encode()).hexdigest()[:32]
    path = cache_dir and cache_dir / f"{digest}.safetensors"
    if path and (kept := _read_features(path, count)) is not None:
        return kept
    order = torch.randperm(len(reference), generator=torch.Generator().manual_seed(seed))[:count]
    parts = (images for images, _ in reference.iterate(order, BATCH, seed=seed))
    bar = tqdm(parts, "real images", -(-count // BATCH), disable=not progress_bar, leave=False)
    features, _ = compute_features(bar, network)
    if path:
        try:
            write_tensors(path, {"features": features}, {"facts": facts})
        except OSError as error:  # a full disk must not cost what was just computed
            log_line.warning("cannot keep the reference's features in %s (%s)", path, error)
    return features


def _read_features(path: Path, count: int) -> Tensor | None:
    """Kept features (count, D); None if there are none, or the file is damaged."""
    try:
        features = read_tensors(path)["features"]
    except (OSError, KeyError):
        return None
    fits = features.dtype == torch.float32 and features.ndim == 2 and len(features) == count
    return features if fits and features.isfinite().all() else None


def compute_features(batches: Iterable[Tensor], network: FeatureNetwork) -> tuple[Tensor, Tensor]:
    """Features (N, D) and logits (N, K) of images (B, 3, H, W) uint8, float32 on the CPU."""
    parts = [[x.float().cpu() for x in network(images)] for images in batches]
    features, logits = (torch.cat(column) for column in zip(*parts))
    return features, logits
