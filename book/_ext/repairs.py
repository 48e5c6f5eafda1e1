"""What the theme's parts and autodoc leave wrong, put right when a page is written."""

import inspect
from typing import get_type_hints

from sphinx.application import Sphinx
from sphinx.util.inspect import stringify_signature


def repair(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    # jupyter-book always loads Thebe, whose script declares a constant twice and names a network.
    context["script_files"] = [s for s in context["script_files"] if "thebe" not in described(s)]
    # The list of references says role="list", and browsers know no list item in this old role.
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def described(script) -> str:
    return f"{script.filename} {script.attributes.get('body', '')}".lower()


def sign(app: Sphinx, what: str, name: str, obj, options, signature: str, returns: str):
    """What a class takes is what its __init__ takes, whatever a mixin's __new__ says. Ranges of
    its arguments are left out: the docstring says them in words."""
    if what == "class" and signature and ("(*args" in signature or "Annotated" in signature):
        _, *others = inspect.signature(obj.__init__).parameters.values()
        hints = get_type_hints(obj.__init__)
        plain = [other.replace(annotation=hints[other.name]) for other in others]
        return stringify_signature(inspect.Signature(plain), unqualified_typehints=True), returns
    return None


def setup(app: Sphinx) -> dict:
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-signature", sign)
    app.connect("html-page-context", repair, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
