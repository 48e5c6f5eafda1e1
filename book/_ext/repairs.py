"""What the theme's parts leave wrong on every page, put right when the page is written."""

from sphinx.application import Sphinx


def repair(app: Sphinx, pagename: str, templatename: str, context: dict, doctree) -> None:
    # jupyter-book always loads Thebe, whose script declares a constant twice and names a network.
    context["script_files"] = [s for s in context["script_files"] if "thebe" not in described(s)]
    # The list of references says role="list", and browsers know no list item in this old role.
    if "body" in context:
        context["body"] = context["body"].replace('role="doc-biblioentry"', 'role="listitem"')


def described(script) -> str:
    return f"{script.filename} {script.attributes.get('body', '')}".lower()


def setup(app: Sphinx) -> dict:
    app.connect("html-page-context", repair, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
