"""Fetch a remote data set's files once, check them, and keep them in a cache of limited size.

http:// and https:// need nothing; s3://, gs:// and whatever else fsspec knows need its package for
them (s3fs, gcsfs). Any number of processes may share a cache.
"""

import contextlib
import hashlib
import os
import random
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

from nestlib.files import hold, read_regular

T = TypeVar("T")

TRIES, FIRST_DELAY = 8, 0.5  # the delay doubles: a minute in all, as a server's restart takes
FEW_TRIES = 4  # where a user waits for one small file
WRONG_TRIES = 2  # of a file that comes whole, but with another checksum
TIMEOUT = 60  # seconds without a byte, or for an index
LEAST_RATE = 20_000  # bytes per second, or a reply could last for ever
INDEX_BYTES = 2**24  # of which ImageNet's index takes a hundredth
REMEMBER_BAD = 600  # seconds for which a file with a wrong checksum is not fetched again
CHUNK = 2**20
STALE_PART = 600  # seconds without a byte after which an unfinished file is a killed process's
FREE_SHARE = 0.9  # of what is free on the disk, where no limit is given


class BadFile(OSError):
    """A file that is not there, or is not what the index says; the message names it."""


class Missing(BadFile):
    """A file that is not there; the message names it."""


class Unreachable(ConnectionError):
    """A server that does not answer, or refuses; the message says what was tried."""


class CacheFull(OSError):
    """The cache's disk takes no more; the message names the cache and the remedy."""


def is_url(place: object) -> bool:
    return "://" in str(place)


def read_url(url: str, *, tries: int = TRIES) -> bytes:
    """Read a small file as a whole, of INDEX_BYTES at most.

    Raises:
        BadFile: it does not end within INDEX_BYTES.
        Missing, Unreachable, ImportError: as `Cache.get`.
    """

    def read() -> bytes:
        with _open_url(url) as source:
            return b"".join(_read_reply(source, url, INDEX_BYTES + 1, TIMEOUT))

    data = _retry(url, read, tries)
    if len(data) > INDEX_BYTES:
        raise BadFile(f"{url} does not end within {INDEX_BYTES} bytes, so it is another file")
    return data


