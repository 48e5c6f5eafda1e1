"""Faults of data on purpose: what epochs lose, or give twice, when a file or a server breaks.

Each fault strikes a small data set of noise while epochs of it are read; every image carries its
own number, so what was read is counted, not inferred. `python tests/data_faults.py` leaves a
record, beside the committed ones with --commit-record.
"""

import http.server
import os
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nestbook.profiles.registry import add_profile
from nestlib.data import fetching
from nestlib.data.containers import FolderSet
from nestlib.data.datasets import load_dataset
from nestlib.data.faults import UnreadableImages
from nestlib.data.shard_maker import make_shards
from nestlib.files import Held
from nestlib.records import open_store
from nestlib.training.devices import Ranks

CLASSES, EACH, BATCH = 6, 40, 24
SHARD_MB = 0.02
OPTIONS = {"partial": True, "num_workers": 2, "image_size": 16, "skip_limit": 60}


@dataclass
class Trial:
    """A data set to break: a tree, its shards, and what reads them."""

    tree: Path
    shards: Path
    read: list[int] = field(default_factory=list)  # numbers of images, in the order they came
    left_out: int = 0
    ended: bool = False  # by an error, as it should be

    def load(self, place: Path | str, **options) -> FolderSet:
        options = OPTIONS | options
        images = load_dataset("imagenet", "train", data_dir=place, **options)
        return replace(images, labels=torch.arange(len(images)))

    def read_epoch(self, images: FolderSet, order: Tensor | None = None) -> None:
        """Read an epoch, or a part of one in `order`."""
        order = images.shuffle(0, BATCH) if order is None else order
        for _, numbers in images.iterate(order, BATCH, seed=0):
            self.read += numbers.tolist()
        self.left_out = len(images.faults.found)


def rehearse(progress: Callable[[str], None] = print) -> dict[str, dict]:
    """Strike by every fault in turn.

    Returns:
        {fault: {"how", "outcome", "left_out", "lost", "doubled"}}; lost are images that could be
        read but were not, doubled those that were given twice in an epoch; both are None where
        an error ended it.
    """
    found = {}
    with TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        _write_tree(source)
        for number, (name, (how, strike)) in enumerate(FAULTS.items()):
            progress(f"{name}: {how}")
            place = Path(folder) / str(number)
            shutil.copytree(source, place / "tree")
            make_shards("imagenet", source, place / "shards", splits=["train"], shard_mb=SHARD_MB,
                        processes=2, progress=False)  # fmt: skip
            trial = Trial(place / "tree", place / "shards")
            with patch.dict(os.environ, {"NESTLIB_CACHE": str(place / "cache")}):
                outcome = strike(trial)
            twice = sum(count - 1 for count in Counter(trial.read).values())
            missing = CLASSES * EACH - len(set(trial.read)) - trial.left_out
            found[name] = {
                "how": how, "outcome": outcome, "left_out": trial.left_out,
                "lost": None if trial.ended else missing,
                "doubled": None if trial.ended else twice,
            }  # fmt: skip
    return found


