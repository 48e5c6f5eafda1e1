"""Find the project's folder from any working directory, and know when pages are published."""

import os
from pathlib import Path

PROJECT = "NESTLIB_PROJECT"  # its folder, for a process that works in no project's
PUBLISH = "NESTLIB_PUBLISH"  # `make notebooks` sets it to 1 in the environment of its kernels


def is_publishing() -> bool:
    """Whether `make notebooks` runs this process; then only committed records count."""
    return bool(os.environ.get(PUBLISH))


def find_project_root(start: Path | None = None) -> Path:
    """The folder that holds experiments/ and _config.yml.

    Looked for upwards of `start` (default: the working folder); then the environment variable
    NESTLIB_PROJECT may name it. `start` itself where there is neither.
    """
    here = (start or Path.cwd()).resolve()
    named = [Path(os.environ[PROJECT])] if os.environ.get(PROJECT) else []
    return next(filter(is_project, (here, *here.parents, *named)), here)


def is_project(folder: Path) -> bool:
    return (folder / "experiments").is_dir() and (folder / "_config.yml").is_file()


def data_root() -> Path:
    """The folder that holds one folder per data set: $NESTLIB_DATA, else data/ of the project."""
    return Path(os.environ.get("NESTLIB_DATA") or find_project_root() / "data")