@dataclass(frozen=True)
class Cache:
    """A folder of fetched files, named by their checksums; the least recently used go first."""

    folder: Path
    limit_bytes: int

    @classmethod
    def from_environment(cls) -> "Cache":
        """The cache in $NESTLIB_CACHE (default ~/.cache/nestlib/shards) of $NESTLIB_CACHE_GB.

        Without a limit it may fill nine tenths of what is free on its disk. A node's own disk is
        the place: on a shared one it helps nobody.
        """
        chosen = os.environ.get("NESTLIB_CACHE") or "~/.cache/nestlib/shards"
        try:
            folder = Path(chosen).expanduser()
            folder.mkdir(parents=True, exist_ok=True)
        except (OSError, RuntimeError) as error:  # RuntimeError: this user has no home
            raise OSError(
                f"the cache {chosen} cannot be made ({error}); set NESTLIB_CACHE to a folder that "
                "can be written to"
            ) from error
        given = os.environ.get("NESTLIB_CACHE_GB")
        if given:
            try:
                limit = int(float(given) * 1e9)
                if limit < 1:
                    raise ValueError
                return cls(folder, limit)
            except (ValueError, OverflowError):
                raise ValueError(
                    f"NESTLIB_CACHE_GB is {given!r}; give a number of GB, more than 0"
                ) from None
        held = sum(size for _, size, _ in _list_files(folder))
        return cls(folder, int(FREE_SHARE * (shutil.disk_usage(folder).free + held)))

    def get(self, url: str, sha256: str, size: int) -> Path:
        """The path of a file, which is fetched and checked unless the cache holds it.

        A changed file has another name in the cache.

        Raises:
            Missing: it is not there.
            BadFile: it has another checksum even when fetched again.
            Unreachable: the server did not answer for a minute, or refuses.
            CacheFull: the file cannot be written.
            ValueError: it is larger than the whole cache.
            ImportError: fsspec's package for such an address is missing.
        """
        path = self.folder / f"{sha256[:16]}-{url.rpartition('/')[2]}"
        if _is_whole(path, size):
            return path
        if size > self.limit_bytes:
            raise ValueError(
                f"{url} has {size / 1e9:.3g} GB, the cache {self.folder} is limited to "
                f"{self.limit_bytes / 1e9:.3g} GB; raise NESTLIB_CACHE_GB, or set NESTLIB_CACHE to "
                "a folder on a larger disk"
            )
        with hold(self.folder / ".locks" / path.name, wait=True):
            if not _is_whole(path, size):  # another process may have fetched it meanwhile
                self._raise_if_bad(path)
                self._fetch(url, sha256, size, path)
        return path

    def _raise_if_bad(self, path: Path) -> None:
        note = path.with_suffix(".bad")
        with contextlib.suppress(FileNotFoundError):
            if _age(note.stat().st_mtime) < REMEMBER_BAD:
                raise BadFile(read_regular(note).decode())
            note.unlink(missing_ok=True)

    def _fetch(self, url: str, sha256: str, size: int, path: Path) -> None:
        for leftover in self.folder.glob(f".{path.name}.*.part"):  # this process holds its lock
            leftover.unlink(missing_ok=True)
        part = path.with_name(f".{path.name}.{uuid4().hex}.part")
        try:
            for _ in range(WRONG_TRIES):
                while not self._make_room(size, part):
                    time.sleep(0.02)  # others fetch; what they have fetched can go
                found = _retry(url, lambda: _download(url, part, size))
                if found == sha256:
                    with self._room():  # under either name it is counted
                        part.replace(path)
                    return
        finally:
            part.unlink(missing_ok=True)
        reason = (
            f"{url} has SHA-256 {found}, the index says {sha256}; it is damaged there: copy or "
            "make it again"
        )
        path.with_suffix(".bad").write_text(reason)
        raise BadFile(reason)

    def _room(self) -> contextlib.AbstractContextManager[None]:
        return hold(self.folder / ".locks" / "room", wait=True)

    def _make_room(self, size: int, part: Path) -> bool:
        """Delete the least recently used files until `size` bytes fit; reserve these as `part`."""
        with self._room():
            held = [file for file in _list_files(self.folder) if file[2] != part]
            excess = sum(each for _, each, _ in held) + size - self.limit_bytes
            for used, each, path in sorted(held):
                unfinished = path.suffix == ".part" and _age(used) < STALE_PART
                if excess > 0 and not unfinished:
                    path.unlink(missing_ok=True)  # who has it open reads on
                    excess -= each
            if excess <= 0:
                with _writing(part), part.open("wb") as file:
                    file.truncate(size)
            return excess <= 0


def _age(written: float) -> float:
    """Seconds between a file's time and now; of a clock that was set back meanwhile too, by which
    the file is of the future."""
    return abs(time.time() - written)


def _is_whole(path: Path, size: int) -> bool:
    """Whether a file exists in full length. A full disk or a crash may have cut it."""
    return path.is_file() and path.stat().st_size == size


def _list_files(folder: Path) -> list[tuple[float, int, Path]]:
    """Time of last use, bytes and path of each file."""
    found = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process deleted it just now
            status = path.stat()
            if path.is_file():
                found.append((status.st_mtime, status.st_size, path))
    return found


def _download(url: str, part: Path, size: int) -> str:
    """Write `size` bytes of a file to `part`, and return their SHA-256."""
    digest = hashlib.sha256()
    with _open_url(url) as source, part.open("r+b") as target:
        for chunk in _read_reply(source, url, size, TIMEOUT + size / LEAST_RATE):
            digest.update(chunk)
            with _writing(part):
                target.write(chunk)
                target.flush()
        target.truncate()
    return digest.hexdigest()


