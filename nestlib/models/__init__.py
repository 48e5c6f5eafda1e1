"""Models by name: `create_model("nest_tiny_cifar", num_classes=10)`."""

import difflib
import inspect
from collections.abc import Callable

from torch import nn

from nestlib.models.nest import NEST_MODELS, NesT
from nestlib.models.peers import PEERS
from nestlib.models.weights import load_published

__all__ = ["NesT", "create_model", "list_models"]

# Published ImageNet weights that a NesT model can be started from, by timm's name.
PUBLISHED = {f"nest_{size}_imagenet": f"nest_{size}_jx" for size in ("tiny", "small", "base")}


def list_models() -> list[str]:
    """Names that `create_model` takes, NesT first."""
    return [*NEST_MODELS, *PEERS]


def create_model(name: str, *, pretrained: bool = False, **options) -> nn.Module:
    """Build a model by name.

    Args:
        name: one of `list_models()`.
        pretrained: load the published ImageNet weights (nest_*_imagenet; needs a network).
        options: num_classes, img_size, drop_path_rate and whatever else the model takes:
            `create_model("nest_tiny_cifar", patch_size=2, num_hierarchies=3)`.

    Raises:
        ValueError: an unknown name (the message lists near ones), no published weights,
            or what the model itself refuses.
        TypeError: an option that the model does not take.
    """
    if name not in list_models():
        near = difflib.get_close_matches(name, list_models(), n=3, cutoff=0.4) or list_models()
        raise ValueError(f"no model {name!r}; did you mean {', '.join(near)}?")
    if pretrained and name not in PUBLISHED:
        raise ValueError(f"{name} has no published weights; those that have: {list(PUBLISHED)}")
    if name in NEST_MODELS:
        build, defaults = NEST_MODELS[name]
        _check_options(name, build, options)
        model = build(**{**defaults, **options})
    else:
        model = PEERS[name](**options)
    return load_published(model, PUBLISHED[name]) if pretrained else model


def _check_options(name: str, build: Callable[..., NesT], options: dict) -> None:
    """What a family's builder sets itself (a list a hierarchy) is no option of its models."""
    own = inspect.signature(build).parameters
    general = inspect.signature(NesT.__init__).parameters.values()
    takes = [n for n in own if n != "options"]
    takes += [p.name for p in general if p.kind is p.KEYWORD_ONLY and p.name not in own]
    unknown = [option for option in options if option not in takes]
    if unknown:
        raise TypeError(
            f"{name} has no option {unknown}; it takes {sorted(takes)} "
            "(for other shapes call NesT itself)"
        )
