"""Faults on purpose: what runs of several ranks lose, or count twice, when something breaks.

Each fault strikes a short run of two gloo ranks, and what carries runs through in a cluster, torch
elastic or Slurm, carries it to its end. Every rank notes which images each of its steps took; steps
that a checkpoint does not hold are made again, and only the second time counts. A run that lost
nothing has, on this CPU, the weights of an undisturbed one bit for bit.

    python tests/rank_faults.py --commit-record       strikes by every fault, and records
    python tests/slurm_here.py python tests/rank_faults.py        by a Slurm's faults too
    python tests/rank_faults.py LEDGER STRIKE train ...    the command of a rank, watched
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from nestlib.cli import main as cli
from nestlib.recipes.named import get_recipe
from nestlib.recipes.recipe import with_overrides
from nestlib.records import (
    Record,
    Store,
    describe_environment,
    load_record,
    open_store,
    timestamp,
)  # fmt: skip
from nestlib.runs import cluster
from nestlib.training import classifier

RECIPE = "digits/nest_narrow"
CHANGES = ("train_limit=192", "test_limit=32", "batch_size=32", "epochs=4", "warmup_epochs=1")
STEPS = 24
STRIKE = 10  # the step, of the first attempt, in which a fault strikes
RANK_TIMEOUT = 15  # seconds
CHECKPOINT_EVERY = "1s"
# Else torchrun dies of the last two, and leaves its ranks behind.
SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1,SIGUSR2"
# Seconds a step takes at least before STRIKE. A checkpoint lies before the strike on the fastest
# machine too; without one the next attempt would begin at 0, and be struck like the first.
PACE = 0.15
THREADS = 1  # of a rank, whatever starts it: other numbers round otherwise on some processors
LIMIT = 400.0  # seconds for one run, on a machine that does other things too


# In the ranks: notes, and the fault


class Noted:
    """A training set that tells which images its last batch took."""

    def __init__(self, images: Any):
        self.images, self.taken = images, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.images, name)

    def __len__(self) -> int:
        return len(self.images)

    def iterate(self, order: Tensor, batch_size: int, *, seed: int) -> Iterator:
        batches = self.images.iterate(order, batch_size, seed=seed)
        for indices, batch in zip(order.split(batch_size), batches, strict=True):
            self.taken = indices.tolist()
            yield batch


def watch(ledger: Path, strike: "Strike") -> None:
    """Make the classifier's trainer note its steps in `ledger`, and a rank strike itself."""
    torch.set_num_threads(THREADS)
    own, attempt, began = int(os.environ.get("RANK", 0)), [time.time()], [0]
    train_step, resume = classifier.Trainer.train_step, classifier.Trainer.resume

    def note(**values: Any) -> None:
        with (ledger / f"rank{own}.jsonl").open("a") as file:
            file.write(json.dumps({"attempt": attempt[0], **values}) + "\n")

    def noted_resume(self) -> None:
        resume(self)
        self.train_set = Noted(self.train_set)
        if self.ranks.size > 1:
            dist.broadcast_object_list(attempt)  # one name for all ranks
        began[0] = self.progress.step
        note(begins=self.progress.step)

    def noted_step(self, *batch: Tensor) -> None:
        first_attempt, step = not began[0], self.progress.step
        if first_attempt and step < STRIKE:
            time.sleep(PACE)
        if first_attempt and own == strike.rank and step in strike.steps:
            (ledger / "struck").touch()
            strike.action()
        train_step(self, *batch)
        note(step=self.progress.step - 1, images=self.train_set.taken)

    classifier.Trainer.train_step, classifier.Trainer.resume = noted_step, noted_resume


def cut_connections() -> None:
    """Shut all TCP connections of this process, as a network that fails does."""
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if os.readlink(link).startswith("socket:"):
                socket.socket(fileno=os.dup(int(link.name))).shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Strike:
    """What a rank does to itself, at the beginning of some steps of the first attempt."""

    rank: int
    action: Callable[[], None]
    steps: range = range(STRIKE, STRIKE + 1)


