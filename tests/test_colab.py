"""One setting names the repository: buttons, and the cell that installs from it."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import colab
import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "experiments").glob("*.ipynb"))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
LOCAL_EXTENSIONS = CONFIG["sphinx"]["local_extensions"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_code_cell_installs_what_the_book_names(path):
    first = next(c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    assert first.source == colab.write_source(colab.read_url()), "run: python book/colab.py"
    assert first.metadata["tags"] == colab.TAGS


def test_the_cell_is_added_once_and_follows_the_setting(tmp_path):
    path = tmp_path / "new.ipynb"
    cells = [nbformat.v4.new_markdown_cell("# A page"), nbformat.v4.new_code_cell("1 + 1")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    config = tmp_path / "_config.yml"
    for url in ("https://example.org/a/b", "https://example.org/c/d"):
        config.write_text(f'repository: {{url: "{url}"}}')
        colab.add_cell(path, colab.write_source(colab.read_url(config)))
        kinds = [(cell.cell_type, cell.source) for cell in nbformat.read(path, as_version=4).cells]
        assert [kind for kind, _ in kinds] == ["markdown", "code", "code"]
        assert f'repository = "{url}"' in kinds[1][1]
        assert kinds[1][1] in path.with_suffix(".py").read_text()


@pytest.mark.parametrize("name", colab.NAMED)
def test_files_hold_the_address_of_the_setting(name):
    text, (anchor, line) = (ROOT / name).read_text(), colab.NAMED[name]
    assert f"{anchor}\n" in text
    assert text == colab.name_repository(text, anchor, line, colab.read_url()), (
        "run: python book/colab.py"
    )


@pytest.mark.parametrize("name", colab.NAMED)
def test_a_file_holds_one_address_and_loses_it_with_the_setting(name):
    text, (anchor, line) = (ROOT / name).read_text(), colab.NAMED[name]
    none = colab.name_repository(text, anchor, line, "")
    first = colab.name_repository(text, anchor, line, "https://example.org/a/b")
    second = colab.name_repository(first, anchor, line, "https://example.org/c/d")
    assert "example.org" not in none
    assert f"{anchor}\n{line.format(url='https://example.org/c/d')}\n" in second
    assert "a/b" not in second and second.count("example.org") == 1
    assert colab.name_repository(second, anchor, line, "") == none
    if name.endswith(".toml"):
        urls = tomllib.loads(second)["project"]["urls"]
        assert urls == {"Repository": "https://example.org/c/d"}
    if name.endswith(".cff"):
        assert yaml.safe_load(second)["repository-code"] == "https://example.org/c/d"


# The cell, run as Colab runs it


@pytest.fixture
def bare(tmp_path) -> Path:
    """The Python of a new environment: this one's packages, but no nestlib and no pip."""
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True
    )  # fmt: skip
    python = tmp_path / "venv" / "bin" / "python"
    # Its packages' folder; the .pth in this one's, which names nestlib, is not read there.
    (packages_of(python) / "others.pth").write_text(f"{packages_of(Path(sys.executable))}\n")
    return python


def packages_of(python: Path) -> Path:
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    run = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return Path(run.stdout.strip())


def put_in_stand_ins(python: Path, log: Path) -> None:
    """git and pip that do at once what the cell needs, and log that they were called.

    pip fails where a file `no-network` lies beside the log.
    """
    git = python.parent / "git"
    git.write_text(f'#!/bin/sh\necho git "$@" >> {log}\nmkdir -p "$3/experiments"\n')
    git.chmod(0o755)
    (packages_of(python) / "pip.py").write_text(
        f"import pathlib, sys\n"
        f"pathlib.Path({str(log)!r}).open('a').write(' '.join(['pip', *sys.argv[1:], '\\n']))\n"
        f"if pathlib.Path({str(log.parent / 'no-network')!r}).exists():\n"
        f"    sys.exit(1)\n"
        f"pathlib.Path(__file__).with_name('nestlib.py').write_text('')\n"
    )


