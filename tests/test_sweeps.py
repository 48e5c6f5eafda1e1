"""Sweeps: every run once, none lost or doubled, whatever is killed; stale records are seen."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from nestbook.sweeps import cost, runner, worker
from nestbook.sweeps.cost import estimate_cost
from nestbook.sweeps.devices import free_device
from nestbook.sweeps.plans import hard, plan
from nestbook.sweeps.runner import (
    RunsIncomplete,
    collect,
    collect_figure,
    load_plan,
    show_board,
    sweep,
)
from nestlib.files import Held, hold, is_held
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import from_dict, to_dict
from nestlib.records import RecordError, Store
from nestlib.runs import run, staleness
from nestlib.runs.run import LOCK, carry_out
from nestlib.runs.staleness import find_fresh
from nestlib.training.classifier import Trainer


@pytest.fixture
def how(tmp_path):
    return {"runs_dir": tmp_path / "runs", "device": "cpu", "progress": False}


@pytest.fixture
def one(tmp_path):
    return {"runs_dir": tmp_path / "runs", "device": "cpu", "progress_bar": False}


def seeds(recipe, n):
    return [replace(recipe, seed=seed) for seed in range(n)]


def test_missing_runs_are_run_and_found_ones_loaded(tiny_recipe, store, how, monkeypatch):
    plan = {"NesT": seeds(replace(tiny_recipe, epochs=2), 2)}
    first = collect(plan, store, **how)
    assert [record.recipe["seed"] for record in first["NesT"]] == [0, 1]
    monkeypatch.setattr(runner, "carry_out", lambda *_, **__: pytest.fail("it trained again"))
    monkeypatch.setattr(runner, "list_devices", lambda _: pytest.fail("it asked for a device"))
    assert collect(plan, store, **how) == first == load_plan(plan, store)


def test_a_notebook_trains_only_where_it_is_told_to(tiny_recipe, store, how, monkeypatch):
    wanted = {("a", "b"): seeds(replace(tiny_recipe, epochs=2), 1)}
    monkeypatch.setattr(runner, "plan_figure", lambda figure, budget, seeds: wanted)
    for budget in ("quick", "gpu", "paper"):
        assert collect_figure("figure5", budget, store, **how) == {("a", "b"): []}
    (record,) = collect_figure("figure5", "gpu", store, train=True, **how)["a", "b"]
    assert collect_figure("figure5", "paper", store, **how)["a", "b"] == [record]
    other = {("a", "b"): seeds(replace(tiny_recipe, epochs=3), 1)}
    monkeypatch.setattr(runner, "plan_figure", lambda figure, budget, seeds: other)
    assert len(collect_figure("figure5", "smoke", store, **how)["a", "b"]) == 1


def test_cheapest_runs_come_first_and_teachers_before_pupils(tiny_recipe, store, how, monkeypatch):
    """The pupil is the cheapest of all but for what its teacher adds."""
    teacher = replace(tiny_recipe, name="digits/pyramid_narrow", epochs=3)
    monkeypatch.setattr(cost, "get_recipe", lambda name, seed: teacher)
    pupil = replace(tiny_recipe, epochs=2, warmup_epochs=0, distillation=hard(teacher.run_id))
    large = replace(tiny_recipe, model_options=tiny_recipe.model_options | {"embed_dim": 24})
    assert estimate_cost(pupil) < estimate_cost(teacher) < estimate_cost(large)
    order = []

    def note(recipe, store, **how):
        order.append(recipe)
        return carry_out(recipe, store, **how)

    monkeypatch.setattr(runner, "carry_out", note)
    outcomes = sweep({"all": [large, pupil, teacher]}, store, **how)
    assert order == [teacher, large, pupil]
    assert [outcome.state for outcome in outcomes] == ["done"] * 3


def test_cost_counts_forward_and_twice_backward(tiny_recipe):
    """Of a DeiT, whose products are counted by hand: 64 tokens and a class token, d = 16."""
    recipe = replace(
        tiny_recipe, model="deit_tiny_cifar", drop_path_rate=0.0,
        model_options={"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 1},
    )  # fmt: skip
    n, d = 65, 16
    forward = 64 * 48 * d + n * 12 * d * d + 2 * n * n * d + 10 * d
    assert estimate_cost(recipe) == pytest.approx(3 * 96 * 3 * forward / 1e9)


def test_a_failing_run_stops_no_other(tiny_recipe, store, how, monkeypatch):
    step = Trainer.train_step

    def diverge(self, images, labels):
        step(self, images, labels)
        if self.recipe.seed == 0:
            self.first_bad.fill_(0)

    monkeypatch.setattr(Trainer, "train_step", diverge)
    plan = {"NesT": seeds(tiny_recipe, 2)}
    with pytest.raises(RunsIncomplete, match=r"1 of 2 .*\n  failed .*tiny-s0-.*NonFinite.*step 0"):
        collect(plan, store, **how)
    (kept,) = load_plan(plan, store)["NesT"]
    assert kept.recipe["seed"] == 1


def test_a_pupil_without_its_teacher_is_said_to_be_so(tiny_recipe, store, how):
    missing = "digits/pyramid_narrow-s0-00000000"
    (outcome,) = sweep({"P": [replace(tiny_recipe, distillation=hard(missing))]}, store, **how)
    assert (outcome.state, outcome.text) == ("failed", f"its teacher {missing} has no record")


def test_a_run_in_other_hands_is_not_touched(tiny_recipe, store, one):
    with hold(one["runs_dir"] / tiny_recipe.run_id / LOCK):
        with pytest.raises(Held, match=f"held by process {os.getpid()} on"):
            carry_out(tiny_recipe, store, **one)
    assert carry_out(tiny_recipe, store, **one) is not None


def test_a_run_that_another_process_ended_meanwhile_is_not_made_again(
    tiny_recipe, store, one, monkeypatch
):
    """It ends between the question for a record and the lock."""
    made = []

    def hold_late(path):
        with monkeypatch.context() as patch:
            patch.setattr(run, "hold", hold)
            made.append(carry_out(tiny_recipe, store, **one))
        return hold(path)

    monkeypatch.setattr(run, "hold", hold_late)
    found = carry_out(tiny_recipe, store, **one)
    assert found == made[0] == store.find(tiny_recipe.run_id)
    assert not list((one["runs_dir"] / tiny_recipe.run_id).glob("stale-*"))


def test_a_lock_ends_with_its_process(tmp_path):
    code = "import sys, time; from pathlib import Path; from nestlib.files import hold\n"
    code += "with hold(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    path = tmp_path / "run" / "lock"
    assert not is_held(path)
    holder = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    assert is_held(path)
    with pytest.raises(Held, match=f"held by process {holder.pid} on"), hold(path):
        pass
    holder.kill()
    holder.wait()
    assert not is_held(path)
    with hold(path):
        assert is_held(path)


def test_a_gpu_is_taken_by_one_run_at_a_time(monkeypatch, tmp_path):
    """By names alone: there is no GPU in this test."""
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    with free_device(["cuda:0", "cuda:1"]) as first, free_device(["cuda:0", "cuda:1"]) as second:
        assert (first, second) == ("cuda:0", "cuda:1")
        with monkeypatch.context() as patch:  # another numbering of the same two
            patch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
            with free_device(["cuda:0", "cuda:1"]) as third:
                assert third == "cuda:1"
    with free_device(["cuda:0"]) as again, free_device(["cpu"]) as cpu:
        assert (again, cpu) == ("cuda:0", "cpu")


@pytest.mark.parametrize("processes", [0, -1, 1.5, "2", None])
def test_a_sweep_of_no_processes_is_refused(tiny_recipe, store, how, processes):
    with pytest.raises(ValueError, match=r"processes is .* must be a whole number, 1 or more"):
        sweep({"NesT": [tiny_recipe]}, store, **how, processes=processes)


# Limits of time


def test_a_limit_of_time_does_not_move_with_the_wall_clock(tiny_recipe, store, how, monkeypatch):
    given = []

    def note(recipe, store, *, max_seconds, **how):
        given.append(max_seconds)

    def set_back(recipe):
        set_to = time.time() - 3600
        monkeypatch.setattr(time, "time", lambda: set_to)
        return 1.0

    monkeypatch.setattr(runner, "carry_out", note)
    monkeypatch.setattr(runner, "estimate_cost", set_back)
    (outcome,) = sweep({"NesT": [tiny_recipe]}, store, **how, max_seconds=60)
    assert 50 < given[0] <= 60
    assert outcome.text == "it had no time for a step: the next sweep starts it again"


def test_a_stopped_run_resumes_only_where_it_left_a_checkpoint(tiny_recipe, tmp_path):
    said = [run.describe_stop(tiny_recipe, "it", tmp_path)]
    folder = tmp_path / tiny_recipe.run_id / "checkpoints"
    folder.mkdir(parents=True)
    (folder / "step-00000001-0.pt").touch()
    said.append(run.describe_stop(tiny_recipe, "it", tmp_path))
    assert said == ["it had no time for a step: it starts it again",
                    "it resumes from its checkpoint"]  # fmt: skip


def test_a_stopped_smoke_run_promises_nothing(tiny_recipe, store, how, monkeypatch):
    monkeypatch.setattr(runner, "carry_out", lambda *_, **__: None)
    (outcome,) = sweep({"NesT": [replace(tiny_recipe, budget="smoke")]}, store, **how)
    assert outcome.state == "stopped" and "resumes" not in outcome.text
    assert "starts it again" in outcome.text


# Kill and start again

SWEEP = """
import json, sys
from pathlib import Path
import torch
from nestlib.recipes.recipe import from_dict
from nestlib.records import Store
from nestbook.sweeps.runner import sweep
root = Path(sys.argv[1])
recipes = [from_dict(values) for values in json.loads((root / "recipes.json").read_text())]
sweep({"all": recipes}, Store(root / "committed", root / "local"), processes=2, device="cpu",
      runs_dir=root / "runs")
