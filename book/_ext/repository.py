"""Buttons that lead to the repository, to Binder and to Colab, where _config.yml names one."""

from sphinx.application import Sphinx
from sphinx.config import Config


def switch_buttons(app: Sphinx, config: Config) -> None:
    options = config.html_theme_options
    named = bool(options.get("repository_url"))
    options |= {"use_repository_button": named, "use_issues_button": named}
    if not named:
        options["launch_buttons"] = {}


def setup(app: Sphinx) -> dict:
    app.connect("config-inited", switch_buttons)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
