"""The scripts of findings/: their form. They are run by hand, as they install other packages."""

import re
import runpy
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
read_head = runpy.run_path(ROOT / "book" / "_ext" / "findings.py")["read_head"]
SCRIPTS = sorted((ROOT / "findings").glob("*.sh"))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_finding_has_its_line_and_its_points(path):
    summary, points = read_head(path)
    assert summary.endswith(".") and len(summary) <= 110
    assert all(len(text.split()) >= 2 for text in points.values())


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_finding_runs_other_packages_by_version_and_not_this_project(path):
    text = path.read_text()
    assert subprocess.run(["bash", "-n", path]).returncode == 0
    packages = [
        word
        for line in re.findall(r"pip\" install(?:[^\n\\]|\\\n)*", text)
        for word in line.replace("\\\n", " ").split()[2:]
        if not word.startswith("-")
    ]
    assert packages and all("==" in package for package in packages), packages
    assert not re.search(r"\b(nestlib|nestbook)\b", text)
    assert re.search(r"\bassert\b|exit 1", text), "it cannot fail"
    assert "trap 'rm -rf" in text


@pytest.mark.slow
def test_the_page_lists_every_finding_with_its_script(book_html):
    page = (book_html / "book" / "findings.html").read_text()
    lent = {path.name for path in (book_html / "_downloads").rglob("*.sh")}
    assert lent == {path.name for path in SCRIPTS}
    assert page.count("<summary") >= len(SCRIPTS)
    for path in SCRIPTS:
        summary, _ = read_head(path)
        assert summary.split("'")[-1][:40] in page, path  # quotes become typographic ones
        assert path.name in page
