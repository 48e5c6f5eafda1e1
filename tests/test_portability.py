"""nestlib and nestbook import where there is no Unix, as on Windows, and train there.

No test runs on Windows. A process that hides what Unix alone has stands for it: modules, functions
of `os`, signals. Libraries that choose by the platform's name are imported before that.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
SIGNALS = (
    "SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGSTOP", "SIGUSR1",
    "SIGUSR2", "SIG_BLOCK", "SIG_SETMASK", "SIG_UNBLOCK", "alarm", "pthread_sigmask", "setitimer",
)  # fmt: skip
LIBRARIES = "filelock, timm, torch, torchvision"
FUNCTIONS = (
    "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "P_PID", "WEXITED", "WNOWAIT", "chown",
    "fchmod", "fork", "getegid", "geteuid", "getgid", "getloadavg", "getpgid", "getuid", "killpg",
    "mkfifo", "pread", "pwrite", "sched_getaffinity", "setsid", "statvfs", "sysconf", "uname",
    "waitid",
)  # fmt: skip
HIDE = f"""
import importlib, json, os, pkgutil, signal, sys

sys.modules |= dict.fromkeys({MODULES})
for module, names in ((signal, {SIGNALS}), (os, {FUNCTIONS})):
    for name in names:
        delattr(module, name)

faults = {{}}

def attempt(what, act):
    try:
        return act()
    except (Exception, SystemExit) as error:
        if getattr(error, "code", 1) != 0:
            faults[what] = f"{{type(error).__name__}}: {{error}}"
"""
IMPORT_ALL = """
import nestbook, nestlib

found = 0
for package in (nestlib, nestbook):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not module.name.endswith("__main__"):
            found += 1
            attempt(module.name, lambda: importlib.import_module(module.name))
assert found > 150
from nestlib.cli.main import app
from typer.main import get_command

commands = get_command(app).commands
assert len(commands) > 10
for name in commands:
    with open(os.devnull, "w") as sys.stdout:
        attempt(f"nest {name} --help", lambda: app([name, "--help"]))
    sys.stdout = sys.__stdout__
"""
TRAIN = """
from pathlib import Path

from nestlib.data.workers import read_batches
from nestlib.files import Held, hold, is_held
from nestlib.recipes import get_recipe, with_overrides
from nestlib.records import open_store
from nestlib.runs.run import carry_out

def take_lock():
    lock = Path("lock")
    with hold(lock):
        assert is_held(lock)
        try:
            with hold(lock):
                raise AssertionError("held twice")
        except Held:
            pass
    assert not is_held(lock)

def train():
    small = ["epochs=1", "warmup_epochs=0", "dataset_options.num_images=32"]
    recipe, store = with_overrides(get_recipe("digits/nest_narrow"), small), open_store()
    for chosen in (recipe.at_budget("smoke"), recipe):
        record = carry_out(chosen, store, device="cpu", progress_bar=False)
        assert store.find_local(chosen.run_id) == record
    assert Path("runs", recipe.run_id, "weights.safetensors").is_file()

class Loader(list):
    num_workers = 1

def read():
    assert list(read_batches(Loader([0, 1]))) == [0, 1]

attempt("a lock", take_lock)
attempt("workers", read)
attempt("a record and weights", train)
"""


def faults_of(script: str, folder: Path, libraries: str = LIBRARIES) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import {libraries}\n{HIDE}\n{script}\nprint(json.dumps(faults))"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_every_module_imports_and_every_command_shows_its_help(tmp_path):
    assert faults_of(IMPORT_ALL, tmp_path) == {}


def test_a_run_on_digits_ends_with_its_record(tmp_path):
    assert faults_of(TRAIN, tmp_path) == {}


def test_what_is_hidden_is_missed(tmp_path):
    """So the two tests above can fail."""
    lines = ["import fcntl, json", "from os import getuid", "import signal; signal.SIGHUP"]
    script = "\n".join(f"attempt({line!r}, lambda: exec({line!r}))" for line in lines)
    faults = faults_of(script, tmp_path, "filelock")
    assert list(faults) == lines
    assert all(re.match("(ModuleNotFound|Import|Attribute)Error", why) for why in faults.values())
