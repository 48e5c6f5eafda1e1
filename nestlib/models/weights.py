"""Weights from elsewhere: timm's NesT, the published JAX checkpoints, safetensors files.

A NesT state dict here and timm's differ in names and in one order: timm merges heads as
(head dim, head), we as (head, head dim), as the published code does, so the input columns of every
attention projection are permuted.
"""

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nestlib.models.blocks import resize_pos_embed
from nestlib.models.nest import NesT

State = dict[str, Tensor]

_TIMM_NAMES = (  # timm's name -> ours
    (r"^patch_embed\.proj\.", "patch_embed."),
    (r"^levels\.(\d+)\.pos_embed$", r"pos_embeds.\1"),
    (r"^levels\.(\d+)\.transformer_encoder\.(\d+)\.mlp\.", r"hierarchies.\1.\2."),
    (r"^levels\.(\d+)\.transformer_encoder\.", r"hierarchies.\1."),
)


def from_timm(state: Mapping[str, Tensor], num_heads: list[int]) -> State:
    """Convert the state dict of timm's `Nest` (nest_{tiny,small,base} and their _jx forms).

    Args:
        num_heads: heads of every hierarchy, image side first; they fix the permutation.

    Raises:
        KeyError: the state dict is not one of timm's NesT.
    """
    if "levels.0.pos_embed" not in state:
        raise KeyError(f"no timm NesT state dict: no 'levels.0.pos_embed' among {list(state)[:4]}")
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
            heads = num_heads[int(ours.split(".")[1])]
            split = tensor.reshape(len(tensor), -1, heads)  # input columns as (head dim, head)
            out[ours] = split.transpose(1, 2).reshape(tensor.shape)
        else:
            out[ours] = tensor
    return out


def from_flax(params: Mapping, depths: list[int]) -> State:
    """Convert a published checkpoint's parameter tree (nested dict of arrays, flax's names).

    Args:
        params: the tree that holds "PatchEmbedding_0", "EncoderNDBlock_0", ...
        depths: transformer layers of every hierarchy, image side first.

    Raises:
        KeyError: a module that the tree lacks, named.
    """
    wanted = ("PatchEmbedding_0", "LayerNorm_0", "Dense_0")
    missing = [name for name in wanted if name not in params]
    if missing:
        raise KeyError(f"no published NesT tree: {missing} missing among {sorted(params)[:6]}")
    out = {
        **_conv("patch_embed", params["PatchEmbedding_0"]["Conv_0"]),
        **_norm("norm", params["LayerNorm_0"]),
        **_dense("head", params["Dense_0"]),
    }
    layer = 0
    for level, depth in enumerate(depths):
        out[f"pos_embeds.{level}"] = _tensor(params[f"PositionEmbedding_{level}"]["pos_embedding"])
        for index in range(depth):
            block = params[f"EncoderNDBlock_{layer}"]
            out |= _encoder_layer(f"hierarchies.{level}.{index}", block)
            layer += 1
        if level < len(depths) - 1:
            pool = params[f"ConvPool_{level}"]
            out |= _conv(f"aggregations.{level}.conv", pool["Conv_0"])
            out |= _norm(f"aggregations.{level}.norm", pool["LayerNorm_0"])
    return out


def _tensor(array) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))


def _conv(name: str, tree: Mapping) -> State:  # flax: (kernel h, kernel w, in, out)
    kernel = _tensor(tree["kernel"]).permute(3, 2, 0, 1).contiguous()
    return {f"{name}.weight": kernel, f"{name}.bias": _tensor(tree["bias"])}


def _norm(name: str, tree: Mapping) -> State:
    return {f"{name}.weight": _tensor(tree["scale"]), f"{name}.bias": _tensor(tree["bias"])}


def _dense(name: str, tree: Mapping) -> State:
    kernel = _tensor(tree["kernel"]).T.contiguous()
    return {f"{name}.weight": kernel, f"{name}.bias": _tensor(tree["bias"])}


