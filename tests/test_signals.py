"""Ctrl-C, a closed terminal, a scheduler: a run stops after its step and loses nothing."""

import contextlib
import json
import os
import pty
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
import torch
from test_accuracy import read_folder, save_classes

from nestlib import signals
from nestlib.cli.options import STOPPED
from nestlib.signals import STOP_SIGNALS, stop_signal

NEST = [sys.executable, "-m", "nestlib.cli"]
TRAIN = [
    "train", "digits/nest_narrow", "--device", "cpu", "--set", "epochs=20",
    "--set", "dataset_options.num_images=512", "--set", "model_options.embed_dim=12",
    "--set", "ema_decay=0.9",
]  # fmt: skip


@contextlib.contextmanager
def handled(number, handler):
    old = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, old)


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_each_signal_tells_all_blocks_and_the_handlers_come_back(number):
    before, calls = signal.getsignal(number), []
    with stop_signal(lambda: calls.append("outer")) as outer, stop_signal() as inner:
        signal.raise_signal(number)
        assert outer.is_set() and inner.is_set() and calls == ["outer"]
    assert signal.getsignal(number) == before


def test_a_block_that_is_opened_after_the_signal_is_told_too():
    """A sweep was told to stop while its next run was still reading images."""
    with stop_signal() as outer:
        signal.raise_signal(signal.SIGTERM)
        with stop_signal() as inner:
            assert outer.is_set() and inner.is_set()
    with stop_signal() as next_one:
        assert not next_one.is_set()


def test_a_second_signal_does_not_interrupt_what_the_first_calls():
    """An event that is being set holds a lock, for which a second call of `set` would wait."""
    depths, depth = [], 0

    def call():
        nonlocal depth
        depth += 1
        depths.append(depth)
        if len(depths) < 5:
            signal.raise_signal(signal.SIGTERM)
        depth -= 1

    with stop_signal(call) as stopped:
        signal.raise_signal(signal.SIGTERM)
        assert stopped.is_set() and depths == [1]


