"""Commands that time models, and measure what their time is spent on."""

from typing import Annotated

import typer

from nestbook.profiles import PROFILES
from nestlib.cli.options import CommitRecord, Device, Precision


def bench(
    name: Annotated[str, typer.Argument(help="table1, table2, small, figure7 or speed")],
    form: Annotated[
        str, typer.Option(help="full, quick (for a CPU), light or smoke (no result)")
    ] = "full",
    device: Device = "auto",
    precision: Precision = "fp32",
    commit_record: CommitRecord = False,
) -> None:
    """Time the models of a table, or NesT here and in timm.

    The result is written as a record.
    """
    from nestbook.benchmarks.bench import run_bench
    from nestbook.report.cost import cost_table
    from nestbook.report.families import families_table, find_families
    from nestbook.report.generation import generators_table
    from nestbook.report.speed import ratios_table, rivals_tables, targets_table
    from nestlib.records import open_store

    record = run_bench(
        name, open_store(), form=form, device=device, precision=precision, committed=commit_record
    )
    if form == "smoke":
        typer.echo(f"{name} ran to its end; a smoke run times too little to show a result")
    elif name == "speed":
        typer.echo(str(ratios_table(record, [])))
        for table in rivals_tables(record, []):
            typer.echo(str(table))
        typer.echo(str(targets_table(record, [])))
    elif name == "figure7":
        typer.echo(str(generators_table(record, [])))
    elif name == "small":
        typer.echo(str(families_table(find_families(open_store()), record)))
    else:
        typer.echo(str(cost_table(name, record)))


def profile(
    name: Annotated[str, typer.Argument(help=", ".join(PROFILES))],
    device: Device = "auto",
    precision: Precision = "fp32",
    commit_record: CommitRecord = False,
) -> None:
    """Measure what NesT's time is spent on, or how it grows.

    The result is written as a record.
    """
    from nestbook.profiles.registry import run_profile
    from nestbook.report.profiles import show_profile
    from nestlib.records import open_store

    record = run_profile(
        name, open_store(), device=device, precision=precision, committed=commit_record
    )
    typer.echo(str(show_profile(name, [record])))