def _encoder_layer(name: str, tree: Mapping) -> State:
    multi_query = "MultiQueryAttention_0" in tree
    attention = tree["MultiQueryAttention_0" if multi_query else "MultiHeadAttention_0"]
    query = attention["DenseGeneral_0"]  # kernel (dim, heads, head dim)
    # Key and value lie in one array, halved along its last axis: (dim, [heads,] 2 * head dim).
    key_value = attention["Dense_0" if multi_query else "DenseGeneral_1"]
    kernels = [_tensor(query["kernel"]), *_tensor(key_value["kernel"]).chunk(2, dim=-1)]
    biases = [_tensor(query["bias"]), *_tensor(key_value["bias"]).chunk(2, dim=-1)]
    proj = _tensor(attention["proj_kernel"]).flatten(0, 1)  # (heads * head dim, dim)
    return {
        f"{name}.attn.qkv.weight": torch.cat([k.flatten(1).T for k in kernels]),
        f"{name}.attn.qkv.bias": torch.cat([b.flatten() for b in biases]),
        f"{name}.attn.proj.weight": proj.T.contiguous(),
        f"{name}.attn.proj.bias": _tensor(attention["bias"]),
        **_norm(f"{name}.norm1", tree["LayerNorm_0"]),
        **_norm(f"{name}.norm2", tree["LayerNorm_1"]),
        **_dense(f"{name}.fc1", tree["MlpBlock_0"]["Dense_0"]),
        **_dense(f"{name}.fc2", tree["MlpBlock_0"]["Dense_1"]),
    }


def load_weights(model: NesT, weights: Mapping[str, Tensor] | Path | str) -> NesT:
    """Load a NesT state dict or a .safetensors file, resizing position embeddings to the model.

    Weights made for another input size load: embeddings are resized as `resize_pos_embed` says.

    Raises:
        FileNotFoundError: the file, and what would be right.
        RuntimeError: names or shapes that do not belong to this model, as torch lists them.
        ValueError: embeddings of a non-square model, at another size than this model's.
    """
    if isinstance(weights, Path | str):
        if not Path(weights).is_file():
            raise FileNotFoundError(f"no weights at {weights}; give a .safetensors file")
        weights = load_file(weights)
    state = {name: tensor.float() for name, tensor in weights.items()}
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    names = [f"pos_embeds.{level}" for level in range(model.num_hierarchies)]
    if all(name in state for name in names) and any(state[n].shape != shapes[n] for n in names):
        for name, old, grid in zip(names, _source_grids(state, model), model.grids):
            new = (1, 1) if shapes[name][1] == 1 else grid  # a shared embedding has one block
            state[name] = resize_pos_embed(state[name], old, new, model.block_size)
    model.load_state_dict(state)
    return model


def _source_grids(state: State, model: NesT) -> list[tuple[int, int]]:
    """Block grids of the model that the embeddings come from; only square ones can be told."""
    grids = []
    for level in range(model.num_hierarchies):
        blocks = state[f"pos_embeds.{level}"].shape[1]
        if math.isqrt(blocks) ** 2 != blocks:
            raise ValueError(
                f"{blocks} blocks at level {level} are no square grid: position embeddings can be "
                "resized from square models only; give the model the size they were made for"
            )
        grids.append((math.isqrt(blocks), math.isqrt(blocks)))
    return grids


def save_weights(model: NesT, path: Path | str, *, half: bool = False) -> None:
    """Write a state dict as .safetensors; `half` stores float16 (a file half as large)."""
    state = {name: t.half() if half else t for name, t in model.state_dict().items()}
    save_file({name: t.contiguous().cpu() for name, t in state.items()}, path)


def hash_weights(model: nn.Module) -> str:
    """SHA-256 over names and bytes of the state dict: equal weights, equal hash."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def load_published(model: NesT, timm_name: str) -> NesT:
    """Fetch the published ImageNet weights through timm (needs a network) and load them.

    Args:
        timm_name: nest_tiny_jx, nest_small_jx or nest_base_jx.
    """
    import timm

    source = timm.create_model(timm_name, pretrained=True)
    num_heads = [layer[0].attn.num_heads for layer in model.hierarchies]
    return load_weights(model, from_timm(source.state_dict(), num_heads))
