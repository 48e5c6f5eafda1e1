"""Commands that make and check the shards of a data set."""

from pathlib import Path
from typing import Annotated

import typer

from nestlib.arguments import MAX_PROCESSES


def _folder(text: str) -> Path:
    if "://" in text:
        raise typer.BadParameter(
            f"{text} is not a folder; make the shards in a local folder and copy them there"
        )
    return Path(text)


def shard(
    dataset: Annotated[
        str, typer.Argument(help="imagenet (or any tree of class folders), or tiny_imagenet")
    ],
    source: Annotated[
        Path,
        typer.Option(
            help="folder of {train,val}/<class>/<image>, or of the official tars",
            parser=_folder, metavar="FOLDER",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="folder for the shards", parser=_folder, metavar="FOLDER")
    ],
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
    place: Annotated[str, typer.Argument(help="folder or URL of the shards")],
) -> None:
    """Compare every shard with its checksum."""
    from nestlib.data.shard_maker import verify_shards

    faults = verify_shards(place)
    for fault in faults:
        typer.echo(fault)
    if faults:
        raise typer.Exit(1)
    typer.echo(f"all shards of {place} match their checksums")
