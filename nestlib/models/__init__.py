"""Models by name: `create_model("nest_tiny_cifar", num_classes=10)`, and generators likewise:
`create_generator("nest_decoder", img_size=64)`.
"""

import difflib
import inspect
from collections.abc import Callable

from torch import nn

from nestlib.models.discriminator import Discriminator
from nestlib.models.generator import NesTDecoder, build_nest_decoder
from nestlib.models.nest import NEST_MODELS, NesT
from nestlib.models.peers import LIBRARIES, LOCALIZERS, PEERS, sagan, transgan
from nestlib.models.weights import load_published

__all__ = [
    "GENERATORS",
    "Discriminator",
    "NesT",
    "NesTDecoder",
    "create_generator",
    "create_model",
    "list_models",
]

# Figure 7's three: noise (B, latent_dim) in, images (B, 3, H, W) out.
GENERATORS: dict[str, Callable[..., nn.Module]] = {
    "nest_decoder": build_nest_decoder,
    "transgan": transgan.build,
    "sagan_convnet": sagan.build,
}

# Published ImageNet weights that a model can be started from, by timm's name: of those in timm the
# nearest to the ones whose accuracy Table 2 prints.
PUBLISHED = {
    "nest_tiny_imagenet": "nest_tiny_jx.goog_in1k",
    "nest_small_imagenet": "nest_small_jx.goog_in1k",
    "nest_base_imagenet": "nest_base_jx.goog_in1k",
    "resnet50_imagenet": "resnet50.tv_in1k",
    "regnety_4g_imagenet": "regnety_040.pycls_in1k",  # 79.2; printed 80.0 is DeiT's retraining
    "regnety_16g_imagenet": "regnety_160.deit_in1k",
    "efficientnet_b3_imagenet": "tf_efficientnet_b3.aa_in1k",
    "efficientnet_b5_imagenet": "tf_efficientnet_b5.aa_in1k",
    # Other weights: 81.1. Printed 77.9 is of ViT's first training on ImageNet-1k, never released.
    "vit_base_16_imagenet": "vit_base_patch16_384.augreg_in1k",
    "deit_small_imagenet": "deit_small_patch16_224.fb_in1k",
    "deit_base_imagenet": "deit_base_patch16_224.fb_in1k",
    "swin_tiny_imagenet": "swin_tiny_patch4_window7_224.ms_in1k",
    "swin_small_imagenet": "swin_small_patch4_window7_224.ms_in1k",
    "swin_base_imagenet": "swin_base_patch4_window7_224.ms_in1k",
}


def list_models() -> list[str]:
    """Names that `create_model` takes, NesT first."""
    return [*NEST_MODELS, *PEERS, *LOCALIZERS]


def library_of(name: str) -> str:
    """Whose code a model of `list_models()` is."""
    return LIBRARIES.get(name, "nestlib")


def create_model(name: str, *, pretrained: bool = False, **options) -> nn.Module:
    """Build a model by name.

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
        model = (PEERS | LOCALIZERS)[name](**options)
    return load_published(model, PUBLISHED[name]) if pretrained else model


def default_options(name: str) -> dict:
    """What a NesT's options are where none are given, its family's and its own included."""
    build, defaults = NEST_MODELS[name]
    own, general = (inspect.signature(f).parameters.values() for f in (build, NesT.__init__))
    known = {p.name: p.default for p in (*general, *own) if p.default is not p.empty}
    return {**known, **defaults}


def create_generator(name: str, *, img_size: int, **options) -> nn.Module:
    """Build a generator by name: noise (B, generator.latent_dim) -> images (B, 3, H, W) in -1..1.

    Args:
        name: one of `GENERATORS`.
        options: whatever its builder takes: `create_generator("nest_decoder", img_size=32,
            embed_dim=128, unsampling="NN-C3")`.

    Raises:
        ValueError: an unknown name, or what the generator itself refuses.
        TypeError: an option that the generator does not take.
    """
    if name not in GENERATORS:
        raise ValueError(f"no generator {name!r}; valid: {', '.join(GENERATORS)}")
    return GENERATORS[name](img_size=img_size, **options)


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