STRIKES = {
    "none": Strike(0, lambda: None),
    "kill": Strike(0, lambda: os.kill(os.getpid(), signal.SIGKILL)),
    "cut": Strike(1, cut_connections),
    "hang": Strike(1, lambda: os.kill(os.getpid(), signal.SIGSTOP)),
    "slow": Strike(1, partial(time.sleep, 5)),
    "long": Strike(0, partial(time.sleep, 2), range(STRIKE, STEPS)),  # time to strike from outside
}


# From outside: runs, and what came of them


@dataclass(frozen=True)
class Fault:
    """A row: its name, how it is injected, in words, and what carries the run through.

    carry strikes and returns when the run has ended; by names what started the ranks again.
    """

    name: str
    how: str
    by: str
    carry: Callable[["Run"], None]


@dataclass(frozen=True)
class Run:
    """A short run that is struck, in a folder of its own; of STEPS steps, whatever its recipe."""

    folder: Path
    recipe: str = RECIPE
    changes: tuple[str, ...] = CHANGES
    data_dir: Path | None = None

    def words(self, strike: str) -> tuple[str, ...]:
        """Of Python, for each rank."""
        more = [word for change in self.changes for word in ("--set", change)]
        more += ["--data-dir", str(self.data_dir)] if self.data_dir else []
        return (
            str(Path(__file__).resolve()), str(self.folder), strike, "train", self.recipe,
            *more, "--device", "cpu", "--checkpoint-every", CHECKPOINT_EVERY, "--rank-timeout",
            f"{RANK_TIMEOUT}s",
        )  # fmt: skip

    def torchrun(self, strike: str) -> subprocess.Popen:
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
             "2", "--max-restarts", str(cluster.RESTARTS), "--signals-to-handle", SIGNALS,
             *self.words(strike)],
            cwd=self.folder, env=os.environ | cluster.STORE,
            stdout=(self.folder / "log").open("a"), stderr=subprocess.STDOUT,
        )  # fmt: skip

    def record(self) -> Record | None:
        recipe = with_overrides(get_recipe(self.recipe), list(self.changes))
        path = self.folder / "runs" / "records" / f"{recipe.run_id}.json"
        return load_record(path) if path.is_file() else None

    def await_(self, holds: Callable[[], Any], what: str) -> None:
        """
        Raises:
            TimeoutError: it did not come to that; the message has the log's end.
        """
        end = time.monotonic() + LIMIT
        while not holds():
            if time.monotonic() > end:
                logs = [self.folder / "log", *self.folder.glob("runs/slurm/*.out")]
                text = "\n".join(log.read_text()[-2000:] for log in logs if log.is_file())
                raise TimeoutError(f"{what} did not come within {LIMIT:.0f} s; log:\n{text}")
            time.sleep(0.3)

    def check_gone(self) -> None:
        """
        Raises:
            RuntimeError: ranks, or what started them, are left.
        """
        left = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().split(b"\0")
                left += [path.parent.name] if bytes(self.folder) in words else []
        if left:
            raise RuntimeError(f"processes {', '.join(left)} of {self.folder} are left")

    def attempts(self) -> list[dict[str, Any]]:
        """Of all ranks, in the order of time: where each began, and its steps with their images."""
        found: dict[float, dict[str, Any]] = {}
        for path in self.folder.glob("rank*.jsonl"):
            for line in map(json.loads, path.read_text().splitlines()):
                attempt = found.setdefault(line["attempt"], {"begins": 0, "steps": {}})
                if "begins" in line:
                    attempt["begins"] = line["begins"]
                else:
                    attempt["steps"].setdefault(line["step"], []).extend(line["images"])
        return [found[key] for key in sorted(found)]


def by_elastic(strike: str, run: Run) -> None:
    """torchrun alone, which starts ranks anew where it must."""
    _await_end(run.torchrun(strike))


