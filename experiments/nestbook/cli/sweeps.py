"""The command that makes the runs behind figures and tables."""

from collections.abc import Iterator
from typing import Annotated

import typer

from nestlib.arguments import MAX_PROCESSES, MAX_RUNS
from nestlib.cli.options import (
    STOPPED,
    CommitRecord,
    DataDir,
    Device,
    MaxTime,
    RunsDir,
    named_options,
    refuse,
    seconds_left,
)
from nestlib.cli.runs import Job
from nestlib.project import find_project_root
from nestlib.records import open_store

# Names that stand in a module with torch; tests/test_cli.py compares them.
SWEEP_NAMES = (
    "figure4, figure5, figure6, figure7, figure_a1, figure_a2, table_a2, table_a3, precision, "
    "table1, learning_rates, training_images, flagship"
)


# What a look at where a sweep stands does not use.
OF_RUNS = ("data_dir", "max_time", "device", "commit_record")


def sweep(
    context: typer.Context,
    figure: Annotated[str, typer.Argument(help=SWEEP_NAMES)] = "",
    budget: Annotated[str, typer.Option(help="smoke, quick, small, gpu or paper")] = "quick",
    every: Annotated[
        bool, typer.Option("--all", help="all runs of budget small, most wanted first")
    ] = False,
    seeds: Annotated[
        int,
        typer.Option(
            min=1, max=MAX_RUNS, help="runs per bar, with seeds 0, 1, ...; --all has its own"
        ),
    ] = 3,
    only: Annotated[
        str, typer.Option(help="only bars with this word, such as NesT, or one run by its id")
    ] = "",
    processes: Annotated[
        int, typer.Option(min=1, max=MAX_PROCESSES, help="parallel runs on a CPU")
    ] = 2,
    board: Annotated[
        bool, typer.Option("--board", help="show the state of all runs and start none")
    ] = False,
    data_dir: DataDir = None,
    runs_dir: RunsDir = None,
    max_time: MaxTime = None,
    device: Device = "auto",
    commit_record: CommitRecord = False,
) -> None:
    """Run what a figure or table is missing, cheapest first.

    If a sweep is stopped, the same command resumes it.
    """
    from nestbook.sweeps import runner, small
    from nestbook.sweeps.plans import plan

    if every is bool(figure) or (every and (budget != "small" or only)):
        raise ValueError(
            "give the name of one sweep, or --all with --budget small and no --only; names: "
            f"{SWEEP_NAMES}"
        )
    given = named_options(context)
    refuse(sorted(given & {"seeds"}) if every else (), "sweep --all, which has its own seeds,")
    refuse(
        (name for name in OF_RUNS if board and name in given), "sweep --board, which runs nothing,"
    )
    store, runs_dir = open_store(), runs_dir or find_project_root() / "runs"
    how = {
        "processes": processes, "device": device, "runs_dir": runs_dir, "data_dir": data_dir,
        "committed": commit_record,
        "max_seconds": seconds_left(max_time),
    }  # fmt: skip
    outcomes: list[runner.Outcome] = []
    if every:
        outcomes = [] if board else small.sweep_small(store, **how)
        shown = small.show_small(store, runs_dir, processes)
    else:
        bars = plan(figure, budget, range(seeds), only=only)
        outcomes = [] if board else runner.sweep(bars, store, **how)
        shown = runner.show_board(bars, store, runs_dir)
    typer.echo(f"{figure or 'all'}, {budget}\n{shown}")
    reasons: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        if outcome.state != "done":
            reasons.setdefault((outcome.state, outcome.text), []).append(outcome.run_id)
    for (state, text), run_ids in reasons.items():
        typer.echo(f"{state}: {', '.join(run_ids)}: {text}")
    states = {outcome.state for outcome in outcomes}
    if "failed" in states:
        raise typer.Exit(1)
    if "stopped" in states:
        raise typer.Exit(STOPPED)


def queue_sweep(what: str, asked: dict, more: tuple[str, ...]) -> Iterator[Job]:
    """The jobs of a figure's waiting runs, for `nest submit`."""
    from nestbook.sweeps.plans import plan
    from nestbook.sweeps.runner import state_of

    own = ("--all", "--board", "--processes")
    refuse((word[2:] for word in own if word in more), "a job of a sweep")
    store, runs_dir = open_store(), asked["runs_dir"] or find_project_root() / "runs"
    bars = plan(what, asked["budget"], range(asked["seeds"]), only=asked["only"])
    for recipe in {recipe.run_id: recipe for row in bars.values() for recipe in row}.values():
        if state_of(recipe, store, runs_dir) in ("waiting", "begun"):
            yield recipe, ("sweep", what, *more, "--only", recipe.run_id, "--processes", "1")
