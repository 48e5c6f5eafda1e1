"""The reader's order: a page opens with its figure, and how to run it folds open at its end.

A notebook has to set up before it shows something. In the book its cells with the tags `parameters`
and `setup` move into the section "Run this page", which folds, and the code of a figure stands
below the figure. An output that folds is called "Figures and tables", not code.
"""

from docutils import nodes
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

RESULTS = "Figures and tables", "Hide figures and tables"
TITLE, SUMMARY = "Run this page", "Commands, parameters and code"
SET_UP = {"tag_parameters", "tag_setup"}
logger = logging.getLogger(__name__)


class PutPointFirst(SphinxPostTransform):
    default_priority = 250  # when myst-nb has chosen the outputs and folded the code
    formats = ("html",)

    def run(self, **_) -> None:
        cells = [
            node for node in self.document.findall(nodes.container)
            if node.get("nb_element") == "cell_code"
        ]  # fmt: skip
        for cell in cells:
            if cell.get("hide_mode") in ("input", "input+output"):
                cell.children.reverse()
        for node in self.document.findall(HideCodeCellNode):
            if "below-input" in node["classes"]:  # an output that folds, not its code
                node["prompt_show"], node["prompt_hide"] = RESULTS
        sections = [s for s in self.document.findall(nodes.section) if title_of(s) == TITLE]
        moved = [cell for cell in cells if SET_UP & set(cell["classes"])]
        if moved and len(sections) != 1:
            logger.warning(
                "%d sections are called %r: a page with cells of tag setup needs one",
                len(sections), TITLE, location=moved[0],
            )  # fmt: skip
        elif sections:
            fold(sections[0], moved)


def title_of(section: nodes.section) -> str:
    title = section.next_node(nodes.title)
    return title.astext() if title else ""


def fold(section: nodes.section, cells: list[nodes.container]) -> None:
    """All of the section but its title, then the cells, in a box that opens."""
    title, *content = section.children
    for cell in cells:
        cell.parent.remove(cell)
    content = [node for node in content if node not in cells]
    opening = f'<details class="run-page"><summary>{SUMMARY}</summary>'
    raw = (nodes.raw("", text, format="html") for text in (opening, "</details>"))
    section.children = []
    section.extend([title, next(raw), *content, *cells, next(raw)])


def setup(app: Sphinx) -> dict:
    app.add_post_transform(PutPointFirst)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
