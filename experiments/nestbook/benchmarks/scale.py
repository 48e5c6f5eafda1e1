"""How long, and how dear, a training run is on many devices: three measured rates and arithmetic.

A step of B images on N devices takes

    compute   B / (N r)                r images/s, trained by one device
    exchange  2 (N - 1) / N * G / w    G bytes of gradients, w bytes/s sent by a device (a ring)
    input     B / (N l)                l images/s, of the loader, for one device

PyTorch exchanges gradients while later ones are computed, and loads batches ahead. So a step takes
the longest of the three at least, and compute + exchange, or input, at most; what runs do lies
between. Not in it: checkpoints, evaluation, a rate that falls as a device's share gets small.
"""

from dataclasses import dataclass

RANKS = tuple(2**i for i in range(9))  # 1 to 256
BYTES_PER_PARAMETER = 4  # gradients are fp32, also in bf16 runs


@dataclass(frozen=True)
class Job:
    """What is trained: images of an epoch and of a step, epochs, and the model's parameters."""

    num_images: int
    batch_size: int
    epochs: int
    num_params: int


@dataclass(frozen=True)
class Rates:
    """Of one device. loader: None where it was not measured, and is taken for no limit."""

    images_per_second: float
    bytes_per_second: float
    loader: float | None = None


@dataclass(frozen=True)
class Prediction:
    """Between full overlap (least) and none (most)."""

    ranks: int
    step_seconds: tuple[float, float]
    hours: tuple[float, float]
    efficiency: tuple[float, float]  # of the devices' own rates; the lower one first


def predict(job: Job, rates: Rates, ranks: int) -> Prediction:
    """
    Raises:
        ValueError: fewer images in a step than ranks, or a rate that is not above 0.
    """
    given = [rates.images_per_second, rates.bytes_per_second, rates.loader or 1]
    if not 1 <= ranks <= job.batch_size or min(given) <= 0:
        raise ValueError(
            f"{ranks} ranks with {rates} cannot train batches of {job.batch_size}; use 1 to "
            f"{job.batch_size} ranks and rates above 0"
        )
    compute = job.batch_size / (ranks * rates.images_per_second)
    size = job.num_params * BYTES_PER_PARAMETER
    exchange = 2 * (ranks - 1) / ranks * size / rates.bytes_per_second
    load = job.batch_size / (ranks * rates.loader) if rates.loader else 0.0
    least, most = max(compute, exchange, load), max(compute + exchange, load)
    hours = job.epochs * (job.num_images // job.batch_size) / 3600
    return Prediction(
        ranks, (least, most), (hours * least, hours * most), (compute / most, compute / least)
    )
