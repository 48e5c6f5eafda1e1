"""The command for one GPU: its plan of runs, and a session that uses a quarter of an hour."""

from pathlib import Path
from typing import Annotated

import typer

from nestlib.arguments import MAX_COUNT, MAX_RUNS
from nestlib.cli.options import (
    STOPPED,
    Device,
    MaxTime,
    RunsDir,
    named_options,
    path_option,
    process_age,
    seconds_left,
)
from nestlib.project import find_project_root, require_project
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
    run: Annotated[
        bool, typer.Option("--run", help="run every item of the plan that has no record")
    ] = False,
    only: Annotated[
        int,
        typer.Option(
            min=0,
            max=MAX_COUNT,
            help="with --run: only this item of the plan, by number; 0: all",
        ),
    ] = 0,
    stage: Annotated[
        int,
        typer.Option(
            min=0, max=2, help="stage 1 or 2 of a session; 0: both, if --minutes is given"
        ),
    ] = 0,
    minutes: Annotated[
        float,
        typer.Option(min=0, max=24 * 60, help="minutes of the session, both stages together"),
    ] = 12,
    take: Annotated[
        Path | None, path_option("store a transfer of packs that came with this call")
    ] = None,
    out: Annotated[Path | None, path_option("session: copy its results to this folder")] = None,
    again: Annotated[
        bool, typer.Option("--again", help="session: repeat what was done already")
    ] = False,
    pack: Annotated[
        Path | None, path_option("cut CIFAR-10's packs into transfers, in this folder")
    ] = None,
    transfer_mb: Annotated[
        float, typer.Option(min=1, max=10**6, help="with --pack: largest size of a transfer")
    ] = 60,
    transfers: Annotated[
        int, typer.Option(min=1, max=MAX_RUNS, help="with --pack: number of transfers")
    ] = 3,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="with --pack: only list the transfers")
    ] = False,
    data_dir: Annotated[
        Path | None, path_option("folder that holds one folder per data set")
    ] = None,
    runs_dir: RunsDir = None,
    max_time: MaxTime = None,
    device: Device = "cuda",
) -> None:
    """Show or run the plan of runs for one GPU.

    Without options the plan is shown. --run works it off and resumes where it stopped. --minutes
    and --stage run a session of minutes; on a CPU a session is a rehearsal and does not write
    records of the project.
    """
    _check_way(context)
    require_project("`nest evidence`, which reads and writes committed records,")
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
        raise ValueError(f"{', '.join(words)} has no effect {beside}; leave it out")


def _show_plan(
    run: bool,
    only: int,
    data_dir: Path | None,
    runs_dir: Path | None,
    max_time: str | None,
    device: str,
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
        raise FileNotFoundError(
            f"no packs *.tar.xz in {where}; give the folder above theirs with --data-dir"
        )
    planned = plan_transfers(packs, tree, limit_mb, count)
    typer.echo(describe_transfers(planned, tree, limit_mb))
    if not dry_run:
        typer.echo(f"wrote {', '.join(map(str, write_transfers(folder, packs, planned)))}")


def _cifar10(data_root: Path | None) -> Path:
    from nestlib.project import data_root as default_root

    return (data_root or default_root()) / "cifar10"
