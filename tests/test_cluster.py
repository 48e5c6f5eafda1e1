"""`nest submit`: what it queues; and a real Slurm of this machine that preempts it and goes on."""

import importlib.util
import os
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import replace

import pytest
import rank_faults as faults
import typer
from conftest import SHARED
from slurm_here import NoSlurm, slurm_here

from nestbook.sweeps import plans
from nestbook.sweeps.follow import follow
from nestbook.sweeps.plans import hard, plan
from nestlib.cli import main as cli
from nestlib.cli.runs import find_jobs
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import with_overrides
from nestlib.records import Record, Store, open_store
from nestlib.runs import cluster

submitit = pytest.importorskip("submitit", reason="the extra `cluster` is not installed")


def nest(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["nest", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code, capsys.readouterr().out


def test_dry_run_prints_a_script_that_says_what_runs(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, script = nest(
        monkeypatch, capsys, "submit", "imagenet/nest_tiny", "--nodes", "4", "--gpus-per-node",
        "8", "--time", "12:00:00", "--data-dir", "/data/imagenet", "--slurm", "partition=gpu",
        "--slurm", "exclusive", "--dry-run",
    )  # fmt: skip
    assert code == 0
    assert 'exec srun "$@"' in script  # a signal to the batch shell alone reaches the ranks
    for line in ("nodes=4", "gpus-per-node=8", "ntasks-per-node=1", "cpus-per-task=64", "time=720",
                 "partition=gpu", "exclusive", "requeue", "signal=USR2@120"):  # fmt: skip
        assert f"#SBATCH --{line}\n" in script
    assert "--nnodes 4 --nproc-per-node 8 " in script
    assert script.rstrip().endswith("train imagenet/nest_tiny --data-dir /data/imagenet")
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    assert not list(tmp_path.rglob("*.pkl"))


def test_a_figure_is_an_array_of_its_runs_and_pupils_wait(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = ["submit", "table_a2", "--budget", "quick", "--seeds", "1", "--dry-run"]
    _, scripts = nest(monkeypatch, capsys, *words)
    first, pupils = scripts.split("#!/bin/bash")[1:]
    assert "array=0-2%3" in first and "dependency" not in first
    assert "array=0-2%3" in pupils and "dependency=afterok:TEACHER" in pupils
    runs = [
        line.split("--only ")[1].split()[0] for line in scripts.splitlines() if "--only" in line
    ]
    assert len(runs) == len(set(runs)) == 6


def test_of_a_figure_only_what_is_asked_for_is_queued(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = ["submit", "figure5", "--budget", "gpu", "--seeds", "1", "--only", "block"]
    _, script = nest(monkeypatch, capsys, *words, "--dry-run")
    assert script.count("--processes 1") == len(plan("figure5", "gpu", [0], only="block"))
    assert script.count("--processes 1") < len(plan("figure5", "gpu", [0]))


def test_pupils_wait_for_their_own_teachers_job(monkeypatch, tmp_path):
    teacher, other = get_recipe("digits/pyramid_narrow"), get_recipe("digits/deit_narrow")
    pupil = replace(get_recipe("digits/nest_narrow"), distillation=hard(teacher.run_id))
    asked = []

    def submit(launches, folder, *, options, **how):
        asked.append((len(launches), options))
        return [f"7_{i}" for i in range(len(launches))] if len(launches) > 1 else ["8"]

    monkeypatch.setattr(cluster, "submit", submit)
    runs = [(recipe, ("train", recipe.name)) for recipe in (pupil, other, teacher)]
    lines = list(cluster.enqueue(runs, tmp_path, options={"qos": "x"}))
    assert lines == [f"job 7_0: {other.run_id}", f"job 7_1: {teacher.run_id}",
                     f"job 8: {pupil.run_id}"]  # fmt: skip
    assert asked == [(2, {"qos": "x"}), (1, {"qos": "x", "dependency": "afterok:7_1"})]


@pytest.mark.parametrize(
    "word",
    ["time=9", "nodes=3", "gpus_per_node=3", "no-requeue", "array=1-5", "output=x", "=x", "", "x=",
     "a b=c", "--partition=gpu", "x=y\nz", "gres=gpu:a100:2", "gres=disk:9,gpu:2"],
)  # fmt: skip
def test_an_option_of_slurm_that_would_break_the_job_is_refused(
    monkeypatch, capsys, tmp_path, word
):
    monkeypatch.chdir(tmp_path)
    words = ["submit", "digits/nest_narrow", "--dry-run", f"--slurm={word}"]
    code, _ = nest(monkeypatch, capsys, *words)
    assert str(code).startswith("nest: --slurm "), code
    assert cluster.parse_option("mem_per_cpu=4G") == ("mem-per-cpu", "4G")
    assert cluster.parse_option("exclusive") == ("exclusive", True)
    assert cluster.parse_option("gres=disk:500G") == ("gres", "disk:500G")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["imagenet/nest_tyni"], "no recipe 'imagenet/nest_tyni'; did you mean"),
        (["imagenet/nest_tiny", "--set", "epoch=3"], "no recipe field 'epoch'"),
        (["imagenet/nest_tiny", "--max-time", "3h"], "a job's limit is --time"),
        (["imagenet/nest_tiny", "--time", "soon"], "--time is 'soon', which is not a time"),
        (["imagenet/nest_tiny", "--time", "0"], "--time is '0', which is not a time to run in"),
        (["imagenet/nest_tiny", "--time", "4"], "a job of 4 min may get Slurm's signal"),
        (["figure5", "--nodes", "2"], "each run of figure5 takes one GPU"),
        (["digits/nest_narrow"], "there is no sbatch here"),
    ],
)
def test_mistakes_show_before_the_queue(monkeypatch, capsys, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _ = nest(monkeypatch, capsys, "submit", *words)
    assert message in code


@pytest.mark.parametrize(
    ("text", "minutes"), [("90", 90), ("12:00:00", 720), ("2-00:30:00", 2910), ("0:00:10", 1)]
)
def test_slurms_times(text, minutes):
    assert cluster.parse_minutes(text) == minutes


# As torchrun, which a second signal ends before its ranks; and a rank, which takes time to save.
STOPS_AT_SIGTERM = """
import os, pathlib, signal, subprocess, sys, time
state, is_rank = pathlib.Path(sys.argv[1]), len(sys.argv) > 2
if is_rank:
    def stop(*_):
        time.sleep(0.7)
        state.write_text("saved")
        sys.exit()
else:
    def stop(*_):
        rank.terminate()
        os._exit(75)
signal.signal(signal.SIGTERM, stop)
if is_rank:
    state.write_text("ready")
    time.sleep(60)
else:
    rank = subprocess.Popen([sys.executable, __file__, state, "rank"], start_new_session=True)
    rank.wait()
"""
AS_SUBMITIT = """
import pathlib, signal, subprocess, sys
from nestlib.runs.cluster import Launch
def end(how):
    sys.exit(f"{pathlib.Path(sys.argv[-1]).read_text()}, {how}")
def put_back(*_):
    assert launch.checkpoint().function == Launch(tuple(sys.argv[1:]))
    end("put back")
launch = Launch(tuple(sys.argv[1:]))
signal.signal(signal.SIGUSR2, put_back)
try:
    launch()
except subprocess.CalledProcessError as error:
    end(error.returncode)
"""


@pytest.mark.parametrize(
    ("sent", "state", "end"),
    [
        pytest.param(signal.SIGUSR2, "RUNNING", "put back", marks=pytest.mark.slow),
        (signal.SIGUSR1, "RUNNING", "put back"),
        (signal.SIGTERM, "RUNNING", "put back"),  # preempted, in a grace time
        (signal.SIGTERM, "COMPLETING", 75),  # Slurm itself puts it back, or cancels
        # Slurm does not answer
        pytest.param(signal.SIGTERM, "", 75, marks=pytest.mark.slow),
    ],
)
def test_a_job_that_must_go_stops_its_command_first(tmp_path, sent, state, end):
    """The signal comes to all of the job's processes, as from a Slurm without cgroups.

    The job's own process waits for the slowest.
    """
    saved, command, squeue = tmp_path / "state", tmp_path / "command.py", tmp_path / "squeue"
    command.write_text(STOPS_AT_SIGTERM)
    squeue.write_text(f"#!/bin/sh\necho {state}\n")
    squeue.chmod(0o755)
    job = subprocess.Popen(
        [sys.executable, "-c", AS_SUBMITIT, command, saved], start_new_session=True, text=True,
        stderr=subprocess.PIPE, env=os.environ | {
            "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_ID": "1",
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
        },
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (saved.exists() and saved.read_text() == "ready"):
        assert job.poll() is None and time.monotonic() < deadline, job.communicate()
        time.sleep(0.02)
    os.killpg(job.pid, sent)
    assert job.communicate(timeout=60)[1].strip() == f"saved, {end}"


def test_a_plan_is_followed_from_commands_to_records(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    table2, store = plans.plan_table2(), Store(tmp_path / "committed", tmp_path / "local")
    how = {"data_dir": "/data", "nodes": 4, "gpus_per_node": 8, "time": "24:00:00"}
    shown = follow(table2, store, budget="paper", **how)
    assert "14 runs: 0 done (#), 0 running (>), 0 begun (-), 14 waiting (.)" in shown
    command = (
        "nest submit imagenet/nest_tiny --seed 0 --data-dir /data --nodes 4 --gpus-per-node 8 "
        "--time 24:00:00"
    )
    assert command in shown
    assert "nest submit" not in follow(table2, store, budget="quick", **how)
    with pytest.raises(ValueError, match="only budget paper submits runs, not quick"):
        follow(table2, store, budget="quick", submit_them=True, **how)
    queued = []
    monkeypatch.setattr(
        "nestbook.sweeps.follow.enqueue", lambda jobs, *_, **__: queued.extend(jobs) or ["job 1"]
    )
    (recipe,) = table2["NesT-T"]
    store.add(Record(recipe.run_id, "train", {}, {"data": {}}, {}))
    shown = follow(table2, store, budget="paper", submit_them=True, **how)
    assert "1 done (#)" in shown and shown.endswith("job 1") and len(queued) == 13


# Real faults


def undisturbed(folder, **what):
    folder.mkdir()
    run = faults.Run(folder, **what)
    faults.by_elastic("none", run)
    assert run.record() is not None, (folder / "log").read_text()
    return run.record()


def assert_nothing_lost(row):
    assert row["outcome"] == "ended" and len(row["begins"]) == 2 and row["begins"][1] > 0, row
    assert (row["lost"], row["doubled"]) == (0, 0)
    assert row["same_weights"] and row["same_history"]


@pytest.mark.slow  # two minutes
@pytest.mark.parametrize(
    "name", ["worker killed", "preemption signal", "SIGUSR1 to torchrun", "SIGUSR2 to torchrun"]
)
def test_a_struck_run_loses_nothing_under_torchrun(tmp_path, name):
    row = faults.judge(faults.FAULTS[name], undisturbed(tmp_path / "calm"))
    assert_nothing_lost(row)
    assert row["begins"][1] <= faults.STRIKE or name != "worker killed"


@pytest.fixture
def imagenet_dir(tmp_path):
    """Some of Tiny ImageNet's JPEGs in ImageNet's layout, as shards where nestlib makes them."""
    pack = SHARED / "data" / "tiny-imagenet-100.tar.xz"
    if not pack.is_file():
        return None

    def some(member, path):
        number = member.name.rpartition("_")[2].removesuffix(".JPEG")
        few = "/val/" in member.name or (number.isdigit() and int(number) < 20)
        kept = member.isdir() or few
        return tarfile.data_filter(member, path) if kept else None

    with tarfile.open(pack) as archive:
        archive.extractall(tmp_path, filter=some)
    folder, shards = tmp_path / "tiny-imagenet-100", tmp_path / "shards"
    if not importlib.util.find_spec("nestlib.data.shard_maker"):
        return folder
    importlib.import_module("nestlib.data.shard_maker").make_shards("imagenet", folder, shards)
    return shards


@pytest.mark.slow  # three minutes
def test_slurm_preempts_and_requeues_a_job_of_two_tasks(tmp_path, imagenet_dir):
    """On images of Tiny ImageNet-100 where they are, else on digits."""
    what = {}
    if imagenet_dir:
        what = {"recipe": "tiny_imagenet/nest_narrow", "data_dir": imagenet_dir,
                "changes": (*faults.CHANGES, "dataset=imagenet", "dataset_options.partial=true",
                            "dataset_options.num_workers=1")}  # fmt: skip
    try:
        with slurm_here():
            expected = undisturbed(tmp_path / "calm", **what)
            row = faults.judge(faults.FAULTS["job preempted"], expected, **what)
    except NoSlurm as error:
        pytest.skip(str(error))
    assert_nothing_lost(row)


@pytest.mark.slow  # minutes
def test_slurm_takes_a_struck_job_up_again(tmp_path):
    """Two ranks of one task. What Slurm puts back by itself, and what only submitit's hook does."""
    names = ["preempted with a grace time", "requeued by hand", "SIGUSR1 to the job",
             "SIGTERM to the job", "SIGUSR2 to the batch shell"]  # fmt: skip
    try:
        with slurm_here():
            expected = undisturbed(tmp_path / "calm")
            rows = [faults.judge(faults.FAULTS[name], expected) for name in names]
    except NoSlurm as error:
        pytest.skip(str(error))
    for row in rows:
        assert_nothing_lost(row)


@pytest.mark.slow  # two minutes
def test_a_real_queue_makes_a_figures_runs_and_pupils_wait_for_their_teachers(
    monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    figure = {recipe.run_id: recipe for row in plan("table_a2", "smoke").values() for recipe in row}
    cut = [word for change in faults.CHANGES for word in ("--set", change)]
    teacher = ("train", faults.RECIPE, *cut, "--seed", "1")
    taught = with_overrides(get_recipe(faults.RECIPE, seed=1), list(faults.CHANGES)).run_id
    pupil = ("train", faults.RECIPE, *cut, "--set", f"distillation.teacher={taught}")
    commands = typer.main.get_command(cli.app)
    lesson = [
        made for words in (pupil, teacher) for made in find_jobs(words[1], words[2:], commands)
    ]
    try:
        with slurm_here():
            code, said = nest(
                monkeypatch, capsys, "submit", "table_a2", "--budget", "smoke", "--gpus-per-node",
                "0", "--cpus-per-rank", "1", "--time", "10", "--slurm", "partition=low",
            )  # fmt: skip
            assert code == 0 and said.count("job ") == len(figure)
            queued = cluster.enqueue(
                lesson, tmp_path / "runs" / "slurm", name="lesson", minutes=10, gpus_per_node=0,
                cpus_per_rank=1, options={"partition": "low"},
            )  # fmt: skip
            assert len(list(queued)) == len(lesson)
            await_empty_queue(seconds=faults.LIMIT)
    except NoSlurm as error:
        pytest.skip(str(error))
    logs = "\n".join(log.read_text()[-1500:] for log in tmp_path.glob("runs/slurm/*.out"))
    store = open_store()
    for run_id in (*figure, *(recipe.run_id for recipe, _ in lesson)):
        assert store.find(run_id) is not None, f"{run_id}\n{logs}"
    started = store.find(lesson[0][0].run_id).environment["started"]
    assert store.find(taught).environment["finished"] <= started


def await_empty_queue(seconds):
    words, end = ["squeue", "-h", "-o", "%i %T %E"], time.monotonic() + seconds
    while queue := subprocess.check_output(words, text=True):
        assert time.monotonic() < end, queue
        time.sleep(1)
