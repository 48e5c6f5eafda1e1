"""A box around each inline figure, in which a phone scrolls it; its data, as a table that opens.

A picture of nestbook.report says what each mark shows in a `<title>` beside it. A mouse finds
these; keyboards, touch screens and screen readers do not, so they are listed too.
"""

import html
import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

FIGURE = re.compile(r'<svg\b[^>]*\brole="img".*?</svg>', re.DOTALL)
TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)


def add_data(match: re.Match) -> str:
    rows = "".join(map(row_of, TITLE.findall(match[0])))
    figure = f'<div class="scrolls picture">{match[0]}</div>'
    if not rows:  # images, which their description alone can tell of
        return figure
    head = '<thead><tr><th scope="col">Mark</th><th scope="col">What it shows</th></tr></thead>'
    return (
        f'{figure}<details class="figure-data"><summary>Data of this figure</summary>'
        f'<div class="scrolls"><table class="table">{head}<tbody>{rows}</tbody></table></div>'
        "</details>"
    )


def row_of(title: str) -> str:
    """Of "name, how\\nvalue\\nsource", or of "name: value"; both are escaped already."""
    name, line, rest = html.unescape(title).strip().partition("\n")
    if not line:
        name, _, rest = name.rpartition(": ")
    rest = html.escape(rest).replace("\n", "<br>")
    return f'<tr><th scope="row">{html.escape(name)}</th><td>{rest}</td></tr>'


class AddFigureData(SphinxPostTransform):
    default_priority = 900  # when myst-nb has chosen what of each output is shown
    formats = ("html",)

    def run(self, **_) -> None:
        for raw in self.document.findall(nodes.raw):
            if "html" in raw["format"].split() and 'role="img"' in raw.rawsource + raw.astext():
                raw.children = [nodes.Text(FIGURE.sub(add_data, raw.astext()))]


def setup(app: Sphinx) -> dict:
    app.add_post_transform(AddFigureData)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
