"""Files of tensors, .safetensors, which tell by themselves whether they are whole.

safetensors checks a file's header and its length alone: a bit that flips among the numbers loads.
So the header of a file written here has a SHA-256 of all its tensors, which reading compares. Files
that others have written do not have one, and load as they are.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor

from nestlib.files import write_atomically

CHECKSUM = "tensors_sha256"  # in the header's metadata


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:  # fmt: skip
    """Write tensors of any device, and texts for the file's header.

    Raises:
        OSError: the write failed (a full disk, say); the message names the file.
    """
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    said = {**(metadata or {}), CHECKSUM: _hash_tensors(whole)}
    write_atomically(path, _order(save(whole, metadata=said)))


def _order(data: bytes) -> bytes:
    """The same file with its texts in the order of their names: the same weights, the same bytes.

    safetensors 0.8 writes them in an order that it draws at each call.
    """
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    return data[:8] + text.ljust(size) + data[8 + size :]


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a .safetensors file.

    Raises:
        FileNotFoundError: no such file.
        OSError: a cut or damaged file, or one of another kind; the message names it.
    """
    kept = read_metadata(path).get(CHECKSUM)
    try:
        tensors = load_file(path)
    except (SafetensorError, KeyError) as error:  # KeyError: a type that torch does not have
        raise _damaged(path, error) from error
    if kept is not None and _hash_tensors(tensors) != kept:
        raise _damaged(path, "its tensors have another SHA-256 than its header says")
    return tensors


def read_metadata(path: Path | str) -> dict[str, str]:
    """The texts of a .safetensors file's header; raises as `read_tensors`."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}; give a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path | str, reason: object) -> OSError:
    return OSError(f"{path} is not a whole .safetensors file ({reason}); fetch or make it again")


def _hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