"""


def start(root: Path) -> subprocess.Popen:
    """A sweep in a process group of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", SWEEP, root], env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=(root / "stderr").open("w"),
    )  # fmt: skip


def records(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "local").rglob("*.json")}


def wait_for(condition, seconds=300):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pids_of_group(group: int) -> set[int]:
    done = subprocess.run(["ps", "-eo", "pid=,pgid=,stat="], capture_output=True, text=True)
    rows = (line.split() for line in done.stdout.splitlines())
    return {int(pid) for pid, own, state in rows if int(own) == group and state[0] != "Z"}


@pytest.mark.parametrize("whole_group", [True, False])
def test_killed_sweep_loses_and_doubles_nothing(tiny_recipe, tmp_path, whole_group):
    """SIGKILL to the sweep with its workers, or to it alone: they stop as at a signal, and end."""
    recipes = seeds(replace(tiny_recipe, epochs=4), 6)
    (tmp_path / "recipes.json").write_text(json.dumps([to_dict(recipe) for recipe in recipes]))
    victim = start(tmp_path)
    running = [tmp_path / "runs" / recipe.run_id / LOCK for recipe in recipes]
    wait_for(lambda: len(records(tmp_path)) >= 2 and any(map(is_held, running)))
    (os.killpg if whole_group else os.kill)(victim.pid, signal.SIGKILL)
    victim.wait()
    wait_for(lambda: not pids_of_group(victim.pid))
    before = records(tmp_path)
    assert 2 <= len(before) < 6
    again = start(tmp_path)
    assert again.wait(300) == 0, (tmp_path / "stderr").read_text()
    after = records(tmp_path)
    assert len(after) == 6 and before.items() <= after.items()
    assert not list(tmp_path.rglob("*.part"))
    for recipe in recipes:  # a run was begun once, or again where it had been killed
        calls = json.loads((tmp_path / "runs" / recipe.run_id / "calls.json").read_text())
        done = json.loads(after[f"{Path(recipe.run_id).name}.json"])
        assert len(calls) == 1 + len(done["environment"]["earlier_calls"])
        assert len(calls) in (1, 2)
        assert f"{Path(recipe.run_id).name}.json" not in before or len(calls) == 1


