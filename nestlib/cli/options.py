"""Options that several commands take, and what they mean: times, devices, folders."""

import os
import re
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from nestlib.records import Record, Store

STOPPED = 75  # EX_TEMPFAIL: not done yet, run me again
EXIT_SECONDS = 3  # kept of a time limit for the last checkpoint and for Python to end

Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:<index>")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="where the data set lies: a folder, or the URL of shards",
        parser=lambda text: text if "://" in text else Path(text), metavar="FOLDER|URL",
    ),
]  # fmt: skip
Precision = Annotated[str, typer.Option(help="fp32, bf16, or auto: bf16 where it is computed")]
RunsDir = Annotated[Path | None, typer.Option(help="checkpoints go here; default runs/")]
WeightsDir = Annotated[Path | None, typer.Option(help="weights of runs are here; default runs/")]
MaxTime = Annotated[str, typer.Option(help="stop cleanly before: 90s, 9m, 2h; then resume")]
CommitRecord = Annotated[
    bool, typer.Option(help="write the record to experiments/records, not runs/records")
]
Again = Annotated[bool, typer.Option("--again", help="run it here though there is a record")]


def refuse(given: Iterable[str], where: str) -> None:
    """Raise ValueError for options, by their names, that would change nothing."""
    unused = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    if unused:
        raise ValueError(f"{where} takes no {unused}; leave it out")


def named_options(context: typer.Context) -> set[str]:
    """The parameters that the command line itself gives, by their names in the code."""
    return {
        name for name in context.params
        if context.get_parameter_source(name).name == "COMMANDLINE"
    }  # fmt: skip


def seconds_left(max_time: str) -> float | None:
    """Of `--max-time` for the work itself; None without a limit."""
    return parse_seconds(max_time) - process_age() - EXIT_SECONDS if max_time else None


def process_age() -> float:
    """Seconds since this process began: imports come before any clock of ours. 0 without /proc."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return 0.0
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return age if 0 <= age < 120 else 10.0  # some sandboxes report start times of another clock


def parse_seconds(text: str) -> float:
    """ "90s", "9m", "1.5h" or plain seconds.

    Raises:
        ValueError: anything else.
    """
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)\s*([smh]?)", text.strip())
    if not match:
        raise ValueError(f"{text!r} is no time; write seconds, or 90s, 9m, 1.5h")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def say_found(
    records: Iterable["Record | str"], store: "Store", began: str, what: str
) -> None:  # fmt: skip
    """Name the records that stood there before this command: they are not of this call."""
    found = [
        f"  {store.path_of(record)}, made {record.environment['finished'][:10]} on "
        f"{record.environment['device']}"
        for record in records
        if not isinstance(record, str) and record.environment["started"] < began
    ]
    if found:
        lines = [f"nothing was {what} for what has a record; --again runs it here:", *found]
        typer.echo("\n".join(lines), err=True)
