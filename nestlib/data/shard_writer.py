"""Write one shard, and read back what it holds; nestlib.data.shard_maker does so in processes."""

import hashlib
import io
import os
import tarfile
import zlib

from nestlib.data.archives import Source
from nestlib.data.shard_plan import Job, labels_beside, member_name
from nestlib.data.shards import Shard
from nestlib.data.tars import DamagedTar, open_tar
from nestlib.files import open_atomically, open_regular

GO_ON = "fix this and run the same command again: finished shards are kept"

Places = list[tuple[int, int, int]]  # offset, size and CRC-32 of each image of a shard


def write_shard(job: Job) -> tuple[Shard, Places]:
    """Write a shard unless an earlier call did, and return its entry in the index."""
    made = _read_back(job)
    if made is None:
        with (
            open_atomically(job.path) as file,
            tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar,
        ):
            for one, label in zip(job.sources, job.labels):
                _add_member(tar, member_name(one), _read(one))
                for name, text in labels_beside(one, label):
                    _add_member(tar, name, text)
        made = _read_back(job)
    return made


def _read_back(job: Job) -> tuple[Shard, Places] | None:
    """A shard's entry in the index; None if it is missing or holds other images or labels."""
    try:
        with open_regular(job.path) as file, open_tar(job.path, file=file) as tar:
            members = [(m, zlib.crc32(tar.extractfile(m).read())) for m in tar if m.isfile()]
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, DamagedTar):
        return None
    images, notes = members[::3], [one for k, one in enumerate(members) if k % 3]
    named = [note for each in zip(job.sources, job.labels) for note in labels_beside(*each)]
    if [(m.name, m.size) for m, _ in images] != [(member_name(s), s.size) for s in job.sources]:
        return None
    if [(m.name, crc) for m, crc in notes] != [(name, zlib.crc32(text)) for name, text in named]:
        return None
    places = [(m.offset_data, m.size, crc) for m, crc in images]
    return Shard(job.path.name, job.path.stat().st_size, digest, len(images)), places


def _read(one: Source) -> bytes:
    try:
        with open(one.path, "rb") as file:
            data = os.pread(file.fileno(), one.size, one.offset)
            alone = one.offset == 0 and not one.path.endswith(".tar")
            changed = len(data) != one.size or (alone and file.seek(0, 2) != one.size)
    except OSError as error:
        raise OSError(f"cannot read image {one.path} ({error}); {GO_ON}") from error
    if changed:
        raise OSError(f"{one.path} changed while shards were made of it; {GO_ON}")
    return data


def _add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)  # owner 0, time 0: the same bytes everywhere
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
