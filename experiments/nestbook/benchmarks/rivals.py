"""The models of `nest bench speed`: NesT here and in timm, with equal weights, and two others.

A speed is worth comparing where two models are one function. So ours gets timm's weights, and
`measure_differences` holds the outputs against each other before anything is timed.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import timm
import torch
from timm.models.nest import Nest
from torch import nn

from nestlib.models import create_model
from nestlib.models.weights import from_timm, load_weights

# Of logits between ours and timm's in fp32: rounding leaves 3e-7, another padding makes 0.08.
MAX_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class Model:
    """An architecture as each library builds it, at one input size (pixels)."""

    image_size: int
    builders: dict[str, Callable[[], nn.Module]]  # by library


# Stochastic depth is off: timm's class has it at 0.5 unless told otherwise. timm pads as we and the
# published code do in its nest_*_jx; its names have no CIFAR form, so there its class is called.
_CIFAR = {"embed_dims": 192, "num_heads": 3, "depths": 3, "num_levels": 4}
MODELS = {
    "nest_tiny": Model(224, {
        "nestlib": partial(create_model, "nest_tiny_imagenet"),
        "timm": partial(timm.create_model, "nest_tiny_jx", drop_path_rate=0.0),
    }),
    "deit_small": Model(224, {
        "timm": partial(create_model, "deit_small_imagenet", num_classes=1000, img_size=224),
    }),
    "swin_tiny": Model(224, {
        "timm": partial(create_model, "swin_tiny_imagenet", num_classes=1000, img_size=224),
    }),
    "nest_tiny_cifar": Model(32, {
        "nestlib": partial(
            create_model, "nest_tiny_cifar", attention="multi_head", num_classes=10
        ),
        "timm": partial(Nest, img_size=32, patch_size=1, num_classes=10, drop_path_rate=0.0,
                        pad_type="same", **_CIFAR),
    }),
}  # fmt: skip


@dataclass(frozen=True)
class Rival:
    """One model of one library.

    tuned: on the fastest of the library's own settings (nestbook.benchmarks.speed.Contender), not
    as it comes.
    precision: its own in a run of another: what users have who do not ask for bf16 on a CPU.
    """

    model: str  # of MODELS
    library: str
    tuned: bool = False
    compile: bool = False
    precision: str | None = None

    @property
    def name(self) -> str:
        forms = {
            " tuned": self.tuned, " compiled": self.compile,
            f" {self.precision}": self.precision is not None,
        }  # fmt: skip
        return f"{self.library} {self.model}{''.join(form for form, on in forms.items() if on)}"

    def build(self) -> nn.Module:
        """The same weights at each call, and in both libraries."""
        builders = MODELS[self.model].builders
        model = _build_seeded(builders[self.library])
        # On the meta device a model is only counted, and there are no weights to load.
        if self.library == "nestlib" and not model.head.weight.is_meta:
            load_weights(model, from_timm(_build_seeded(builders["timm"]).state_dict(), model))
        return model


def _rivals() -> Iterator[Rival]:
    """All models to be timed: ours as it is; timm's NesT as its users get it, and at its best."""
    for model, how in MODELS.items():
        yardstick = "nestlib" not in how.builders
        for library in how.builders:
            if not yardstick:
                yield Rival(model, library)
            tuned = library == "timm"
            if tuned:
                yield Rival(model, library, tuned)
            yield Rival(model, library, tuned, compile=True)
            if tuned and not yardstick:
                yield Rival(model, library, precision="fp32")


RIVALS = {rival.name: rival for rival in _rivals()}


def _build_seeded(builder: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return builder()


def measure_differences(models: Iterable[str], device: torch.device) -> dict[str, float]:
    """Largest difference of logits between our form and timm's, for each model that has both.

    In fp32 and evaluation mode, on the same two images.

    Raises:
        ValueError: more than MAX_DIFFERENCE, so not one function.
    """
    differences = {}
    for model in models:
        if "nestlib" not in MODELS[model].builders:
            continue
        ours, theirs = (_logits(Rival(model, library), device) for library in ("nestlib", "timm"))
        differences[model] = (ours - theirs).abs().max().item()
        if not differences[model] <= MAX_DIFFERENCE:  # NaN neither
            raise ValueError(
                f"logits of {Rival(model, 'nestlib').name} and {Rival(model, 'timm').name} differ "
                f"by {differences[model]:.2g} with the same weights, more than {MAX_DIFFERENCE:g}: "
                "they are not one function, so their speeds do not compare"
            )
    return differences


def _logits(rival: Rival, device: torch.device) -> torch.Tensor:
    """(2, num_classes)"""
    size = MODELS[rival.model].image_size
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    model = rival.build().to(device).eval()
    # cuDNN's convolutions round to TF32 by default, which is not fp32.
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        return model(images.to(device))
