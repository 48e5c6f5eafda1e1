"""Look into a NesT: prepared images for a page, or one's own in a live notebook."""

from typing import Any

from nestbook.explorer.subject import Subject, load_subject, show_prepared

__all__ = ["Subject", "load_subject", "open_explorer", "show_prepared"]


def open_explorer(subject: Subject) -> Any:
    """The subject's pictures live: a widget that also takes pictures of one's own.

    Needs a kernel.

    Raises:
        ImportError: no ipywidgets.
    """
    try:
        from nestbook.explorer.live import LiveExplorer
    except ImportError as error:
        raise ImportError(
            f"the live explorer needs ipywidgets ({error}); `pip install ipywidgets`"
        ) from error
    return LiveExplorer(subject)
