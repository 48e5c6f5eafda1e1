"""Locks and files of file systems, and systems, that lack something."""

import errno
import multiprocessing
import os
import re
import subprocess
import sys
import textwrap
import time
from unittest.mock import patch

import pytest

from nestbook.run_plan import transfers
from nestlib import files
from nestlib.data.fetching import Cache
from nestlib.data.shard_plan import cut, list_split
from nestlib.data.shard_writer import write_shard
from nestlib.files import Held, hold, is_held, open_atomically
from nestlib.models.convert import convert_weights
from nestlib.runs.run import carry_out

FLOCK = "filelock._unix.fcntl.flock"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
@pytest.mark.parametrize("wait", [False, True])
def test_a_file_system_without_flock_is_named_with_the_remedy(tmp_path, number, wait):
    """As Lustre answers, some NFS, and some FUSE."""
    path = tmp_path / "run" / "lock"
    with patch(FLOCK, side_effect=OSError(number, os.strerror(number))):
        with pytest.raises(OSError, match=f"{re.escape(str(path))}.*flock.*mount") as error:
            with hold(path, wait=wait):
                pytest.fail("held without a lock")
        assert os.strerror(number) in str(error.value) and not isinstance(error.value, Held)
        with pytest.raises(OSError, match="flock"):
            is_held(path)
    with hold(path):  # nothing is left that would hold it
        assert is_held(path)


def test_a_run_on_such_a_file_system_says_so_before_it_begins(tiny_recipe, store, tmp_path):
    with patch(FLOCK, side_effect=OSError(errno.ENOSYS, "Function not implemented")):
        with pytest.raises(OSError, match=r"runs/.*/lock cannot be locked.*flock"):
            carry_out(tiny_recipe, store, runs_dir=tmp_path / "runs", device="cpu")


def test_a_runs_folder_that_cannot_be_written_to_is_named_before_training(
    tiny_recipe, store, tmp_path
):
    """A read-only file system; and a file, and a link to nowhere, in the folder's place."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with patch("nestlib.files.os.open", side_effect=OSError(errno.EROFS, "Read-only file system")):
        with pytest.raises(OSError, match=r"Read-only .*give a folder that .*runs/.*/lock"):
            carry_out(tiny_recipe, store, runs_dir=tmp_path / "runs", device="cpu")
    for name in ("file", "link"):
        with pytest.raises(OSError, match=rf"give a folder that can be written to: .*{name}/"):
            carry_out(tiny_recipe, store, runs_dir=tmp_path / name, device="cpu")
    assert (tmp_path / "file").read_text() == "mine" and (tmp_path / "link").is_symlink()
    assert store.find(tiny_recipe.run_id) is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_device_or_a_pipe_is_never_replaced(tmp_path):
    """As /dev/null, which root's `nest export --onnx /dev/null` would turn into a file."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="pipe is a device or a pipe, which is not replaced"):
        with open_atomically(tmp_path / "pipe"):
            pytest.fail("opened")
    assert (tmp_path / "pipe").is_fifo() and len(list(tmp_path.iterdir())) == 1


def test_looks_do_not_take_one_another_for_a_holder(tmp_path):
    path = tmp_path / "lock"
    path.touch()
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert not any(pool.map(is_held, [path] * 400))


def test_a_lock_that_is_full_of_no_room_holds_all_the_same(tmp_path):
    """The holder's name is a help alone."""
    path = tmp_path / "lock"
    with patch("os.write", side_effect=OSError(errno.ENOSPC, "No space left on device")):
        with hold(path):
            with pytest.raises(Held, match=f"{path} is held by another process"), hold(path):
                pass


def test_a_fork_does_not_keep_the_lock_that_its_parent_gave_back(tmp_path):
    """Workers are forked while a file is being fetched, say."""
    path, context = tmp_path / "lock", multiprocessing.get_context("fork")
    with hold(path):
        child = context.Process(target=time.sleep, args=(60,), daemon=True)
        child.start()
    try:
        assert child.is_alive() and not is_held(path)
    finally:
        child.kill()


def _count(path, number):
    for _ in range(20):
        with hold(path.with_name("lock"), wait=True):
            path.write_text(str(int(path.read_text()) + number))


def test_who_waits_for_a_lock_gets_it_alone(tmp_path):
    path, context = tmp_path / "count", multiprocessing.get_context("fork")
    path.write_text("0")
    workers = [context.Process(target=_count, args=(path, n)) for n in (1, 100, 10_000)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert path.read_text() == str(20 * 10_101)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_folder_that_cannot_be_synced_loses_no_file(tmp_path, number):
    """As of some FUSE mounts; Windows does not even open one."""
    sync = os.fsync

    def refuse(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(number, os.strerror(number))
        sync(handle)

    with patch("os.fsync", refuse), open_atomically(tmp_path / "a") as file:
        file.write(b"whole")
    assert (tmp_path / "a").read_bytes() == b"whole" and len(list(tmp_path.iterdir())) == 1


def test_an_older_filelock_locks_as_well(tmp_path):
    """Where nestlib is not installed nobody asks for a new one."""
    code = """
        import sys, filelock
        del filelock.lock_descriptor
        from pathlib import Path
        from nestlib.files import Held, hold, is_held
        path = Path(sys.argv[1])
        with hold(path):
            assert is_held(path)
            try:
                with hold(path):
                    print("held twice")
            except Held as error:
                print("is held by process" in str(error))
        with hold(path, wait=True):
            assert is_held(path)
        print(is_held(path))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "lock")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.parametrize("made_again", [True, False])
def test_a_lock_whose_file_is_replaced_meanwhile_is_taken_anew(tmp_path, monkeypatch, made_again):
    """A run's folder is moved away as another process has opened the lock in it: both would hold
    a file of one name."""
    path, lock = tmp_path / "run" / "lock", files._lock

    def replaced(handle, path, wait=False):
        monkeypatch.setattr(files, "_lock", lock)
        path.parent.rename(tmp_path / "away")
        if made_again:
            path.parent.mkdir()
            path.touch()
        return lock(handle, path, wait)

    monkeypatch.setattr(files, "_lock", replaced)
    with hold(path):
        assert is_held(path) and not is_held(tmp_path / "away" / "lock")
    assert not is_held(path)


def _convert(folder):
    convert_weights(folder, folder / "out.safetensors")


def _shard(folder):
    for name in ("a", "b"):
        (folder / "train" / name).mkdir(parents=True)
        (folder / "train" / name / "x.png").write_bytes(b"x")
    for job in cut(list_split("imagenet", folder, folder, "train", 10**6)):
        write_shard(job)


@pytest.mark.parametrize(
    ("pipe", "act"),
    [
        ("model.safetensors", _convert),
        ("pytorch_model.bin", _convert),
        ("ckpt-1.flax", _convert),
        ("out.safetensors", _convert),
        ("train-000000.tar", _shard),
        ("x.bad", lambda folder: Cache(folder, 9)._raise_if_bad(folder / "x.tar")),
        ("pieces.json", lambda folder: transfers.take(folder, folder / "kept")),
    ],
)
def test_a_pipe_in_place_of_a_file_is_refused_by_name(tmp_path, pipe, act, short_time):
    os.mkfifo(tmp_path / pipe)
    with pytest.raises((OSError, ValueError), match=rf"{pipe} (is not a regular file; put|exists)"):
        act(tmp_path)