def test_workers_of_a_killed_sweep_keep_a_checkpoint_and_end(tiny_recipe, tmp_path):
    recipes = seeds(replace(tiny_recipe, epochs=10_000), 3)  # an hour each
    (tmp_path / "recipes.json").write_text(json.dumps([to_dict(recipe) for recipe in recipes]))
    victim = start(tmp_path)
    folders = [tmp_path / "runs" / recipe.run_id for recipe in recipes]
    wait_for(lambda: sum(is_held(folder / LOCK) for folder in folders) == 2)
    victim.kill()
    victim.wait()
    wait_for(lambda: not pids_of_group(victim.pid))
    begun = [folder for folder in folders if folder.exists()]
    assert len(begun) == 2 and not any(is_held(folder / LOCK) for folder in begun)
    assert all(list(folder.glob("checkpoints/step-*.pt")) for folder in begun)


@pytest.mark.slow
def test_two_sweeps_at_once_share_the_runs(tiny_recipe, tmp_path):
    recipes = seeds(replace(tiny_recipe, epochs=3), 5)
    (tmp_path / "recipes.json").write_text(json.dumps([to_dict(recipe) for recipe in recipes]))
    both = [start(tmp_path), start(tmp_path)]
    assert [one.wait(300) for one in both] == [0, 0], (tmp_path / "stderr").read_text()
    assert len(records(tmp_path)) == 5
    for recipe in recipes:
        calls = json.loads((tmp_path / "runs" / recipe.run_id / "calls.json").read_text())
        assert len(calls) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kills", [1, 2])
