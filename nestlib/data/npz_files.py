"""Read .npz files of arrays in memory that follows the file, not what its headers declare.

numpy sets memory aside for the shape in an array's header before it reads a number of it.
"""

import math
from pathlib import Path
from typing import BinaryIO
from zipfile import ZipFile, ZipInfo

import numpy as np

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npz(file: Path | BinaryIO, most: int) -> dict[str, np.ndarray]:
    """The arrays of a .npz file by name; none may hold Python objects.

    Args:
        most: bytes that they may have together, unpacked.

    Raises:
        ValueError: they have more, or a header declares another number of bytes than follow it.
        Exception: another of numpy's or zipfile's dozen types; the file is damaged.
    """
    with np.load(file) as arrays:
        members = arrays.zip.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > most:
            raise ValueError(f"unpacked it has {unpacked:,} bytes, more than {most:,}")
        for member in members:
            _check_shape(arrays.zip, member)
        return dict(arrays)


def _check_shape(archive: ZipFile, member: ZipInfo) -> None:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"{member.filename} is of version {version}")
        shape, _, dtype = _HEADERS[version](file)
        left = member.file_size - file.tell()
    if math.prod(shape) * dtype.itemsize != left:
        raise ValueError(f"{member.filename} declares {dtype} {shape}, but {left:,} bytes follow")
