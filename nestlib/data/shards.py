"""ImageNet in shards: plain tars that are read by index, from a folder or over the network.

A split is `<split>.json` (the shards, the classes, the SHA-256 of each file and of itself),
`<split>.npz` (one row per image: shard, offset, size, CRC-32, label, file) and
`<split>-000000.tar`, ...: tars in WebDataset's form, so that its own reader and `tar` read them
too. nestlib.data.shard_maker makes them, nestlib.data.shard_set reads their images.

N images, C classes.
"""

import hashlib
import io
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nestlib.data.fetching import WRONG_TRIES, BadFile, Cache, is_url, read_url
from nestlib.data.folders import split_folder
from nestlib.data.npz_files import read_npz
from nestlib.files import MAX_BYTES, read_regular

FORMAT = 1
TABLE_BYTES = 2**31  # unpacked; ImageNet's takes a twentieth
CHECKSUM = "sha256"


@dataclass(frozen=True)
class Shard:
    """One tar, or a split's table of places. sha256 is of the whole file.

    Raises:
        ValueError, TypeError: a field is of another form, or the name leads out of the folder.
    """

    name: str
    size: int
    sha256: str
    images: int = 0

    def __post_init__(self):
        for field, form in (("name", r"[\w.-]+"), ("sha256", "[0-9a-f]{64}")):
            if not re.fullmatch(form, getattr(self, field)):
                raise ValueError(f"{field} is {getattr(self, field)!r}")
        for field in ("size", "images"):
            number = getattr(self, field)
            if type(number) is not int or not 0 <= number < 2**63:
                raise ValueError(f"{field} is {number!r}")


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """What a split's two index files say, and where they were found; cache is None in a folder.

    Raises:
        ValueError: the two do not fit together.
    """

    place: str
    cache: Cache | None
    plan: str  # a hash of what decides the shards
    shards: tuple[Shard, ...]
    class_names: tuple[str, ...]
    files: np.ndarray  # (N,) byte strings, paths in a tree of class folders
    labels: np.ndarray  # (N,) int64
    places: np.ndarray  # (N, 4) int64: shard, offset, size, CRC-32

    def __post_init__(self):
        shapes = self.files.shape, self.labels.shape, self.places.shape
        N, C = len(self.files), len(self.class_names)
        if self.files.dtype.kind != "S" or shapes != ((N,), (N,), (N, 4)) or not N:
            raise ValueError(f"files, labels and places are of shapes {shapes}")
        for what, names in ("classes", self.class_names), ("shards", [s.name for s in self.shards]):
            if len(set(names)) != len(names):
                raise ValueError(f"two {what} have one name")
        if not ((0 <= self.labels) & (self.labels < C)).all():
            raise ValueError(f"there are labels outside of its {C} classes")
        shard, offset, size, _ = self.places.T
        sizes = np.array([shard.size for shard in self.shards], np.int64)
        known = (0 <= shard) & (shard < len(sizes)) & (0 <= offset) & (0 <= size)
        known &= size <= MAX_BYTES
        if not (known.all() and (offset <= sizes[shard] - size).all()):
            raise ValueError("there are places outside of its shards")
        counts = np.bincount(shard, minlength=len(sizes)).tolist()
        for one, count in zip(self.shards, counts):
            if one.images != count:
                raise ValueError(f"{one.name} holds {one.images} images, the table lists {count}")
        order = np.lexsort((offset, shard))
        ends, begins = (offset + size)[order[:-1]], offset[order[1:]]
        if ((ends > begins) & (shard[order[:-1]] == shard[order[1:]])).any():
            raise ValueError("there are places that overlap")

    def url(self, name: str) -> str:
        """The address of a file beside the index."""
        return f"{self.place}/{name}"

    def path(self, number: int) -> Path:
        """The path of a shard, which is fetched if necessary.

        Raises:
            BadFile: it is missing or damaged; the message names it.
            Unreachable, ValueError, ImportError: see `Cache.get`.
        """
        return _locate(self.place, self.cache, self.shards[number])


def _locate(place: str, cache: Cache | None, file: Shard) -> Path:
    """The path of a file of the index, which is fetched if necessary."""
    if cache:
        return cache.get(f"{place}/{file.name}", file.sha256, file.size)
    path = Path(place) / file.name
    if not path.is_file() or path.stat().st_size != file.size:
        found = f"{path.stat().st_size} bytes" if path.is_file() else "not there"
        raise BadFile(f"{path} is {found}, the index says {file.size}; make or copy it again")
    return path


