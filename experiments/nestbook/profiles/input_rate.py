"""How fast training batches are made without a model, beside how fast the trainer uses them.

The input side must never be the limit: batches are drawn, cropped, flipped, augmented, erased,
normalised and mixed on the device as `nestlib.training.classifier` does it.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from tqdm import tqdm

from nestbook.benchmarks.rates import fill, time_steps
from nestbook.profiles.step import train_step
from nestlib.data.augment import augment
from nestlib.data.augmentation import Augmentation
from nestlib.data.containers import FolderSet, ImageSet


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
    bf16 = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    contenders: dict[str, Callable[[int], float]] = {
        "input": partial(time_steps, partial(next, batches), device)
    }
    for name, model, optimizer in models:
        step = partial(_train_step, model.train(), optimizer, batches, bf16)
        contenders[name] = partial(time_steps, step, device)
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for time_n in contenders.values():  # warm-up
        time_n(2)
    for _ in tqdm(range(rounds), desc="input side", unit="round", disable=not progress):
        for name, time_n in contenders.items():
            done, seconds = fill(time_n, seconds_per_round)
            rates[name].append(done * batch_size / seconds)
    settings = {
        "device": str(device), "batch_size": batch_size, "precision": precision, "rounds": rounds,
        "seconds_per_round": seconds_per_round, "threads": torch.get_num_threads(),
        "torch": torch.__version__, "image_size": list(train_set.image_size),
    }  # fmt: skip
    return {"settings": settings, "input": rates.pop("input"), "training": rates}


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
