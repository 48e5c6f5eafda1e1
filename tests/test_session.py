"""A session of minutes on a GPU: what fits is trained, what is killed or missing costs no more."""

import json
import math
import os
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from browsing import ROOT

from nestbook.run_plan import session, stages
from nestbook.run_plan.compile_ahead import Compilations
from nestbook.run_plan.entries import keep_weights
from nestbook.run_plan.schedule import StepTime, choose_epochs, choose_form, measure_step
from nestbook.run_plan.session import Session, pack_results
from nestbook.run_plan.stages import run_session, run_stage
from nestlib.cli import main as cli
from nestlib.recipes.named import get_recipe
from nestlib.records import Record, Store, open_store

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
RECIPE = get_recipe("cifar10/nest_tiny_s2_depth3")
STEPS = 50_000 // RECIPE.batch_size


class FakeGpu:
    """A GPU whose steps take what they are told to, on a clock that only they advance.

    images_per_second: of a graph's steps; eager ones are four times slower, compiled ones a tenth
    faster, and to compile takes 40 s.
    """

    def __init__(self, monkeypatch, images_per_second: float, evaluation: float = 0.1):
        self.seconds, self.evaluation = 0.0, evaluation
        self.steps = {
            "eager": 4 * RECIPE.batch_size / images_per_second,
            "graph": RECIPE.batch_size / images_per_second,
            "compiled_graph": RECIPE.batch_size / images_per_second / 1.1,
        }
        self.tried, self.trained = [], None
        for name in ("measure_step", "carry_out"):
            monkeypatch.setattr(stages, name, getattr(self, name))
        monkeypatch.setattr(stages, "find_dataset", lambda *args, **how: None)
        monkeypatch.setattr(
            stages, "_read_ahead", lambda _: SimpleNamespace(wait=lambda seconds: None)
        )
        monkeypatch.setattr(stages, "keep_weights", lambda *_: None)
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    def now(self) -> float:
        return self.seconds

    def measure_step(self, recipe, form, device, limit_seconds, now) -> StepTime:
        self.tried.append(form)
        self.seconds += 40 * ("compiled" in form)
        self.seconds += min(limit_seconds, 200 * self.steps[form]) + 2 * self.evaluation
        return StepTime(form, self.steps[form], self.evaluation, first_loss=2.3)

    def carry_out(self, recipe, store, *, max_seconds, step, **how) -> Record | None:
        needed = recipe.epochs * (STEPS * self.steps[step] + self.evaluation)
        self.seconds += min(needed, max_seconds)
        self.trained = recipe
        summary = {"train_seconds": needed, "test/top1": 90.0}
        return Record(recipe.run_id, "train", {}, {}, summary) if needed < max_seconds else None


@pytest.mark.parametrize("rate", [1_000, 3_000, 10_000, 20_000, 40_000, 65_000, 130_000, 200_000])
@pytest.mark.parametrize("spent", [100, 215, 400])
def test_the_longest_schedule_that_ends_in_time_is_trained(
    store, tmp_path, monkeypatch, rate, spent
):
    gpu = FakeGpu(monkeypatch, rate)
    earlier = {"speed": {"done": True, "this_call": False, "seconds": spent, "said": ""}}
    made = Session(store, tmp_path, CUDA, now=gpu.now, parts=earlier, say=lambda _: None)
    done = run_stage(made, 2)
    assert gpu.seconds + spent <= 12 * 60 and gpu.seconds <= 9 * 60
    best = min(gpu.steps[form] for form in gpu.tried)
    whole = min(540, 720 - spent) - 60  # what the stage has, the reserve taken off
    fits = [e for e in (300, 200, 100, 60, 30) if 1.08 * e * (STEPS * best + 0.1) < whole - 100]
    if fits:  # with time to measure in
        assert done and gpu.trained.epochs >= max(fits)
    if gpu.trained is None:
        assert not done and 30 * STEPS * best > whole / 1.3
        assert "no schedule of 300, 200, 100, 60, 30 epochs" in made.parts["training"]["said"]
    else:
        assert done and gpu.trained.name == RECIPE.name


