"""What one GPU should measure: the plan, and the two calls that use a quarter of an hour of one."""

from pathlib import Path
from typing import Annotated

import typer

from nestlib.cli.options import (
    STOPPED,
    Device,
    MaxTime,
    RunsDir,
    named_options,
    process_age,
    seconds_left,
)
from nestlib.project import find_project_root
from nestlib.records import open_store

# What goes with each of evidence's ways; of none it shows the plan.
WAYS = {
    "run": ("only", "data_dir", "runs_dir", "max_time", "device"),
    "stage": ("minutes", "data_dir", "take", "out", "again", "device"),
    "minutes": ("data_dir", "take", "out", "again", "device"),
    "pack": ("data_dir", "transfer_mb", "transfers", "dry_run"),
    "take": ("data_dir",),
}


def evidence(
    context: typer.Context,
    run: Annotated[bool, typer.Option("--run", help="carry out what has no record")] = False,
    only: Annotated[int, typer.Option(help="of --run: one item of the plan, by its number")] = 0,
    stage: Annotated[
        int,
        typer.Option(
            min=0, max=2, help="1 or 2 of a session of minutes; 0: both, where --minutes is given"
        ),
    ] = 0,
    minutes: Annotated[float, typer.Option(help="that the session has, both stages together")] = 12,
    take: Annotated[
        Path | None, typer.Option(help="keep a transfer of packs that came with this call")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="of a session: copy its results here")] = None,
    again: Annotated[bool, typer.Option("--again", help="of a session: what was done too")] = False,
    pack: Annotated[
        Path | None, typer.Option(help="cut CIFAR-10's packs into transfers in this folder")
    ] = None,
    transfer_mb: Annotated[float, typer.Option(help="of --pack: a transfer's, at most")] = 60,
    transfers: Annotated[int, typer.Option(help="of --pack: how many")] = 3,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="of --pack: list them alone")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="one folder a data set is here")] = None,
    runs_dir: RunsDir = None,
    max_time: MaxTime = "",
    device: Device = "cuda",
) -> None:
    """Show the plan of one GPU's runs, carry on with it, or do a session of minutes.

    A session on a CPU is a rehearsal, and writes no record of the project.
    """
    _check_way(context)
    given = named_options(context)
    if pack:
        _pack(pack, data_dir, transfer_mb, transfers, dry_run)
    elif given & {"stage", "minutes"}:
        _run_session(stage, take=take, device=device, minutes=minutes, data_root=data_dir, out=out,
                     again=again)  # fmt: skip
    elif take:
        _take(take, data_dir)
    else:
        _show_plan(run, only, data_dir, runs_dir, max_time, device)


def _check_way(context: typer.Context) -> None:
    given = named_options(context)
    way = next((way for way in ("run", "pack", "stage", "minutes", "take") if way in given), None)
    strange = sorted(given - {way} - set(WAYS.get(way, ())))
    if strange:
        words = [f"--{name.replace('_', '-')}" for name in strange]
        beside = f"beside --{way}" if way else "without --run, --stage, --minutes, --pack or --take"
        raise ValueError(f"{', '.join(words)} does nothing {beside}; leave it out")


def _show_plan(
    run: bool, only: int, data_dir: Path | None, runs_dir: Path | None, max_time: str, device: str
) -> None:
    from nestbook.report.run_plan import plan_table
    from nestbook.run_plan.entries import list_entries, run_entries

    store = open_store()
    complete = not run or run_entries(
        store, data_root=data_dir, runs_dir=runs_dir, device=device, only=only, say=typer.echo,
        max_seconds=seconds_left(max_time),
    )  # fmt: skip
    typer.echo(str(plan_table(list_entries(), store)))
    if not complete:
        raise typer.Exit(STOPPED)


def _run_session(stage: int, *, take: Path | None, device: str, data_root, **how) -> None:
    from nestbook.run_plan.stages import run_session

    if take:
        _take(take, data_root)
    done = run_session(
        open_store(), [stage] if stage else [1, 2], folder=find_project_root() / "runs" / "gpu",
        device=device, data_root=data_root, age=process_age(), say=typer.echo, **how,
    )  # fmt: skip
    if not done:
        raise typer.Exit(STOPPED)


def _take(folder: Path, data_root: Path | None) -> None:
    from nestbook.run_plan.transfers import take

    typer.echo("\n".join(take(folder, _cifar10(data_root))))


def _pack(
    folder: Path, data_root: Path | None, limit_mb: float, count: int, dry_run: bool
) -> None:  # fmt: skip
    from nestbook.run_plan.transfers import (
        describe_transfers,
        plan_transfers,
        tracked_bytes,
        write_transfers,
    )

    where, tree = _cifar10(data_root), tracked_bytes(find_project_root())
    packs = sorted(where.glob("*.tar.xz"))
    if not packs:
        raise FileNotFoundError(f"no packs *.tar.xz in {where}; name their folder's by --data-dir")
    planned = plan_transfers(packs, tree, limit_mb, count)
    typer.echo(describe_transfers(planned, tree, limit_mb))
    if not dry_run:
        typer.echo(f"wrote {', '.join(map(str, write_transfers(folder, packs, planned)))}")


def _cifar10(data_root: Path | None) -> Path:
    from nestlib.project import data_root as default_root

    return (data_root or default_root()) / "cifar10"
