"""Buttons that lead to the repository, to Binder and to Colab, where _config.yml names one."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.docutils import SphinxDirective


class RepositoryLink(SphinxDirective):
    """A line that leads to this project's code; nothing where no repository is named."""

    def run(self) -> list[nodes.Node]:
        url = self.config.html_theme_options.get("repository_url")
        link = nodes.reference("", "The code of this book and of its library", refuri=url)
        return [nodes.paragraph("", "", link)] if url else []


def switch_buttons(app: Sphinx, config: Config) -> None:
    options = config.html_theme_options
    named = bool(options.get("repository_url"))
    options |= {"use_repository_button": named, "use_issues_button": named}
    if not named:
        options["launch_buttons"] = {}


def setup(app: Sphinx) -> dict:
    app.add_directive("repository-link", RepositoryLink)
    app.connect("config-inited", switch_buttons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
