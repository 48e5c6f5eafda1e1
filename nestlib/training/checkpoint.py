"""Checkpoints that survive kills and full disks.

A file's name holds the first half of its content's SHA-256, `step-00000042-<32 hex>.pt`, so a
damaged or cut file is known by its name alone. Two are kept: should the newest be of no use, the
one before serves. A file under another name is never used, and never deleted.
"""

import contextlib
import hashlib
import io
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nestlib.files import is_full, remove_unfinished, write_atomically

KEEP = 2
_NAME = re.compile(r"step-(\d{8})-([0-9a-f]{32})\.pt")
# What torch.load(weights_only=True) takes, of 2.11 and of 2.14. It refuses Path, datetime, deque,
# frozenset, numpy's numbers, and torch.__version__, which is no plain text.
_PLAIN = Tensor, nn.Parameter, str, int, float, bool, type(None)
_CHANGED = "its content does not match its name"


class CheckpointError(RuntimeError):
    """A checkpoint could not be written, belongs to another run, or does not hold a run's state."""


def save_checkpoint(folder: Path, step: int, state: dict) -> Path:
    """Write `state` (tensors and plain values) and delete all but the newest two.

    Raises:
        CheckpointError: the disk refused; the message says which checkpoint is still whole.
        TypeError: a value that torch would not load again; nothing is written.
    """
    check_plain(state, "the state")
    buffer = io.BytesIO()
    torch.save(state, buffer)
    data = buffer.getvalue()
    path = folder / f"step-{step:08d}-{_digest(data)}.pt"
    try:
        write_atomically(path, data)
    except OSError as error:
        kept = _newest_first(folder)
        remedy = "Free some space" if is_full(error) else "Make this folder one to write into"
        raise CheckpointError(
            f"could not write {path} ({len(data) / 2**20:.1f} MiB): {error.strerror or error}. "
            f"Newest whole checkpoint: {kept[0].name if kept else 'none'}. {remedy} and run "
            "the same command again; it resumes from there"
        ) from error
    for old in _newest_first(folder)[KEEP:]:
        old.unlink(missing_ok=True)
    return path


def check_plain(value: Any, what: str) -> None:
    """Check that a state holds what `torch.load(weights_only=True)` loads.

    Raises:
        TypeError: with the place and type of another value.
    """
    kind = type(value)
    if kind in (dict, OrderedDict):
        for key, one in value.items():
            check_plain(key, f"a key of {what}")
            check_plain(one, f"{what}, {key}")
    elif kind in (list, tuple):
        for number, one in enumerate(value):
            check_plain(one, f"{what}, item {number}")
    elif kind not in _PLAIN:
        raise TypeError(
            f"{what} is a {kind.__module__}.{kind.__qualname__}, which a checkpoint cannot keep: "
            "torch.load(weights_only=True) refuses it; make it a plain number, text, list or tensor"
        )


def load_newest_checkpoint(
    folder: Path, take: Callable[[dict], None] = lambda state: None
) -> dict | None:  # fmt: skip
    """The state, on the CPU, of the newest checkpoint that is whole and that `take` accepts.

    Those that are newer are named in a warning and set aside as `<name>.damaged`. Loading runs no
    code from the file (`weights_only`).

    Args:
        take: puts a state to use, and raises ValueError, with the reason, on a wrong one.

    Returns:
        None where there is no checkpoint, or where all are cut or damaged.

    Raises:
        CheckpointError: a whole file's content is wrong, and no older one serves; all stay. Or
            there are only files that have lost their names, or a file in the folder's place.
    """
    if not folder.is_dir():
        if folder.exists() or folder.is_symlink():
            raise CheckpointError(
                f"{folder} is no folder, so no checkpoint can be kept there; move it away"
            )
        return None
    remove_unfinished(folder)
    refused: dict[Path, str] = {}
    renamed = sorted(filter(_is_renamed, folder.iterdir()))
    for path in _newest_first(folder):
        try:
            state = _read(path)
            take(state)
        except FileNotFoundError:  # another rank has set it aside
            continue
        except ValueError as error:
            refused[path] = str(error)
            continue
        _set_aside(refused, "using the one before it")
        if renamed:
            warnings.warn(
                f"{_name(renamed)} in {folder} is not used: it does not have the name of a "
                f"checkpoint; using {path.name}",
                stacklevel=2,
            )
        return state
    wrong = [f"{path}: {reason}" for path, reason in refused.items() if reason != _CHANGED]
    if wrong:
        raise CheckpointError(
            f"no checkpoint can be used; {'; '.join(wrong)}. Move {folder} away to train from the "
            "start"
        )
    if renamed:
        raise CheckpointError(
            f"{_name(renamed)} in {folder} does not have the name of a checkpoint, step-<8 digits "
            "of the step>-<the first 32 of its SHA-256>.pt, and no other can be used. "
            f"{_suggest(renamed)}, or move it away to train from the start"
        )
    _set_aside(refused, "there is no earlier one, so training starts from the beginning")
    return None


def _name(paths: list[Path]) -> str:
    return ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")


def _suggest(renamed: list[Path]) -> str:
    """A remedy: the name that one of these files had, where its content tells."""
    for path in filter(Path.is_file, renamed):
        data = path.read_bytes()
        try:
            step = _read_state(data).get("step")
        except ValueError:
            continue
        if type(step) is int and 0 <= step < 10**8:
            return f"Call {path.name} step-{step:08d}-{_digest(data)}.pt"
    return "Give it its name back"


def _read(path: Path) -> dict:
    data = path.read_bytes()
    step, digest = _NAME.fullmatch(path.name).groups()
    if _digest(data) != digest:
        raise ValueError(_CHANGED)
    state = _read_state(data)
    kept = state.get("step", int(step))
    if type(kept) is not int or kept != int(step):
        raise ValueError(f"its name says step {int(step)}, its content {kept!r:.40}")
    return state


def _read_state(data: bytes) -> dict:
    try:
        state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch answers foreign bytes with errors of a dozen types
        raise ValueError(
            f"torch cannot load it as plain values ({type(error).__name__})"
        ) from error
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}, not the state of a run")
    return state


def _set_aside(refused: dict[Path, str], instead: str) -> None:
    for path, reason in refused.items():
        warnings.warn(f"checkpoint {path} is damaged ({reason}); {instead}", stacklevel=3)
        with contextlib.suppress(FileNotFoundError):  # another rank was first
            path.replace(path.with_name(path.name + ".damaged"))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


def _newest_first(folder: Path) -> list[Path]:
    return sorted(filter(_is_ours, folder.glob("step-*.pt")), reverse=True)


def _is_ours(path: Path) -> bool:
    return _NAME.fullmatch(path.name) is not None and path.is_file()


def _is_renamed(path: Path) -> bool:
    return not (_is_ours(path) or path.name.startswith(".") or path.suffix == ".damaged")
