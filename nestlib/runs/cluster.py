"""Run `nest` commands through Slurm's queue by submitit; torch elastic starts the ranks.

submitit writes the sbatch script, keeps a job's logs, and at Slurm's signal before a job's time is
over calls `Launch.checkpoint` and puts the job back into the queue. Slurm preempts with SIGTERM. It
requeues a job that still runs when its grace time is over; one that has ended by then is put back
here. Either way the run has its checkpoint, and goes on from it. Nothing here exchanges a gradient
or restarts a rank: that is torch's.
"""

import ctypes
import os
import re
import reprlib
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from nestlib.recipes.recipe import GanRecipe, Recipe
from nestlib.signals import USER_SIGNALS

RESTARTS = 3  # of a node's ranks by torch elastic, before the job fails
SIGNAL_SECONDS = 120  # before a job's time is over: for a last checkpoint
# Slurm may signal a minute early. A shorter job would be signalled before it has trained a step.
SHORTEST_MINUTES = 5
LONGEST_MINUTES = 366 * 24 * 60
REQUEUES = 1000  # a run may need many jobs' time
# Options of sbatch that are set here: why they cannot be set otherwise.
OWN_OPTIONS = {
    "time": "give --time", "nodes": "give --nodes", "job-name": "the job is named after its run",
    **dict.fromkeys(("gpus", "gpus-per-node", "gpus-per-task", "gres=gpu"), "give --gpus-per-node"),
    **dict.fromkeys(("cpus-per-task", "cpus-per-gpu"), "give --cpus-per-rank"),
    **dict.fromkeys(
        ("ntasks", "ntasks-per-node", "ntasks-per-gpu"), "a node has one task: it starts the ranks"
    ),
    **dict.fromkeys(("array", "dependency"), "jobs are counted, and wait, as their runs need it"),
    **dict.fromkeys(
        ("signal", "requeue", "no-requeue"), "a job is told to stop, and queued again, by itself"
    ),
    **dict.fromkeys(
        ("output", "error", "open-mode", "wrap", "chdir"),
        "logs and the project's folder are where the run looks for them",
    ),
}  # fmt: skip
# A batch shell that a signal ends takes the job with it. srun in its place hands signals on.
BECOME_SRUN = 'srun() { exec srun "$@"; }'
ADOPT = 36  # Linux's PR_SET_CHILD_SUBREAPER: processes whose parent has ended become our children
STORE = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}  # else ranks started anew meet dead addresses


@dataclass
class Launch:
    """The command that a job runs on each of its nodes: Python with `words`, by torchrun for
    several ranks. submitit pickles it and calls it there."""

    words: tuple[str, ...]  # ("-m", "nestlib.cli", "train", ...)
    ranks_per_node: int = 1

    def command(self, environment: Mapping[str, str]) -> list[str]:
        """The command of each node, by what Slurm's environment says of the job."""
        nodes, job = int(environment["SLURM_JOB_NUM_NODES"]), int(environment["SLURM_JOB_ID"])
        if nodes * self.ranks_per_node == 1:
            return [sys.executable, *self.words]
        # The node that the batch script runs on; a port that another job there will hardly have.
        first, port = environment["SLURM_LAUNCH_NODE_IPADDR"], 20_000 + job % 10_000
        return [
            sys.executable, "-m", "torch.distributed.run", "--nnodes", str(nodes),
            "--nproc-per-node", str(self.ranks_per_node), "--max-restarts", str(RESTARTS),
            "--rdzv-backend", "c10d", "--rdzv-endpoint", f"{first}:{port}", "--rdzv-id", str(job),
            *self.words,
        ]  # fmt: skip

    def __call__(self) -> None:
        """Run the command on this node, and return when none of its processes is left.

        Raises:
            CalledProcessError: the command failed; Slurm counts the job as failed.
        """
        ctypes.CDLL(None).prctl(ADOPT, 1)
        self.code = 0
        self.process = subprocess.Popen(
            self.command(os.environ), env=os.environ | STORE, preexec_fn=_ignore_user_signals
        )
        # submitit heeds one of them, and its name can be set; the other would end this process.
        submitits = next(filter(callable, map(signal.getsignal, USER_SIGNALS)), signal.SIG_IGN)
        for number in USER_SIGNALS:
            signal.signal(number, submitits)
        signal.signal(signal.SIGTERM, self._be_preempted)
        self._await()
        if self.code:
            raise subprocess.CalledProcessError(self.code, self.process.args)

    def checkpoint(self) -> Any:
        """submitit's hook in `__call__`: stop with a checkpoint, and return what to run again."""
        from submitit.helpers import DelayedSubmission

        self.process.terminate()
        self._await()
        return DelayedSubmission(Launch(self.words, self.ranks_per_node))

    def _be_preempted(self, number: int, frame: FrameType | None) -> None:
        """Stop with a checkpoint. In a partition with GraceTime Slurm still counts the job as
        running, and would count its end as a failure: then put it back into the queue, too."""
        # submitit would only log the signal, and a Slurm with cgroups tells no other process.
        self.process.terminate()
        requeue = signal.getsignal(USER_SIGNALS[0])
        if callable(requeue) and _job_state(os.environ["SLURM_JOB_ID"]) == "RUNNING":
            requeue(number, frame)

    def _await(self) -> None:
        """Wait for all processes: ranks can outlive a torchrun that a second signal ended."""
        # Popen.wait holds a lock that a signal handler, which runs within it, could not take.
        with suppress(ChildProcessError):
            while True:
                pid, status = os.wait()
                if pid == self.process.pid:
                    self.code = os.waitstatus_to_exitcode(status)


