"""Read the parameters of a flax checkpoint without flax or JAX; nothing that a file holds is run.

The format is that of `flax.serialization.to_bytes`: MessagePack, nested dicts with text for keys.

    extension 1, 3    an array, a numpy scalar: [shape, name of the type, bytes] in MessagePack
    extension 2       a complex number, which is in no model's parameters
    {"__msgpack_chunked_array__": true, "shape": {"0": ...}, "chunks": {"0": array, ...}}
                      an array of more than 2**30 bytes, flat and in pieces
"""

import math
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from nestlib.models.weights import ForeignWeights

ARRAY, SCALAR = 1, 3  # extensions
CHUNKED = "__msgpack_chunked_array__"
BFLOAT16 = "bfloat16"  # numpy has no such type
DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16",
    "float32", "float64",
)  # fmt: skip
MAX_AXES, MAX_DEPTH = 32, 32
# msgpack sets memory aside for as many items as a list says it has; only shapes are lists.
LIMITS = {"max_array_len": MAX_AXES, "max_map_len": 100_000}
# Where checkpoints keep parameters: the authors' train state, flax's variables, the bare tree.
PLACES = ("optimizer/target", "params", "params/params", "target", "")
FIRST = "PatchEmbedding_0"  # of a NesT's tree


def read_flax_params(path: Path) -> tuple[dict[str, Any], str]:
    """The tree of a NesT's parameters in a checkpoint, and the place in the file where it stands.

    bfloat16 comes as float32, every other array as it is. What else the file holds, such as the
    optimizer's moments, is not turned into arrays.

    Raises:
        OSError: the file is cut or damaged; the message names it.
        ForeignWeights: there is no NesT in it, or a leaf is not a whole array.
    """
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            tree = msgpack.unpackb(data, **LIMITS)
    except (ValueError, TypeError, OverflowError) as error:  # msgpack's own are ValueErrors
        reason = str(error) or type(error).__name__
        raise OSError(
            f"{path} is not a whole flax checkpoint ({reason}); fetch it again"
        ) from error
    for place in PLACES:
        params = tree
        for name in filter(None, place.split("/")):
            params = params.get(name) if isinstance(params, dict) else None
        if isinstance(params, dict) and FIRST in params:
            return dict(_read_arrays(params, path, place, MAX_DEPTH)), place
    raise ForeignWeights(
        f"{path} holds no NesT: {FIRST} is neither at its top, beside {_show(list(tree))}, nor "
        f"under {', '.join(filter(None, PLACES))}; give a checkpoint of the published NesT code"
    )


def _read_arrays(tree: dict, path: Path, place: str, depth: int) -> Iterator[tuple[str, Any]]:
    if not depth:
        raise ForeignWeights(f"{path}: {_show(place)} is nested more than {MAX_DEPTH} deep")
    for name, value in tree.items():
        where = f"{place}/{name}" if place else str(name)
        if isinstance(value, dict) and CHUNKED not in value:
            yield name, dict(_read_arrays(value, path, where, depth - 1))
            continue
        try:
            yield name, _join_chunks(value) if isinstance(value, dict) else _read_array(value)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise ForeignWeights(
                f"{path}: {where} is not a whole array ({error}); fetch the file again"
            ) from error


def _read_array(leaf: Any) -> np.ndarray:
    if not isinstance(leaf, msgpack.ExtType) or leaf.code not in (ARRAY, SCALAR):
        raise ValueError(f"found {_show(leaf)}")
    parts = msgpack.unpackb(leaf.data, raw=True, **LIMITS)
    if not isinstance(parts, list) or [*map(type, parts)] != [list, bytes, bytes]:
        raise ValueError("it is not packed as shape, type and bytes")
    shape, kind, data = parts[0], parts[1].decode(errors="replace"), parts[2]
    _check_shape(shape)
    if kind not in (*DTYPES, BFLOAT16):
        raise ValueError(f"type {_show(kind)}; those read are {BFLOAT16}, {', '.join(DTYPES)}")
    dtype = np.dtype("uint16" if kind == BFLOAT16 else kind).newbyteorder("<")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise ValueError(f"{_show(shape)} numbers of {kind} are not {len(data)} bytes")
    array = np.frombuffer(data, dtype).reshape(shape)
    if kind == BFLOAT16:  # the upper half of a float32
        return (array.astype("<u4") << 16).view("<f4")
    return array


def _join_chunks(branch: dict) -> np.ndarray:
    shape, chunks = (_in_order(branch[name]) for name in ("shape", "chunks"))
    _check_shape(shape)
    arrays = [_read_array(chunk).reshape(-1) for chunk in chunks]
    found = sum(array.size for array in arrays)
    if not arrays or found != math.prod(shape):
        raise ValueError(f"its chunks hold {found} numbers, its shape is {_show(shape)}")
    return np.concatenate(arrays).reshape(shape)


def _in_order(items: dict) -> list:
    """The values of {"0": ..., "1": ...}."""
    if not isinstance(items, dict):
        raise TypeError(f"found {_show(items)}, must be a dict by numbers")
    return [items[str(index)] for index in range(len(items))]


def _check_shape(shape: list) -> None:
    if len(shape) > MAX_AXES or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError(f"its shape is {_show(shape)}")


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
