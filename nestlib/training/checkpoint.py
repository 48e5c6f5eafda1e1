"""Checkpoints that survive kills and full disks.

A file's name holds the first half of its content's SHA-256, `step-00000042-<32 hex>.pt`, so a
damaged or cut file is known by its name alone. Two are kept: should the newest be damaged, the one
before serves.
"""

import hashlib
import io
import re
import warnings
from pathlib import Path

import torch

from nestlib.files import remove_unfinished, write_atomically

KEEP = 2
_NAME = re.compile(r"step-(\d{8})-([0-9a-f]{32})\.pt")


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, or belongs to another run."""


def save_checkpoint(folder: Path, step: int, state: dict) -> Path:
    """Write `state` (tensors and plain values) and delete all but the newest two.

    Raises:
        CheckpointError: the disk refused; the message says which checkpoint is still whole.
    """
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    path = folder / f"step-{step:08d}-{_digest(data)}.pt"
    try:
        write_atomically(path, data)
    except OSError as error:
        kept = _newest_first(folder)
        raise CheckpointError(
            f"could not write {path} ({len(data) / 2**20:.1f} MiB): {error.strerror or error}. "
            f"Newest whole checkpoint: {kept[0].name if kept else 'none'}. "
            "Make room and run the same command again; it goes on from there"
        ) from error
    for old in _newest_first(folder)[KEEP:]:
        old.unlink(missing_ok=True)
    return path


def load_newest_checkpoint(folder: Path, device: torch.device | str = "cpu") -> dict | None:
    """The newest whole checkpoint's state, or None where there is none.

    A damaged file is named in a warning, set aside as `<name>.damaged`, and the one before it is
    used. Loading runs no code from the file (`weights_only`).
    """
    if not folder.is_dir():
        return None
    remove_unfinished(folder)
    for path in _newest_first(folder):
        data = path.read_bytes()
        if _digest(data) == _NAME.fullmatch(path.name)[2]:
            return torch.load(io.BytesIO(data), map_location=device, weights_only=True)
        warnings.warn(
            f"checkpoint {path} is damaged (its content does not match its name); "
            "using the one before it",
            stacklevel=2,
        )
        path.replace(path.with_name(path.name + ".damaged"))
    return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _newest_first(folder: Path) -> list[Path]:
    return sorted((p for p in folder.glob("step-*.pt") if _NAME.fullmatch(p.name)), reverse=True)