def has_shards(data_dir: Path | str, split: str) -> bool:
    """Whether there is an index of the split; a URL is assumed to have one."""
    if is_url(data_dir):
        return True
    index = Path(data_dir) / f"{split_folder(split)}.json"
    if not index.is_file():
        return False
    # Beside a folder of images such a file may be somebody's list of labels.
    with index.open("rb") as file:
        return not index.with_suffix("").is_dir() or b'"format"' in file.read(200)


def load_index(data_dir: Path | str, split: str) -> ShardIndex:
    """Read the index of a split from a folder or a URL.

    Raises:
        OSError: it or its table of places is not there, or damaged; the message names it.
        ValueError: it is of another format.
    """
    place = str(data_dir).rstrip("/")
    cache = Cache.from_environment() if is_url(place) else None
    url = f"{place}/{split_folder(split)}.json"
    try:
        index = _read_json(url)
        parts = _parse_index(index, split) if index["format"] == FORMAT else None
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise OSError(f"{url} is not an index of shards ({error!r}); make it again") from error
    if parts is None:
        raise ValueError(f"{url} has format {index['format']}, this nestlib reads {FORMAT}")
    table, *said = parts
    arrays = _read_table(_locate(place, cache, table), table.sha256, cache is not None)
    try:
        return ShardIndex(place, cache, *said, *arrays)
    except ValueError as error:
        raise OSError(f"{url} does not fit {table.name}: {error}; make both again") from error


def _read_json(url: str) -> Any:
    """Read JSON, a second time if it is damaged: a reply without a length may break off unseen."""
    for left in reversed(range(WRONG_TRIES)):
        try:
            return json.loads(read_url(url) if is_url(url) else read_regular(url))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"there is no {url}; give a folder or URL of shards that `nest shard` made"
            ) from None
        except ValueError:
            if not left:
                raise


def hash_index(index: Mapping[str, Any]) -> str:
    """SHA-256 in hex of an index's values, whatever their order and the space between them."""
    rest = {key: value for key, value in index.items() if key != CHECKSUM}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _parse_index(
    index: dict[str, Any], split: str
) -> tuple[Shard, str, tuple[Shard, ...], tuple[str, ...]]:
    """The table of places; plan, shards and class_names."""
    if index.get(CHECKSUM, hash_index(index)) != hash_index(index):  # older ones have none
        raise ValueError("it was changed after it was made, its SHA-256 is another")
    if index.get("split", split) != split:
        raise ValueError(f"it is of split {index['split']}")
    names = index["class_names"]
    if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise TypeError("class_names is not a list of names")
    if not all(map(os.fsencode, names)):  # raises where a name is no file's
        raise ValueError("a class has no name")
    shards = tuple(Shard(**shard) for shard in index["shards"])
    total = sum(shard.images for shard in shards)
    if index.get("images", total) != total:
        raise ValueError(f"it tells of {index['images']} images, its shards hold {total}")
    table, own = Shard(**index["table"]), split_folder(split)
    for one in (table, *shards):  # or a message on it would not say which index names it
        if not one.name.startswith(own):
            raise ValueError(f"it names {one.name!r}, which is no file of {own}")
    return table, index["plan"], shards, tuple(names)


def _read_table(path: Path, sha256: str, cached: bool) -> list[np.ndarray]:
    """files, labels and places."""
    data = read_regular(path)
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        remedy = "delete it, and it is fetched again" if cached else "copy or make it again"
        raise OSError(
            f"{path} has SHA-256 {found}, the index says {sha256}; it is damaged: {remedy}"
        )
    try:
        arrays = read_npz(io.BytesIO(data), TABLE_BYTES)
        numbers = [arrays[name] for name in ("labels", "places")]
        if any(n.dtype.kind not in "iu" for n in numbers):
            raise ValueError("labels or places are no whole numbers")
        return [arrays["files"], *(n.astype(np.int64) for n in numbers)]
    except Exception as error:  # numpy and zipfile raise a dozen types
        raise OSError(f"{path} is not a table of places ({error!r}); make it again") from error