def test_a_worker_that_is_killed_ends_neither_the_sweep_nor_another_run(
    tiny_recipe, tmp_path, kills
):
    """As by the kernel, where memory runs out. A run whose worker is killed again has failed."""
    recipes = [replace(tiny_recipe, seed=0, epochs=40), *seeds(replace(tiny_recipe, epochs=4), 3)]
    (tmp_path / "recipes.json").write_text(json.dumps([to_dict(recipe) for recipe in recipes]))
    lock = tmp_path / "runs" / recipes[0].run_id / LOCK
    victim, pid = start(tmp_path), 0
    for _ in range(kills):
        wait_for(lambda pid=pid: is_held(lock) and _holder(lock) != pid)
        pid = _holder(lock)
        os.kill(pid, signal.SIGKILL)
    assert victim.wait(300) == 0
    said = (tmp_path / "stderr").read_text()
    assert "Traceback" not in said
    ended = {f"{Path(recipe.run_id).name}.json" for recipe in recipes[kills - 1 :]}
    assert records(tmp_path).keys() == ended


def _holder(lock: Path) -> int:
    found = re.match(r"process (\d+) on", lock.read_text())
    return int(found[1]) if found else 0


class DyingWorkers:
    """Stands for joblib's: a worker is killed as it is at `deadly`; the others end with it."""

    def __init__(self, deadly: str, times: int):
        self.n_jobs, self.deadly, self.times, self.calls = 2, deadly, times, []

    def __call__(self, jobs):
        self.calls.append([recipe.run_id for recipe in jobs])
        for number, run_id in enumerate(self.calls[-1]):
            if self.times and self.deadly in self.calls[-1][number : number + 2]:
                self.times -= 1
                raise BrokenProcessPool("a worker was killed")
            yield runner.Outcome(run_id, "done")


