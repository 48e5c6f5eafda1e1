"""The library's docstrings as they are meant, where napoleon reads something else in them.

A line `name: what it is` without indentation is an item of a list, and "Returns:" holds no type.
"""

import inspect
import re

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature

ITEM = re.compile(r"(?P<names>[a-z_]\w*(?:, [a-z_]\w*)*)(?P<kind> \([^)]*\)[^:]*)?: (?P<text>\S.*)")


def list_items(lines: list[str]) -> list[str]:
    """Lines of a docstring, its items as a bulleted list with names as code."""
    made, inside = [], False
    for line in lines:
        found = ITEM.fullmatch(line)
        if found:
            if not inside and made and made[-1]:
                made.append("")
            names = ", ".join(f"``{name}``" for name in found["names"].split(", "))
            made.append(f"- {names}{found['kind'] or ''}: {found['text']}")
            inside = True
        elif inside and line.strip():
            made.append(f"  {line.strip()}")
        else:
            inside = False
            made.append(line)
    return made


def mark_returns(lines: list[str]) -> list[str]:
    """The body of "Returns:" as a field, which napoleon leaves alone."""
    made, rest = [], iter(lines)
    for line in rest:
        if line != "Returns:":
            made.append(line)
            continue
        first, *more = (inner.strip() for inner in iter(lambda: next(rest, ""), ""))
        made += [f":returns: {first}", *(f"    {inner}" for inner in more), ""]
    return made


def process(app: Sphinx, what: str, name: str, obj, options, lines: list[str]) -> None:
    lines[:] = mark_returns(list_items(lines))


def sign(app: Sphinx, what: str, name: str, obj, options, signature: str, returns: str):
    """What a class takes is what its __init__ takes, whatever a mixin's __new__ says."""
    if what == "class" and signature and signature.startswith("(*args"):
        _, *others = inspect.signature(obj.__init__).parameters.values()
        return stringify_signature(inspect.Signature(others), unqualified_typehints=True), returns
    return None


def setup(app: Sphinx) -> dict:
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", process, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", sign)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
