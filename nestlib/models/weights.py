"""Weights in and out of models: of safetensors files, timm's models, the published JAX checkpoints.

A NesT state dict here and timm's differ in names and in one order: timm merges heads as
(head dim, head), we as (head, head dim), as the published code does, so the input columns of every
attention projection are permuted.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nestlib.arguments import MAX_PARAMS
from nestlib.models.attention import BlockAttention
from nestlib.models.nest import NesT
from nestlib.models.tensor_files import read_tensors, write_tensors

State = dict[str, Tensor]


class ForeignWeights(KeyError, ValueError):
    """Weights that do not have the expected form, or do not fit the model; the part is named."""

    __str__ = Exception.__str__  # a KeyError would show its message in quotes


_TIMM_NAMES = (  # timm's name -> ours
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^levels\.(\d+)\.pos_embed$", r"pos_embeds.\1"),
    (r"^levels\.(\d+)\.transformer_encoder\.(\d+)\.mlp\.", r"hierarchies.\1.\2."),
    (r"^levels\.(\d+)\.transformer_encoder\.", r"hierarchies.\1."),
)


def from_timm(state: Mapping[str, Tensor], model: NesT) -> State:
    """Convert the state dict of timm's `Nest` (nest_{tiny,small,base} and their _jx forms).

    Args:
        model: what the weights are for; its heads fix the permutation.

    Raises:
        ForeignWeights: the state dict is not one of timm's NesT, or of another model's heads.
    """
    num_heads = [layers[0].attn.num_heads for layers in model.hierarchies]
    if "levels.0.pos_embed" not in state:
        raise ForeignWeights(
            f"not a timm NesT state dict: no 'levels.0.pos_embed' among {list(state)[:4]}"
        )
    out = {}
    for name, tensor in state.items():
        pool = re.match(r"^levels\.(\d+)\.pool\.(.*)$", name)
        if pool:  # timm pools at the start of the next level, the paper at the end of this one
            ours = f"aggregations.{int(pool[1]) - 1}.{pool[2]}"
        else:
            ours = name
            for pattern, replacement in _TIMM_NAMES:
                ours = re.sub(pattern, replacement, ours)
        if ours.endswith("attn.proj.weight"):
            level = int(ours.split(".")[1])
            heads = num_heads[level] if level < len(num_heads) else 0
            if not heads or tensor.ndim != 2 or tensor.shape[1] % heads:
                raise ForeignWeights(
                    f"{name} of shape {tuple(tensor.shape)} does not fit the model's "
                    f"{len(num_heads)} levels with {num_heads} heads"
                )
            split = tensor.reshape(len(tensor), -1, heads)  # input columns as (head dim, head)
            out[ours] = split.transpose(1, 2).reshape(tensor.shape)
        else:
            out[ours] = tensor
    return out


def from_flax(params: Mapping, model: NesT) -> State:
    """Convert a published checkpoint's parameter tree (nested dict of arrays, flax's names).

    Args:
        params: the tree that holds "PatchEmbedding_0", "EncoderNDBlock_0", ...
        model: what the weights are for; its layers say which hierarchy a block belongs to.

    Raises:
        ForeignWeights: a leaf is missing, unknown, of another shape, or does not hold finite
            numbers; or the tree has other layers or heads than the model. The message names it.
    """
    depths = [len(layers) for layers in model.hierarchies]
    wanted = "PatchEmbedding_0", "LayerNorm_0", "Dense_0"
    if missing := [name for name in wanted if name not in params]:
        raise ForeignWeights(
            f"not a published NesT tree: {missing} missing among {list(params)[:6]}"
        )
    blocks = [name for name in params if str(name).startswith("EncoderNDBlock_")]
    if len(blocks) != sum(depths):
        raise ForeignWeights(
            f"the tree has {len(blocks)} transformer layers, the model {sum(depths)} ({depths})"
        )
    tree = _FlaxTree(params, model)
    out = {
        **tree.take_layer("patch_embed", "PatchEmbedding_0/Conv_0"),
        **tree.take_layer("norm", "LayerNorm_0"),
        **tree.take_head("Dense_0"),
    }
    paths = (f"EncoderNDBlock_{layer}" for layer in range(sum(depths)))
    for level, depth in enumerate(depths):
        out[f"pos_embeds.{level}"] = tree.take_pos_embed(level)
        for index, path in zip(range(depth), paths):
            attn = model.hierarchies[level][index].attn
            out |= _encoder_layer(f"hierarchies.{level}.{index}", path, tree, attn)
        if level < len(depths) - 1:
            for part, name in (("conv", "Conv_0"), ("norm", "LayerNorm_0")):
                out |= tree.take_layer(f"aggregations.{level}.{part}", f"ConvPool_{level}/{name}")
    if tree.leaves:
        raise ForeignWeights(f"the model has no place for the tree's {', '.join(tree.leaves)}")
    return out


class _FlaxTree:
    """A parameter tree whose leaves are taken and checked one by one, by their paths."""

    def __init__(self, params: Mapping, model: NesT):
        self.leaves, self.patches = dict(list_leaves(params)), 0
        self.shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}

    def take(self, path: str, *shape: int | None) -> Tensor:
        """Take a leaf as float32; None in a shape stands for any length."""
        if path not in self.leaves:
            raise ForeignWeights(f"the tree has no leaf {path}")
        try:
            array = np.asarray(self.leaves.pop(path))
            if array.dtype.kind not in "fiuV":  # V: JAX's bfloat16
                raise TypeError(f"its type is {array.dtype}")
            tensor = torch.from_numpy(array.astype(np.float32))
        except (TypeError, ValueError) as error:
            raise ForeignWeights(f"{path} is not an array of numbers: {error}") from error
        fits = len(shape) == tensor.ndim and all(
            length in (None, found) for length, found in zip(shape, tensor.shape)
        )
        if not fits or not tensor.isfinite().all():
            wanted = tuple("any" if length is None else length for length in shape)
            raise ForeignWeights(
                f"{path} has shape {tuple(tensor.shape)}, must be finite numbers of shape {wanted}"
            )
        return tensor

    def shape_of(self, name: str, path: str) -> tuple[int, ...]:
        """The shape of the model's tensor for the leaf at `path`."""
        if name not in self.shapes:
            raise ForeignWeights(f"the model has no {name}, which is {path} in the tree")
        return self.shapes[name]

    def take_layer(self, name: str, path: str) -> State:
        """Take a norm, dense layer or convolution; flax has kernels (in, out), (h, w, in, out)."""
        out, *inputs = self.shape_of(f"{name}.weight", path)
        if not inputs:
            weight = self.take(f"{path}/scale", out)
        else:
            kernel = self.take(f"{path}/kernel", *inputs[1:], inputs[0], out)
            weight = kernel.movedim((-1, -2), (0, 1)).contiguous()
        return {f"{name}.weight": weight, f"{name}.bias": self.take(f"{path}/bias", out)}

    def take_head(self, path: str) -> State:
        """Take the last layer, whose classes may differ from the model's."""
        weight = self.take(f"{path}/kernel", self.shapes["norm.weight"][0], None).T.contiguous()
        return {"head.weight": weight, "head.bias": self.take(f"{path}/bias", len(weight))}

    def take_pos_embed(self, level: int) -> Tensor:
        """Take position embeddings (1, T, N, C) of any size: loading fits them to the model."""
        path = f"PositionEmbedding_{level}/pos_embedding"
        tensor = self.take(path, 1, None, None, self.shape_of(f"pos_embeds.{level}", path)[-1])
        T, N = tensor.shape[1:3]
        self.patches = self.patches or N  # of a block: as many in every hierarchy
        if not T * N or N != self.patches or any(math.isqrt(n) ** 2 != n for n in (T, N)):
            raise ForeignWeights(
                f"{path} has {T} blocks of {N} patches; both must be squares, and blocks are of "
                f"{self.patches} in level 0"
            )
        return tensor


