"""Turn published weights into a .safetensors file of ours: what `nest convert` does."""

import hashlib
import inspect
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nestlib import __version__
from nestlib.arguments import UnknownOption
from nestlib.choices import check_choice
from nestlib.models import create_model
from nestlib.models.blocks import as_pair, fit_block_size
from nestlib.models.checkpoints import JAX, OURS, TIMM, Foreign, is_safetensors, read_foreign
from nestlib.models.nest import NEST_MODELS, NesT
from nestlib.models.weights import (
    ForeignWeights,
    State,
    check_finite,
    from_flax,
    from_timm,
    list_leaves,
    save_weights,
)

# By kind: the names of the patch embedding, the position embeddings, a layer and the head.
_NAMES = {
    JAX: ("PatchEmbedding_0/Conv_0/kernel", "PositionEmbedding_{}/pos_embedding",
          r"EncoderNDBlock_\d+/LayerNorm_0/scale", "Dense_0/kernel"),
    TIMM: ("patch_embed.proj.weight", "levels.{}.pos_embed",
           r"levels\.\d+\.transformer_encoder\.\d+\.norm1\.weight", "head.weight"),
    OURS: ("patch_embed.weight", "pos_embeds.{}",
           r"hierarchies\.\d+\.\d+\.norm1\.weight", "head.weight"),
}  # fmt: skip


@dataclass(frozen=True)
class Converted:
    """What was written: `create_model(model, **options)` takes the weights at `path`."""

    path: Path
    source: Foreign
    model: str
    options: dict[str, Any]
    num_params: int

    @property
    def unsure_of_padding(self) -> bool:
        """Weights are alike for both of timm's paddings, and nothing told the model's name."""
        told = self.source.architecture or "aggregation_padding" in self.options
        return self.source.kind == TIMM and not told


@dataclass(frozen=True)
class Layout:
    """What shapes tell of a NesT. `layers` counts those of all hierarchies."""

    img_size: int | tuple[int, int]
    patch_size: int
    block_size: int
    in_chans: int
    embed_dims: list[int]
    layers: int
    attention: str
    num_classes: int

    def __str__(self) -> str:
        height, width = as_pair(self.img_size)
        return (
            f"images of {height}x{width} in {self.in_chans} channels, patches of {self.patch_size} "
            f"pixels, blocks of {self.block_size} patches along an edge, widths {self.embed_dims}, "
            f"{self.layers} layers, {self.attention} attention, {self.num_classes} classes"
        )


def convert_weights(
    source: Path | str, out: Path | str, *, model: str | None = None, **options
) -> Converted:
    """Read published weights and write them as .safetensors, for `nestlib.load_weights`.

    The file's metadata name the source with its SHA-256, the model, its options and this nestlib.
    The classes stay those of the source.

    Args:
        source: a file; a folder as the authors' download script, timm or the Hub leaves it; or
            timm's name of published weights, such as "nest_tiny_jx.goog_in1k", which are fetched.
        out: a .safetensors file; one that exists is replaced.
        model: a NesT of `list_models()`; default: the one that the shapes fit.
        options: of the model, beside those that the shapes tell. img_size resizes the position
            embeddings. activation is "gelu_tanh" for a JAX checkpoint, as the published code
            computes. aggregation_padding is "symmetric" for timm's nest_tiny, nest_small and
            nest_base, where timm's name is known, and "same" for all others.

    Raises:
        FileNotFoundError: no such file, folder or name.
        OSError: a cut or damaged file, one of a kind that is not read, or no network.
        ForeignWeights: a ValueError; weights that are no NesT's, or that do not fit the model.
        ValueError: an option that the model refuses, or an `out` that must not be replaced.
    """
    out = Path(out)
    _check_out(out)
    foreign = read_foreign(source)
    if out.exists() and out.samefile(foreign.path):
        raise ValueError(f"{out} is the source itself; write to another file")
    name, options = choose_model(foreign, model, options)
    filled = _fill(foreign, name, options)
    with foreign.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    said = {
        "format": "pt", "source": foreign.name, "source_sha256": sha256, "model": name,
        "model_options": json.dumps(options), "nestlib": __version__,
    }  # fmt: skip
    save_weights(filled, out, metadata=said)
    return Converted(out, foreign, name, options, sum(p.numel() for p in filled.parameters()))


def _check_out(out: Path) -> None:
    if out.suffix != ".safetensors":
        raise ValueError(f"{out} must end in .safetensors, which is the kind of file written")
    if out.exists() and not (out.is_file() and is_safetensors(out.open("rb").read(16))):
        raise ValueError(f"{out} exists and is no .safetensors file; move it away, or name another")


