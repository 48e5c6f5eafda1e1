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
import reprlib
import typing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self, TypeVar

from nestlib.arguments import (
    MAX_BATCH,
    MAX_PARAMS,
    Count,
    DropRate,
    Name,
    Pixels,
    Range,
    Seed,
    UnknownOption,
    check_fields,
)
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
    "small": "narrow models on 10,000 images of CIFAR-10, on a CPU: minutes per run",
    "gpu": "one GPU",
    "paper": "the paper's own schedule and data",
}

# What no network's options of a recipe may be.
NO_OPTIONS = {"drop_path_rate", "img_size", "in_chans", "num_classes"}
Epochs = Annotated[int, Range(1, 100_000)]
Steps = Annotated[int, Range(1, 10**8)]
Batch = Annotated[int, Range(1, MAX_BATCH)]
Rate = Annotated[float, Range(0, 1000)]  # of learning, of decay

MAX_SAMPLED_PIXELS = 5 * 10**8  # of a GAN's samples, which are in memory together: 6 GB

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
        """The recipe cut to a smoke run, or the recipe itself at every other budget."""
        check_choice("budget", budget, BUDGETS)
        return replace(self, budget="smoke", **self.SMOKE) if budget == "smoke" else self

    def _check_fields(self) -> None:
        """Check each field by itself."""
        from nestlib.data.datasets import check_options
        from nestlib.precision import PRECISIONS

        check_fields(self, f"recipe {str(self.name)[:100]}")
        try:
            check_options(self.dataset, self.dataset_options)
        except ValueError as error:
            raise ValueError(f"recipe {self.name}: dataset, dataset_options: {error}") from error
        check_choice("budget", self.budget, BUDGETS)
        check_choice("precision", self.precision, PRECISIONS)

    def _check(self, name: str, holds: bool, valid: str) -> None:
        if not holds:
            value = reprlib.repr(getattr(self, name))
            raise ValueError(f"recipe {self.name}: {name} is {value}, must be {valid}")

    def _check_builds(self, *fields: str) -> None:
        """Check shapes and options of the networks that `fields` decide, once per set of values:
        the recipes of a plan differ in little else."""
        import torch

        asked = {name: getattr(self, name) for name in fields}
        for name in filter(lambda name: name.endswith("_options"), fields):
            taken = ", ".join(NO_OPTIONS & asked[name].keys())
            self._check(name, not taken, f"without {taken}, which other fields or the data decide")
        try:
            key = json.dumps([type(self).__name__, asked], sort_keys=True, default=str)
            if key in _POSSIBLE:
                return
            with torch.device("meta"):  # nothing is allocated
                networks = self._build_all()
        except ImportError:
            return  # a peer's library is missing: to name the recipe takes none, to train it does
        except (ValueError, UnknownOption) as error:
            raise ValueError(f"recipe {self.name}: {error}") from error
        except Exception as error:  # libraries answer wrong sizes with errors of many types
            raise ValueError(
                f"recipe {self.name}: no network can be built of {reprlib.repr(asked)}: {error}; "
                "the docstring of its builder says which values are valid"
            ) from error
        params = sum(weight.numel() for network in networks for weight in network.parameters())
        if params > MAX_PARAMS:
            raise ValueError(
                f"recipe {self.name}: {reprlib.repr(asked)} has {params:.1e} weights, must be at "
                f"most {MAX_PARAMS:.0e}; make it narrower or less deep"
            )
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

    name: Name
    model: str
    dataset: str
    model_options: dict[str, Any] = field(default_factory=dict)
    dataset_options: dict[str, Any] = field(default_factory=dict)
    augmentation: Augmentation = field(default_factory=Augmentation)
    image_size: Pixels = 32
    epochs: Epochs = 300
    batch_size: Batch = 192
    lr_per_256: Rate = 2.5e-4
    warmup_epochs: Annotated[float, Range(0, 100_000)] = 5
    optimizer: str = "adamw"
    weight_decay: Rate = 0.05
    clip_grad_norm: Annotated[float, Range(0, 10**6, "(]")] | None = None
    drop_path_rate: DropRate = 0.1
    distillation: Distillation | None = None
    ema_decay: Annotated[float, Range(0, 1, "()")] | None = None
    precision: str = "fp32"
    compile: bool = False
    train_limit: Count | None = None
    test_limit: Count | None = None
    train_subset: Count | None = None
    held_out: Count | None = None
    evaluate_every: Epochs = 1
    seed: Seed = 0
    budget: str = "gpu"

    SMOKE = dict(
        epochs=1, warmup_epochs=0, batch_size=8, train_limit=16, test_limit=16, train_subset=None,
        held_out=None, evaluate_every=1,
    )  # fmt: skip

    def __post_init__(self):
        from nestlib.models import list_models

        self._check_fields()
        check_choice("model", self.model, list_models())
        check_choice("optimizer", self.optimizer, ("adamw", "sgd"))
        divides = self.epochs % self.evaluate_every == 0
        self._check("evaluate_every", divides, f"a divisor of epochs ({self.epochs})")
        self._check_subset()
        self._check("warmup_epochs", self.warmup_epochs < self.epochs, "less than epochs")
        inside = self.augmentation.crop_padding <= self.image_size
        self._check("augmentation", inside, f"of a crop_padding up to image_size {self.image_size}")
        self._check_builds("model", "image_size", "drop_path_rate", "model_options")

    def _check_subset(self) -> None:
        alone = self.train_subset is None or self.train_limit is None
        self._check("train_limit", alone, "None if there is a train_subset")
        apart = self.held_out is None or self.train_subset is not None
        self._check(
            "held_out", apart, "None without a train_subset, from which such images are left over"
        )

    def _build_all(self) -> list["nn.Module"]:
        return [self.build_model(num_classes=2)]

    def build_model(self, num_classes: int, **changes: Any) -> "nn.Module":
        """The model, freshly initialised from torch's global generator.

        Args:
            changes: options of `create_model` in place of the recipe's.
        """
        from nestlib.models import create_model

        own = {"img_size": self.image_size, "drop_path_rate": self.drop_path_rate}
        options = own | self.model_options | changes
        return create_model(self.model, num_classes=num_classes, **options)

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

    name: Name
    generator: str
    dataset: str
    generator_options: dict[str, Any] = field(default_factory=dict)
    discriminator_options: dict[str, Any] = field(default_factory=dict)
    dataset_options: dict[str, Any] = field(default_factory=dict)
    image_size: Pixels = 64
    steps: Steps = 50_000
    batch_size: Batch = 256
    lr: Rate = 1e-4
    r1_gamma: Annotated[float, Range(0, 10**6)] = 10.0
    r1_every: Steps = 16
    ema_decay: Annotated[float, Range(0, 1, "[)")] = 0.999
    flip: bool = True
    diff_augment: str = ""
    steps_per_row: Steps = 1000
    num_samples: Annotated[int, Range(2, 100_000)] = 1024
    precision: str = "fp32"
    train_limit: Count | None = None
    seed: Seed = 0
    budget: str = "gpu"

    SMOKE = dict(steps=2, steps_per_row=1, batch_size=4, num_samples=8, train_limit=8)

    def __post_init__(self):
        from nestlib.data.diff_augment import parse_policy
        from nestlib.models import list_generators

        self._check_fields()
        check_choice("generator", self.generator, list_generators())
        parse_policy(self.diff_augment)
        whole = self.steps % self.steps_per_row == 0
        self._check("steps", whole, "a multiple of steps_per_row")
        most = max(2, MAX_SAMPLED_PIXELS // self.image_size**2)
        small = self.num_samples <= most
        self._check("num_samples", small, f"at most {most:,} of image_size {self.image_size}")
        self._check_builds("generator", "image_size", "generator_options", "discriminator_options")

    def _build_all(self) -> list["nn.Module"]:
        return [self.build_generator(), self.build_discriminator()]

    def build_generator(self) -> "nn.Module":
        """The generator, freshly initialised from torch's global generator."""
        from nestlib.models import create_generator

        return create_generator(self.generator, img_size=self.image_size, **self.generator_options)

    def build_discriminator(self) -> "Discriminator":
        """The discriminator, likewise."""
        from nestlib.models import Discriminator

        return Discriminator(self.image_size, **self.discriminator_options)


AnyRecipe = TypeVar("AnyRecipe", Recipe, GanRecipe)
T = TypeVar("T")


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
    """The recipe of a record: a GanRecipe if it names a generator.

    Raises:
        ValueError: a field that recipes do not have (the message lists those they have), one that
            is missing, or a value that is not valid.
    """
    kind = GanRecipe if "generator" in values else Recipe
    parts = {
        name: _make(owner, f"{name} field", values[name])
        for name, owner in PARTS.items()
        if isinstance(values.get(name), dict)
    }
    return _make(kind, "recipe field", values | parts)


def _make(owner: type[T], what: str, values: dict[str, Any]) -> T:
    fields = dataclasses.fields(owner)
    for key in values:
        check_choice(what, key, [f.name for f in fields])
    needed = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in needed if name not in values]
    if missing:
        raise ValueError(f"{what}s without a value: {', '.join(missing)}; give one for each")
    return owner(**values)


