"""Models timed in turn, and what their time goes into."""

from typing import Annotated

import typer

from nestbook.profiles import PROFILES
from nestlib.cli.options import CommitRecord, Device, Precision


def bench(
    name: Annotated[str, typer.Argument(help="table1, table2, small, figure7 or speed")],
    form: Annotated[str, typer.Option(help="full, quick (for a CPU), light or smoke")] = "full",
    device: Device = "auto",
    precision: Precision = "fp32",
    commit_record: CommitRecord = False,
) -> None:
    """Time models in turn: a table's, or NesT here and in timm; leaves a record."""
    from nestbook.benchmarks.bench import run_bench
    from nestbook.report.cost import cost_table
    from nestbook.report.generation import generators_table
    from nestbook.report.speed import ratios_table, rivals_table, targets_table
    from nestbook.report.table1 import table1_small
    from nestlib.records import open_store

    record = run_bench(
        name, open_store(), form=form, device=device, precision=precision, committed=commit_record
    )
    if form == "smoke":
        typer.echo(f"{name} ran to its end; a smoke run times too little to show a result")
    elif name == "speed":
        typer.echo(str(ratios_table(record, [])))
        typer.echo(str(rivals_table(record, [])))
        typer.echo(str(targets_table(record, [])))
    elif name == "figure7":
        typer.echo(str(generators_table(record, [])))
    elif name == "small":
        typer.echo(str(table1_small(open_store(), bench=record)))
    else:
        typer.echo(str(cost_table(name, record, [])))


def profile(
    name: Annotated[str, typer.Argument(help=", ".join(PROFILES))],
    device: Device = "auto",
    precision: Precision = "fp32",
    commit_record: CommitRecord = False,
) -> None:
    """Measure what NesT's time goes into, or how it grows; leaves a record."""
    from nestbook.profiles.registry import run_profile
    from nestbook.report.profiles import show_profile
    from nestlib.records import open_store

    record = run_profile(
        name, open_store(), device=device, precision=precision, committed=commit_record
    )
    typer.echo(str(show_profile(name, [record])))
