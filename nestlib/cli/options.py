"""Options that several commands take, and what they mean: times, devices, folders."""

import os
import re
import reprlib
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nestlib.arguments import MAX_SEED, Range
from nestlib.project import require_project

if TYPE_CHECKING:
    from nestlib.records import Record, Store

STOPPED = 75  # EX_TEMPFAIL: not done yet, run me again
EXIT_SECONDS = 3  # kept of a time limit for the last checkpoint and for Python to end
SECONDS = Range(0, 10**8, "(]")  # three years: torch's timeouts do not hold 300
PAUSE = Range(0, 10**8)  # between checkpoints: zero keeps one after each step
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def local_path(text: str) -> Path:
    """A path on this machine; ~ is the home folder, which shells leave as it is in --option=~/x."""
    if not text or "://" in text:
        raise typer.BadParameter(f"{text!r} is no path on this machine; give a path")
    return Path(os.path.expanduser(text))


def path_or_url(text: str) -> Path | str:
    return text if "://" in text else local_path(text)


def path_option(help_text: str, metavar: str = "FOLDER") -> typer.models.OptionInfo:
    """An option for a path on this machine."""
    return typer.Option(help=help_text, parser=local_path, metavar=metavar)


Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="folder of the data set, or URL of its shards", parser=path_or_url,
        metavar="FOLDER|URL",
    ),
]  # fmt: skip
Precision = Annotated[
    str, typer.Option(help="fp32, bf16 or auto (bf16 if the device computes it, else fp32)")
]
RunsDir = Annotated[Path | None, path_option("folder for checkpoints; default: runs/")]
WeightsDir = Annotated[Path | None, path_option("folder of the runs' weights; default: runs/")]
MaxTime = Annotated[
    str | None,
    typer.Option(
        help="stop with a checkpoint within this time: 90s, 9m, 2h; the same command resumes"
    ),
]


def _in_a_checkout(asked: bool) -> bool:
    if asked:
        require_project("--commit-record")
    return asked


CommitRecord = Annotated[
    bool,
    typer.Option(
        help="write the record to experiments/records instead of runs/records",
        callback=_in_a_checkout,
    ),
]
Again = Annotated[bool, typer.Option("--again", help="run it again even if a record exists")]


def seed_option(help_text: str, *names: str) -> typer.models.OptionInfo:
    """An option for a seed: a number that torch's and numpy's generators take."""
    return typer.Option(*names, min=0, max=MAX_SEED, help=help_text)


def refuse(given: Iterable[str], where: str) -> None:
    """Raise ValueError if options, given by name, would change nothing."""
    unused = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    if unused:
        raise ValueError(f"{where} does not take {unused}; leave it out")


def named_options(context: typer.Context) -> set[str]:
    """Names, as in the code, of the parameters that the command line sets."""
    return {
        name for name in context.params
        if context.get_parameter_source(name).name == "COMMANDLINE"
    }  # fmt: skip


def seconds_left(max_time: str | None) -> float | None:
    """Seconds of `--max-time` left for the work itself; None without a limit."""
    if max_time is None:
        return None
    return parse_seconds("--max-time", max_time) - process_age() - EXIT_SECONDS


def process_age() -> float:
    """Seconds since this process began, imports included; 0 without /proc."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return age if 0 <= age < 120 else 10.0  # some sandboxes report start times of another clock


def parse_seconds(option: str, text: str, valid: Range = SECONDS) -> float:
    """Seconds of "90s", "9m", "1.5h" or a plain number, which an option was given.

    Raises:
        ValueError: anything else, or seconds that are not valid; the message names the option.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)\s*([smh]?)", text.strip())
    if not match:
        raise ValueError(
            f"{option} is {reprlib.repr(text)}, which is not a time; write seconds, or 90s, 9m, "
            "1.5h"
        )
    seconds = float(match[1]) * UNITS[match[2]]
    if seconds not in valid:
        raise ValueError(f"{option} is {reprlib.repr(text)}, must be a time {valid} seconds")
    return seconds


def say_found(
    records: Iterable["Record | str"], store: "Store", began: str, what: str
) -> None:  # fmt: skip
    """Name the records that existed before this command, which did not make them."""
    found = [
        f"  {store.path_of(record)}, made {record.environment['finished'][:10]} on "
        f"{record.environment['device']}"
        for record in records
        if not isinstance(record, str) and record.environment["started"] < began
    ]
    if found:
        lines = [f"not {what}, because a record exists; --again runs it again:", *found]
        typer.echo("\n".join(lines), err=True)
