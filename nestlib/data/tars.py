"""Read tars so that no member is missing unseen.

Python's tarfile (3.11) takes the first block that is no member for the end, and so does WebDataset
(1.0.2), which reads by it. A tar that was cut at a member's end, one with a damaged header and two
tars joined by `cat` therefore look whole, with fewer members. Here all three are errors: a tar ends
with a block of zeros, and after it there are zeros alone. Files that have several names, and with
`tar -h` links to one file, are stored once by `tar`, the others as hard links without bytes, which
WebDataset passes over. Here a hard link gives its target's bytes.
"""

import errno
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from os.path import normpath
from pathlib import Path
from typing import IO

from nestlib.files import check_regular, is_full

_READ = 2**20  # bytes at a time of what follows the end, and of a note at most
# A compressed tar may unpack to a thousand times its size. Tiny ImageNet's has 0.1 GB, unpacked.
MOST_UNPACKED, MOST_MEMBERS = 2**31, 2**19
_NOTES = (
    tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)  # fmt: skip


class DamagedTar(OSError):
    """A tar that cannot be read to its end; the message names it and the remedy."""


@contextmanager
def open_tar(
    place: str | Path, mode: str = "r:", file: IO[bytes] | None = None
) -> Iterator[tarfile.TarFile]:
    """Open a tar whose members `walk_tar` lists.

    Args:
        place: its path, or the name of `file` in messages.
        mode: "r:" takes plain tars alone, in which members have places; "r:*" compressed ones too.
            ("r|*" ends after the first part of a file that was compressed in parts, as by pbzip2.)
        file: what to read, if not the file at `place`.

    Raises:
        DamagedTar: while the tar is open: it is no tar, breaks off, or goes on after its end.
        OSError: it cannot be opened.
    """
    if file is None:
        check_regular(place)
    try:
        member = _Member if mode == "r:" else _PackedMember
        with tarfile.open(place, mode, fileobj=file, tarinfo=member) as tar:
            yield tar
    except DamagedTar:  # of a tar within this one
        raise
    except (tarfile.TarError, LZMAError, zlib.error, EOFError, OSError) as error:
        # gzip and bz2 raise OSErrors without a number; others, as of a full disk, speak for
        # themselves.
        if isinstance(error, OSError) and error.errno not in (None, errno.EIO):
            raise
        raise DamagedTar(
            f"{place} is damaged ({error}); fetch it again, or pack it again"
        ) from error


def walk_tar(tar: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """The name of every member, and the member that holds its bytes: of a hard link, its target.

    Hard links come last, in the order of their targets, so that a compressed tar is read twice at
    most.

    Raises:
        tarfile.TarError: the tar is damaged, or lacks the target of a hard link.
    """
    links = []
    for member in tar:
        if member.islnk():
            links.append(member)
        else:
            yield member.name, member
    if links:
        yield from _follow(links, tar)


def read_member(tar: tarfile.TarFile, member: tarfile.TarInfo, most: int) -> bytes:
    """The bytes of a regular file; a small compressed tar may declare any number of them.

    Raises:
        tarfile.ReadError: it has more than `most`.
    """
    _limit(member.size, most, member.name)
    return tar.extractfile(member).read()


def unpack_tar(tar: tarfile.TarFile, folder: Path | str) -> None:
    """Unpack a tar that `open_tar` opened, into an empty folder.

    Raises:
        OSError: the disk is full; the message names the tar.
        tarfile.TarError: the tar is damaged, or has members that lead out of the folder.
    """
    try:
        tar.extractall(folder, filter="data")
    except OSError as error:
        if is_full(error):
            error.strerror = f"{error.strerror} as {tar.name} was unpacked"
        raise


def _limit(found: int, most: int, whose: str, what: str = "bytes") -> None:
    if found > most:
        raise tarfile.ReadError(f"{whose} has {found:,} {what}; the limit is {most:,}")


def _follow(
    links: list[tarfile.TarInfo], tar: tarfile.TarFile
) -> Iterator[tuple[str, tarfile.TarInfo]]:
    holders = {normpath(m.name): m for m in tar.getmembers() if not m.islnk()}
    found = []
    for link in links:
        target = holders.get(normpath(link.linkname))
        if target is None:
            raise tarfile.ReadError(
                f"{link.name} is a hard link to {link.linkname}, which the tar does not hold; "
                "tar's option --hard-dereference packs copies"
            )
        found.append((link.name, target))
    yield from sorted(found, key=lambda one: one[1].offset)


class _Member(tarfile.TarInfo):
    """A member of a tar that is read to its very end: tarfile calls `fromtarfile` for each block
    that may be a header."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> "_Member":
        """A header; tarfile reads names and other notes that follow one whole, however long."""
        member = super().frombuf(buf, encoding, errors)
        if member.type in _NOTES:
            _limit(member.size, _READ, member.name)
        return member

    @classmethod
    def check_place(cls, tar: tarfile.TarFile, place: int) -> None:
        """Raise ReadError where a tar must not go on so far; a plain one cannot."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> "_Member":
        try:
            member = super().fromtarfile(tar)
            cls.check_place(tar, tar.offset)  # behind it: tarfile unpacks what it skips
            return member
        except tarfile.EOFHeaderError:
            place = tar.offset
            while rest := tar.fileobj.read(_READ):
                place += len(rest)
                cls.check_place(tar, place)
                if rest.count(0) < len(rest):
                    raise tarfile.ReadError(
                        f"more follows its end at byte {tar.offset:,}; if `cat` joined tars, "
                        "`tar -xif` unpacks them all"
                    ) from None
            raise
        except (tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError):
            raise tarfile.ReadError(
                f"it breaks off at byte {tar.offset:,}, before the zeros that end a tar"
            ) from None
        except tarfile.InvalidHeaderError as error:
            raise tarfile.ReadError(
                f"byte {tar.offset:,} begins neither a member nor the end: {error}"
            ) from None


class _PackedMember(_Member):
    """A member of a tar that may be compressed, so that few bytes may unpack to any number."""

    @classmethod
    def check_place(cls, tar: tarfile.TarFile, place: int) -> None:
        _limit(place, MOST_UNPACKED, "it", "unpacked bytes")
        _limit(len(tar.members), MOST_MEMBERS, "it", "members")
