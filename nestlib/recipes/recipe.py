"""What a recipe is: one training run, frozen and checked when it is made.

`Recipe` trains a classifier; its defaults are the published NesT configuration for CIFAR
(configs/cifar_nest.py of the authors' code). `GanRecipe` trains a generator against a
discriminator; its defaults are what appendix A.4 prints. Which recipes there are by name stands in
named.py.

Models and data sets are imported where a recipe is made: `nest recipes` lists the names without
waiting for torch.
"""

import dataclasses
import hashlib
import json
import types
import typing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from nestlib.choices import check_choice
from nestlib.data.augmentation import Augmentation
from nestlib.recipes.distillation import Distillation

if TYPE_CHECKING:
    from torch import nn

    from nestlib.models import Discriminator

# Fields that recipes did not always have join the hash only where they differ from what every
# earlier run did, so that the records of those runs are still found.
ADDED_FIELDS = {
    "optimizer": "adamw", "clip_grad_norm": None, "distillation": None,
    "train_subset": None, "held_out": None, "evaluate_every": 1,
}  # fmt: skip

# Fields that are dataclasses of their own.
PARTS = {"augmentation": Augmentation, "distillation": Distillation}

BUDGETS = {
    "smoke": "under a minute: checks the path, shows no result",
    "quick": "the embedded digits, or a narrow model, on a CPU",
    "small": "narrow models on 10,000 images of CIFAR-10, on a CPU: minutes a run",
    "gpu": "one GPU",
    "paper": "the paper's own schedule and data",
}

_POSSIBLE: set[str] = set()  # networks that could be built, with their sizes and options


class RunRecipe:
    """What every recipe has: an identity that follows from its fields, and their checks."""

    SMOKE: ClassVar[dict[str, Any]]  # the fields of a smoke run

    name: str
    dataset: str
    precision: str
    seed: int
    budget: str

    @property
    def config_hash(self) -> str:
        """Eight hex digits that change with every field but the name and the seed."""
        return hash_config(to_dict(self))

    @property
    def run_id(self) -> str:
        return f"{self.name}-s{self.seed}-{self.config_hash}"

    def at_budget(self, budget: str) -> Self:
        """The recipe itself, or cut to a smoke run; it is what it is at every other budget."""
        check_choice("budget", budget, BUDGETS)
        return replace(self, budget="smoke", **self.SMOKE) if budget == "smoke" else self

    def _check_names(self) -> None:
        from nestlib.data.datasets import dataset_info
        from nestlib.precision import PRECISIONS

        dataset_info(self.dataset)  # an unknown data set raises here
        check_choice("budget", self.budget, BUDGETS)
        check_choice("precision", self.precision, PRECISIONS)

    def _check(self, name: str, holds: bool, valid: str) -> None:
        if not holds:
            value = getattr(self, name)
            raise ValueError(f"recipe {self.name}: {name} is {value!r}, must be {valid}")

    def _check_least(self, least: int, *names: str) -> None:
        for name in names:
            self._check(name, getattr(self, name) >= least, f"at least {least}")

    def _check_builds(self, *fields: str) -> None:
        """Shapes and options of the networks that `fields` decide, each set of values once: the
        recipes of a plan differ in little else."""
        import torch

        asked = [type(self).__name__, *(getattr(self, name) for name in fields)]
        key = json.dumps(asked, sort_keys=True, default=str)
        if key in _POSSIBLE:
            return
        try:
            with torch.device("meta"):  # nothing is allocated
                self._build_all()
        except TypeError as error:
            raise ValueError(f"recipe {self.name}: {error}") from error
        except ImportError:
            return  # a peer's library is missing: to name the recipe takes none, to train it does
        _POSSIBLE.add(key)


