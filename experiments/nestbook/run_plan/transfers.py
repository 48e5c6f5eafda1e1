"""Move data, some MB at a time, to a machine that files reach only with the checkout.

A data set's packs are larger than one transfer may be. So their bytes are cut into pieces, one
numbered folder of them a transfer, and joined again on the other machine:

    transfers = plan_transfers(packs, tracked_bytes(root))
    print(describe_transfers(transfers, tracked_bytes(root)))
    write_transfers(folder, packs, transfers)  # folder/1, folder/2, ...
    take(folder / "1", keep)                   # there, once for each transfer, in any order

The folder should be one that git ignores; only the transfer's own subfolder is sent with the files
that `tracked_bytes` counts, called the tree. MB are 10^6 bytes.
"""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

from nestlib.files import (
    open_atomically,
    open_regular,
    read_regular,
    remove_unfinished,
    write_atomically,
)

LIMIT_MB = 60  # of one transfer with the tree: below 64 MiB, which leaves room for pieces.json
COUNT, MOST_TRANSFERS = 3, 100_000
LIST = "pieces.json"  # in each transfer's folder: all pieces of all transfers
KEPT = ".pieces"  # where pieces wait until their pack is whole
CHUNK = 2**20


@dataclass(frozen=True)
class Piece:
    """Bytes of a pack, from `offset` on. size: its bytes; total: the pack's."""

    pack: str
    offset: int
    size: int
    total: int

    @property
    def file(self) -> str:
        return f"{self.pack}.{self.offset}"


@dataclass(frozen=True)
class SentPiece(Piece):
    """A line of pieces.json: a piece, the number of its transfer from 1, and both checksums."""

    transfer: int
    sha256: str
    pack_sha256: str

    def check(self) -> None:
        """Raise ValueError for a pack that is no plain file's name, which could lead outside of the
        folder that keeps it, or for numbers and sums that are none."""
        plain = isinstance(self.pack, str) and re.fullmatch(r"[\w+-][\w+.-]*", self.pack)
        numbers = (self.offset, self.size, self.total, self.transfer)
        counted = all(type(number) is int and number >= 0 for number in numbers)
        sums = all(re.fullmatch("[0-9a-f]{64}", str(s)) for s in (self.sha256, self.pack_sha256))
        if not (plain and counted and sums):
            raise ValueError(f"a piece of {self.pack!r:.60} is none that write_transfers makes")

    def kept_in(self, keep: Path) -> Path:
        """The file that keeps the piece. Pieces of another version of the pack have other names."""
        return keep / KEPT / self.pack / f"{self.pack_sha256[:16]}-{self.offset}"

    def is_kept(self, keep: Path) -> bool:
        path = self.kept_in(keep)
        return path.is_file() and path.stat().st_size == self.size


def tracked_bytes(root: Path) -> int:
    """Bytes of the files that travel: those git tracks, and new ones it does not ignore.

    Raises:
        OSError: the folder is in no git repository.
    """
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=root, capture_output=True)
    if done.returncode:
        raise OSError(f"git lists no files of {root}: {done.stderr.decode().strip()}")
    names = {os.fsdecode(name) for name in done.stdout.split(b"\0") if name}
    paths = [root / name for name in names]  # git also lists deleted files
    return sum(path.lstat().st_size for path in paths if path.is_symlink() or path.is_file())


