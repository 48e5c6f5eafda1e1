"""The commands that README and pages print, as a reader would type them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROGRAMS = ("papermill", "nest", "make", "torchrun", "python", "NESTLIB_DATA=")
_START = re.compile(rf"(?:{'|'.join(PROGRAMS)})\b")


def printed_commands() -> dict[str, str]:
    """{command: the file that prints it}, each once; comments are cut off, broken lines joined."""
    found: dict[str, str] = {}
    files = [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))]
    for path in [*files, *sorted((ROOT / "experiments").glob("*.py"))]:
        for line in _lines_of_code(path):
            if _START.match(line):
                found.setdefault(re.sub(r"\s{2,}#.*", "", line).strip(), path.name)
    return found


def _lines_of_code(path: Path) -> list[str]:
    """Indented or fenced lines of Markdown, in a notebook's twin those of its text cells."""
    text = path.read_text()
    if path.suffix == ".py":
        cells = re.split(r"^# %%", text, flags=re.MULTILINE)
        shown = [re.sub(r"^# ?", "", cell, flags=re.MULTILINE) for cell in cells if
                 cell.startswith(" [markdown]")]  # fmt: skip
        text = "\n".join(shown)
    text = re.sub(r"\\\n\s*", "", text)
    fenced = re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^ {4}(\S.*)$", text, flags=re.MULTILINE)
    return [*indented, *(line.strip() for block in fenced for line in block.splitlines())]