@pytest.mark.parametrize("times", [1, 2])
def test_the_runs_of_a_killed_worker_are_tried_alone(tiny_recipe, times, monkeypatch):
    runs = seeds(tiny_recipe, 5)
    ids = [recipe.run_id for recipe in runs]
    workers = DyingWorkers(ids[2], times)
    found = list(runner._attempt_all(runs, lambda recipe: recipe, workers, begun=0.0))
    assert workers.calls == [ids, [ids[1]], [ids[2]]]  # the last two are left to the next call
    assert [(one.run_id, one.state) for one in found] == [
        (ids[0], "done"), (ids[1], "done"), (ids[2], "done" if times == 1 else "failed"),
    ]  # fmt: skip
    assert times == 1 or "memory" in found[-1].text
    monkeypatch.setattr(runner, "_TOLD_TO_STOP", [1.0])  # new workers have not heard of it
    told = list(runner._attempt_all(runs, lambda recipe: recipe, workers, begun=0.5))
    assert [one.state for one in told] == ["stopped"] * 5 and len(workers.calls) == 3


def test_a_worker_that_outlasts_its_time_is_ended(monkeypatch):
    """A run that hangs, on a disk say, would keep its sweep for ever. A sweep's own process, which
    may be a notebook's kernel, is left alone."""
    ended = threading.Event()
    monkeypatch.setattr(worker, "_end", ended.set)
    monkeypatch.setattr(worker, "GRACE_SECONDS", 0.05)
    cases = (None, 0.0, True), (1, None, True), (1, 60, True), (1, 0.2, False)
    for parent, seconds, hangs in cases:
        monkeypatch.setattr(worker.multiprocessing, "parent_process", lambda parent=parent: parent)
        with worker.end_when_late(seconds):
            time.sleep(0.2 * hangs)
        time.sleep(0.3 * (not hangs))
        assert not ended.is_set()
    with worker.end_when_late(0.0):
        assert ended.wait(10)


# Stale records


def rewrite(store, record, *, committed=False, **environment):
    new = replace(record, environment=record.environment | environment)
    store.add(new, committed=committed)


def test_changed_model_code_is_seen_and_rewritten_code_is_not(tiny_recipe, store, one, monkeypatch):
    record = carry_out(tiny_recipe, store, **one)
    staleness._PROBES.clear()
    assert find_fresh(tiny_recipe, store) == record  # probed anew, from other initial weights
    from nestlib.models.nest import TransformerLayer

    def same(self, x):
        y = x + self.drop_path(self.attn(self.norm1(x)))
        return self.drop_path(self.fc2(self.act(self.fc1(self.norm2(y))))) + y

    def other(self, x):
        return x + self.drop_path(self.fc2(self.act(self.fc1(self.norm2(x)))))

    monkeypatch.setattr(TransformerLayer, "forward", same)
    staleness._PROBES.clear()
    assert find_fresh(tiny_recipe, store) is not None
    monkeypatch.setattr(TransformerLayer, "forward", other)
    staleness._PROBES.clear()
    with pytest.warns(UserWarning, match="nest_tiny_cifar no longer computes what it computed"):
        assert find_fresh(tiny_recipe, store) is None
    staleness._PROBES.clear()


@pytest.mark.parametrize("name", ["deit", "swin", "pyramid", "wrn", "nest"])
def test_a_probe_does_not_hang_on_what_its_process_drew(name):
    """Biases that begin at random once made a sweep's records stale everywhere else."""
    probes = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        staleness._PROBES.clear()
        probes.append(staleness.probe(get_recipe(f"digits/{name}_narrow")))
    assert probes[0] == probes[1]


def test_other_images_are_seen(tiny_recipe, store, one):
    record = carry_out(tiny_recipe, store, **one)
    data = json.loads(json.dumps(record.environment["data"]))
    data["test"]["fingerprint"] = "0" * 64
    rewrite(store, record, data=data)
    with pytest.warns(UserWarning, match="the test images of digits have changed"):
        assert find_fresh(tiny_recipe, store) is None