def _write_tree(root: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(CLASSES * EACH):
        path = root / "train" / f"c{number % CLASSES}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), np.uint8)).save(path)


NAMED = "named, counted, left out; the epoch went on"
SAME = "read to the end as without it"


def _truncate_file(trial: Trial) -> str:
    images = trial.load(trial.tree)
    path = trial.tree / os.fsdecode(images.files[7])
    path.write_bytes(path.read_bytes()[:200])
    trial.read_epoch(images)
    return NAMED if str(images.files[7].decode()) in images.faults.found else "not named"


def _overwrite_bytes(trial: Trial) -> str:
    images = trial.load(trial.shards)
    shard, offset, size, _ = images.places[7].tolist()
    with (trial.shards / images.index.shards[shard].name).open("r+b") as file:
        file.seek(offset + size // 2)
        file.write(b"\xff\0" * 4)
    trial.read_epoch(images)
    return NAMED if str(images.files[7].decode()) in images.faults.found else "not named"


def _damage_remote_shard(trial: Trial) -> str:
    path = trial.shards / "train-000002.tar"
    path.write_bytes(path.read_bytes()[:-5000] + bytes(5000))
    return _read_without(trial, path.name)


def _remove_remote_shard(trial: Trial) -> str:
    (trial.shards / "train-000002.tar").unlink()
    return _read_without(trial, "train-000002.tar")


def _read_without(trial: Trial, shard: str) -> str:
    with _serve(trial.shards) as server:
        images = trial.load(server.url)
        trial.read_epoch(images)
    return NAMED if all(shard in why for why in images.faults.found.values()) else "not named"


def _break_connections(trial: Trial) -> str:
    with _serve(trial.shards, broken=2) as server:
        trial.read_epoch(trial.load(server.url))
    return f"fetched again; {SAME}"


def _stop_server(trial: Trial) -> str:
    with _serve(trial.shards) as server:
        images = trial.load(server.url)
        server.down_until = time.monotonic() + 3
        trial.read_epoch(images)
    return f"waited for it; {SAME}"


def _lose_server(trial: Trial) -> str:
    with _serve(trial.shards) as server, patch.object(fetching, "FIRST_DELAY", 0.01):
        images = trial.load(server.url)
        server.down_until = float("inf")
        try:
            trial.read_epoch(images)
        except fetching.Unreachable:
            trial.ended = True
            return "an error that names it, after 8 tries; no image was blamed"
    return "no error"


def _fill_cache(trial: Trial) -> str:
    with _serve(trial.shards) as server, patch.dict(os.environ, {"NESTLIB_CACHE_GB": "0.00012"}):
        trial.read_epoch(trial.load(server.url))
        held = sum(path.stat().st_size for path in Path(os.environ["NESTLIB_CACHE"]).glob("*-*"))
    return f"{SAME}; the cache holds {held / 1e3:.0f} of 120 kB"


def _change_ranks(trial: Trial) -> str:
    """Two ranks read a part of the epoch and are gone; four go on from the step that was saved."""
    images = trial.load(trial.shards, num_workers=0)
    order, saved, struck = images.shuffle(0, BATCH), 3 * BATCH, 5 * BATCH
    for ranks, part in ((2, order[:struck]), (4, order[saved:])):
        taken = [
            [n.tolist() for _, n in images.iterate(Ranks(rank, ranks).share(part, BATCH),
                                                   BATCH // ranks, seed=0)]
            for rank in range(ranks)
        ]  # fmt: skip
        steps = [list(chain(*step)) for step in zip(*taken)]
        trial.read += chain(*(steps if ranks == 4 else steps[: saved // BATCH]))
    return f"steps after the checkpoint were made again; {SAME}"


def _kill_maker(trial: Trial) -> str:
    whole = {path.name: path.read_bytes() for path in trial.shards.iterdir()}
    shutil.rmtree(trial.shards)
    make = get_context("fork").Process(
        target=make_shards, args=("imagenet", trial.tree, trial.shards),
        kwargs={"splits": ["train"], "shard_mb": SHARD_MB, "processes": 1, "progress": False},
    )  # fmt: skip
    make.start()
    while make.is_alive() and not list(trial.shards.glob("train-*.tar")):
        time.sleep(0.0005)
    make.kill()
    make.join()
    struck = "struck between two shards" if not (trial.shards / "train.json").exists() else "late"
    for _ in range(100):
        try:
            make_shards("imagenet", trial.tree, trial.shards, splits=["train"], shard_mb=SHARD_MB,
                        processes=2, progress=False)  # fmt: skip
            break
        except Held:  # its worker sees within a moment that it is alone
            time.sleep(0.1)
    same = all((trial.shards / name).read_bytes() == data for name, data in whole.items())
    trial.read_epoch(trial.load(trial.shards))
    return f"{struck}, made to the end, bytes {'the same' if same else 'others'}"


def _exceed_limit(trial: Trial) -> str:
    for number in range(0, 20):
        (trial.tree / "train" / f"c{number % CLASSES}" / f"{number}.jpg").write_bytes(b"no JPEG")
    images = trial.load(trial.tree, skip_limit=10)
    try:
        trial.read_epoch(images)
    except UnreadableImages as error:
        trial.ended = True
        return "an error that names them" if ".jpg" in str(error) else "an error without names"
    return "no error"


FAULTS: dict[str, tuple[str, Callable[[Trial], str]]] = {
    "truncated JPEG": ("a file of the folder cut to 200 bytes", _truncate_file),
    "wrong bytes": ("8 bytes within a JPEG of a local shard overwritten", _overwrite_bytes),
    "damaged shard": ("a shard's last 5,000 bytes zeroed on the server", _damage_remote_shard),
    "missing shard": ("a shard removed from the server", _remove_remote_shard),
    "too many unreadable": ("20 files are no JPEGs, 10 are allowed", _exceed_limit),
    "broken connections": ("the first two answers for each file break off", _break_connections),
    "server down": ("HTTP 503 for the first 3 s of an epoch", _stop_server),
    "server lost": ("HTTP 503 for ever", _lose_server),
    "full cache": ("a cache of a third of the shards", _fill_cache),
    "other ranks": ("2 ranks stop within an epoch, 4 go on from step 3 of 10", _change_ranks),
    "shard maker killed": ("SIGKILL while it writes, then run again", _kill_maker),
}


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder: Path, broken: int):
        self.folder, self.broken, self.asked = folder, broken, Counter()
        self.down_until = 0.0
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.asked[name] += 1
        path = self.server.folder / name
        if time.monotonic() < self.server.down_until:
            return self.send_error(503)
        if not path.is_file():
            return self.send_error(404)
        data = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        whole = self.server.asked[name] > self.server.broken
        self.wfile.write(data if whole else data[: len(data) // 2])

    def log_message(self, *_) -> None:
        pass


@contextmanager
def _serve(folder: Path, broken: int = 0) -> Iterator[_Server]:
    with _Server(folder, broken) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


if __name__ == "__main__":
    add_profile(
        "data-faults", rehearse, open_store(), device=torch.device("cpu"), precision="fp32",
        committed=sys.argv[1:] == ["--commit-record"],
    )  # fmt: skip