def choose_model(
    foreign: Foreign, model: str | None, given: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The named model that weights fit, and its options, those `given` included.

    Raises:
        ForeignWeights: no named model fits, or not the one asked for.
        ValueError: an unknown model, or num_classes, which stays as it is.
    """
    if model is not None:
        check_choice("NesT", model, NEST_MODELS)
    if fixed := [key for key in ("num_classes", "pretrained") if key in given]:
        raise ValueError(
            f"{fixed[0]} follows from the weights; leave it out (reset_classifier gives a loaded "
            "model another head)"
        )
    layout, found, refusal = read_layout(foreign), {}, ""
    for name in [model] if model else NEST_MODELS:
        try:
            options = _options_for(name, layout, given)
        except (ValueError, UnknownOption) as error:
            if model:
                raise ValueError(f"{foreign.path} as {model}: {error}") from error
            refusal = f", and with {dict(given)}: {error}" if given else ""
            continue
        if options is not None:
            found[name] = options
    if not found:
        remedy = (
            "leave it out" if model else "build it as NesT(...), and take from_flax or from_timm "
            "of nestlib.models.weights"
        )  # fmt: skip
        raise ForeignWeights(
            f"{foreign.path} is of another shape than {model or 'every named model'}: {layout}"
            f"{refusal}; {remedy}"
        )
    name = min(found, key=lambda name: len(found[name]))  # needs the fewest options
    own = {}
    if foreign.kind == JAX:
        own["activation"] = "gelu_tanh"
    elif foreign.kind == TIMM and re.fullmatch(r"nest_[a-z]+", foreign.architecture):
        own["aggregation_padding"] = "symmetric"
    return name, {"num_classes": layout.num_classes, **own, **found[name]}


def read_layout(foreign: Foreign) -> Layout:
    """What the shapes of weights tell.

    Raises:
        ForeignWeights: a part is missing, or has another number of axes.
    """
    is_jax = foreign.kind == JAX
    leaves = list_leaves(foreign.weights) if is_jax else foreign.weights.items()
    shapes = {name: tuple(leaf.shape) for name, leaf in leaves}
    patch, pos, layer, head = _NAMES[foreign.kind]

    def shape(name: str, axes: int) -> tuple[int, ...]:
        if len(shapes.get(name, ())) != axes:
            found = f"has shape {shapes[name]}" if name in shapes else "is missing"
            raise ForeignWeights(f"{foreign.path}: {name} {found}, must have {axes} axes")
        return shapes[name]

    kernel = shape(patch, 4)  # JAX (S, S, in, out), torch (out, in, S, S)
    patch_size, in_chans = kernel[1:3] if is_jax else (kernel[2], kernel[1])
    levels = next(level for level in range(len(shapes) + 1) if pos.format(level) not in shapes)
    embeds = [shape(pos.format(level), 4) for level in range(levels)]  # (1, T, N, C) each
    if not embeds:
        shape(pos.format(0), 4)
    _, T, N, _ = embeds[-1]
    block_size = math.isqrt(N)
    img_size = math.isqrt(T) * block_size * patch_size * 2 ** (levels - 1)
    if foreign.kind == OURS and "pos_embed_size" in shapes:
        size = foreign.weights["pos_embed_size"]
        if size.shape != (2,) or size.dtype != torch.int64:
            raise ForeignWeights(
                f"{foreign.path}: pos_embed_size is {size.dtype} of shape {tuple(size.shape)}, "
                "must be two whole numbers"
            )
        height, width = size.tolist()
        img_size = height if height == width else (height, width)
    multi_query = any("/MultiQueryAttention_0/" in name for name in shapes)
    if foreign.kind == OURS:
        rows, dim = shape("hierarchies.0.0.attn.qkv.weight", 2)
        multi_query = rows != 3 * dim
    classes = 0 if head not in shapes and not is_jax else shape(head, 2)[1 if is_jax else 0]
    return Layout(
        img_size, patch_size, block_size, in_chans, [embed[-1] for embed in embeds],
        sum(re.fullmatch(layer, name) is not None for name in shapes),
        "multi_query" if multi_query else "multi_head", classes,
    )  # fmt: skip


def _options_for(
    name: str, layout: Layout, given: Mapping[str, Any]
) -> dict[str, Any] | None:  # fmt: skip
    """Options that a named model takes to have this layout beside those given; None: it cannot.

    Raises:
        ValueError, UnknownOption: what the model refuses.
    """
    build, own = NEST_MODELS[name]
    takes = inspect.signature(build).parameters
    general = inspect.signature(NesT).parameters
    defaults = {key: p.default for key, p in {**general, **takes}.items()} | own
    levels = len(layout.embed_dims)
    try:
        usual = fit_block_size(as_pair(layout.img_size), layout.patch_size, levels)
    except (ValueError, ZeroDivisionError):
        usual = None
    wanted = {
        "img_size": layout.img_size, "patch_size": layout.patch_size,
        "in_chans": layout.in_chans, "attention": layout.attention,
        "block_size": None if layout.block_size == usual else layout.block_size,
        **({"num_hierarchies": levels} if "num_hierarchies" in takes else {}),
    }  # fmt: skip
    options = {key: value for key, value in wanted.items() if value != defaults[key]} | given
    with torch.device("meta"):  # nothing is allocated
        model = create_model(name, num_classes=layout.num_classes, **options)
    layers = sum(map(len, model.hierarchies))
    return options if (model.embed_dims, layers) == (layout.embed_dims, layout.layers) else None


def _fill(foreign: Foreign, name: str, options: dict[str, Any]) -> NesT:
    """The model with these weights as float32."""
    with torch.device("meta"):
        model = create_model(name, **options)
    try:
        state = _to_ours(foreign, model)
        check_finite(state)
        model.load_state_dict(state, assign=True)
    except Exception as error:  # what a model's own hooks make of wrong shapes is of many types
        reason = " ".join(str(error).split())
        raise ForeignWeights(
            f"{foreign.path} does not fit {name} with {options}; give weights of such a model: "
            f"{reason[:500]}"
        ) from error
    return model


def _to_ours(foreign: Foreign, model: NesT) -> State:
    if foreign.kind == JAX:
        return from_flax(foreign.weights, model)
    state = from_timm(foreign.weights, model) if foreign.kind == TIMM else foreign.weights
    for name, tensor in state.items():
        if tensor.is_complex():
            raise ForeignWeights(f"{name} is {tensor.dtype}")
    return {k: t.float() if k != "pos_embed_size" else t for k, t in state.items()}