def test_a_form_is_compiled_only_where_the_longest_schedule_asks_for_it(
    store, tmp_path, monkeypatch
):
    for rate, tried in ((200_000, ["eager", "graph"]), (20_000, [*session.PROGRAMS["cuda"].forms])):
        gpu = FakeGpu(monkeypatch, rate)
        run_stage(Session(store, tmp_path / str(rate), CUDA, now=gpu.now, say=lambda _: None), 2)
        assert gpu.tried == tried


def test_a_form_with_another_loss_or_an_error_is_not_chosen():
    eager = StepTime("eager", 4.0, 0.1, 2.30)
    wrong, broken = StepTime("graph", 1.0, 0.1, 2.0), StepTime("compiled_graph", error="no")
    assert choose_form([eager, wrong, broken]) == eager
    assert choose_form([eager, replace(wrong, first_loss=2.31)]).form == "graph"
    with pytest.raises(RuntimeError, match="no training step runs here: out of memory"):
        choose_form([StepTime("eager", error="out of memory"), wrong])


def test_the_schedule_is_the_longest_within_the_seconds():
    step = StepTime("graph", 0.01, 1.0, 2.3)
    seconds = {epochs: 1.08 * epochs * (260 * 0.01 + 1.0) for epochs in (300, 100, 30)}
    for epochs, limit in seconds.items():
        assert choose_epochs(RECIPE, step, limit + 1e-6, (30, 100, 300)).epochs == epochs
    assert choose_epochs(RECIPE, step, seconds[30] - 1, (30, 100, 300)) is None
    chosen = choose_epochs(RECIPE, step, math.inf, (30, 300))
    assert chosen == RECIPE  # the paper's own, warm-up included, has the recipe's own record
    short = choose_epochs(RECIPE, step, math.inf, (4,))
    assert (short.epochs, short.warmup_epochs) == (4, 0.4)


def test_a_step_is_measured_and_what_fails_is_said(tiny_recipe):
    found = measure_step(tiny_recipe, "eager", CPU, limit_seconds=1.0)
    assert found.seconds > 0 and found.evaluation_seconds > 0 and not found.error
    assert 1.5 < found.first_loss < 3.5  # of ten classes: about log 10
    assert "cannot be one graph" in measure_step(tiny_recipe, "graph", CPU, 1.0).error


@pytest.mark.slow
def test_a_rehearsal_runs_whole_from_a_checkout(tmp_path):
    """Both stages, within their minutes, as a machine calls them where nothing is installed.

    Five of them, so that it passes beside other work; an idle machine needs three.
    """
    paths = os.pathsep.join([str(ROOT), str(ROOT / "experiments")])
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "nestbook", "evidence", "--device", "cpu", "--minutes", "5",
         "--again", "--out", str(tmp_path)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True,
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - begun < 300
    with tarfile.open(tmp_path / "results.tar.gz") as archive:
        names = [Path(name).name for name in archive.getnames()]
        state = json.load(archive.extractfile("runs/gpu/state.json"))
    assert list(state) == [name for names in stages.STAGES.values() for name in names]
    assert all(part["done"] and part["said"] for part in state.values())
    kinds = ("rates-full-", "speed-session-", "nest_narrow-s0-")
    assert all(any(name.startswith(kind) for name in names) for kind in kinds)
    assert sum(name.endswith(".safetensors") for name in names) == 1
    assert not open_store().find_committed("bench/rates-full-")  # nothing of it is the project's


