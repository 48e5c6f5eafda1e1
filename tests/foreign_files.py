"""Weights as others store them: the authors' checkpoints, and the files of timm and torch."""

import argparse
import functools
import json
import zlib

import msgpack
import numpy as np
import torch
from safetensors.torch import save_file
from timm.models.nest import Nest


def published_tree(
    dims=(12,) * 4, heads=(3,) * 4, depths=(3,) * 4, edge=4, patch=1, classes=5, multi_query=True,
    draw=None,
):  # fmt: skip
    """The parameters of the published code, by its names and shapes."""
    tree = {}

    def put(path, *shape):
        *folders, leaf = path.split("/")
        node = functools.reduce(lambda node, name: node.setdefault(name, {}), folders, tree)
        seed = np.random.default_rng(zlib.crc32(path.encode()))
        node[leaf] = draw(shape) if draw else 0.3 * seed.standard_normal(shape, np.float32)

    def put_layer(path, *shape):
        put(f"{path}/{'kernel' if len(shape) > 1 else 'scale'}", *shape)
        put(f"{path}/bias", shape[-1])

    put_layer("PatchEmbedding_0/Conv_0", patch, patch, 3, dims[0])
    layers = iter(range(sum(depths)))
    for level, (dim, head_count, depth) in enumerate(zip(dims, heads, depths)):
        blocks, D = 4 ** (len(dims) - 1 - level), dim // head_count
        put(f"PositionEmbedding_{level}/pos_embedding", 1, blocks, edge**2, dim)
        for _, layer in zip(range(depth), layers):
            block = f"EncoderNDBlock_{layer}"
            inside = f"{block}/Multi{'Query' if multi_query else 'Head'}Attention_0"
            for name in ("LayerNorm_0", "LayerNorm_1"):
                put_layer(f"{block}/{name}", dim)
            put(f"{inside}/DenseGeneral_0/kernel", dim, head_count, D)
            put(f"{inside}/DenseGeneral_0/bias", head_count, D)
            other, shared = ("Dense_0", ()) if multi_query else ("DenseGeneral_1", (head_count,))
            put(f"{inside}/{other}/kernel", dim, *shared, 2 * D)
            put(f"{inside}/{other}/bias", *shared, 2 * D)
            put(f"{inside}/proj_kernel", head_count, D, dim)
            put(f"{inside}/bias", dim)
            put_layer(f"{block}/MlpBlock_0/Dense_0", dim, 4 * dim)
            put_layer(f"{block}/MlpBlock_0/Dense_1", 4 * dim, dim)
        if level < len(dims) - 1:
            put_layer(f"ConvPool_{level}/Conv_0", 3, 3, dim, dims[level + 1])
            put_layer(f"ConvPool_{level}/LayerNorm_0", dims[level + 1])
    put_layer("LayerNorm_0", dims[-1])
    put_layer("Dense_0", dims[-1], classes)
    return tree


def as_flax(value, chunk=None, kind="float32"):
    """Bytes as flax's documentation of its format has them; `chunk` numbers go into a piece."""
    if isinstance(value, dict):
        return {name: as_flax(inner, chunk, kind) for name, inner in value.items()}
    if not isinstance(value, np.ndarray):
        return value
    if chunk and value.size > chunk:
        flat = value.reshape(-1)
        pieces = [flat[i : i + chunk] for i in range(0, flat.size, chunk)]
        return {
            "__msgpack_chunked_array__": True,
            "shape": {str(i): n for i, n in enumerate(value.shape)},
            "chunks": {str(i): as_flax(piece, None, kind) for i, piece in enumerate(pieces)},
        }
    bfloat16 = kind == "bfloat16" and value.dtype.kind == "f"
    stored = (value.view("u4") >> 16).astype("u2") if bfloat16 else value
    name = kind if bfloat16 else value.dtype.name
    return msgpack.ExtType(1, msgpack.packb((value.shape, name, stored.tobytes())))


def train_state(params):
    """What the published code's checkpoints hold."""
    moments = {"0": {"step": 3, "param_states": {}}, "1": None}
    return {
        "step": 39, "optimizer": {"target": params, "state": moments},
        "model_state": {}, "z": msgpack.ExtType(2, msgpack.packb((1.0, 2.0))),
    }  # fmt: skip


def write(path, tree):
    path.write_bytes(msgpack.packb(tree))
    return path


def save_safetensors(model, folder):
    save_file(model.state_dict(), folder / "weights.dat")
    return folder / "weights.dat"


def save_torch(model, folder, **how):
    torch.save(model.state_dict(), folder / "weights.pth", **how)
    return folder / "weights.pth"


def save_training(model, folder):
    """As timm's train.py does."""
    wrapped = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    worse = {name: torch.zeros_like(tensor) for name, tensor in wrapped.items()}
    kept = {
        "epoch": 3, "arch": "nest_tiny_jx", "args": argparse.Namespace(lr=1.0), "metric": 1.5,
        "state_dict": worse, "state_dict_ema": wrapped, "optimizer": {"state": {}},
    }  # fmt: skip
    torch.save(kept, folder / "last.pth.tar")
    return folder / "last.pth.tar"


def save_hub(model, folder, architecture="nest_tiny_jx"):
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"architecture": architecture}))
    return folder


def make_timms():
    """timm's NesT as nest_tiny_jx is made, but narrow."""
    torch.manual_seed(0)
    model = Nest(
        img_size=32, embed_dims=(24, 48, 96), num_heads=(3, 6, 12), depths=(2, 2, 8),
        num_classes=5, pad_type="same",
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model