@dataclass(frozen=True)
class Recipe(RunRecipe):
    """One training run of a classifier but for its seed's randomness.

    lr_per_256 is the peak learning rate of a batch of 256 images; it scales with batch_size.
    optimizer and what it decays: see nestlib.training.optim. clip_grad_norm is the largest norm
    of all gradients together, None for no clipping.
    batch_size counts the images of one step over all devices. train_limit keeps that many training
    images (the first of a seeded order), test_limit likewise. train_subset keeps so many training
    images, equally many of each class, the same for every seed; a smaller subset lies in every
    larger one. held_out: evaluate on so many training images beside that subset, equally many of
    each class, and not on the test set, as where a learning rate is chosen.
    evaluate_every: epochs from one evaluation, a row of the history, to the next.

    Raises:
        ValueError: a field out of its range, an unknown model, data set or budget, or an image
            size that the model's blocks do not divide; the message says what would be valid.
    """

    name: str
    model: str
    dataset: str
    model_options: dict[str, Any] = field(default_factory=dict)
    dataset_options: dict[str, Any] = field(default_factory=dict)
    augmentation: Augmentation = field(default_factory=Augmentation)
    image_size: int = 32
    epochs: int = 300
    batch_size: int = 192
    lr_per_256: float = 2.5e-4
    warmup_epochs: float = 5
    optimizer: str = "adamw"
    weight_decay: float = 0.05
    clip_grad_norm: float | None = None
    drop_path_rate: float = 0.1
    distillation: Distillation | None = None
    ema_decay: float | None = None
    precision: str = "fp32"
    compile: bool = False
    train_limit: int | None = None
    test_limit: int | None = None
    train_subset: int | None = None
    held_out: int | None = None
    evaluate_every: int = 1
    seed: int = 0
    budget: str = "gpu"

    SMOKE = dict(
        epochs=1, warmup_epochs=0, batch_size=8, train_limit=16, test_limit=16, train_subset=None,
        held_out=None, evaluate_every=1,
    )  # fmt: skip

    def __post_init__(self):
        from nestlib.models import list_models

        self._check_names()
        check_choice("model", self.model, list_models())
        check_choice("optimizer", self.optimizer, ("adamw", "sgd"))
        self._check_least(1, "epochs", "batch_size", "image_size", "evaluate_every")
        self._check_least(0, "lr_per_256", "weight_decay", "warmup_epochs", "seed")
        divides = self.epochs % self.evaluate_every == 0
        self._check("evaluate_every", divides, f"a divisor of epochs ({self.epochs})")
        self._check_subset()
        self._check("warmup_epochs", self.warmup_epochs < self.epochs, "less than epochs")
        self._check("drop_path_rate", 0 <= self.drop_path_rate < 1, "in [0, 1)")
        clip, decay = self.clip_grad_norm, self.ema_decay
        self._check("clip_grad_norm", clip is None or clip > 0, "more than 0, or None")
        self._check("ema_decay", decay is None or 0 < decay < 1, "in (0, 1)")
        self._check_builds("model", "image_size", "drop_path_rate", "model_options")

    def _check_subset(self) -> None:
        for name in ("train_subset", "held_out"):
            count = getattr(self, name)
            self._check(name, count is None or count >= 1, "at least 1, or None")
        alone = self.train_subset is None or self.train_limit is None
        self._check("train_limit", alone, "None where there is a train_subset")
        apart = self.held_out is None or self.train_subset is not None
        self._check("held_out", apart, "None without a train_subset, which leaves such images")

    def _build_all(self) -> None:
        self.build_model(num_classes=2)

    def build_model(self, num_classes: int) -> "nn.Module":
        """The model, freshly initialised from torch's global generator."""
        from nestlib.models import create_model

        options = {"drop_path_rate": self.drop_path_rate, **self.model_options}
        return create_model(
            self.model, num_classes=num_classes, img_size=self.image_size, **options
        )

    @property
    def peak_lr(self) -> float:
        return self.lr_per_256 * self.batch_size / 256


