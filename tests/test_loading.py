"""Measurements of the loader: contenders do the same work, records are shown, memory is flat."""

import io
import itertools
import json
import mmap
import os
import subprocess
import sys
import tarfile
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from data_faults import FAULTS, rehearse
from PIL import Image

from nestbook.benchmarks import loader
from nestbook.benchmarks.decoders import decoder_times
from nestbook.benchmarks.loader import (
    loading_rates,
    our_batches,
    streaming_memory,
    torchvision_batches,
)
from nestbook.paper import TABLE2
from nestbook.profiles import registry
from nestbook.report import loader as report_loader
from nestbook.report.loader import decoder_table, plot_streaming
from nestbook.report.profiles import show_profile
from nestbook.report.tables import NOT_RUN, Table
from nestlib.data.layouts import TINY_PACK
from nestlib.records import Record, Store

pytest.importorskip("skimage.data")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return loader.write_photos(tmp_path_factory.mktemp("photos"), 24)


def test_photos_are_of_the_size_and_weight_that_the_labels_say(photos):
    paths = sorted(photos.rglob("*.jpg"))
    assert len(paths) == 24 and len({path.parent for path in paths}) == loader.CLASSES
    assert {Image.open(path).size for path in paths} == {loader.PHOTO_SIZE}
    mean = np.mean([path.stat().st_size for path in paths])
    assert mean == pytest.approx(loader.PHOTO_BYTES, rel=0.2)


def test_both_pipelines_give_the_same_kind_of_batches(photos):
    options = {"partial": True, "num_workers": 1, "image_size": 64}
    images = loader.load_dataset("imagenet", "train", data_dir=photos, **options)
    ours, theirs = (
        [torch.cat(part) for part in zip(*make(images, 0))]
        for make in (our_batches, torchvision_batches)
    )
    assert ours[0].shape == theirs[0].shape == (24, 3, 64, 64)
    assert ours[0].dtype == theirs[0].dtype == torch.float32
    assert sorted(ours[1].tolist()) == sorted(theirs[1].tolist())
    assert (ours[0].mean((0, 2, 3)) - theirs[0].mean((0, 2, 3))).abs().max() < 0.5
    assert (ours[0].std() / theirs[0].std() - 1).abs() < 0.2


def test_a_packs_images_are_checked_before_torchvision_opens_them(tmp_path):
    """Pillow alone would read this one, a PPM."""
    with tarfile.open(tmp_path / TINY_PACK, "w:xz") as tar:
        info = tarfile.TarInfo("tiny-imagenet-100/train/n1/a.JPEG")
        info.size = 12
        tar.addfile(info, io.BytesIO(b"P6 1 1 255\nx"))
    with pytest.raises(OSError, match=r"cannot read image .*a\.JPEG .it is not a PNG, JPEG"):
        loader._unpack_tiny(tmp_path, tmp_path / "unpacked", 100)


def test_a_contender_that_skips_images_is_found_out():
    whole = [(torch.zeros(4), torch.zeros(4))] * 2
    contenders = {"whole": lambda epoch: iter(whole), "lazy": lambda epoch: iter(whole[:1])}
    with pytest.raises(ValueError, match="lazy gave 4 images of 8"):
        loading_rates(contenders, 8, rounds=1, progress=False)


def test_a_loader_record_is_shown_with_its_verdict(photos, tmp_path, monkeypatch):
    monkeypatch.setenv("NESTLIB_DATA", str(tmp_path / "nothing"))
    monkeypatch.setattr(
        registry, "measure_loader", partial(loader.measure_loader, rounds=1, photos=8, decoded=2)
    )
    store = Store(tmp_path / "committed", tmp_path / "local")
    record = registry.run_profile("loader", store, device="cpu", committed=True, progress=False)
    json.dumps(record.summary)
    (found,) = store.find_benches("loader")
    table = show_profile("loader", [found])
    assert [row[1] for row in table.rows] == [
        "torchvision ImageFolder", "folder", "shards", "shards over http, new to the cache",
        "shards, bytes for a GPU",
    ]  # fmt: skip
    assert str(table.rows[0][3]) == "1.00" and "1.5 times" in table.notes[0]
    assert any(word in table.notes[0] for word in (": met at", ": missed at"))
    assert any(NOT_RUN in note and "Tiny ImageNet" in note for note in table.notes)
    assert record.run_id in table.sources.details[0]
    point = report_loader.make_loader_point(store)
    assert f"{table.rows[2][2].value:,.0f} images per second from shards" in point.sentence
    assert f"{table.rows[2][3].value:.2f} times as many as torchvision's" in point.sentence
    kept = table.rows[4][2].value >= TABLE2["NesT-T"].images_per_second
    assert "classifies 634 images per second (it does not train on them), so" in point.sentence
    assert ("keep up with it" in point.sentence) == kept and "GPU: not run" in str(point)
    assert len(report_loader.plot_loader(store).tooltips) == len(table.rows)
    decoders = {row[:2]: row for row in decoder_table([found]).rows}
    assert decoders["decode", "simplejpeg"][4].value == 0
    assert decoders["resize", "torch, uint8"][4].value <= 1
    with pytest.raises(ValueError, match="loader is measured only on the CPU"):
        registry.check_profile("loader", "fp32", "cuda")