def with_overrides(recipe: AnyRecipe, assignments: list[str]) -> AnyRecipe:
    """Apply `field=value` strings: `epochs=30`, `augmentation.flip=0`, `model_options.x=2`.

    `model_options={"x": 2}` leaves no other option, `distillation=null` no teacher.

    Raises:
        ValueError: no such field (near ones are listed), or a value that is not valid.
    """
    values = to_dict(recipe)
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        shown = repr(assignment[:100])
        if not equals:
            raise ValueError(f"{shown} is not an assignment; write field=value")
        outer, _, inner = key.partition(".")
        check_choice("recipe field", outer, values)
        if outer.endswith("_options"):
            given = {inner: parse_value(text)} if inner else parse_value(text)
            if not isinstance(given, dict):
                raise ValueError(f"{shown} names no option; write {outer}.option=value")
            values[outer] = values[outer] | given if inner else given
        elif outer in PARTS and (inner or parse_value(text) is not None):
            owner, base = PARTS[outer], values[outer]
            check_choice(f"{outer} field", inner, [f.name for f in dataclasses.fields(owner)])
            if base is None and inner != "teacher":
                raise ValueError(f"{recipe.name} has no teacher; set {outer}.teacher=RUN_ID first")
            values[outer] = {**(base or {}), inner: _read(owner, inner, text, base)}
        elif inner:
            raise ValueError(f"{shown}: {outer} has no fields; write {outer}=value")
        else:
            values[outer] = _read(type(recipe), outer, text, values)
    return from_dict(values)


def parse_value(text: str) -> Any:
    """The value that a word of a command line stands for: JSON, Python's True, or the text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or a number too long or lists too deep for it
        return {"True": True, "False": False, "None": None}.get(text, text)


def _read(owner: type, name: str, text: str, base: dict[str, Any] | None) -> Any:
    """The value of a field: texts as they stand, whole numbers as floats where those are wanted.

    One that replaces a whole number stays whole: 5 and 5.0 would be two runs.
    """
    hint = typing.get_type_hints(owner)[name]
    kinds = typing.get_args(hint) or (hint,)
    value = text if str in kinds else parse_value(text)
    whole = type(value) is int and type((base or {}).get(name)) is not int
    return float(value) if float in kinds and whole and abs(value) < 2**53 else value