def list_leaves(tree: Mapping, path: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dicts, by their paths: "Dense_0/kernel"."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from list_leaves(value, f"{path}{name}/")
        else:
            yield f"{path}{name}", value


def _encoder_layer(name: str, path: str, tree: _FlaxTree, attn: BlockAttention) -> State:
    dim, D = tree.shapes[f"{name}.attn.proj.weight"][0], attn.head_dim
    inside = f"{path}/MultiQueryAttention_0"
    multi_query = any(leaf.startswith(f"{inside}/") for leaf in tree.leaves)
    if multi_query != (attn.num_kv_heads == 1) and attn.num_heads > 1:
        has = "has" if multi_query else "does not have"
        raise ForeignWeights(
            f"the tree {has} multi-query attention ({inside}), unlike the model's {name}"
        )
    inside = inside if multi_query else f"{path}/MultiHeadAttention_0"
    query = tree.take(f"{inside}/DenseGeneral_0/kernel", dim, None, None)
    if query.shape[1:] != (attn.num_heads, D):
        raise ForeignWeights(
            f"{name} has {query.shape[1]} heads in the tree, {attn.num_heads} in the model, of "
            f"{query.shape[2]} and {D} numbers each ({inside}/DenseGeneral_0/kernel)"
        )
    # Key and value lie in one array, halved along its last axis: (dim, [heads,] 2 * head dim).
    heads, other = ((), "Dense_0") if multi_query else ((attn.num_heads,), "DenseGeneral_1")
    key_value = tree.take(f"{inside}/{other}/kernel", dim, *heads, 2 * D)
    kernels = [query, *key_value.chunk(2, dim=-1)]
    bias = tree.take(f"{inside}/DenseGeneral_0/bias", attn.num_heads, D)
    biases = [bias, *tree.take(f"{inside}/{other}/bias", *heads, 2 * D).chunk(2, dim=-1)]
    proj = tree.take(f"{inside}/proj_kernel", attn.num_heads, D, dim).flatten(0, 1)
    return {
        f"{name}.attn.qkv.weight": torch.cat([k.flatten(1).T for k in kernels]),
        f"{name}.attn.qkv.bias": torch.cat([b.flatten() for b in biases]),
        f"{name}.attn.proj.weight": proj.T.contiguous(),
        f"{name}.attn.proj.bias": tree.take(f"{inside}/bias", dim),
        **tree.take_layer(f"{name}.norm1", f"{path}/LayerNorm_0"),
        **tree.take_layer(f"{name}.norm2", f"{path}/LayerNorm_1"),
        **tree.take_layer(f"{name}.fc1", f"{path}/MlpBlock_0/Dense_0"),
        **tree.take_layer(f"{name}.fc2", f"{path}/MlpBlock_0/Dense_1"),
    }


def load_weights(model: nn.Module, weights: Mapping[str, Tensor] | Path | str) -> nn.Module:
    """Load a state dict or a .safetensors file.

    A NesT's weights made for another input size load: `fit_pos_embeds` resizes their embeddings.

    Raises:
        FileNotFoundError: the file, and what would be right.
        OSError: a cut or damaged file, named.
        RuntimeError: names or shapes that do not belong to this model, as torch lists them; of a
            file, ValueError, which names it too.
        ValueError: embeddings of a size that cannot be told; numbers of a file that are not finite.
    """
    if not isinstance(weights, Path | str):
        model.load_state_dict(dict(weights))
        return model
    return _load_file(model, read_tensors(weights), weights)


def load_new(
    build: Callable[[], nn.Module], path: Path | str, *, strict: bool = True
) -> nn.Module:  # fmt: skip
    """Build a model and load its weights from a .safetensors file.

    No memory is taken for a model that the weights do not fit, however large `build` would make it.

    Args:
        strict: False lets layers without weights stay as they were built.

    Returns:
        The model, in evaluation mode on the CPU.

    Raises:
        FileNotFoundError, OSError, ValueError: as `load_weights`; or a model of more than
            MAX_PARAMS numbers.
        Exception: what `build` raises.
    """
    state = read_tensors(path)
    with torch.device("meta"):  # shapes alone
        shapes = build()
    params = sum(p.numel() for p in shapes.parameters())
    if params > MAX_PARAMS:
        raise ValueError(
            f"a {type(shapes).__name__} with {params:.0e} parameters is asked for, must have at "
            f"most {MAX_PARAMS:.0e}"
        )
    _load_file(shapes, dict(state), path, strict=strict, assign=True)
    return _load_file(build(), state, path, strict=strict).eval()


def _load_file(
    model: nn.Module, state: State, path: Path | str, **how: bool
) -> nn.Module:  # fmt: skip
    own = model.state_dict()
    try:
        for name in own.keys() & state.keys():
            if state[name].is_floating_point() != own[name].is_floating_point():
                raise TypeError(f"{name} is {state[name].dtype}, not {own[name].dtype}")
        check_finite(state)
        model.load_state_dict(state, **how)
    except Exception as error:  # what a model's own hooks make of wrong shapes is of many types
        raise ValueError(
            f"{path} does not fit this {type(model).__name__}; give weights of this model: "
            f"{str(error)[:1000]}"
        ) from error
    return model


def check_finite(state: Mapping[str, Tensor]) -> None:
    """Raise ForeignWeights, which names the tensor, for NaN or infinity: no training leaves it."""
    for name, tensor in state.items():
        if not _is_finite(tensor):
            raise ForeignWeights(f"{name} holds numbers that are not finite")


def _is_finite(tensor: Tensor) -> bool:
    if tensor.is_floating_point() and tensor.itemsize == 1:  # fp8 has no isfinite
        tensor = tensor.float()
    return bool(tensor.isfinite().all())


def save_weights(
    model: nn.Module, path: Path | str, *, half: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Write a state dict as .safetensors; `half` stores float16 (a file half as large).

    Raises:
        OSError: the write failed; the message names the file.
        ValueError: numbers that float16 does not hold; nothing is written.
    """
    state = model.state_dict()
    if half:
        state = {name: _halve(name, tensor) for name, tensor in state.items()}
    write_tensors(Path(path), state, metadata)


def _halve(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if half.isinf().any() and not tensor.isinf().any():
        raise ValueError(
            f"{name} holds {tensor.abs().max():.3g}, more than float16's 65504; keep these weights "
            "in full precision, by push_to_hub"
        )
    return half


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over names and bytes of the state dict: equal weights, equal hash."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def load_published(model: nn.Module, timm_name: str) -> nn.Module:
    """Fetch published ImageNet weights through timm (needs a network) and load them.

    Another number of classes gets a fresh head, another image size resized position embeddings;
    a NesT with other channels gets timm's converted embedding.

    Args:
        model: a NesT, or a peer that is one of timm's models.
        timm_name: architecture and weights: nest_tiny_jx, resnet50.tv_in1k, ...

    Raises:
        RuntimeError: the model has other parts than the published one, as torch lists them.
    """
    import timm

    options = {"num_classes": model.num_classes}
    if isinstance(model, NesT):
        source = timm.create_model(
            timm_name, pretrained=True, in_chans=model.patch_embed.in_channels, **options
        )
        return load_weights(model, from_timm(source.state_dict(), model))
    if hasattr(model, "patch_embed"):  # a convnet has no size of its own
        options["img_size"] = model.patch_embed.img_size
    model.load_state_dict(timm.create_model(timm_name, pretrained=True, **options).state_dict())
    return model
