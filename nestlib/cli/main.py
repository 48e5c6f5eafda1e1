"""`nest`: train, benchmark and evaluate NesT from the command line.

nest recipes cifar10
nest train cifar10/nest_tiny --data-dir data/cifar10 --max-time 9m
torchrun --nproc-per-node 2 -m nestlib.cli train cifar10/nest_tiny

Each command imports what it runs, so that help and lists do not wait for torch.
"""

import re
import sys
from typing import Annotated

import typer

from nestlib import __version__
from nestlib.cli.runs import recipes, submit, train
from nestlib.cli.shards import check_shards, shard
from nestlib.cli.weights import convert, export, push
from nestlib.extensions import extended

# Words of the library's messages that a command line has other words for, beside its own options'.
OPTIONS = {"data_dir=...": "--source"}  # of `nest shard`

app = typer.Typer(help=__doc__.splitlines()[0], no_args_is_help=True, add_completion=False,
                  rich_markup_mode=None, pretty_exceptions_enable=False)  # fmt: skip


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"nestlib {__version__}")
        raise typer.Exit()


@app.callback()
def nest(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_show_version, is_eager=True, help="show the version and exit"
        ),
    ] = False,
) -> None:
    """Train, benchmark and evaluate NesT."""


for _command in (recipes, train, shard, check_shards, export, convert, push):
    app.command()(_command)
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(submit)
for _name, _command in extended({}, "commands").items():
    app.command(_name)(_command)


def main() -> None:
    """Run the command; an error that a user can fix is one line, not a traceback."""
    try:
        app()
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_for_users(error):
            raise
        sys.exit(f"nest: {in_options(str(error), sys.argv[1:2])}")


def _is_for_users(error: RuntimeError) -> bool:
    """Whether an error is one of ours, whose message says what to do, and not a bug."""
    return type(error).__module__.startswith(("nestlib.", "nestbook."))


def in_options(message: str, names: list[str]) -> str:
    """Put a library's message in the words of a command: --data-dir for data_dir=..."""
    words = dict(OPTIONS)
    commands = typer.main.get_command(app).commands
    for parameter in (p for name in names if name in commands for p in commands[name].params):
        option = next((opt for opt in parameter.opts if opt.startswith("--")), "")
        words[f"{parameter.name}=..."] = option
        if "_" in parameter.name:
            words[parameter.name] = option
    for word in sorted(filter(words.get, words), key=len, reverse=True):
        message = re.sub(rf"(?<![\w.\-]){re.escape(word)}(?![\w(])", words[word], message)
    return message