def run_kernel(
    python: Path, content: Path, repository: str, *, in_colab: bool = True, times: int = 1
) -> tuple[str, str]:
    """Run the cell in a new process as often as asked, begun in `content` in place of /content.

    Returns:
        The folder it then works in ("" where the cell failed), and all that it printed.
    """
    content.mkdir(exist_ok=True)
    begin = "import sys\nsys.modules['google.colab'] = sys\n" if in_colab else ""
    cell = colab.write_source(repository).replace("/content", str(content)) + "\n"
    script = python.parent / "cell.ipy"
    script.write_text(begin + cell * times + "import os, nestlib\nprint('works in', os.getcwd())")
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    run = subprocess.run(
        [python, "-m", "IPython", "--no-banner", "--colors=NoColor", script], cwd=content,
        env=environment | {"PATH": f"{python.parent}:{os.environ['PATH']}"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return run.stdout.partition("works in ")[2].strip(), run.stdout + run.stderr


def test_the_cell_works_in_the_clone_at_every_run_and_installs_once(bare, tmp_path):
    log, content = tmp_path / "calls", tmp_path / "content"
    put_in_stand_ins(bare, log)
    there = str(content / "nest" / "experiments")
    calls = [
        f"git clone https://example.org/a/b {content}/nest --depth 1",
        f"pip install -q {content}/nest",
    ]
    for times in (2, 1):  # a first and a second run, then a restart, which begins in /content
        folder, said = run_kernel(bare, content, "https://example.org/a/b", times=times)
        assert folder == there, said
        assert [line.strip() for line in log.read_text().splitlines()] == calls


def test_the_cell_goes_through_after_an_install_that_failed(bare, tmp_path):
    log, content = tmp_path / "calls", tmp_path / "content"
    put_in_stand_ins(bare, log)
    (tmp_path / "no-network").touch()
    folder, said = run_kernel(bare, content, "https://example.org/a/b")
    assert not folder and "no nestlib here: clone its repository" in said
    (tmp_path / "no-network").unlink()
    folder, said = run_kernel(bare, content, "https://example.org/a/b")
    assert folder == str(content / "nest" / "experiments"), said
    assert [line.split()[0] for line in log.read_text().splitlines()] == ["git", "pip", "pip"]


@pytest.mark.parametrize(
    ("repository", "in_colab"), [("https://example.org/a/b", False), ("", True), ("", False)]
)
def test_elsewhere_the_cell_does_nothing(bare, tmp_path, repository, in_colab):
    """Also in a folder where a clone of the name `nest` lies, and says so without nestlib."""
    log, content = tmp_path / "calls", tmp_path / "content"
    put_in_stand_ins(bare, log)
    (content / "nest" / "experiments").mkdir(parents=True)
    folder, said = run_kernel(bare, content, repository, in_colab=in_colab)
    assert not folder and "no nestlib here: clone its repository" in said
    (packages_of(bare) / "nestlib.py").touch()
    folder, said = run_kernel(bare, content, repository, in_colab=in_colab)
    assert folder == str(content), said
    assert not log.exists()


@pytest.mark.slow
def test_the_cell_installs_this_project(tmp_path):
    """With the true git and pip; the other packages are there, as Colab has many."""
    venv, content = tmp_path / "venv", tmp_path / "content"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = venv / "bin" / "python"
    (packages_of(python) / "others.pth").write_text(f"{packages_of(Path(sys.executable))}\n")
    for times in (2, 1):
        folder, said = run_kernel(python, content, str(ROOT), times=times)
        assert folder == str(content / "nest" / "experiments"), said
    assert (packages_of(python) / "nestlib" / "__init__.py").is_file()
    assert (packages_of(python) / "nestbook" / "explorer" / "page").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("url", ["", "https://github.com/owner/name"])
def test_every_page_has_its_buttons_where_a_repository_is_named(tmp_path, url):
    config, toc = tmp_path / "_config.yml", tmp_path / "_toc.yml"
    settings = CONFIG | {"repository": CONFIG["repository"] | {"url": url}}
    extensions = {name: str(ROOT / folder) for name, folder in LOCAL_EXTENSIONS.items()}
    settings["sphinx"] = CONFIG["sphinx"] | {"local_extensions": extensions}
    config.write_text(yaml.safe_dump(settings))
    names = [path.stem for path in (NOTEBOOKS if url else NOTEBOOKS[:2])]
    pages = [{"file": f"experiments/{name}"} for name in names[1:]]
    toc.write_text(
        yaml.safe_dump({"format": "jb-book", "root": f"experiments/{names[0]}", "chapters": pages})
    )
    subprocess.run(
        [Path(sys.executable).parent / "jupyter-book", "build", ".", "--config", config,
         "--toc", toc, "--path-output", tmp_path],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    for name in names:
        page = (tmp_path / "_build" / "html" / "experiments" / f"{name}.html").read_text()
        notebook = f"experiments/{name}.ipynb"
        links = [
            f"https://colab.research.google.com/github/owner/name/blob/main/{notebook}",
            f"https://mybinder.org/v2/gh/owner/name/main?urlpath=lab/tree/{notebook}",
            'href="https://github.com/owner/name"',
        ]
        assert [link in page for link in links] == [bool(url)] * 3, name
        assert ("btn-launch" in page or "launch-buttons" in page) == bool(url), name