@contextlib.contextmanager
def _writing(part: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:  # which may name no file, and is no fault of the server
        raise CacheFull(
            f"the cache {part.parent} cannot keep a file ({error}); make room there, or set "
            "NESTLIB_CACHE to a folder on a larger disk"
        ) from error


def _read_reply(source: BinaryIO, url: str, most: int, seconds: float) -> Iterator[bytes]:
    """Read a reply in chunks, up to `most` bytes."""
    read = getattr(source, "read1", source.read)  # read would wait until a chunk is full
    end = time.monotonic() + seconds
    while most and (chunk := read(min(CHUNK, most))):
        most -= len(chunk)
        yield chunk
        if most and time.monotonic() > end:
            raise Unreachable(
                f"{url} was not read to its end in {seconds:.0f} s; is the server up?"
            )
    if most and getattr(source, "length", None):  # of http, what it promised and did not give
        raise ConnectionError(f"the transfer broke off; {source.length} bytes are missing")


class _SameHost(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        """Follow redirects within one server only: nobody asked for another one."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.netloc != old.netloc or new.scheme not in (old.scheme, "https"):
            fp.close()
            raise Unreachable(
                f"{req.full_url} redirects to another host, {newurl}; if the shards are there, "
                "give the address of that folder"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _open_http(url: str) -> BinaryIO:
    try:
        parts = urlsplit(url)
        valid = parts.hostname and not re.search(r"[\x00-\x20]", url) and parts.port != 0
    except ValueError:  # a port that is not a number
        valid = False
    if not valid:
        raise Unreachable(
            f"{url!r} is not an address; give http://host/folder, with %20 for a space"
        )
    reply = urllib.request.build_opener(_SameHost).open(url, timeout=TIMEOUT)
    encoding = reply.headers.get("Content-Encoding", "identity")
    if encoding != "identity":
        reply.close()
        raise Unreachable(
            f"{url} comes with Content-Encoding {encoding}, which nestlib did not ask for; let the "
            "server send its files unencoded"
        )
    return reply


def _open_url(url: str) -> BinaryIO:
    if url.lower().startswith(("http://", "https://")):
        return _open_http(url)
    kind = url.partition("://")[0]
    package = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs"}.get(kind)
    try:
        import fsspec  # imported late: a folder or http needs none

        file = fsspec.open(url, "rb")
    except ImportError as error:
        remedy = f"`pip install {package or 'fsspec'}`"
        raise ImportError(f"{url} cannot be read without a package: {remedy} ({error})") from error
    except ValueError as error:  # fsspec does not know the kind of address
        raise Unreachable(f"{url} cannot be read ({error}); give http, https or s3") from error
    return file.open()


def _retry(url: str, act: Callable[[], T], tries: int = TRIES) -> T:
    """Call `act`; try again after growing pauses if the server or the network may recover."""
    for attempt in range(tries):
        try:
            return act()
        except (ImportError, BadFile, Unreachable, CacheFull):
            raise
        except (FileNotFoundError, PermissionError, urllib.error.HTTPError) as error:
            code = getattr(error, "code", 404 if isinstance(error, FileNotFoundError) else 403)
            if code in (404, 410):
                raise Missing(f"{url} is not there ({error}); copy or make it again") from error
            if code < 500 and code not in (408, 429):
                raise Unreachable(
                    f"access to {url} is refused ({error}); check its permissions"
                ) from error
            last = error
        except Exception as error:  # each file system of fsspec has errors of its own
            last = error
            if attempt and isinstance(getattr(error, "reason", error), TimeoutError):
                break  # each lasts a minute
        if attempt + 1 < tries:  # jittered, so that a thousand readers do not come back at once
            time.sleep(FIRST_DELAY * 2**attempt * random.uniform(0.5, 1.5))
    raise Unreachable(
        f"{url} could not be fetched in {attempt + 1} tries ({last}); is the server up?"
    )