def plan_transfers(
    packs: Sequence[Path], tree_bytes: int, limit_mb: float = LIMIT_MB, count: int = COUNT
) -> list[list[Piece]]:
    """Cut all bytes of the packs into `count` transfers, whose sizes differ by a byte at most.

    Args:
        tree_bytes: what travels with every transfer, as `tracked_bytes` counts it.
        limit_mb: the most MB of one transfer, the tree included.

    Raises:
        ValueError: a transfer and the tree are more than the limit, or there is nothing to cut.
        OSError: a pack cannot be read.
    """
    sizes = {path.name: path.stat().st_size for path in packs}
    sound = sizes and 0 not in sizes.values() and len(sizes) == len(packs)
    if not (sound and 1 <= count <= MOST_TRANSFERS):
        raise ValueError(
            f"packs of {sizes} bytes cannot be cut into {count}; give a count of 1 to "
            f"{MOST_TRANSFERS}, and one pack or more, none of them empty and no two of one name"
        )
    _check_limit(sum(sizes.values()), tree_bytes, limit_mb, count)
    ends = [sum(sizes.values()) * number // count for number in range(count + 1)]
    return [_cut(sizes, begin, end) for begin, end in pairwise(ends)]


def _check_limit(total: int, tree_bytes: int, limit_mb: float, count: int) -> None:
    if not 0 < limit_mb < math.inf:  # nan neither
        raise ValueError(f"the limit of a transfer is {limit_mb:g} MB, must be a number above 0")
    room = round(limit_mb * 1e6) - tree_bytes
    largest = -(-total // count)
    if room <= 0:
        raise ValueError(
            f"the tree alone has {_mb(tree_bytes)} and the limit is {limit_mb:g} MB; no number of "
            "transfers is enough: make the tree smaller, or raise the limit"
        )
    if largest > room:
        raise ValueError(
            f"cut into {count}, a transfer has {_mb(largest + tree_bytes)}: {_mb(largest)} of "
            f"packs and {_mb(tree_bytes)} of the tree; the limit is {limit_mb:g} MB: "
            f"{-(-total // room)} transfers are enough"
        )


def _cut(sizes: dict[str, int], begin: int, end: int) -> list[Piece]:
    """Pieces of the bytes from `begin` to `end` of all packs, one laid behind the other."""
    pieces, before = [], 0
    for pack, total in sizes.items():
        first, last = max(begin - before, 0), min(end - before, total)
        if first < last:
            pieces.append(Piece(pack, first, last - first, total))
        before += total
    return pieces


def describe_transfers(
    transfers: Sequence[Sequence[Piece]], tree_bytes: int, limit_mb: float = LIMIT_MB
) -> str:
    """A text on what each transfer would hold, with the tree's share, the sum and the limit."""
    lines = []
    for number, pieces in enumerate(transfers, 1):
        lines.append(f"transfer {number} of {len(transfers)}")
        for piece in pieces:
            last = piece.offset + piece.size - 1
            lines.append(
                f"  {_mb(piece.size):>12}  {piece.file}"
                f"  (bytes {piece.offset:,} to {last:,} of {piece.total:,})"
            )
        together = tree_bytes + sum(piece.size for piece in pieces)
        lines.append(f"  {_mb(tree_bytes):>12}  the tree")
        lines.append(f"  {_mb(together):>12}  together; the limit is {limit_mb:g} MB")
    return "\n".join(lines)


def write_transfers(
    folder: Path, packs: Sequence[Path], transfers: Sequence[Sequence[Piece]]
) -> list[Path]:
    """Write each transfer to its folder: folder/1, folder/2, ...; earlier ones there are replaced.

    pieces.json comes last, so a folder that has it is whole.

    Raises:
        ValueError: the folder holds what is no transfer; nothing is deleted.
        OSError: a pack has another size than when it was planned, or a file cannot be written.
    """
    sources = {path.name: path for path in packs}
    for piece in (piece for pieces in transfers for piece in pieces):
        size = sources[piece.pack].stat().st_size
        if size != piece.total:
            raise OSError(
                f"{sources[piece.pack]} has {size:,} bytes, but the plan says {piece.total:,}; "
                "plan the transfers again"
            )
    _empty(folder)
    digests = {name: _hash_file(path) for name, path in sources.items()}
    sent = [
        _write_piece(folder / str(number), sources[piece.pack], piece, number, digests[piece.pack])
        for number, pieces in enumerate(transfers, 1) for piece in pieces
    ]  # fmt: skip
    folders = [folder / str(number) for number in range(1, len(transfers) + 1)]
    for number, path in enumerate(folders, 1):
        content = {"transfer": number, "pieces": [asdict(piece) for piece in sent]}
        write_atomically(path / LIST, json.dumps(content, indent=1).encode())
    return folders


def _empty(folder: Path) -> None:
    """Delete earlier transfers."""
    found = list(folder.iterdir()) if folder.exists() else []
    strange = [path.name for path in found if not _is_transfer(path)]
    if strange:
        raise ValueError(
            f"{folder} holds {', '.join(sorted(strange))}, which is not a transfer; give a folder "
            "that holds nothing but transfers"
        )
    for path in found:
        shutil.rmtree(path)


def _is_transfer(path: Path) -> bool:
    """Whether a folder is a transfer's, perhaps one that a killed call left unfinished."""
    return path.name.isdigit() and path.is_dir() and all(
        file.name == LIST or file.suffix == ".part" or file.suffix[1:].isdigit()
        for file in path.iterdir()
    )  # fmt: skip


def _write_piece(
    folder: Path, source: Path, piece: Piece, transfer: int, pack_sha256: str
) -> SentPiece:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / piece.file).open("wb") as file:
        sha256 = _copy([(source, piece.offset, piece.size)], file)
    return SentPiece(**asdict(piece), transfer=transfer, sha256=sha256, pack_sha256=pack_sha256)


def take(folder: Path, keep: Path) -> list[str]:
    """Keep the pieces of one transfer, and join each pack that is complete with them.

    Transfers may come in any order; what is there already is not copied again. The transfer's
    folder is left as it is.

    Args:
        folder: of the transfer.
        keep: where packs go; until a pack is whole its pieces are in `.pieces` there.

    Returns:
        A line for each pack of all transfers: that it is whole, or how much is missing and which
            transfers bring it.

    Raises:
        OSError: a file is missing or damaged; the message names it and what to send again. Whole
            pieces before it are kept, no damaged one is.
    """
    transfer, pieces = _read_list(folder)
    remove_unfinished(keep)
    by_pack: dict[str, list[SentPiece]] = {}
    for piece in pieces:
        by_pack.setdefault(piece.pack, []).append(piece)
    return [_take_pack(folder, keep, transfer, of_pack) for of_pack in by_pack.values()]


def _read_list(folder: Path) -> tuple[int, list[SentPiece]]:
    path = folder / LIST
    try:
        content = json.loads(read_regular(path))
        pieces = [SentPiece(**piece) for piece in content["pieces"]]
        for piece in pieces:
            piece.check()
        return content["transfer"], pieces
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing; send this transfer again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise OSError(f"{path} is damaged ({error!r}); send this transfer again") from error


def _take_pack(folder: Path, keep: Path, transfer: int, pieces: Sequence[SentPiece]) -> str:
    """Keep the transfer's pieces of one pack, join it if it is complete; return a line."""
    pack, total = pieces[0].pack, pieces[0].total
    if not _is_whole(keep, pieces[0]):
        for piece in pieces:
            if piece.transfer == transfer and not piece.is_kept(keep):
                _keep_piece(folder, keep, piece)
        missing = [piece for piece in pieces if not piece.is_kept(keep)]
        if missing:
            size = sum(piece.size for piece in missing)
            return f"{pack}: {_mb(size)} of {_mb(total)} still missing; send {_name(missing)}"
        _join(keep, pieces)
    shutil.rmtree(keep / KEPT / pack, ignore_errors=True)
    with contextlib.suppress(OSError):  # other packs' pieces are there, or none ever were
        (keep / KEPT).rmdir()
    return f"{pack}: whole, {_mb(total)}"


def _is_whole(keep: Path, piece: SentPiece) -> bool:
    """Whether the piece's pack is in place, in this version."""
    path = keep / piece.pack
    return path.is_file() and _hash_file(path) == piece.pack_sha256


def _keep_piece(folder: Path, keep: Path, piece: SentPiece) -> None:
    path = folder / piece.file
    try:
        with open_atomically(piece.kept_in(keep)) as file:
            found = _copy([(path, 0, piece.size)], file)
            if found != piece.sha256:
                raise OSError(
                    f"{path} is damaged: {file.tell():,} of {piece.size:,} bytes, with SHA-256 "
                    f"{found}; {LIST} says {piece.sha256}; send {_name([piece])} again"
                )
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing; send {_name([piece])} again") from error


def _join(keep: Path, pieces: Sequence[SentPiece]) -> None:
    pack, expected = pieces[0].pack, pieces[0].pack_sha256
    in_order = sorted(pieces, key=lambda piece: piece.offset)
    with open_atomically(keep / pack) as file:
        found = _copy([(piece.kept_in(keep), 0, piece.size) for piece in in_order], file)
        if found != expected:
            shutil.rmtree(keep / KEPT / pack)  # one was damaged here: none is to be trusted
            raise OSError(
                f"{pack}, joined from whole pieces, has SHA-256 {found}, and {LIST} says "
                f"{expected}; what was kept of it is deleted: send {_name(pieces)} again"
            )


def _name(pieces: Iterable[SentPiece]) -> str:
    numbers = sorted({piece.transfer for piece in pieces})
    return f"transfer{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _copy(parts: Iterable[tuple[Path, int, int]], target: BinaryIO) -> str:
    """Write parts of files, given by offset and size, one after another; return their SHA-256."""
    digest = hashlib.sha256()
    for path, offset, size in parts:
        with open_regular(path) as source:
            source.seek(offset)
            while size and (chunk := source.read(min(size, CHUNK))):
                target.write(chunk)
                digest.update(chunk)
                size -= len(chunk)
    return digest.hexdigest()


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mb(size: int) -> str:
    return f"{size / 1e6:.3f} MB"
