"""Formulas as MathML, which every browser draws itself: no script, no font and no network needed.

Stands in for Sphinx's MathJax, whose script comes from a content network.
"""

from docutils import nodes
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
# The annotation keeps the formula as written, for those who copy it.
converter = LatexToMathML(annotation=True, fancy_error=False)


def visit(translator, node: nodes.Element) -> None:
    block = isinstance(node, nodes.math_block)
    try:
        markup = converter.convert_with_local_state(node.astext(), displaystyle=block)
    except LatexError as error:  # under -W this stops the build
        logger.warning("no MathML of %r: %s", node.astext(), error, location=node)
        raise nodes.SkipNode from error
    translator.body.append(f'<div class="math">{markup}</div>' if block else markup)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict:
    app.add_html_math_renderer("mathml", (visit, None), (visit, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