def test_another_teacher_is_seen(tiny_recipe, store, one):
    teacher = replace(tiny_recipe, name="digits/tiny_teacher")
    first = carry_out(teacher, store, **one)
    pupil = replace(tiny_recipe, distillation=hard(teacher.run_id))
    carry_out(pupil, store, **one)
    assert find_fresh(pupil, store) is not None
    store.add(replace(first, summary=first.summary | {"weights_sha256": "0" * 64}))
    with pytest.warns(UserWarning, match="its teacher .* was trained again to other weights"):
        assert find_fresh(pupil, store) is None


def test_a_stale_run_is_made_anew_and_the_old_one_kept(tiny_recipe, store, one):
    """From nothing: its finished checkpoint would else be taken for the new run."""
    record = carry_out(tiny_recipe, store, **one)
    rewrite(store, record, probe=[0.5] * 8)
    with pytest.warns(UserWarning, match="is stale"):
        again = carry_out(tiny_recipe, store, **one)
    assert again.environment["probe"] == record.environment["probe"]
    assert again.environment["earlier_calls"] == []
    assert again.summary["weights_sha256"] == record.summary["weights_sha256"]
    (kept,) = (store.local / "digits").glob("*.json.stale-*")
    assert json.loads(kept.read_text())["environment"]["probe"] == [0.5] * 8
    run_dir = one["runs_dir"] / tiny_recipe.run_id
    assert len(list(run_dir.glob("stale-*-weights.safetensors"))) == 1


def test_a_stale_committed_record_stays_and_the_new_one_is_found(tiny_recipe, store, one):
    record = carry_out(tiny_recipe, store, committed=True, **one)
    rewrite(store, record, committed=True, probe=[0.5] * 8)
    path = store.committed / f"{tiny_recipe.run_id}.json"
    text = path.read_text()
    with pytest.warns(UserWarning, match="is stale"):
        again = carry_out(tiny_recipe, store, **one)
    assert path.read_text() == text
    assert find_fresh(tiny_recipe, store) == again == store.find_local(tiny_recipe.run_id)


def test_again_goes_on_where_it_was_stopped(tiny_recipe, store, one, monkeypatch):
    """To the weights of a run that was not; a third call begins anew."""
    record = carry_out(tiny_recipe, store, committed=True, **one)
    whole, ends = Trainer.end_row, []

    def end_row(trainer):
        whole(trainer)
        ends.append(trainer.progress.step)
        if len(ends) == 1:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "end_row", end_row)
    assert carry_out(tiny_recipe, store, again=True, **one) is None
    second = carry_out(tiny_recipe, store, again=True, **one)
    assert ends == sorted(set(ends)) and len(second.environment["earlier_calls"]) == 1
    assert second.summary["weights_sha256"] == record.summary["weights_sha256"]
    third = carry_out(tiny_recipe, store, again=True, **one)
    assert third.environment["earlier_calls"] == []


def test_missing_images_are_said_once_before_anything_runs(store, how, tmp_path):
    """Of 42 runs each failed by itself."""
    runs = {**plan("figure5", "gpu", [0, 1]), **plan("table_a3", "quick", [0])}
    with pytest.raises(FileNotFoundError, match=r"14 of the 26 .*--only WORD") as error:
        sweep(runs, store, **how | {"data_dir": tmp_path / "absent"})
    assert str(error.value).count("cifar10: no train images") == 1
    assert not how["runs_dir"].exists()


def test_a_store_that_is_read_only_runs_nothing(tiny_recipe, store, how):
    committed = Store(store.committed, None)
    runs = {"NesT": [tiny_recipe]}
    assert collect(runs, committed, **how) == {"NesT": []}
    record = carry_out(tiny_recipe, store, runs_dir=how["runs_dir"], device="cpu", committed=True)
    assert collect(runs, committed, **how) == {"NesT": [record]}
    with pytest.raises(RecordError, match="only committed records are read"):
        committed.add(record)


