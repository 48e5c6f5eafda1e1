"""Files that are whole or absent, and locks that die with their process."""

import contextlib
import fcntl
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


class Held(BlockingIOError):
    """Another process holds a lock; the message says which."""


@contextlib.contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold the lock `path` while the block runs; the kernel frees it however the process ends.

    The file stays: to delete it would let two processes hold two files of one name. Processes
    forked meanwhile (a DataLoader's workers) hold it with this one, to their end.

    Raises:
        Held: another process, or another block of this one, has it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        for wait in (0.05, 0.1, None):  # `is_held` takes it for a moment
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if wait is None:
                    holder = os.pread(handle, 200, 0).decode(errors="replace")
                    raise Held(f"{path} is held by {holder or 'another process'}") from error
                time.sleep(wait)
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {platform.node()}".encode(), 0)
        yield
    finally:
        os.close(handle)


def is_held(path: Path) -> bool:
    """Does any process hold the lock `path` now?"""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data`, as `open_atomically` does."""
    with open_atomically(path) as file:
        file.write(data)


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write: a crash, a kill or a full disk leaves the old one or none, never half.

    It has its name when the block ends.

    Raises:
        OSError: the write failed (a full disk, say); nothing is left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    # The rename itself must reach the disk before anything older is deleted.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_unfinished(folder: Path) -> None:
    """Delete what a killed `write_atomically` left in `folder`."""
    for leftover in folder.glob(".*.part"):
        leftover.unlink(missing_ok=True)