def by_same_command(number: signal.Signals, run: Run) -> None:
    """A signal to torchrun, then the same command."""
    process = run.torchrun("long")
    run.await_((run.folder / "struck").exists, "the step to strike in")
    process.send_signal(number)
    _await_end(process)
    run.check_gone()
    _await_end(run.torchrun("none"))


def _await_end(process: subprocess.Popen) -> None:
    """
    Raises:
        TimeoutExpired: it had to be ended.
    """
    try:
        process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait()
        raise


def by_slurm(
    strike: Callable[[str], None], run: Run, *, nodes: int = 2, partition: str = "low"
) -> None:
    """A job of two ranks that something outside strikes."""
    launch = cluster.Launch(run.words("long"), ranks_per_node=2 // nodes)
    with contextlib.chdir(run.folder):
        (job,) = cluster.submit(
            [launch], run.folder / "runs" / "slurm", name="struck", minutes=30, nodes=nodes,
            gpus_per_node=0, cpus_per_rank=1, options={"partition": partition},
        )  # fmt: skip
    try:
        run.await_((run.folder / "struck").exists, "the step to strike in")
        strike(job)
        run.await_(lambda: _job(job, "%T") == "PENDING", "the job back in the queue")
        run.check_gone()
        # Slurm lets a requeued job wait for two minutes.
        subprocess.run(["scontrol", "update", f"jobid={job}", "StartTime=now"], check=True)
        run.await_(run.record, "the record")
    finally:
        subprocess.run(["scancel", job], check=False)


def preempt(job: str) -> None:
    """Ask for both nodes in the partition of higher priority."""
    words = ["-p", "high", "-N2", "--output", "/dev/null", "--wrap", "srun sleep 1"]
    subprocess.run(["sbatch", "--parsable", *words], check=True, stdout=subprocess.DEVNULL)


def requeue(job: str) -> None:
    subprocess.run(["scontrol", "requeue", job], check=True)


def send(name: str, job: str, *how: str) -> None:
    """A signal to the job. USR2 is Slurm's own, cluster.SIGNAL_SECONDS before its time is over."""
    subprocess.run(["scancel", f"--signal={name}", *how, job], check=True)


def _job(job: str, form: str) -> str:
    words = ["squeue", "-h", "-j", job, "-o", form]
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


_ELASTIC, _SLURM, _AGAIN = "torch elastic", "Slurm's queue", "the same command"
_NAMED = "the signal, which `--signals-to-handle` names"
FAULTS = {
    fault.name: fault
    for fault in (
        Fault("worker killed", "SIGKILL of the main rank", _ELASTIC, partial(by_elastic, "kill")),
        Fault("process group lost", "a rank's TCP connections are shut", _ELASTIC,
              partial(by_elastic, "cut")),
        Fault("rank hangs", f"SIGSTOP of a rank, --rank-timeout {RANK_TIMEOUT}s", _ELASTIC,
              partial(by_elastic, "hang")),
        Fault("slow rank", "a rank sleeps for 5 s", _ELASTIC, partial(by_elastic, "slow")),
        Fault("preemption signal", "SIGTERM to torchrun", _AGAIN,
              partial(by_same_command, signal.SIGTERM)),
        Fault("SIGUSR1 to torchrun", _NAMED, _AGAIN, partial(by_same_command, signal.SIGUSR1)),
        Fault("SIGUSR2 to torchrun", _NAMED, _AGAIN, partial(by_same_command, signal.SIGUSR2)),
        Fault("job preempted", "a job in a partition of higher priority takes both nodes", _SLURM,
              partial(by_slurm, preempt)),
        Fault("job's time is over", "the signal that Slurm sends before the end", _SLURM,
              partial(by_slurm, partial(send, "USR2"))),
        Fault("preempted with a grace time", "a job of higher priority; a partition with GraceTime",
              _SLURM, partial(by_slurm, preempt, nodes=1, partition="graced")),
        Fault("requeued by hand", "`scontrol requeue`", _SLURM,
              partial(by_slurm, requeue, nodes=1)),
        Fault("SIGUSR1 to the job", "`scancel --signal=USR1`", _SLURM,
              partial(by_slurm, partial(send, "USR1"), nodes=1)),
        Fault("SIGTERM to the job", "`scancel --signal=TERM`", _SLURM,
              partial(by_slurm, partial(send, "TERM"), nodes=1)),
        Fault("SIGUSR2 to the batch shell", "`scancel --signal=USR2 --batch`", _SLURM,
              partial(by_slurm, lambda job: send("USR2", job, "--batch"), nodes=1)),
    )
}  # fmt: skip


def rehearse(names: list[str], store: Store, *, committed: bool = False) -> Record:
    """Strike a run by each fault and write what came of it as one record.

    Raises:
        ValueError: an unknown fault.
    """
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        raise ValueError(f"no fault {unknown[0]!r}; there are: {', '.join(FAULTS)}")
    environment = describe_environment(torch.device("cpu"))
    environment |= {"slurm": _slurm_version(), "threads": THREADS}
    with TemporaryDirectory() as folder:
        calm = Run(Path(folder))
        by_elastic("none", calm)
        expected = calm.record()
    rows = {name: judge(FAULTS[name], expected) for name in names}
    record = Record(
        run_id="faults/two-ranks", kind="faults",
        recipe={"recipe": RECIPE, "changes": list(CHANGES), "ranks": 2, "budget": "full",
                "checkpoint_every": CHECKPOINT_EVERY, "rank_timeout": RANK_TIMEOUT},
        environment=environment | {"finished": timestamp()}, summary=rows,
    )  # fmt: skip
    store.add(record, committed=committed)
    return record


def judge(fault: Fault, expected: Record, **what: Any) -> dict[str, Any]:
    """Strike a run (`what` it is: see Run), and count the images behind the weights that it left.

    expected: the record of the same run, undisturbed.
    """
    row: dict[str, Any] = {"how": fault.how, "by": fault.by}
    if fault.by == _SLURM and not _slurm_version():
        return row | {"outcome": "not run: no Slurm here"}
    with TemporaryDirectory() as folder:
        run = Run(Path(folder), **what)
        fault.carry(run)
        record, attempts = run.record(), run.attempts()
    if record is None:
        return row | {"outcome": "did not end"}
    return {
        **row, "outcome": "ended", "struck_step": STRIKE, "steps": STEPS,
        "begins": [attempt["begins"] for attempt in attempts],
        **count(attempts, record.environment["data"]["train"]["images"]),
        "same_weights": record.summary["weights_sha256"] == expected.summary["weights_sha256"],
        "same_history": record.epochs == expected.epochs,
    }  # fmt: skip


def count(attempts: list[dict[str, Any]], num_images: int) -> dict[str, int]:
    """Images lost and doubled over all epochs, and steps made again.

    An attempt's steps count up to where the next one began.
    """
    ends = [attempt["begins"] for attempt in attempts[1:]] + [STEPS]
    kept = [
        (step, images)
        for attempt, end in zip(attempts, ends)
        for step, images in attempt["steps"].items()
        if step < end
    ]
    per_epoch = num_images // 32
    lost = doubled = 0
    for epoch in range(STEPS // per_epoch):
        taken = Counter(i for step, images in kept if step // per_epoch == epoch for i in images)
        lost += num_images - len(taken)
        doubled += taken.total() - len(taken)
    made = sum(len(attempt["steps"]) for attempt in attempts)
    return {"lost": lost, "doubled": doubled, "steps_again": made - STEPS}


def _slurm_version() -> str | None:
    if not shutil.which("sinfo") or subprocess.run(["sinfo"], capture_output=True).returncode:
        return None
    return subprocess.run(["sinfo", "--version"], capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    if sys.argv[1:] in ([], ["--commit-record"]):
        print(rehearse(list(FAULTS), open_store(), committed=len(sys.argv) > 1).summary)
    else:
        folder, strike, *sys.argv[1:] = sys.argv[1:]
        watch(Path(folder), STRIKES[strike])
        cli.main()
