"""Predict how long a classifier's run takes on this machine's CPU with one thread."""

import json
import statistics
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import torch
from tqdm import tqdm

from nestbook.benchmarks.rates import take_turns, time_step
from nestbook.profiles.input_rate import make_noise
from nestbook.sweeps.cost import count_images_seen
from nestlib.processor import one_thread
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import Recipe, to_dict
from nestlib.records import Store, device_name, load_record
from nestlib.training.classifier import Trainer

STEPS = 3  # timed, after one that is not
# What decides the time of a step; the rest of a recipe decides how many there are.
DECISIVE = (
    "model", "model_options", "image_size", "batch_size", "precision", "augmentation",
    "optimizer", "ema_decay",
)  # fmt: skip


class Forecast:
    """Training seconds of runs of budget small: from records of this make of processor by one
    thread, else from steps timed here, once for each kind of step."""

    def __init__(self, store: Store):
        device = device_name(torch.device("cpu"))
        paths = [path for folder in store.folders for path in folder.glob("*/*.json")]
        self.rates: dict[str, list[float]] = {}  # seconds per image, by what decides them
        for record in map(load_record, paths):
            if record.kind != "train" or record.recipe["budget"] != "small":
                continue
            where = record.environment
            if (where["device"], where["threads"]) == (device, 1):
                recipe = record.make_recipe()
                rate = record.summary["train_seconds"] / count_images_seen(recipe)
                self.rates.setdefault(_kind(recipe), []).append(rate)

    def prepare(self, recipes: Iterable[Recipe]) -> None:
        """Time the kinds of step that have no record; a bar on stderr shows the progress."""
        lacking = {_kind(recipe): recipe for recipe in recipes if _kind(recipe) not in self.rates}
        bar = tqdm(lacking.items(), "timing training steps", leave=False, disable=not lacking)
        for kind, recipe in bar:
            self.rates[kind] = [time_steps(recipe) / recipe.batch_size]

    def seconds(self, recipe: Recipe) -> float:
        """Seconds of a whole run's steps, without its evaluations."""
        self.prepare([recipe])
        return statistics.median(self.rates[_kind(recipe)]) * count_images_seen(recipe)


def time_steps(recipe: Recipe) -> float:
    """Seconds of a training step by one thread, on images of noise: the median of STEPS.

    A teacher is untrained: a step takes as long.
    """
    noise = make_noise(recipe.dataset, recipe.batch_size, recipe.image_size)
    with one_thread(), torch.random.fork_rng(devices=[]):
        teacher = None
        if recipe.distillation:
            name, seed = recipe.distillation.teacher_recipe
            teacher = get_recipe(name, seed=seed).build_model(noise.num_classes)
        model = recipe.build_model(noise.num_classes)
        # Its folder is made when a run is saved, which this one is not.
        cpu = torch.device("cpu")
        trainer = Trainer(recipe, model, noise, noise, Path("unused"), cpu, teacher)
        step = partial(trainer.train_step, noise.images, noise.labels)
        return statistics.median(take_turns({"": partial(time_step, step, cpu)}, STEPS)[""])


def _kind(recipe: Recipe) -> str:
    values = to_dict(recipe)
    lesson = recipe.distillation and recipe.distillation.teacher_recipe[0]
    return json.dumps([[values[name] for name in DECISIVE], lesson], sort_keys=True)