def _ignore_user_signals() -> None:
    # Some Slurms send them to every process of a job. They are for submitit's own alone, and would
    # end torchrun without its ranks.
    for number in USER_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _job_state(job: str) -> str:
    """Slurm's word for a job's state; "" where it does not answer."""
    words = ["squeue", "--noheader", "--jobs", job, "--format", "%T"]
    with suppress(OSError, subprocess.TimeoutExpired):
        return subprocess.run(words, capture_output=True, text=True, timeout=10).stdout.strip()
    return ""


def submit(
    launches: Sequence[Launch], folder: Path, *, name: str, minutes: int, nodes: int = 1,
    gpus_per_node: int = 1, cpus_per_rank: int = 8, options: dict[str, str] | None = None,
    dry_run: bool = False,
) -> list[str]:  # fmt: skip
    """Queue launches, several as one job array; returns the jobs' ids.

    Args:
        folder: for scripts and logs, on a file system that all nodes see.
        minutes: a job's time; what has not finished then is queued again.
        gpus_per_node: a rank each; 0: one rank, on the CPU.
        options: of sbatch, as {"partition": "gpu"}.
        dry_run: return the script instead.

    Raises:
        ImportError: submitit is missing.
        OSError: this machine has no Slurm, or it refused the job.
        ValueError: too little time.
    """
    if minutes < SHORTEST_MINUTES:
        raise ValueError(
            f"a job of {minutes} min may get Slurm's signal, {SIGNAL_SECONDS} s before its end or "
            f"up to a minute earlier, before it has trained a step; give it {SHORTEST_MINUTES} "
            "minutes or more"
        )
    try:
        import submitit
    except ImportError as error:
        raise ImportError("submitit is missing: pip install 'nestlib[cluster]'") from error

    class Executor(submitit.SlurmExecutor):
        @classmethod
        def affinity(cls) -> int:
            return 2  # a script can be written where Slurm is not

    if not (dry_run or shutil.which("sbatch")):
        raise OSError(
            "there is no sbatch here: submit on a machine of the cluster, or use --dry-run"
        )
    cpus = cpus_per_rank * max(1, gpus_per_node)
    executor = Executor(folder, max_num_timeout=REQUEUES)
    executor.update_parameters(
        job_name=name, time=minutes, nodes=nodes, ntasks_per_node=1, cpus_per_task=cpus,
        srun_args=[f"--cpus-per-task={cpus}"],  # srun does not take it from sbatch any more
        setup=[BECOME_SRUN],
        signal_delay_s=SIGNAL_SECONDS, stderr_to_stdout=True,
        **({"gpus_per_node": gpus_per_node} if gpus_per_node else {}),
        additional_parameters={"requeue": True, **(options or {})},
    )  # fmt: skip
    if dry_run:
        if len(launches) > 1:
            executor.parameters["map_count"] = len(launches)
        script = executor._make_submission_file_text(executor._submitit_command_str, "")
        job = {"SLURM_JOB_NUM_NODES": nodes, "SLURM_JOB_ID": 0, "SLURM_LAUNCH_NODE_IPADDR": "FIRST"}
        commands = [f"# {shlex.join(launch.command(job))}" for launch in launches]
        return [f"{script}\n# What each node of a job runs:\n" + "\n".join(commands)]
    try:
        return [job.job_id for job in executor.submit_array(launches)]
    except submitit.core.utils.FailedJobError as error:  # sbatch's own words
        raise OSError(f"Slurm refused the job: {str(error).strip().splitlines()[-1]}") from error


