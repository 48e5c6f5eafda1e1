"""Choose how long a run may be: time its step in every form, then choose its epochs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nestbook.profiles.input_rate import make_noise
from nestbook.sweeps.cost import count_images_seen
from nestlib.metrics.accuracy import describe_error
from nestlib.recipes.recipe import Recipe
from nestlib.training.classifier import Trainer

STEPS = 200  # timed of each form
FIRST_STEPS = 10  # by whose loss a form is held to the eager one
NOISE_IMAGES = 10_000  # as many as CIFAR-10's test set, so that an evaluation takes as long
MARGIN = 1.08  # of a run's time over what its steps and evaluations took when they were measured


@dataclass(frozen=True)
class StepTime:
    """The time of one form of a training step, or why it failed."""

    form: str
    seconds: float = 0.0  # a step
    evaluation_seconds: float = 0.0
    first_loss: float = 0.0  # mean over FIRST_STEPS
    error: str = ""

    def run_seconds(self, epochs: int, steps_per_epoch: int) -> float:
        """Expected seconds of a run of `epochs` epochs, evaluations included."""
        return MARGIN * epochs * (steps_per_epoch * self.seconds + self.evaluation_seconds)


def measure_step(
    recipe: Recipe, form: str, device: torch.device, limit_seconds: float,
    now: Callable[[], float] = time.monotonic,
) -> StepTime:  # fmt: skip
    """Time a form of the recipe's step: STEPS of them, or as many as `limit_seconds` allow.

    Images are noise. What the device or torch refuses is the result's error.
    """
    try:
        return _measure_step(recipe, form, device, limit_seconds, now)
    except (RuntimeError, ValueError, ImportError) as error:
        return StepTime(form, error=describe_error(error))


def _measure_step(
    recipe: Recipe, form: str, device: torch.device, limit_seconds: float, now: Callable[[], float]
) -> StepTime:
    count = max(NOISE_IMAGES if device.type == "cuda" else 0, 2 * recipe.batch_size)
    noise = make_noise(recipe.dataset, count, recipe.image_size).to(device)
    torch.manual_seed(0)
    model = recipe.build_model(noise.num_classes)
    trainer = Trainer(recipe, model, noise, noise, Path("unused"), device, step=form)
    begun, batches = now(), _endless(trainer)
    for _ in range(FIRST_STEPS):  # the first compiles and records
        trainer.train_step(*next(batches))
    loss, steps = (trainer.sums.tolist()[trainer.sum_names.index(n)] for n in ("loss", "steps"))
    begin, done = now(), 0
    while done < STEPS and (now() - begun < limit_seconds or not done):
        for _ in range(STEPS // 10):
            trainer.train_step(*next(batches))
        trainer.sums.tolist()  # waits for the device
        done += STEPS // 10
    seconds = (now() - begin) / done
    trainer.evaluate()
    begin = now()
    trainer.evaluate()
    return StepTime(form, seconds, now() - begin, loss / steps)


def _endless(trainer: Trainer):
    while True:
        yield from trainer.batches()


def choose_form(times: Sequence[StepTime], tolerance: float = 0.05) -> StepTime:
    """The fastest form whose first losses are the eager form's, which comes first.

    Raises:
        RuntimeError: not even the eager form runs; with its error.
    """
    eager = times[0]
    if eager.error:
        raise RuntimeError(f"no training step runs here: {eager.error}")
    sound = [
        one for one in times
        if not one.error and abs(one.first_loss / eager.first_loss - 1) <= tolerance
    ]  # fmt: skip
    return min(sound, key=lambda one: one.seconds)


def choose_epochs(
    recipe: Recipe, step: StepTime, seconds: float, choices: Sequence[int]
) -> Recipe | None:  # fmt: skip
    """The recipe at the largest of `choices` of epochs that ends within `seconds`; None: none does.

    A warm-up that would not end before the last epoch is cut to a tenth of the epochs.
    """
    steps = count_images_seen(recipe) // (recipe.epochs * recipe.batch_size)
    for epochs in sorted(choices, reverse=True):
        if step.run_seconds(epochs, steps) <= seconds:
            warmup = recipe.warmup_epochs if recipe.warmup_epochs < epochs else epochs / 10
            return replace(recipe, epochs=epochs, warmup_epochs=warmup)
    return None