@pytest.mark.slow
def test_processes_that_compile_ahead_say_what_came_of_them(tmp_path, monkeypatch):
    """By a row that is not compiled, which takes seconds."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "experiments")]))
    done, unknown = ("row", "nestlib nest_tiny_cifar"), ("row", "no such row")
    compilations = Compilations([done, unknown], tmp_path / "cache", "cpu")
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "cache")
    assert compilations.wait(120) == {done: "", unknown: "its process ended with 1"}
    slow = Compilations([done], tmp_path / "cache", "cpu")
    assert slow.wait(0.0) == {done: "not compiled within 0 s"}


def test_the_next_session_trains_the_next_recipe(store, monkeypatch):
    names = session.PROGRAMS["cuda"].recipes
    assert names[:2] == (RECIPE.name, "cifar10/nest_tiny")
    for number, name in enumerate(names[:3]):
        assert session.choose_recipe(names, store, "cuda") == get_recipe(name)
        for kind in ("cpu", "cuda"):  # a CPU's record is none of a GPU
            assert session.choose_recipe(names, store, "cuda").name == name
            run_id = f"{name}-s0-0000000{number}"
            environment = {"device_kind": kind, "finished": "2026"}
            store.add(Record(run_id, "train", {}, environment, {}), committed=True)
    assert names[3] == "cifar10/cct7_3x1"
    monkeypatch.setitem(sys.modules, "vit_pytorch.cct", None)  # as where it is not installed
    assert session.choose_recipe(names, store, "cuda").name == names[4]


# What a call leaves


def test_a_killed_part_is_done_again_and_a_done_one_is_not(store, tmp_path):
    said, how = [], {"say": lambda text: said.append(text)}
    first = Session(store, tmp_path, CPU, **how)
    with first.part("rates") as say:
        say("fast")
    with pytest.raises(KeyboardInterrupt), first.part("speed"):
        raise KeyboardInterrupt
    state = json.loads((tmp_path / "state.json").read_text())
    assert state["rates"]["said"] == "fast" and state["speed"]["said"] == "killed"
    second, ran = Session(store, tmp_path, CPU, **how), []
    for name in ("rates", "speed"):
        with second.part(name) as say:
            ran += [name] if say else []
    assert ran == ["speed"]


def test_again_forgets_a_stage_and_what_follows_it(store, tmp_path, monkeypatch):
    for name in ("_first_stage", "_second_stage"):
        monkeypatch.setattr(stages, name, lambda _: None)
    every = [name for names in stages.STAGES.values() for name in names]
    for stage, kept in ((1, []), (2, list(stages.STAGES[1]))):
        made = Session(store, tmp_path, CPU, again=True, say=lambda _: None)
        made.parts = {name: {"done": True, "this_call": False, "seconds": 1.0} for name in every}
        run_stage(made, stage)
        assert list(made.parts) == kept


def test_a_failed_part_costs_the_others_nothing(store, tmp_path):
    made = Session(store, tmp_path, CPU, say=lambda _: None)
    with made.part("tests"):
        raise RuntimeError("2 failed")
    with made.part("rates") as say:
        say("fast")
    assert made.parts["tests"]["said"] == "failed: RuntimeError: 2 failed"
    assert [part["done"] for part in made.parts.values()] == [False, True]


def test_a_bench_without_time_is_dropped(store, tmp_path):
    now = SimpleNamespace(seconds=0.0)
    made = Session(store, tmp_path, CPU, now=lambda: now.seconds, say=lambda _: None)
    now.seconds = 460.0  # of 540; 60 are kept for the end
    with pytest.raises(RuntimeError, match="20 s left of the 150 s that it should have"):
        stages._measure_speed(made, [])


def test_weights_too_large_to_be_kept_fail_no_run(store):
    large = Record("cifar10/wrn", "train", {}, {}, {"num_params": 36_479_194})
    assert keep_weights(RECIPE, large, store, None) is None
    small = Record(RECIPE.run_id, "train", {}, {}, {"num_params": 1_000})
    with pytest.raises(FileNotFoundError, match="no finished run"):  # it is looked for
        keep_weights(RECIPE, small, store, None)


def test_earlier_calls_and_the_limit_of_one_are_counted(store, tmp_path):
    now, spent = SimpleNamespace(seconds=0.0), {"done": True, "this_call": False, "said": ""}
    made = Session(store, tmp_path, CPU, 12, age=10.0, now=lambda: now.seconds)
    assert made.left() == 540 - 10
    made.parts["speed"] = {**spent, "seconds": 300.0}
    now.seconds = 20.0
    assert made.left() == 12 * 60 - 300 - 30


def test_results_lie_where_they_belong(tmp_path, monkeypatch):
    (tmp_path / "experiments" / "records").mkdir(parents=True)
    (tmp_path / "_config.yml").touch()
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "experiments" / "records", tmp_path / "runs" / "records")
    for name in ("old", "changed"):
        store.add(Record(f"bench/{name}", "bench", {}, {}, {}), committed=True)
    made = Session(store, tmp_path / "runs" / "gpu", CPU, out=tmp_path / "out", say=lambda _: None)
    for name in ("changed", "new"):
        store.add(Record(f"bench/{name}", "bench", {}, {}, {"one": 1}), committed=True)
        os.utime(store.committed / "bench" / f"{name}.json", (0, 0))  # the clock was set back
    pack_results(made)
    with tarfile.open(tmp_path / "out" / "results.tar.gz") as archive:
        names = [f"experiments/records/bench/{name}.json" for name in ("changed", "new")]
        assert archive.getnames() == names


@pytest.mark.parametrize("text", ["", "{", "[]", '{"speed": 1}', '{"speed": {"done": true}}'])
def test_a_damaged_state_is_set_aside_and_all_is_done_again(store, tmp_path, text):
    (tmp_path / "state.json").write_text(text)
    said: list[str] = []
    made = Session(store, tmp_path, CPU, say=said.append)
    assert made.parts == {} and made.left() > 0
    assert "state.json is damaged" in said[0] and "state.json.damaged" in said[0]
    assert (tmp_path / "state.json.damaged").read_text() == text


def test_a_disk_that_hangs_does_not_outlast_the_session(store, tmp_path):
    reading = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    begun = time.monotonic()
    stages._wait_for(reading, Session(store, tmp_path, CPU, now=lambda: 0.0, age=539.0))
    assert reading.wait(10) < 0 and time.monotonic() - begun < 10


# Bad input


def test_what_cannot_begin_says_why(store, tmp_path, monkeypatch):
    for minutes in (1, math.nan, math.inf):
        with pytest.raises(
            ValueError, match=f"--minutes {minutes} is no length of a session; give 2 or more"
        ):
            run_session(store, [1], folder=tmp_path, device="cpu", minutes=minutes)
    with monkeypatch.context() as patch:
        patch.setattr(stages, "describe_environment", lambda _: {"commit": None})
        with pytest.raises(ValueError, match="not name a commit; set NESTLIB_COMMIT"):
            run_session(store, [1], folder=tmp_path, device="cpu")
    program = session.PROGRAMS["cuda"]
    monkeypatch.setitem(session.PROGRAMS, "cpu", program)
    with pytest.raises(FileNotFoundError, match=r"cifar10: no train images in .*nowhere/cifar10"):
        run_session(store, [2], folder=tmp_path, device="cpu", data_root=tmp_path / "nowhere")


@pytest.mark.parametrize(
    "words, told",
    [
        (["--run", "--device", "cpu", "--only", "99"], "the plan has no item 99; give one of [1, "),
        (["--only", "3"], "--only has no effect without --run, "),
        (["--stage", "1", "--only", "3"], "--only has no effect beside --stage"),
        (["--run", "--minutes", "9"], "--minutes has no effect beside --run"),
        (["--take", "x", "--transfer-mb", "3"], "--transfer-mb has no effect beside --take"),
        (["--pack", "x", "--data-dir", "nowhere"], "no packs *.tar.xz in nowhere/cifar10"),
    ],
)
def test_options_that_would_do_nothing_are_refused(words, told, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["nest", "evidence", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert told in str(stop.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_nothing_is_begun(monkeypatch):
    monkeypatch.setattr("sys.argv", ["nest", "evidence", "--stage", "1"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert "CUDA" in str(stop.value) and "--device cpu" in str(stop.value)
