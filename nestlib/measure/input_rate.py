"""How fast training batches are made, without a model: the input side must never be the limit."""

import math
import statistics
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from nestlib.data.augment import Augmentation, augment
from nestlib.data.containers import FolderSet, ImageSet


def measure_input_rate(
    train_set: ImageSet | FolderSet, augmentation: Augmentation, batch_size: int, *,
    rounds: int = 5, seconds_per_round: float = 1.0,
) -> dict:  # fmt: skip
    """Images/s of batches drawn from `train_set` and augmented on its device, as the trainer does.

    Returns:
        {"median": images/s, "rounds": images/s of each, "batch_size", "device"}

    Raises:
        ValueError: fewer images than one batch.
    """
    if len(train_set) < batch_size:
        raise ValueError(
            f"batch_size {batch_size} is more than the {len(train_set)} images; use at most those"
        )
    batches = _whole_batches(train_set, batch_size)
    device = next(batches)[0].device
    generator = torch.Generator(device).manual_seed(0)

    def seconds(count: int) -> float:
        """Of so many batches, from an idle device to an idle device."""
        synchronize = torch.get_device_module(device).synchronize
        synchronize(device)
        start = time.perf_counter()
        for _ in range(count):
            images, labels = next(batches)
            augment(
                images, labels, augmentation, num_classes=train_set.num_classes,
                mean=train_set.mean, std=train_set.std, generator=generator,
            )  # fmt: skip
        synchronize(device)
        return time.perf_counter() - start

    seconds(2)  # warm-up
    count = math.ceil(4 * seconds_per_round / seconds(4))
    rates = [count * batch_size / seconds(count) for _ in range(rounds)]
    return {
        "median": statistics.median(rates), "rounds": rates, "batch_size": batch_size,
        "device": str(device),
    }  # fmt: skip


def _whole_batches(
    train_set: ImageSet | FolderSet, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch, each in an order of its own, without end."""
    epoch = 0
    while True:
        order = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(epoch))
        order = order[: len(order) // batch_size * batch_size]
        yield from train_set.iterate(order, batch_size, seed=epoch)
        epoch += 1
