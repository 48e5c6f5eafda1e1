"""Find the project's folder from any working directory, and know when pages are published.

Outside of the project an installed nestlib still has what came with it: committed weights and their
records.
"""

import os
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

PROJECT = "NESTLIB_PROJECT"  # its folder, for a process that works in no project's
PUBLISH = "NESTLIB_PUBLISH"  # `make notebooks` sets it to 1 in the environment of its kernels

_PACKAGE = Path(__file__).resolve().parent
SHIPPED = _PACKAGE / "committed"  # of a wheel; setup.py makes it


def is_publishing() -> bool:
    """Whether `make notebooks` runs this process; then only committed records count."""
    return bool(os.environ.get(PUBLISH))


def find_project_root(start: Path | None = None) -> Path:
    """The folder that holds experiments/ and _config.yml.

    Looked for upwards of `start` (default: the working folder); then the environment variable
    NESTLIB_PROJECT may name it. `start` itself where there is neither.

    Raises:
        FileNotFoundError: NESTLIB_PROJECT is asked, and names another folder, or none.
    """
    here = (start or Path.cwd()).resolve()
    found = next(filter(is_project, (here, *here.parents)), None)
    named = os.environ.get(PROJECT)
    if found is None and named:
        found = Path(named)
        if not is_project(found):
            raise FileNotFoundError(
                f"the environment variable {PROJECT} names {named!r:.300}, which is no checkout of "
                "nestlib's repository: that holds experiments/ and _config.yml; correct it or "
                "unset it"
            )
    return found or here


def is_project(folder: Path) -> bool:
    # os.path's tests answer, where Path's raise, that no folder has a name of 300 letters.
    return os.path.isdir(folder / "experiments") and os.path.isfile(folder / "_config.yml")


def require_project(what: str) -> Path:
    """The project's folder.

    Args:
        what: needs it, such as "--commit-record".

    Raises:
        FileNotFoundError: the working folder is in no project, and NESTLIB_PROJECT names none.
    """
    root = find_project_root()
    if not is_project(root):
        raise FileNotFoundError(
            f"{what} needs a checkout of nestlib's repository, and {root} is in none; clone "
            f"{repository_url() or 'the repository'} and run this inside it, or name its folder in "
            f"the environment variable {PROJECT}"
        )
    return root


def find_committed(start: Path | None = None) -> tuple[Path, bool]:
    """The folder of committed records and weights, and whether it came with an installed nestlib.

    It is experiments/ of the project; outside of every project nestlib/committed of a wheel.
    """
    root = find_project_root(start)
    if SHIPPED.is_dir() and not is_project(root):
        return SHIPPED, True
    return root / "experiments", False


def find_clone() -> Path | None:
    """The folder of the project that this very nestlib is imported from; None of a wheel."""
    return _PACKAGE.parent if is_project(_PACKAGE.parent) else None


def data_root() -> Path:
    """The folder that holds one folder per data set: $NESTLIB_DATA, else data/ of the project."""
    return Path(os.environ.get("NESTLIB_DATA") or find_project_root() / "data")


def repository_url() -> str:
    """The repository's address, as this nestlib was installed with; "" where none is named."""
    try:
        urls = metadata("nestlib").get_all("Project-URL") or []
    except PackageNotFoundError:  # nestlib from a checkout, uninstalled
        return ""
    named = dict(url.split(", ", 1) for url in urls)
    return named.get("Repository", "").rstrip("/")
