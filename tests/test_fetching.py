"""Shards over the network: a real HTTP server on loopback, the cache, retries, checksums."""

import gzip
import http.server
import importlib
import json
import os
import socket
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from test_shards import OPTIONS, copy, damage, digest, make, shards, tree  # noqa: F401

from nestlib.data import fetching
from nestlib.data.datasets import load_dataset
from nestlib.data.faults import UnreadableImages
from nestlib.data.fetching import Cache, Unreachable
from nestlib.data.shard_maker import verify_shards
from nestlib.recipes.recipe import Recipe
from nestlib.records import Store
from nestlib.runs import run as runs


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder; counts requests; fails the first `failures` of each with a 503."""

    daemon_threads = True

    def __init__(self, folder: Path):
        self.folder, self.counts, self.failures, self.cut = folder, Counter(), 0, 0
        self.redirect_to = self.encoding = ""
        self.sends_length, self.ends = True, True
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, self.path.lstrip("/")
        server.counts[name] += 1
        path = server.folder / name
        if server.counts[name] <= server.failures:
            return self.send_error(503)
        if name.startswith("private"):
            return self.send_error(403)
        if server.redirect_to and not name.startswith("moved/"):
            self.send_response(302)
            self.send_header("Location", f"{server.redirect_to}/moved/{name}")
            return self.end_headers()
        path = server.folder / name.removeprefix("moved/")
        if not path.is_file():
            return self.send_error(404)
        data = path.read_bytes()
        self.send_response(200)
        if server.encoding:
            self.send_header("Content-Encoding", server.encoding)
            data = gzip.compress(data)
        if server.sends_length:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        # A connection that breaks off within the file.
        self.wfile.write(data[: len(data) // 2] if server.counts[name] <= server.cut else data)

        with suppress(OSError):  # until the other side has had enough
            while not server.ends:
                self.wfile.write(b" " * 2**16)

    def log_message(self, *_):
        pass


@contextmanager
def serve(folder: Path):
    server = Server(folder)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def server(shards):  # noqa: F811
    with serve(shards) as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("NESTLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("NESTLIB_CACHE_GB", raising=False)
    monkeypatch.setattr(fetching, "FIRST_DELAY", 0.001)
    return tmp_path / "cache"


def load(place, split="train", **options):
    return load_dataset("imagenet", split, data_dir=place, **OPTIONS | options)


def read(data, seed=0, batch=24):
    return list(data.iterate(data.shuffle(seed, batch), batch, seed=seed))


def equal(batches, others) -> bool:
    pairs = zip(batches, others, strict=True)
    return all(torch.equal(a, b) and torch.equal(c, d) for (a, c), (b, d) in pairs)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_url_gives_what_the_folder_gives_and_each_file_is_fetched_once(
    server, shards, num_workers  # noqa: F811
):  # fmt: skip
    here, there = load(shards), load(server.url, num_workers=num_workers)
    assert there.fingerprint == here.fingerprint
    for seed in range(2):
        assert equal(read(here, seed), read(there, seed))
    names = {path.name for path in shards.iterdir() if path.name.startswith("train-")}
    assert {name: server.counts[name] for name in names} == dict.fromkeys(names, 1)
    load(server.url)  # the index is asked for anew, its table is not
    assert (server.counts["train.json"], server.counts["train.npz"]) == (2, 1)
    assert verify_shards(server.url, progress=False) == []


def test_processes_share_one_cache(server):
    def run(seed):
        read(load(server.url), seed)

    processes = [get_context("fork").Process(target=run, args=(seed,)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    fetched = {name: n for name, n in server.counts.items() if name != "train.json"}
    assert set(fetched.values()) == {1}


def test_shards_are_fetched_ahead(server, shards):  # noqa: F811
    data = load(server.url, num_workers=1)
    batches = data.iterate(data.shuffle(0, 4), 4, seed=0)
    next(batches)
    begin = time.monotonic()
    while len(list(Path(data.root).glob("*.tar"))) < len(data.index.shards):
        assert time.monotonic() < begin + 10
        time.sleep(0.01)
    batches.close()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_cache_keeps_its_limit_and_the_epoch_stays_exact(
    server, shards, cache, monkeypatch, num_workers  # noqa: F811
):  # fmt: skip
    limit = 60_000
    monkeypatch.setenv("NESTLIB_CACHE_GB", str(limit / 1e9))
    data, most, done = load(server.url, num_workers=num_workers), [], threading.Event()
    sizes = [shard.size for shard in data.index.shards]
    assert max(sizes) < limit < sum(sizes) / 2

    def watch():
        while not done.is_set():
            most.append(sum(size for _, size, _ in fetching._list_files(cache)))
            time.sleep(0.001)

    thread = threading.Thread(target=watch)
    thread.start()
    fetching_all = [read(data, seed) for seed in range(2)]
    done.set()
    thread.join()
    here = load(shards)
    assert all(equal(read(here, seed), batches) for seed, batches in enumerate(fetching_all))
    assert 0 < max(most) <= limit
    assert not list(cache.glob(".*.part"))


def test_least_recently_used_go_first(server, cache):
    index = load(server.url).index
    paths = [index.path(number) for number in range(3)]
    for age, path in zip((10, 30, 20), paths):
        os.utime(path, (time.time() - age,) * 2)
    held = sum(size for _, size, _ in fetching._list_files(cache))
    tight = Cache(cache, held + index.shards[3].size - 1)
    tight.get(index.url(index.shards[3].name), index.shards[3].sha256, index.shards[3].size)
    kept = [path.is_file() for path in paths]
    assert not kept[1] and kept[0]  # the table, used before them all, goes too


@pytest.mark.parametrize("hours", [-48, 48])
def test_a_clock_that_was_set_back_blocks_no_cache(tmp_path, hours):
    """What other times left, then of the future, made a file bad for ever, and the cache full."""
    old, note = tmp_path / ".shard.tar.part", tmp_path / "shard.bad"
    for path in (old, note):
        path.write_bytes(b"x" * 10)
        os.utime(path, (time.time() + 3600 * hours,) * 2)
    small = Cache(tmp_path, 20)
    small._raise_if_bad(tmp_path / "shard.tar")
    assert not note.exists()
    assert small._make_room(15, tmp_path / ".other.tar.part") and not old.exists()


def test_a_shard_larger_than_the_cache_is_an_error(server, monkeypatch):
    monkeypatch.setenv("NESTLIB_CACHE_GB", "0.000005")
    with pytest.raises(ValueError, match="is limited to 5e-06 GB; raise NESTLIB_CACHE_GB, or set"):
        read(load(server.url))
    monkeypatch.setenv("NESTLIB_CACHE_GB", "much")
    with pytest.raises(ValueError, match="NESTLIB_CACHE_GB is 'much'; give a number of GB"):
        load(server.url)


def test_failures_are_tried_again(server, shards):  # noqa: F811
    server.failures, server.cut = 2, 4
    assert equal(read(load(server.url)), read(load(shards)))
    assert max(server.counts.values()) == 5  # two refusals and two broken connections before


def test_a_reply_cut_without_a_length_is_read_at_the_second_try(server, shards):  # noqa: F811
    server.sends_length, server.cut = False, 1
    assert equal(read(load(server.url)), read(load(shards)))
    assert set(server.counts.values()) == {2}


def test_a_server_that_never_ends_a_reply(server, shards, monkeypatch):  # noqa: F811
    """What is longer than the index says is not read; an index has a limit."""
    server.sends_length = False
    data = load(server.url)
    server.ends = False
    assert equal(read(data), read(load(shards)))
    monkeypatch.setattr(fetching, "INDEX_BYTES", 10**6)
    with pytest.raises(OSError, match=r"train\.json does not end within 1000000 bytes"):
        load(server.url)
    assert server.counts["train.json"] == 2
    monkeypatch.setattr(fetching, "INDEX_BYTES", 10**12)
    monkeypatch.setattr(fetching, "TIMEOUT", 0.2)
    with pytest.raises(Unreachable, match=r"train\.json was not read to its end in 0 s"):
        load(server.url)


def test_a_server_that_falls_silent_is_asked_twice(shards, monkeypatch):  # noqa: F811
    monkeypatch.setattr(fetching, "TIMEOUT", 0.1)
    with socket.socket() as silent:  # takes connections and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Unreachable, match=r"train\.json could not be fetched in 2 tries"):
            load(url)


def test_redirects_are_followed_within_a_host_alone(server, shards):  # noqa: F811
    server.redirect_to = server.url
    assert equal(read(load(server.url)), read(load(shards)))
    with serve(shards) as other:
        server.redirect_to = other.url
        with pytest.raises(Unreachable, match=rf"redirects to another host, {other.url}/moved/"):
            load(server.url)
        server.redirect_to = other.url.replace("http", "file")
        with pytest.raises(Unreachable, match=r"train\.json is refused"):
            load(server.url)
        assert not other.counts
    assert server.counts["train.json"] == 3  # asked once each time


def test_a_compressed_reply_is_named(server):
    server.encoding = "gzip"
    with pytest.raises(Unreachable, match=r"train\.json comes with Content-Encoding gzip"):
        load(server.url)
    assert server.counts["train.json"] == 1


def test_addresses_that_nobody_knows_are_named_at_once():
    pytest.importorskip("fsspec")
    with pytest.raises(Unreachable, match=r"foo://bucket/train\.json cannot be read"):
        load("foo://bucket")


@pytest.mark.parametrize("remote", [True, False])
def test_a_split_that_is_not_there_is_said_and_the_other_checked(
    shards, tmp_path, monkeypatch, caplog, remote  # noqa: F811
):  # fmt: skip
    out = copy(shards, tmp_path / "out")
    for path in out.glob("val*"):
        path.unlink()
    with serve(out) as server:
        place = server.url if remote else out
        assert verify_shards(place, progress=False) == []
        assert "has no val.json; only the other split is checked" in caplog.text
        damage(out / "train-000001.tar", 3000)
        if remote:  # as another machine would see it
            monkeypatch.setenv("NESTLIB_CACHE", str(tmp_path / "another"))
        (fault,) = verify_shards(place, progress=False)
        assert "train-000001.tar has SHA-256" in fault
        with pytest.raises(FileNotFoundError, match=r"has neither train\.json nor val\.json"):
            verify_shards(f"{place}/nowhere", progress=False)


def test_a_dead_server_is_an_error_not_a_damaged_image(server, monkeypatch):
    data = load(server.url, num_workers=1, skip_limit=1000)
    server.failures = 10**9
    with pytest.raises(Unreachable, match=r"could not be fetched in 8 tries \(.*503"):
        read(data)
    server.failures = 0
    with pytest.raises(Unreachable, match=r"private/train\.json is refused \(.*403"):
        load(f"{server.url}/private")
    with pytest.raises(OSError, match=r"absent/train\.json is not there \(.*404"):
        load(f"{server.url}/absent")


def test_a_damaged_shard_is_fetched_twice_then_named_and_left_out(
    shards, tmp_path, caplog  # noqa: F811
):  # fmt: skip
    out = copy(shards, tmp_path / "out")
    damage(out / "train-000003.tar", 3000)
    (out / "train-000005.tar").unlink()
    with serve(out) as server:
        data = load(server.url, skip_limit=40, num_workers=2)
        lost = np.isin(data.places[:, 0], [3, 5])
        for seed in range(2):
            labels = torch.cat([labels for _, labels in read(data, seed)])
            assert len(labels) == len(data) - lost.sum()
        assert server.counts["train-000003.tar"] == fetching.WRONG_TRIES  # over both epochs
        assert set(data.faults.found) == {os.fsdecode(file) for file in data.files[lost]}
        assert "train-000003.tar has SHA-256" in caplog.text and "index says" in caplog.text
        assert "train-000005.tar is not there (HTTP Error 404" in caplog.text
        assert len(caplog.records) == 2
        with pytest.raises(UnreadableImages, match=r"train-00000[35]\.tar"):
            read(load(server.url, skip_limit=3))


def test_a_shard_that_was_repaired_under_its_url_is_read(shards, tmp_path, monkeypatch):  # noqa: F811
    out = copy(shards, tmp_path / "out")
    damage(out / "train-000003.tar", 3000)
    with serve(out) as server:
        data = load(server.url)
        index = int(np.flatnonzero(data.places[:, 0] == 3)[0])
        with pytest.raises(OSError, match="has SHA-256"):
            data.read_bytes(index)
        (out / "train-000003.tar").write_bytes((shards / "train-000003.tar").read_bytes())
        monkeypatch.setattr(fetching, "REMEMBER_BAD", 0)
        assert data.read_bytes(index) == load(shards).read_bytes(index)


def test_new_shards_under_an_old_url_are_not_mixed_with_the_cache(tree, shards, tmp_path):  # noqa: F811
    out = copy(shards, tmp_path / "out")
    with serve(out) as server:
        read(load(server.url))
        other = make(tree, tmp_path / "other", shard_mb=0.02)
        assert digest(other) != digest(shards)
        for path in other.iterdir():
            (out / path.name).write_bytes(path.read_bytes())
        assert equal(read(load(server.url)), read(load(other)))


def test_other_file_systems_are_fsspecs(shards):  # noqa: F811
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for path in shards.glob("train*"):
        memory.pipe(f"/bucket/{path.name}", path.read_bytes())
    assert equal(read(load("memory://bucket")), read(load(shards)))
    with pytest.raises(OSError, match=r"memory://bucket/val\.json is not there"):
        load("memory://bucket", "test")


@pytest.fixture
def s3(shards, monkeypatch):  # noqa: F811
    """moto's S3 on loopback, which holds the shards; the URL of their folder."""
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    s3fs.S3FileSystem.clear_instance_cache()  # those of another test's server
    moto_server = pytest.importorskip("moto.server", reason="moto's server is not installed")
    server = moto_server.ThreadedMotoServer("127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "DEFAULT_REGION"):
        monkeypatch.setenv(f"AWS_{name}", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    bucket = importlib.import_module("boto3").resource("s3").create_bucket(Bucket="bucket")
    for path in shards.iterdir():
        bucket.upload_file(str(path), f"imagenet/{path.name}")
    yield "s3://bucket/imagenet"
    server.stop()


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_object_store_gives_what_the_folder_gives(s3, shards, num_workers):  # noqa: F811
    """Its client runs an event loop in a thread, which forked workers do not inherit."""
    there = load(s3, num_workers=num_workers)
    for seed in range(2):
        assert equal(read(load(shards), seed), read(there, seed))
    assert verify_shards(s3, progress=False) == []
    with pytest.raises(OSError, match=rf"{s3}/nowhere/train\.json is not there"):
        load(f"{s3}/nowhere")


@pytest.mark.parametrize(("url", "package"), [("s3://b/x", "s3fs"), ("gs://b/x", "gcsfs")])
def test_a_missing_package_is_named_with_its_remedy(url, package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    registry = pytest.importorskip("fsspec.registry")._registry  # what was imported before
    monkeypatch.delitem(registry, url.partition("://")[0], raising=False)
    with pytest.raises(ImportError, match=rf"{url}/train\.json .*`pip install {package}`"):
        load(url)


def test_nest_train_takes_a_url_and_its_record_counts_what_was_left_out(
    shards, tmp_path  # noqa: F811
):  # fmt: skip
    out = copy(shards, tmp_path / "out")
    index = json.loads((out / "train.json").read_text())
    damage(out / index["shards"][0]["name"], 700)  # within its first image
    recipe = Recipe(
        name="imagenet/toy", model="nest_tiny_cifar", dataset="imagenet",
        model_options={"embed_dim": 12, "num_hierarchies": 2, "patch_size": 4}, image_size=16,
        dataset_options={"partial": True, "num_workers": 1, "skip_limit": 1}, epochs=2,
        warmup_epochs=0, batch_size=40, budget="quick",
    )  # fmt: skip
    found = {}
    for name, place in (("url", None), ("folder", out)):
        store = Store(tmp_path / name / "a", tmp_path / name / "b")
        with serve(out) as server:
            if place is None:
                (out / index["shards"][0]["name"]).write_bytes(
                    (shards / index["shards"][0]["name"]).read_bytes()
                )
            record = runs.carry_out(
                recipe, store, data_dir=place or server.url, runs_dir=tmp_path / name,
                device="cpu", progress_bar=False,
            )  # fmt: skip
            damage(out / index["shards"][0]["name"], 700)
        found[name] = record.environment["data"]["train"]["unreadable"]
    assert found["url"] == {"count": 0, "limit": 1, "names": []}
    assert (found["folder"]["count"], len(found["folder"]["names"])) == (1, 1)


def test_a_cut_copy_in_the_cache_is_fetched_again(server, cache, shards):  # noqa: F811
    whole = read(load(server.url))
    copies = [path for path in cache.iterdir() if path.suffix == ".tar"]
    assert copies
    for path in copies:
        path.write_bytes(path.read_bytes()[:100])
    assert equal(read(load(server.url)), whole)


@pytest.mark.parametrize("address", ["http://host/my shards", "http://host:abc/x", "http:///x"])
def test_what_is_no_address_is_said_at_once(address, monkeypatch):
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: pytest.fail("tried again"))
    with pytest.raises(Unreachable, match="is not an address; give http://host/folder"):
        load(address)


def test_a_full_disk_of_the_cache_blames_no_image(server, monkeypatch):
    data = load(server.url, skip_limit=1000)
    hold = fetching._writing

    @contextmanager
    def full(part):
        with hold(part):
            yield
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(fetching, "_writing", full)
    with pytest.raises(OSError, match=r"the cache .* cannot keep a file .*No space.*NESTLIB_CACHE"):
        read(data)
    assert not data.faults.found


def test_what_a_killed_process_left_of_a_file_makes_room(server, cache):
    index = load(server.url).index
    shard = index.shards[0]
    size = sum(each for _, each, _ in fetching._list_files(cache)) + shard.size
    (cache / f".{shard.sha256[:16]}-{shard.name}.{'0' * 32}.part").write_bytes(bytes(shard.size))
    path = Cache(cache, size).get(index.url(shard.name), shard.sha256, shard.size)
    assert path.stat().st_size == shard.size and not list(cache.glob(".*.part"))


@pytest.mark.parametrize("given", ["0", "-1", "nan", "inf", "1e-12", "1 GB"])
def test_a_senseless_limit_of_the_cache_is_named(server, monkeypatch, given):
    monkeypatch.setenv("NESTLIB_CACHE_GB", given)
    with pytest.raises(ValueError, match=r"NESTLIB_CACHE_GB is .*; give a number of GB, more"):
        load(server.url)


@pytest.mark.parametrize("place", ["/dev/null/x", "~nobody-of-this-name/x"])
def test_a_cache_that_cannot_be_made_is_named(server, monkeypatch, place):
    monkeypatch.setenv("NESTLIB_CACHE", place)
    with pytest.raises(OSError, match=f"the cache {place} cannot be made .*set NESTLIB_CACHE"):
        load(server.url)