def test_a_gpu_with_a_record_is_what_the_loader_has_to_feed(store):
    """Beside the paper's; and cores are as many as it takes, each as fast as a worker was."""
    speeds = {"images_per_second": {"train": {"median": 2500.0, "rounds": [2500.0] * 3}}}
    where = {"device": "NVIDIA X", "device_kind": "cuda", "finished": "2026"}
    gpu = Record("bench/table2-full-x-bf16", "bench", {}, where, {"NesT-T": speeds})
    store.add(gpu, committed=True)
    assert report_loader.find_needs(store)["X trains"].value == 2500
    assert report_loader.plot_loader(store) is None
    assert "Nothing has been timed" in report_loader.make_loader_point(store).sentence
    rates = {name: {"images_per_second": [500.0] * 3, "cpu_ms": [1.0] * 3}
             for name in report_loader.WAYS}  # fmt: skip
    rates["shards, bytes for a GPU"]["images_per_second"] = [1000.0] * 3
    measured = {"settings": {"workers": 2}, "sets": {"photos": {"rates": rates}}}
    cpu = {"device": "a CPU", "device_kind": "cpu", "finished": "2026"}
    store.add(Record("bench/loader-full-a-fp32", "bench", {}, cpu, measured), committed=True)
    rows = {row[0]: row[2].value for row in report_loader.needs_table(store).rows}
    assert rows["X trains"] == 5 and rows["the paper's GPU classifies"] == 2
    point = report_loader.make_loader_point(store)
    assert "X trains 2,500 images per second, so it needs more workers" in point.sentence
    assert "GPU: not run" not in str(point)


@pytest.mark.parametrize(("rounds", "word"), [
    ([160.0, 170.0, 150.0], ": met at"), ([149.0, 148.0, 170.0], ": missed at"),
    ([149.0, 151.0, 170.0], ": met by the median, not by every round, at"),
])  # fmt: skip
def test_a_verdict_says_whether_every_round_met_the_target(rounds, word):
    rates = {
        "torchvision ImageFolder": {"images_per_second": [100.0] * 3, "cpu_ms": [3.0] * 3},
        "shards": {"images_per_second": rounds, "cpu_ms": [2.0] * 3},
    }
    assert word in report_loader._verdict("photos", {"rates": rates}, "a record")


def test_decoders_that_differ_are_told_from_pillow(photos):
    files = [path.read_bytes() for path in sorted(photos.rglob("*.jpg"))[:2]]
    times = decoder_times(files, rounds=1, size=32)
    assert times["decode"]["simplejpeg, fast and inexact"]["difference"] > 1
    assert times["decode"]["OpenCV"]["difference"] == 0


def test_memory_of_streaming_is_flat():
    """In short; ten minutes of it are a record (`nest profile streaming`).

    Batches of 14 MB come from pages of their own here. By default glibc's allocator keeps some that
    were freed, up to five more or fewer from one look to the next, in which a leak would hide.
    """
    code = (
        "import json; from nestbook.benchmarks import loader;"
        "print(json.dumps(loader.measure_streaming(False, seconds=8, every=0.1, photos=24)))"
    )
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(4 * 2**20)}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert told.returncode == 0, told.stderr.decode()
    measured = json.loads(told.stdout)
    assert measured["epochs"] >= 8 and len(measured["mb"]) == len(measured["seconds"]) >= 10
    # Two batches: as many more may be on their way at one look. A batch kept an epoch is above it.
    assert measured["late_mb"] - measured["early_mb"] < 30


def test_a_leak_would_be_seen(monkeypatch):
    """By a clock that ticks at each look, so that a busy machine sees as much."""
    ticks = itertools.count(0, 0.02)
    clock = SimpleNamespace(monotonic=lambda: next(ticks))
    monkeypatch.setattr("nestbook.benchmarks.loader.time", clock)
    kept = []

    def epoch(number):
        kept.append(mmap.mmap(-1, 10**6))  # fresh pages, none that this process has freed
        kept[-1].write(bytes(10**6))
        yield torch.zeros(1), torch.zeros(1)

    measured = streaming_memory(epoch, seconds=2, every=0, progress=False)
    assert len(measured["mb"]) > 20
    assert measured["late_mb"] > measured["early_mb"] + 10


def test_streaming_is_drawn_or_said_to_be_missing():
    assert isinstance(plot_streaming([]), Table)
    assert show_profile("streaming", []).rows == [(NOT_RUN,)]


@pytest.mark.slow  # a minute: whole epochs, and waits for a server
def test_no_fault_of_data_loses_or_doubles_a_sample(tmp_path):
    struck = rehearse(lambda text: None)
    assert list(struck) == list(FAULTS)
    for name, one in struck.items():
        ended = name in ("too many unreadable", "server lost")
        assert (one["lost"], one["doubled"]) == ((None, None) if ended else (0, 0)), name
        assert "not named" not in one["outcome"] and "no error" not in one["outcome"]
    assert struck["truncated JPEG"]["left_out"] == struck["wrong bytes"]["left_out"] == 1
    assert struck["damaged shard"]["left_out"] == struck["missing shard"]["left_out"] > 10
    assert "bytes the same" in struck["shard maker killed"]["outcome"]
    assert len(show_profile("data-faults", []).rows) == 1