@dataclass(frozen=True)
class GanRecipe(RunRecipe):
    """One training run of a generator and its discriminator but for its seed's randomness.

    batch_size counts the real images of one step over all devices, and as many are generated.
    lr is Adam's of both networks, betas 0 and 0.99 (appendix A.4). r1_gamma / 2 times the mean
    squared norm of the discriminator's gradient by real images is added every r1_every steps, and
    r1_every times as much. ema_decay is of the generator whose samples are shown and kept.
    flip: mirror half of the real images. diff_augment: policies of nestlib.data.diff_augment,
    joined by commas, none where empty.
    Every steps_per_row steps the history gets a row and `num_samples` images are generated from the
    same noise.

    Raises:
        ValueError: a field out of its range, an unknown generator, data set or budget, or what the
            networks refuse; the message says what would be valid.
    """

    name: str
    generator: str
    dataset: str
    generator_options: dict[str, Any] = field(default_factory=dict)
    discriminator_options: dict[str, Any] = field(default_factory=dict)
    dataset_options: dict[str, Any] = field(default_factory=dict)
    image_size: int = 64
    steps: int = 50_000
    batch_size: int = 256
    lr: float = 1e-4
    r1_gamma: float = 10.0
    r1_every: int = 16
    ema_decay: float = 0.999
    flip: bool = True
    diff_augment: str = ""
    steps_per_row: int = 1000
    num_samples: int = 1024
    precision: str = "fp32"
    train_limit: int | None = None
    seed: int = 0
    budget: str = "gpu"

    SMOKE = dict(steps=2, steps_per_row=1, batch_size=4, num_samples=8, train_limit=8)

    def __post_init__(self):
        from nestlib.data.diff_augment import parse_policy
        from nestlib.models import list_generators

        self._check_names()
        check_choice("generator", self.generator, list_generators())
        parse_policy(self.diff_augment)
        self._check_least(1, "steps", "batch_size", "r1_every", "steps_per_row")
        self._check_least(0, "lr", "r1_gamma", "seed")
        self._check_least(2, "num_samples")
        self._check("ema_decay", 0 <= self.ema_decay < 1, "in [0, 1)")
        whole = self.steps % self.steps_per_row == 0
        self._check("steps", whole, "a multiple of steps_per_row")
        self._check_builds("generator", "image_size", "generator_options", "discriminator_options")

    def _build_all(self) -> None:
        self.build_generator()
        self.build_discriminator()

    def build_generator(self) -> "nn.Module":
        """The generator, freshly initialised from torch's global generator."""
        from nestlib.models import create_generator

        return create_generator(self.generator, img_size=self.image_size, **self.generator_options)

    def build_discriminator(self) -> "Discriminator":
        """The discriminator, likewise."""
        from nestlib.models import Discriminator

        return Discriminator(self.image_size, **self.discriminator_options)


AnyRecipe = TypeVar("AnyRecipe", Recipe, GanRecipe)


def to_dict(recipe: RunRecipe) -> dict[str, Any]:
    """Plain values, as records keep them."""
    return dataclasses.asdict(recipe)


def fill_in(kind: type[RunRecipe], given: dict[str, Any]) -> dict[str, Any]:
    """`to_dict(kind(**given))`, without the checks, which take torch."""
    defaults = {
        f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        for f in dataclasses.fields(kind)
    }
    values = {**defaults, **given}
    return {k: dataclasses.asdict(v) if k in PARTS and v else v for k, v in values.items()}


def hash_config(values: dict[str, Any]) -> str:
    """The `config_hash` of a recipe's plain values."""
    config = {
        field: value
        for field, value in values.items()
        if field not in ("name", "seed")
        and not (field in ADDED_FIELDS and value == ADDED_FIELDS[field])
    }
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:8]


def from_dict(values: dict[str, Any]) -> Recipe | GanRecipe:
    """The recipe of a record: a GanRecipe where it names a generator.

    Raises:
        ValueError: a field that recipes do not have; the message lists those they have.
    """
    kind = GanRecipe if "generator" in values else Recipe
    names = [f.name for f in dataclasses.fields(kind)]
    for key in values:
        check_choice("recipe field", key, names)
    values = dict(values)
    for name, owner in PARTS.items():
        if isinstance(values.get(name), dict):
            values[name] = owner(**values[name])
    return kind(**values)


def with_overrides(recipe: AnyRecipe, assignments: list[str]) -> AnyRecipe:
    """Apply `field=value` strings: `epochs=30`, `augmentation.flip=0`, `model_options.x=2`.

    Raises:
        ValueError: no such field (near ones are listed), or a value of the wrong type.
    """
    values = to_dict(recipe)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"{assignment!r} is no assignment; write field=value")
        outer, _, inner = key.partition(".")
        check_choice("recipe field", outer, values)
        if outer.endswith("_options"):
            if not inner:
                raise ValueError(f"{assignment!r} names no option; write {outer}.option=value")
            values[outer] |= {inner: _parse(text)}
        elif outer in PARTS:
            owner, base = PARTS[outer], values[outer]
            check_choice(f"{outer} field", inner, [f.name for f in dataclasses.fields(owner)])
            if base is None and inner != "teacher":
                raise ValueError(f"{recipe.name} has no teacher; set {outer}.teacher=RUN_ID first")
            values[outer] = {**(base or {}), inner: _typed(owner, inner, text)}
        else:
            values[outer] = _typed(type(recipe), outer, text)
    return from_dict(values)


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def _typed(owner: type, name: str, text: str) -> Any:
    hint = typing.get_type_hints(owner)[name]
    allowed = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    value = _parse(text) if str not in allowed else text
    if float in allowed and type(value) is int:
        value = float(value)
    if type(value) not in allowed:
        names = " or ".join(t.__name__ for t in allowed)
        raise ValueError(f"{name} must be {names}, got {text!r}")
    return value