def test_what_is_ignored_stays_ignored():
    """As under nohup."""
    with handled(signal.SIGHUP, signal.SIG_IGN):
        with stop_signal() as stopped:
            signal.raise_signal(signal.SIGHUP)
            assert not stopped.is_set()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_an_idle_worker_listens_but_not_to_what_it_ignores():
    """A sweep under nohup: its workers inherit that SIGHUP is ignored."""
    heard, before = [], {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signals.listen(lambda: heard.append(1))
        signal.raise_signal(signal.SIGHUP)
        assert not heard
        signal.raise_signal(signal.SIGTERM)
        assert heard == [1]
        with stop_signal() as stopped:
            signal.raise_signal(signal.SIGHUP)
            assert not stopped.is_set()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_second_ctrl_c_is_pythons_own_but_not_at_once(monkeypatch, capfd):
    """A launcher hands on at once what the terminal has sent to all."""
    with stop_signal():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        monkeypatch.setattr(signals, "SAME_CTRL_C_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert capfd.readouterr().err.count("Stopping after this step, with a checkpoint") == 1
    with stop_signal() as stopped:  # a later run begins anew
        signal.raise_signal(signal.SIGINT)
        assert stopped.is_set()


def test_in_another_thread_no_handler_is_set():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def block():
        with stop_signal() as stopped:
            seen.append((stopped.is_set(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


def test_workers_that_decode_outlive_the_signals(tmp_path):
    """A terminal signals them with their main process; if they died, it would lose the run."""
    save_classes(tmp_path / "val")
    images = replace(read_folder(tmp_path), num_workers=2)
    batches = images.iterate(torch.arange(len(images)), 1, seed=0)
    count = len(next(batches)[1])  # of one worker; the other may not have begun
    for worker in torch.multiprocessing.active_children():
        for number in STOP_SIGNALS:
            os.kill(worker.pid, number)
    count += sum(len(labels) for _, labels in batches)
    assert count == len(images)


def start(folder, *words, **how):
    """A command in a group of its own, as a terminal would start it."""
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        [*NEST, *words], cwd=folder, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True,
        start_new_session=True, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how,
    )  # fmt: skip


def wait_for(found, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not found():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.02)


def calls_of(folder):
    with contextlib.suppress(StopIteration, json.JSONDecodeError):
        return len(json.loads(next(folder.rglob("calls.json")).read_text()))
    return 0


def steps_of(folder):
    """The newest checkpoint of each run."""
    found = [int(path.stem.split("-")[1]) for path in folder.rglob("step-*.pt")]
    return max(found, default=0)


def weights_of(folder):
    (record,) = (folder / "runs" / "records").rglob("*.json")
    return json.loads(record.read_text())["summary"]["weights_sha256"]


@pytest.mark.slow
def test_ctrl_c_at_ten_random_moments_loses_nothing(tmp_path):
    """Each call trains on from where the one before stopped, to the uninterrupted run's weights.

    The clock would keep a checkpoint after five minutes alone: all of these are the signal's.
    """
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    running, draw = start(whole, *TRAIN), random.Random()
    reached, moments = 0, [round(draw.uniform(0.0, 2.5), 2) for _ in range(10)]
    for count, moment in enumerate(moments):
        victim = start(cut, *TRAIN)
        wait_for(lambda count=count: calls_of(cut) > count, victim)
        time.sleep(moment)
        os.killpg(victim.pid, signal.SIGINT)
        said = victim.communicate(timeout=60)
        # 130: before the loop, which has nothing to save then.
        assert victim.returncode in (STOPPED, 130), (moments, said)
        if victim.returncode == STOPPED:
            assert (
                "resumes from its checkpoint" in said[0] and "Stopping after this step" in said[1]
            )
            assert steps_of(cut) > reached, (moments, said)
            reached = steps_of(cut)
    assert reached > 0, moments
    last = start(cut, *TRAIN)
    assert last.wait(300) == 0, last.communicate()
    assert running.wait(300) == 0, running.communicate()
    assert weights_of(cut) == weights_of(whole), moments


@pytest.mark.slow
def test_a_closed_terminal_leaves_a_checkpoint(tmp_path):
    """SIGHUP; and every word that is written to the terminal from then on is an error."""
    here, there = pty.openpty()
    victim = start(tmp_path / "run", *TRAIN, stdout=there, stderr=there, stdin=there)
    os.close(there)
    wait_for(lambda: calls_of(tmp_path / "run") > 0, victim)
    time.sleep(2.5)  # the bar is being drawn
    os.close(here)
    os.killpg(victim.pid, signal.SIGHUP)
    victim.wait(60)
    assert steps_of(tmp_path / "run") > 0


@pytest.mark.slow
def test_a_sweep_under_nohup_outlives_its_terminal(tmp_path):
    folder = tmp_path / "sweep"
    with handled(signal.SIGHUP, signal.SIG_IGN):  # as nohup does for what it starts
        victim = start(folder, "sweep", "table_a3", "--seeds", "1", "--device", "cpu")
    wait_for(lambda: len(list(folder.rglob("calls.json"))) == 2, victim)
    time.sleep(2)
    os.killpg(victim.pid, signal.SIGHUP)
    time.sleep(3)
    assert victim.poll() is None and not list(folder.rglob("step-*.pt"))
    os.killpg(victim.pid, signal.SIGINT)
    out, err = victim.communicate(timeout=60)
    assert victim.returncode == STOPPED and "2 begun (-)" in out, (out, err)


@pytest.mark.slow
@pytest.mark.parametrize("to_all", [True, False], ids=["Ctrl-C", "kill PID"])
def test_a_sweep_stops_with_the_checkpoint_of_each_run(to_all, tmp_path):
    folder = tmp_path / "sweep"
    victim = start(folder, "sweep", "table_a3", "--seeds", "1", "--device", "cpu")
    wait_for(lambda: len(list(folder.rglob("calls.json"))) == 2, victim)
    time.sleep(3)
    if to_all:
        os.killpg(victim.pid, signal.SIGINT)
    else:
        victim.send_signal(signal.SIGTERM)
    out, err = victim.communicate(timeout=60)
    assert victim.returncode == STOPPED, (out, err)
    assert "2 begun (-)" in out and "Traceback" not in err
    assert len({path.parent for path in folder.rglob("step-*.pt")}) == 2
