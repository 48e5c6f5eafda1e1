"""How fast training batches are made without a model, beside how fast the trainer uses them.

The input side must never be the limit: batches are drawn, cropped, flipped, augmented, erased,
normalised and mixed on the device as `nestlib.training.classifier` does it.
"""

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from nestbook.benchmarks.rates import describe_settings, take_turns, time_step
from nestbook.benchmarks.speed import train_step
from nestlib.data.augment import augment
from nestlib.data.augmentation import Augmentation
from nestlib.data.containers import FolderSet, ImageSet
from nestlib.data.datasets import dataset_info
from nestlib.precision import autocast


def input_rates(
    train_set: ImageSet | FolderSet, augmentation: Augmentation,
    models: Sequence[tuple[str, nn.Module, torch.optim.Optimizer]], batch_size: int, *,
    precision: str = "fp32", rounds: int = 5, seconds_per_round: float = 1.0,
    progress: bool = True,
) -> dict:  # fmt: skip
    """Images/s of the input side alone, and of whole training steps of models, in turn.

    Args:
        train_set: on the device that is measured.
        models: name, model and its optimizer, on that device; each trains, so weights change.
        precision: of the models' steps; the input side computes in fp32 always.

    Returns:
        JSON-ready {"settings": {...}, "input": [images/s of a round, ...],
        "training": {name: [...]}}; a training step includes drawing and augmenting its batch.

    Raises:
        ValueError: fewer images than one batch.
    """
    if len(train_set) < batch_size:
        raise ValueError(
            f"batch_size {batch_size} is more than the {len(train_set)} images; use at most those"
        )
    batches = _augmented(train_set, augmentation, batch_size)
    device = next(batches)[0].device
    context = autocast(precision, device)
    steps = {"input": partial(next, batches)} | {
        name: partial(_train_step, model.train(), optimizer, batches, context)
        for name, model, optimizer in models
    }
    timers = {
        name: partial(time_step, step, device, seconds_per_round) for name, step in steps.items()
    }
    timed = take_turns(timers, rounds, title="input side", progress=progress)
    rates = {name: [batch_size / seconds for seconds in each] for name, each in timed.items()}
    settings = describe_settings(
        device, precision, rounds, batch_size=batch_size, seconds_per_round=seconds_per_round,
        image_size=list(train_set.image_size),
    )  # fmt: skip
    return {"settings": settings, "input": rates.pop("input"), "training": rates}


def make_noise(dataset: str, count: int, image_size: int) -> ImageSet:
    """Training images of noise in a data set's classes: what images show costs no time."""
    info, draws = dataset_info(dataset), torch.Generator().manual_seed(0)
    shape = (count, 3, image_size, image_size)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=draws)
    labels = torch.randint(info.num_classes, shape[:1], generator=draws)
    names = tuple(map(str, range(info.num_classes)))
    return ImageSet("noise", "train", images, labels, names, info.mean, info.std)


def _augmented(
    train_set: ImageSet | FolderSet, augmentation: Augmentation, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Epoch after epoch, each in an order of its own, without end."""
    epoch, generator = 0, None
    while True:
        order = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(epoch))
        order = order[: len(order) // batch_size * batch_size]
        for images, labels in train_set.iterate(order, batch_size, seed=epoch):
            generator = generator or torch.Generator(images.device).manual_seed(0)
            yield augment(
                images, labels, augmentation, num_classes=train_set.num_classes,
                mean=train_set.mean, std=train_set.std, generator=generator,
            )  # fmt: skip
        epoch += 1


def _train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterator, autocast: torch.autocast
) -> None:
    images, targets = next(batches)
    train_step(model, optimizer, images, targets, autocast)
