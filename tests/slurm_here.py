"""A Slurm of this machine alone: `python tests/slurm_here.py COMMAND ...` runs a command within it.

Two nodes of one CPU each, and three partitions of both: `high` preempts `low` at once, and `graced`
after a grace time. All lies in one folder; all listens on loopback alone. As root, on Debian,
without systemd: apt-get install --no-install-recommends slurm-wlm munge
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch")
# cred_expire: a job that is put back waits for so long, 120 seconds by default, before it starts.
CONF = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=16817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=15
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=2,sched_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
JobRequeue=1
KillWait=30
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port=17001 CPUs=1 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port=17002 CPUs=1 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1
PartitionName=graced Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=60
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
"""


class NoSlurm(RuntimeError):
    """Slurm cannot be started here; the message says why."""


@contextmanager
def slurm_here() -> Iterator[None]:
    """Start it, point this process to it by SLURM_CONF, and stop it at the end.

    Raises:
        NoSlurm: a program is missing, this is not root, or a daemon does not come up.
    """
    missing = [name for name in PROGRAMS if not shutil.which(name, path=_path())]
    if missing or os.getuid():
        raise NoSlurm(f"missing: {', '.join(missing)}" if missing else "only root starts Slurm")
    with TemporaryDirectory(prefix="slurm-") as name:
        folder, before = Path(name), dict(os.environ)
        # A test that is timed out must not leave daemons behind.
        handler = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        try:
            _start(folder)
            yield
        finally:
            _stop(folder)
            signal.signal(signal.SIGTERM, handler)
            os.environ.clear()
            os.environ.update(before)


def _start(folder: Path) -> None:
    folder.chmod(0o755)
    host = socket.gethostname().split(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder))
    for part in ("munge", "state", "spool-n1", "spool-n2"):
        (folder / part).mkdir()
    (folder / "munge" / "key").write_bytes(os.urandom(1024))
    (folder / "munge" / "key").chmod(0o400)
    os.environ |= {"SLURM_CONF": str(conf), "GLOO_SOCKET_IFNAME": "lo", "PATH": _path()}
    parts = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log",
             "seed-file": "seed"}  # fmt: skip
    paths = [f"--{option}={folder}/munge/{part}" for option, part in parts.items()]
    for words in (
        ["munged", "--force", *paths],
        ["slurmctld", "-f", conf],
        ["slurmd", "-f", conf, "-N", "n1"],
        ["slurmd", "-f", conf, "-N", "n2"],
    ):
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise NoSlurm(f"{words[0]} ended with {done.returncode}: {done.stderr.strip()}")
    end, seen = time.monotonic() + 30, ""
    while "2 idle" not in seen:
        if time.monotonic() > end:
            logs = [log.read_text()[-500:] for log in sorted(folder.glob("*.log"))]
            raise NoSlurm("no idle nodes within 30 s:\n" + "\n".join([seen, *logs]))
        time.sleep(0.5)
        words = ["sinfo", "-h", "-p", "low", "-o", "%D %T"]
        seen = subprocess.run(words, capture_output=True, text=True).stdout


def _stop(folder: Path) -> None:
    """By the pid files; slurmd first, which kills what its jobs left."""
    subprocess.run(["scancel", "--full", "--user=root"], capture_output=True, timeout=30)
    for pattern in ("slurmd-*.pid", "slurmctld.pid", "munge/pid"):
        for path in folder.glob(pattern):
            with suppress(ProcessLookupError, ValueError):
                pid = int(path.read_text())
                os.kill(pid, 15)
                end = time.monotonic() + 15
                while time.monotonic() < end and _runs(pid):
                    time.sleep(0.1)


def _runs(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # a zombie has none
    except OSError:
        return False


def _path() -> str:
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"  # where Debian has the daemons


if __name__ == "__main__":
    try:
        with slurm_here():
            sys.exit(subprocess.run(sys.argv[1:]).returncode)
    except NoSlurm as error:
        sys.exit(f"no Slurm here: {error}")
