"""Commands that make and check the shards of a data set."""

from pathlib import Path
from typing import Annotated

import typer

from nestlib.arguments import MAX_PROCESSES
from nestlib.cli.options import path_option, path_or_url


def shard(
    dataset: Annotated[
        str, typer.Argument(help="imagenet (or any tree of class folders), or tiny_imagenet")
    ],
    source: Annotated[
        Path, path_option("folder of {train,val}/<class>/<image>, or of the official tars")
    ],
    out: Annotated[Path, path_option("folder for the shards; copy them to a server from there")],
    split: Annotated[str, typer.Option(help="train, test, or both")] = "both",
    shard_mb: Annotated[float, typer.Option(help="megabytes of images per shard")] = 128,
    processes: Annotated[
        int | None,
        typer.Option(min=1, max=MAX_PROCESSES, help="worker processes; default: one per CPU"),
    ] = None,
) -> None:  # fmt: skip
    """Make shards for training on many nodes.

    If the command is killed, the same command resumes.
    """
    from nestlib.data.shard_maker import make_shards

    splits = ("train", "test") if split == "both" else (split,)
    for path in make_shards(
        dataset, source, out, splits=splits, shard_mb=shard_mb, processes=processes
    ):
        typer.echo(f"wrote {path} and its shards; train with --data-dir {out}")


def check_shards(
    place: Annotated[Path, typer.Argument(help="folder or URL of the shards", parser=path_or_url)],
) -> None:
    """Compare every shard with its checksum."""
    from nestlib.data.shard_maker import verify_shards

    faults = verify_shards(place)
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise typer.Exit(1)
    typer.echo(f"all shards of {place} match their checksums")
