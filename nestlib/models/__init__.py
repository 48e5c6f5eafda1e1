"""Models by name: `create_model("nest_tiny_cifar", num_classes=10)`, and generators likewise:
`create_generator("nest_decoder", img_size=64)`.
"""

import inspect
from collections.abc import Callable
from functools import partial

from torch import nn

from nestlib.arguments import UnknownOption
from nestlib.choices import choose
from nestlib.extensions import extended
from nestlib.models.discriminator import Discriminator
from nestlib.models.generator import NesTDecoder, build_nest_decoder
from nestlib.models.nest import NEST_MODELS, NesT
from nestlib.models.weights import load_published

__all__ = [
    "Discriminator",
    "NesT",
    "NesTDecoder",
    "create_generator",
    "create_model",
    "list_generators",
    "list_models",
]

# Published ImageNet weights that a NesT can be started from, by timm's name.
PUBLISHED = {
    "nest_tiny_imagenet": "nest_tiny_jx.goog_in1k",
    "nest_small_imagenet": "nest_small_jx.goog_in1k",
    "nest_base_imagenet": "nest_base_jx.goog_in1k",
}
GENERATORS = {"nest_decoder": build_nest_decoder}


def list_models(*, pretrained: bool = False) -> list[str]:
    """Names that `create_model` takes: NesT's, then those of nestlib.extensions.

    Args:
        pretrained: only those with published weights.
    """
    return list(extended(PUBLISHED, "published") if pretrained else extended(NEST_MODELS, "models"))


def list_generators() -> list[str]:
    """Names that `create_generator` takes."""
    return list(extended(GENERATORS, "generators"))


def create_model(name: str, *, pretrained: bool = False, **options) -> nn.Module:
    """Build a model by name, in training mode on the CPU.

    `nestlib.create_model` takes recipes too.

    Args:
        name: one of `list_models()`.
        pretrained: load the published ImageNet weights (`*_imagenet`; needs a network).
        options: num_classes, img_size, drop_path_rate and whatever else the model takes:
            `create_model("nest_tiny_cifar", patch_size=2, num_hierarchies=3)`.

    Raises:
        ValueError: an unknown name (the message lists near ones), no published weights,
            or what the model itself refuses.
        TypeError: an option that the model does not take.
    """
    if name in NEST_MODELS:
        build, defaults = NEST_MODELS[name]
        _check_options(name, build, options)
        build = partial(build, **defaults)
    else:
        build = choose("model", name, extended(NEST_MODELS, "models"))
    published = extended(PUBLISHED, "published") if pretrained else {}
    if pretrained and name not in published:
        raise ValueError(f"{name} has no published weights; models that do: {list(published)}")
    model = build(**options)
    return load_published(model, published[name]) if pretrained else model


def create_generator(name: str, *, img_size: int, **options) -> nn.Module:
    """Build a generator by name: noise (B, generator.latent_dim) -> images (B, 3, H, W) in -1..1.

    Args:
        name: one of `list_generators()`.
        options: whatever its builder takes: `create_generator("nest_decoder", img_size=32,
            embed_dim=128, unsampling="NN-C3")`.

    Raises:
        ValueError: an unknown name, or what the generator itself refuses.
        TypeError: an option that the generator does not take.
    """
    build = choose("generator", name, extended(GENERATORS, "generators"))
    return build(img_size=img_size, **options)


def _check_options(name: str, build: Callable[..., NesT], options: dict) -> None:
    """Raise UnknownOption for what a family's builder sets itself (lists by hierarchy)."""
    own = inspect.signature(build).parameters
    general = inspect.signature(NesT.__init__).parameters.values()
    takes = [n for n in own if n != "options"]
    takes += [p.name for p in general if p.kind is p.KEYWORD_ONLY and p.name not in own]
    unknown = [option for option in options if option not in takes]
    if unknown:
        raise UnknownOption(
            f"{name} has no option {unknown}; it takes {sorted(takes)} "
            "(for other shapes call NesT itself)"
        )