def enqueue(
    runs: Sequence[tuple[Recipe | GanRecipe, tuple[str, ...]]], folder: Path, *,
    gpus_per_node: int = 1, options: dict[str, str] | None = None, dry_run: bool = False,
    **how: Any,
) -> Iterator[str]:  # fmt: skip
    """Queue recipes with the words of `nest` that make each; students wait for their teachers.

    Yields:
        A line on each job; the scripts instead at `dry_run`. `how` goes to `submit`.
    """
    how |= {"gpus_per_node": gpus_per_node, "dry_run": dry_run}
    run_ids = {recipe.run_id for recipe, _ in runs}
    lessons = [getattr(recipe, "distillation", None) for recipe, _ in runs]
    teachers = [lesson.teacher if lesson else None for lesson in lessons]
    jobs: dict[str, str] = {}
    for waiting in (False, True):
        group = [i for i, teacher in enumerate(teachers) if (teacher in run_ids) == waiting]
        if not group:
            continue
        after = ":".join(sorted({jobs.get(teachers[i], "TEACHER") for i in group if waiting}))
        dependency = {"dependency": f"afterok:{after}"} if waiting else {}
        words = [("-m", "nestlib.cli", *runs[i][1]) for i in group]
        launches = [Launch(each, ranks_per_node=max(1, gpus_per_node)) for each in words]
        queued = submit(launches, folder, options=(options or {}) | dependency, **how)
        if dry_run:
            yield from queued
            continue
        for i, job in zip(group, queued, strict=True):
            jobs[runs[i][0].run_id] = job
            yield f"job {job}: {runs[i][0].run_id}"


def parse_minutes(text: str) -> int:
    """Slurm's times: "90" (minutes), "12:00:00", "2-00:00:00".

    Raises:
        ValueError: anything else, no time at all, or more than a year.
    """
    match = re.fullmatch(
        r"(?:([0-9]{1,9})-)?([0-9]{1,9}):([0-5][0-9]):([0-5][0-9])|([0-9]{1,9})", text.strip()
    )
    if not match:
        raise ValueError(
            f"--time is {reprlib.repr(text)}, which is not a time that Slurm takes; write "
            "12:00:00, 2-00:00:00 or minutes"
        )
    days, hours, minutes, seconds, alone = (int(part or 0) for part in match.groups())
    total = alone or (days * 24 + hours) * 60 + minutes + bool(seconds)
    if not 0 < total <= LONGEST_MINUTES:
        raise ValueError(
            f"--time is {text!r}, which is not a time to run in; write, for example, 12:00:00, and "
            "at most a year"
        )
    return total


def parse_option(word: str) -> tuple[str, str | bool]:
    """An option of sbatch, as "partition=gpu" or "exclusive".

    Raises:
        ValueError: not of this form, or what `submit` decides itself.
    """
    name, equals, value = word.partition("=")
    name = name.replace("_", "-")
    plain = re.fullmatch(r"[a-z][a-z-]*", name) and value.isprintable()
    if not plain or bool(equals) != bool(value):
        raise ValueError(
            f"--slurm is {reprlib.repr(word)}, must be a long option of sbatch without its dashes, "
            "such as partition=gpu or exclusive"
        )
    given = "gres=gpu" if name == "gres" and "gpu" in value else name  # others are disks, say
    if given in OWN_OPTIONS:
        raise ValueError(f"--slurm {given} is not possible: {OWN_OPTIONS[given]}")
    return name, value or True
