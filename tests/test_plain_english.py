"""Words that no page, help text or docstring of this project uses, each with what to write."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nestlib.cli.main import app

ROOT = Path(__file__).parents[1]

MANY = "class|step|batch|epoch|image|run|second"
EACH = (
    "line|row|bar|rank|image|model|run|record|CPU|GPU|core|class|seed|recipe|page|figure|data set"
)

# (what is searched for, an example that it finds, what to write instead)
RULES = [
    (r"\b[Nn]ought\b", "sums to nought", "sums to zero"),
    (rf"\b(?:images|samples|steps) an? (?:{MANY})\b", "images a second", "images per second"),
    (
        r"\b(?:seconds|milliseconds|ms|minutes|hours) an? (?:image|step|batch|run|epoch)\b",
        "seconds a run",
        "seconds per run",
    ),
    (rf"\bone an? (?:{EACH})\b", "every recipe, one a line", "every recipe, one per line"),
    (
        rf"\b[Aa] (?:row|line|job|seed|sign|key|folder|file|table|panel) an? (?:{EACH}|budget)\b",
        "a row a bar",
        "one row per bar",
    ),
    (
        r"\b(?:goes|go|went|going) on\s+(?:where|from (?:its|the|there))\b",
        "it goes on where it stopped",
        "it resumes",
    ),
    (r"\bnone picked\b", "none picked", "nothing is selected"),
    (
        r"\ba (?:image|error|epoch|accuracy|attention|average|example|index|input|output|hour"
        r"|evaluation|experiment|augmentation|option|axis)\b",
        "a image",
        "an image",
    ),
    (r"\b(?:un)?learnt\b", "it has learnt", "it has learned"),
    (r"\b[Aa]new\b", "it starts anew", "it starts again"),
    (r"\bfor want of\b", "killed for want of memory", "killed because memory ran out"),
    (
        r"\b(?:has|have)\s+none\b",
        "a run that failed has none",
        "a run that failed does not have a score",
    ),
    (
        r"\bthat (?:it|they|one) (?:has|have) not\b",
        "a class that it has not",
        "a class that it does not have",
    ),
    (r"\blacks\b", "what the record lacks", "what the record does not have"),
    (r"\b[Pp]upils?\b", "pupils of distillation", "students of distillation"),
    (r"\bWhat has no\b", "What has no record says so.", "A bar without a record is empty."),
    (
        r"(?<![Tt]here )\b(?:is|are)\s+no (?:rows?|results?|parts?|pictures?|times?|lists?)\b",
        "it is no result of the paper",
        "it is not a result of the paper",
    ),
    (r"[Tt]he same \w+ in figures\b", "The same bars in figures", "Numbers"),
    (r"\bhanded\s+(?:round|out)\b", "as it is handed round", "as it is distributed"),
    (r"\bif need be\b", "fetched if need be", "fetched if necessary"),
    (r"\bmend(?:s|ed)?\b", "an error that a user can mend", "an error that a user can fix"),
    (r"\bNone of (?:none|no)\b", "None of none", "None if there is none"),
]


def find_faults(text: str) -> list[str]:
    """What the rules find in a text, each with an example of what to write instead."""
    return [
        f"{found.group()!r}; {wrong!r} is better written as {right!r}"
        for pattern, wrong, right in RULES
        for found in re.finditer(pattern, text)
    ]


def read_code(path: Path) -> str:
    """First paragraphs of a module's docstrings, and its other texts: messages, captions, labels.

    A value within an f-string is read as "{}".
    """
    tree = ast.parse(path.read_text())
    texts, read = [], set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            node
        ):
            texts.append(ast.get_docstring(node).split("\n\n")[0])
            read.add(node.body[0].value)
        elif isinstance(node, ast.JoinedStr):
            parts = [v.value if isinstance(v, ast.Constant) else "{}" for v in node.values]
            texts.append("".join(parts))
            read |= set(node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in read:
            texts.append(node.value)
    return "\n".join(texts)


def render_helps() -> Iterator[tuple[str, str]]:
    """The help of `nest` and of each command, as a terminal of 80 columns shows it."""
    names = [command.name or command.callback.__name__ for command in app.registered_commands]
    for words in ([], *([name.replace("_", "-")] for name in names)):
        shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"})
        assert shown.exit_code == 0, shown.output
        yield " ".join(["nest", *words, "--help"]), shown.output


def read_pages(*patterns: str) -> Iterator[tuple[str, str]]:
    for path in sorted(path for pattern in patterns for path in ROOT.glob(pattern)):
        yield str(path.relative_to(ROOT)), path.read_text()


def read_modules(folder: str) -> Iterator[tuple[str, str]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        yield str(path.relative_to(ROOT)), read_code(path)


GROUPS = {
    "README": lambda: read_pages("README.md"),
    "book": lambda: read_pages("book/*.md"),
    "notebooks": lambda: read_pages("experiments/*.py"),
    "figures": lambda: read_pages("figures/*.md"),
    "help texts": render_helps,
    "nestlib": lambda: read_modules("nestlib"),
    "nestbook": lambda: read_modules("experiments/nestbook"),
}


@pytest.mark.parametrize("group", GROUPS)
def test_texts_use_common_words(group):
    texts = dict(GROUPS[group]())
    assert texts, group
    faults = [f"{place}: {fault}" for place, text in texts.items() for fault in find_faults(text)]
    assert not faults, "\n".join(["", *faults])


@pytest.mark.parametrize(("pattern", "wrong", "right"), RULES)
def test_a_rule_finds_its_example_and_not_what_it_asks_for(pattern, wrong, right):
    assert re.search(pattern, wrong) and not find_faults(right)


def test_texts_of_code_are_first_paragraphs_and_messages(tmp_path):
    path = tmp_path / "code.py"
    path.write_text('"""One.\n\nTwo."""\nx = f"three {y} four"\nz = "five"  # six\n')
    assert read_code(path) == "One.\nthree {} four\nfive"


def test_the_list_of_commands_is_not_cut_at_80_columns():
    _, shown = next(render_helps())
    _, commands = shown.split("Commands:\n")
    assert "explain" in commands and "..." not in commands, commands
