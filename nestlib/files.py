"""Write files that are whole or absent, and hold locks that end with their process."""

import contextlib
import errno
import os
import platform
import stat
import tempfile
import time
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import BinaryIO

try:
    from filelock import lock_descriptor, unlock_descriptor
except ImportError:  # before 3.30, as machines have it where nestlib runs without being installed
    import fcntl

    def lock_descriptor(fd: int, *, blocking: bool = True, poll_interval: float = 0) -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(fd, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
            return True
        return False

    def unlock_descriptor(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_UN)


_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", None))  # Windows has no quotas
MAX_BYTES = 2**29  # of a file that is read as a whole


def is_full(error: OSError) -> bool:
    """Whether a write failed because the disk, or a quota, is full."""
    return error.errno in _FULL


class Held(BlockingIOError):
    """Another process holds a lock; the message says which."""


@contextlib.contextmanager
def hold(path: Path, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock `path` while the block runs; the kernel frees it however the process ends.

    The file stays: to delete it would let two processes hold two files of one name. A process that
    is killed leaves the lock to those that it forked meanwhile (a DataLoader's workers), to their
    end.

    Args:
        wait: for another holder's end, however long that takes.

    Raises:
        Held: another process, or another block of this one, has it.
        OSError: its file system has no such locks, or the file cannot be made; the message names
            the file and the remedy.
    """
    handle = _open_lock(path, wait)
    try:
        with contextlib.suppress(OSError):  # a full disk: the lock holds without a name
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {platform.node()}".encode())
        try:
            yield
        finally:
            unlock_descriptor(handle)
    finally:
        os.close(handle)


def _open_lock(path: Path, wait: bool) -> int:
    """Open and lock the file that has this name now. It may be replaced (its folder moved away, or
    deleted and made again) between the two: who held the old one then would hold nothing."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            reason = f"{error.strerror}; give a folder that can be written to"
            raise OSError(error.errno, reason, str(path)) from error
        try:
            if not _lock(handle, path, wait):
                raise Held(f"{path} is held by {_read_holder(handle) or 'another process'}")
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), os.stat(path)):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def is_held(path: Path) -> bool:
    """Whether any process holds the lock `path` now.

    Raises:
        OSError: as `hold`.
    """
    try:
        handle = os.open(path, os.O_RDWR if os.access(path, os.W_OK) else os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        return not _lock(handle, path)
    finally:
        os.close(handle)


def _lock(handle: int, path: Path, wait: bool = False) -> bool:
    """Lock the open file unless another process holds it; `is_held` holds it for a moment."""
    try:
        if wait:
            return lock_descriptor(handle, poll_interval=0.02)
        for pause in (0.05, 0.1):
            if lock_descriptor(handle, blocking=False):
                return True
            time.sleep(pause)
        return lock_descriptor(handle, blocking=False)
    except OSError as error:
        raise OSError(
            f"{path} cannot be locked: its file system refuses flock ({error.strerror}); mount it "
            "with flock (an option of Lustre's mount), or give a folder on another one"
        ) from error


def _read_holder(handle: int) -> str:
    try:
        return os.read(handle, 200).decode(errors="replace")
    except PermissionError:  # on Windows nobody else can read a locked file
        return ""


def check_regular(path: Path | str, most: float = inf) -> int:
    """The size in bytes of a file to be opened: pipes, which could block for ever, and devices are
    refused.

    Raises:
        OSError: it is not there, is no regular file, or has over `most` bytes.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise OSError(f"{path} is not a regular file; put the file itself there")
    if found.st_size > most:
        raise OSError(f"{path} has {found.st_size:,} bytes; the limit is {most:,}")
    return found.st_size


def open_regular(path: Path | str) -> BinaryIO:
    """Open a file to read; raises as `check_regular`, or OSError where it cannot be read."""
    check_regular(path)
    return open(path, "rb")


def read_regular(path: Path | str, most: int = MAX_BYTES) -> bytes:
    """Read a file's bytes; raises as `check_regular`, or OSError where it cannot be read."""
    check_regular(path, most)
    with open(path, "rb") as file:
        return file.read()


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data`, as `open_atomically` does."""
    with open_atomically(path) as file:
        file.write(data)


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write: a crash, a kill or a full disk leaves the old file or none, never half.

    It has its name when the block ends.

    Raises:
        OSError: the write failed (a full disk, say), the message names the file; nothing is left
            behind. Or a device or pipe has this name, which root could replace.
    """
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        kind = stat.S_IFMT(os.lstat(path).st_mode)
        if kind not in (stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR):  # a folder is never replaced
            raise OSError(
                f"{path} is a device or a pipe, which is not replaced; give a file's name"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        if isinstance(error, OSError) and is_full(error) and error.filename is None:
            error.filename = str(path)
        raise
    # The rename itself must reach the disk before anything older is deleted. Windows and some
    # mounts cannot do that; the file is there nevertheless.
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def remove_unfinished(folder: Path) -> None:
    """Delete what a killed `write_atomically` left in `folder`."""
    for leftover in folder.glob(".*.part"):
        leftover.unlink(missing_ok=True)
