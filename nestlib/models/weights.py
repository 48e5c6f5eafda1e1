"""Weights from elsewhere: timm's models, the published JAX checkpoints, safetensors files.

A NesT state dict here and timm's differ in names and in one order: timm merges heads as
(head dim, head), we as (head, head dim), as the published code does, so the input columns of every
attention projection are permuted.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from nestlib.files import write_atomically
from nestlib.models.nest import NesT

State = dict[str, Tensor]

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
        KeyError: the state dict is not one of timm's NesT.
    """
    num_heads = [layers[0].attn.num_heads for layers in model.hierarchies]
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


def from_flax(params: Mapping, model: NesT) -> State:
    """Convert a published checkpoint's parameter tree (nested dict of arrays, flax's names).

    Args:
        params: the tree that holds "PatchEmbedding_0", "EncoderNDBlock_0", ...
        model: what the weights are for; its layers say which hierarchy a block belongs to.

    Raises:
        KeyError: a module that the tree lacks, named.
        ValueError: the tree has other layers or heads than the model.
    """
    depths = [len(layers) for layers in model.hierarchies]
    wanted = ("PatchEmbedding_0", "LayerNorm_0", "Dense_0")
    missing = [name for name in wanted if name not in params]
    if missing:
        raise KeyError(f"no published NesT tree: {missing} missing among {sorted(params)[:6]}")
    out = {
        **_layer("patch_embed", params["PatchEmbedding_0"]["Conv_0"]),
        **_layer("norm", params["LayerNorm_0"]),
        **_layer("head", params["Dense_0"]),
    }
    blocks = [name for name in params if name.startswith("EncoderNDBlock_")]
    if len(blocks) != sum(depths):
        raise ValueError(
            f"the tree has {len(blocks)} transformer layers, the model {sum(depths)} ({depths})"
        )
    layer = 0
    for level, depth in enumerate(depths):
        out[f"pos_embeds.{level}"] = _tensor(params[f"PositionEmbedding_{level}"]["pos_embedding"])
        for index in range(depth):
            heads = model.hierarchies[level][index].attn.num_heads
            block = params[f"EncoderNDBlock_{layer}"]
            out |= _encoder_layer(f"hierarchies.{level}.{index}", block, heads)
            layer += 1
        if level < len(depths) - 1:
            pool = params[f"ConvPool_{level}"]
            out |= _layer(f"aggregations.{level}.conv", pool["Conv_0"])
            out |= _layer(f"aggregations.{level}.norm", pool["LayerNorm_0"])
    return out


def _tensor(array) -> Tensor:
    return torch.from_numpy(np.array(array, dtype=np.float32))


def _layer(name: str, tree: Mapping) -> State:
    """A norm, a dense layer or a convolution; flax's kernels are (in, out) and (h, w, in, out)."""
    if "scale" in tree:
        weight = _tensor(tree["scale"])
    else:
        weight = _tensor(tree["kernel"]).movedim((-1, -2), (0, 1)).contiguous()
    return {f"{name}.weight": weight, f"{name}.bias": _tensor(tree["bias"])}


def _encoder_layer(name: str, tree: Mapping, num_heads: int) -> State:
    multi_query = "MultiQueryAttention_0" in tree
    attention = tree["MultiQueryAttention_0" if multi_query else "MultiHeadAttention_0"]
    query = attention["DenseGeneral_0"]  # kernel (dim, heads, head dim)
    if query["kernel"].shape[1] != num_heads:
        raise ValueError(
            f"{name} has {query['kernel'].shape[1]} heads in the tree, {num_heads} in the model"
        )
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
        **_layer(f"{name}.norm1", tree["LayerNorm_0"]),
        **_layer(f"{name}.norm2", tree["LayerNorm_1"]),
        **_layer(f"{name}.fc1", tree["MlpBlock_0"]["Dense_0"]),
        **_layer(f"{name}.fc2", tree["MlpBlock_0"]["Dense_1"]),
    }


def load_weights(model: nn.Module, weights: Mapping[str, Tensor] | Path | str) -> nn.Module:
    """Load a state dict or a .safetensors file.

    A NesT's weights made for another input size load: `fit_pos_embeds` resizes their embeddings.

    Raises:
        FileNotFoundError: the file, and what would be right.
        RuntimeError: names or shapes that do not belong to this model, as torch lists them.
        ValueError: embeddings of a size that cannot be told.
    """
    if isinstance(weights, Path | str):
        if not Path(weights).is_file():
            raise FileNotFoundError(f"no weights at {weights}; give a .safetensors file")
        weights = load_file(weights)
    model.load_state_dict(dict(weights))
    return model


def save_weights(
    model: nn.Module, path: Path | str, *, half: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> None:  # fmt: skip
    """Write a state dict as .safetensors; `half` stores float16 (a file half as large)."""
    state = model.state_dict()
    if half:
        state = {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
    data = save({name: t.contiguous().cpu() for name, t in state.items()}, metadata=metadata)
    write_atomically(Path(path), data)


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
