"""Shards of a data set made and checked."""

from pathlib import Path
from typing import Annotated

import typer


def _folder(text: str) -> Path:
    if "://" in text:
        raise typer.BadParameter(f"{text} is not a folder; make shards in one, and copy them there")
    return Path(text)


def shard(
    dataset: Annotated[
        str, typer.Argument(help="imagenet (or any tree of class folders), or tiny_imagenet")
    ],
    source: Annotated[
        Path,
        typer.Option(
            help="holds {train,val}/<class>/<image>, or the official tars",
            parser=_folder, metavar="FOLDER",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="the shards go here", parser=_folder, metavar="FOLDER")
    ],
    split: Annotated[str, typer.Option(help="train, test, or both")] = "both",
    shard_mb: Annotated[float, typer.Option(help="megabytes of images in a shard")] = 128,
    processes: Annotated[int | None, typer.Option(help="default: one a CPU")] = None,
) -> None:  # fmt: skip
    """Make shards for training on many nodes; a killed call goes on where it stopped."""
    from nestlib.data.shard_maker import make_shards

    splits = ("train", "test") if split == "both" else (split,)
    for path in make_shards(
        dataset, source, out, splits=splits, shard_mb=shard_mb, processes=processes
    ):
        typer.echo(f"wrote {path} and its shards; train with --data-dir {out}")


def check_shards(
    place: Annotated[str, typer.Argument(help="a folder or the URL of shards")],
) -> None:
    """Compare every shard with its checksum."""
    from nestlib.data.shard_maker import verify_shards

    faults = verify_shards(place)
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise typer.Exit(1)
    typer.echo(f"every shard of {place} is what its index says")
