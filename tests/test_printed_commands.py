"""No command that README or pages print writes into a tracked file, or hides why it failed."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from printed import ROOT, printed_commands

from nestbook.finished import find_fault

# What would take hours or a GPU. Committed records stand in for a bench, a refusal for a run.
INSTEAD = {
    "nestlib/runs/run.py": (
        "def _run(*_, **__):\n    raise ValueError('this test trains nothing')\n"
    ),
    "experiments/nestbook/benchmarks/bench.py": (
        "def find_or_run_bench(*_, **__):\n    return None\n\n\n"
        "def bench(*_, **__):\n    raise ValueError('this test times nothing')\n"
    ),
    "experiments/nestbook/sweeps/forecast.py": "def time_steps(*_):\n    return 1.0\n",
    "experiments/nestbook/profiles/registry.py": (
        "def run_profile(*_, **__):\n    raise ValueError('this test times nothing')\n"
    ),
}  # fmt: skip
NOT_RUN = {
    "make test": "runs this very test",
    "make pdf": "tests/test_pdf.py builds it, into _build/",
    "make book": "tests/conftest.py builds it, into _build/",
    "nest evidence --minutes 3 --device cpu": "tests/test_session.py runs it",
    "python tests/slurm_here.py python tests/rank_faults.py": (
        "strikes faults for minutes, as root on a machine with Slurm"
    ),
    "make notebooks": "the one command that may write them",
    "make notebooks NOTEBOOKS=experiments/records.ipynb": "likewise",
}
LEAST = 95  # fewer commands found would mean that the search is broken


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A commit of the working tree as it is."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True,
        check=True,
    ).stdout  # fmt: skip
    packed = subprocess.run(
        ["tar", "-c", "--null", "-T", "-"], cwd=ROOT, input=listed, capture_output=True, check=True
    ).stdout
    subprocess.run(["tar", "-x"], cwd=folder, input=packed, check=True)
    for path, text in INSTEAD.items():
        with (folder / path).open("a") as file:
            file.write(f"\n\n{text}")
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "-c", "user.name=x", "-c", "user.email=x@x", "commit", "-qm", "as it is")
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    with (folder / ".git" / "info" / "exclude").open("a") as file:
        file.write(".venv\n")
    return folder


def git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def output_of(command: str) -> str:
    """An output notebook of its own: two commands run side by side."""
    return f"runs/{abs(hash(command))}.ipynb"


def call(command: str, folder: Path) -> subprocess.CompletedProcess:
    environment = os.environ | {
        "PYTHONPATH": f"{folder}:{folder}/experiments",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(folder.parent / "hub"),
        "OMP_NUM_THREADS": "1", "http_proxy": "http://localhost:9",
        "https_proxy": "http://localhost:9",
    }  # fmt: skip
    environment.pop("NESTLIB_DATA", None)
    words = command.replace("make ", "make -o .venv/ready ")
    words = words.replace(" out.ipynb", f" {output_of(command)}")
    return subprocess.run(
        words, shell=True, cwd=folder, env=environment, text=True, timeout=400,
        capture_output=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.mark.slow
def test_printed_commands_leave_the_clone_as_it_was(clone):
    commands = [command for command in printed_commands() if command not in NOT_RUN]
    assert len(commands) + len(NOT_RUN) >= LEAST
    (clone / "runs").mkdir()
    with ThreadPoolExecutor(2) as pool:
        done = dict(zip(commands, pool.map(lambda command: call(command, clone), commands)))
    told = {}
    for command, result in done.items():
        said = result.stderr.strip().rpartition("\n")[2][:150] if result.returncode else ""
        told[command] = f"{result.returncode}  {command}  {said}"
    print("\n".join(sorted(told.values())))
    assert git(clone, "status", "--porcelain") == ""
    for command, result in done.items():
        if command.partition(" ")[0] in ("nest", "NESTLIB_DATA=DATA", "NESTLIB_DATA=data"):
            assert "Traceback" not in result.stderr, (command, result.stderr[-2000:])
    # Pages whose records are committed are made, whatever the parameters; the others say why not.
    made = [c for c, result in done.items() if c.startswith("papermill") and not result.returncode]
    assert len(made) >= 25, "\n".join(told.values())
    for command in made:
        assert find_fault(clone / output_of(command), given=" -p " in command) == "", command
