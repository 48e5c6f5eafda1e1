"""What a loader's worker processes do to the process that started them."""

import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from test_accuracy import read_folder, save_classes
from torch import nn

from nestlib.data import containers
from nestlib.data.fetching import Unreachable
from nestlib.data.views import TransformedImages, View
from nestlib.metrics.accuracy import Candidate, measure_accuracy

BROKEN = """
import sys
from dataclasses import replace
from pathlib import Path
import torch
from test_accuracy import read_folder
from nestlib.data import containers
what, images = sys.argv[1], replace(read_folder(Path(sys.argv[2])), num_workers=2)

def fail(crops, index):
    raise RuntimeError("broken in a worker")

if what == "worker":
    containers._Crops._read = fail
batches = images.iterate(torch.arange(len(images)), 1, seed=0)
next(batches)
sys.last_value = batches  # as an interactive Python keeps it, with the error
raise RuntimeError("broken between two batches")
"""


@pytest.mark.parametrize(("what", "said"), [("worker", "in a worker"), ("main", "between two")])
def test_an_error_ends_the_process(tmp_path, what, said):
    """It waited for workers for ever, which outlive the one signal that Python sends them."""
    save_classes(tmp_path / "val")
    done = subprocess.run(
        [sys.executable, "-c", BROKEN, what, tmp_path], cwd=Path(__file__).parent, timeout=120,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1 and f"broken {said}" in done.stderr, done.stderr


TORCH_SAYS = [
    "unable to allocate shared memory(shm) for file </torch_1_2_0>: No space left on device (28)",
    "DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's "
    "workers are out of shared memory. Please try to raise your shared memory limit.",
]


@pytest.mark.parametrize("reason", TORCH_SAYS)
def test_a_full_dev_shm_is_one_line_with_the_remedy(tmp_path, monkeypatch, reason):
    def fail(crops, index):
        raise RuntimeError(reason)

    save_classes(tmp_path / "val")
    images = replace(read_folder(tmp_path), num_workers=2)
    monkeypatch.setattr(containers._Crops, "_read", fail)
    with pytest.raises(
        OSError, match=r"^/dev/shm is too small.* 2 workers; .*--shm-size.*"
    ) as error:
        list(images.iterate(torch.arange(len(images)), 1, seed=0))
    assert "num_workers=0" in str(error.value) and "\n" not in str(error.value)


def test_another_error_of_a_worker_stays_as_it_is(tmp_path, monkeypatch):
    def fail(crops, index):
        raise RuntimeError("broken otherwise")

    save_classes(tmp_path / "val")
    images = replace(read_folder(tmp_path), num_workers=1)
    monkeypatch.setattr(containers._Crops, "_read", fail)
    with pytest.raises(RuntimeError, match="broken otherwise"):
        list(images.iterate(torch.arange(len(images)), 1, seed=0))


@pytest.mark.parametrize("kind", [OSError, Unreachable])
def test_an_image_that_cannot_be_read_is_named_without_a_workers_traceback(
    tmp_path, monkeypatch, kind
):
    save_classes(tmp_path / "val")
    images = replace(read_folder(tmp_path), num_workers=1)

    def fail(images, index):
        raise kind("cannot read image a.png (OSError: cut);\nfetch it again") from ValueError("x")

    monkeypatch.setattr(containers.FolderSet, "read_image", fail)
    monkeypatch.setattr(containers.FolderSet, "read_bytes", fail)
    view = View(16, 1.0, "bicubic", (0.5,) * 3, (0.25,) * 3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16**2, images.num_classes))
    candidate = Candidate("one", model, view, own=True)
    with pytest.raises(kind) as caught:
        measure_accuracy([candidate], images, device="cpu", progress=False)
    assert str(caught.value) == "cannot read image a.png (OSError: cut);\nfetch it again"
    assert "in fail" in str(caught.value.__cause__)  # for whoever looks for the place


@pytest.mark.parametrize("own_loader", [False, True], ids=["read_batches", "measure_accuracy"])
def test_a_worker_that_is_killed_is_one_line_with_the_remedy(tmp_path, monkeypatch, own_loader):
    """As by the kernel, where memory runs out. Torch's words name neither cause nor remedy."""
    save_classes(tmp_path / "val")
    images = replace(read_folder(tmp_path), num_workers=2)

    def die(*_):
        os.kill(os.getpid(), signal.SIGKILL)

    if own_loader:
        monkeypatch.setattr(TransformedImages, "__getitem__", die)
        view = View(16, 1.0, "bicubic", (0.5,) * 3, (0.25,) * 3)
        model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16**2, images.num_classes))
        candidate = Candidate("one", model, view, own=True)
        act = partial(measure_accuracy, [candidate], images, device="cpu", progress=False)
    else:
        monkeypatch.setattr(containers._Crops, "_read", die)
        act = partial(list, images.iterate(torch.arange(len(images)), 1, seed=0))
    with pytest.raises(
        OSError, match=r"^one of 2 processes that read images has ended .*num_workers to fewer"
    ) as error:
        act()
    assert "\n" not in str(error.value) and not multiprocessing.active_children()