def test_records_of_before_the_probe_stay_valid(tiny_recipe, store, one):
    record = carry_out(tiny_recipe, store, **one)
    environment = {key: v for key, v in record.environment.items() if key != "probe"}
    store.add(replace(record, environment=environment))
    assert find_fresh(tiny_recipe, store) is not None


ROOT = Path(__file__).parents[1]
RECORDS = sorted((ROOT / "experiments" / "records").rglob("*-s[0-9]-*.json"))


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_committed_records_are_fresh(path):
    """Those of this checkout's own data and code."""
    values = json.loads(path.read_text())
    if values["kind"] != "train" or values["recipe"]["dataset"] != "digits":
        pytest.skip("images that are not embedded")
    recipe = from_dict(values["recipe"])
    assert find_fresh(recipe, Store(ROOT / "experiments" / "records", ROOT / "none")) is not None


# The board


def test_board_reads_the_disk(tiny_recipe, store, one):
    recipes = seeds(tiny_recipe, 4)
    carry_out(recipes[0], store, **one)
    carry_out(recipes[2], store, max_seconds=0, **one)
    with hold(one["runs_dir"] / recipes[1].run_id / LOCK):
        board = show_board({("NesT", "S=1"): recipes}, store, one["runs_dir"])
    first, last = board.splitlines()
    assert first.split() == ["NesT,", "S=1", "#>-."]
    assert last == "4 runs: 1 done (#), 1 running (>), 1 begun (-), 1 waiting (.)"


def test_smoke_plan_runs(store, how):
    """Table A2's: teachers and pupils in one sweep."""
    found = collect(plan("table_a2", "smoke", [0]), store, **how)
    assert all(len(row) == 1 for row in found.values()) and len(found) == 6
    assert asdict(next(iter(found.values()))[0])["recipe"]["budget"] == "smoke"


def test_a_signal_ends_the_sweep_and_not_one_run_alone(tiny_recipe, store, how, monkeypatch):
    whole = Trainer.end_row

    def end_row(trainer):
        whole(trainer)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Trainer, "end_row", end_row)
    plan = {"NesT": seeds(replace(tiny_recipe, epochs=3), 3)}
    outcomes = sweep(plan, store, **how)
    assert [outcome.state for outcome in outcomes] == ["stopped"] * 3
    begun = [(how["runs_dir"] / run.run_id).exists() for run in plan["NesT"]]
    assert begun == [True, False, False]
    monkeypatch.setattr(Trainer, "end_row", whole)  # the same notebook runs its cell again
    assert [outcome.state for outcome in sweep(plan, store, **how)] == ["done"] * 3


def test_a_lone_run_has_all_threads_and_several_have_one_each(tiny_recipe, store, how):
    all_threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        lone, *others = seeds(replace(tiny_recipe, epochs=1, warmup_epochs=0), 3)
        for plan, threads in (({"lone": [lone]}, 2), ({"others": others}, 1)):
            records = collect(plan, store, **how)
            found = {record.environment["threads"] for row in records.values() for record in row}
            assert found == {threads}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(all_threads)


def test_a_sweep_in_order_runs_as_the_plan_has_them(tiny_recipe, store, how, monkeypatch):
    """Else the cheapest first. A reason that is known is not written again."""
    begun = []

    def attempt(recipe, **_):
        begun.append(recipe.epochs)
        return runner.Outcome(recipe.run_id, "failed", "no disk")

    monkeypatch.setattr(runner, "_attempt", attempt)
    plan = {epochs: [replace(tiny_recipe, epochs=epochs)] for epochs in (5, 2, 4)}
    sweep(plan, store, **how)
    assert begun == [2, 4, 5]
    begun.clear()
    outcomes = sweep(plan, store, in_order=True, **how)
    assert begun == [5, 2, 4]
    assert {outcome.text for outcome in outcomes} == {"no disk"}
