"""The explorer as a live widget: choose or upload an image, choose a class, see the answer.

Whatever it is given, it answers with an image or with words, and stays usable.
"""

import html

import ipywidgets as widgets
from IPython.display import display

from nestbook.explorer.answer import LIKELIEST
from nestbook.explorer.static import Explorer, Picture
from nestbook.explorer.subject import Subject
from nestbook.explorer.uploads import fit_to_view, read_upload
from nestlib.data.opening import KINDS

SUFFIXES = ".png,.jpg,.jpeg,.webp,.gif,.bmp,.tif,.tiff"
_WIDE = widgets.Layout(width="100%", max_width="36rem")
_LABEL = {"description_width": "4.5rem"}


class LiveExplorer(widgets.VBox):
    """A subject's pictures and classes to choose from, an upload, the explorer of the choice.

    shown: the Explorer that stands in the output; None before the first.
    """

    shown: Explorer | None = None

    def __init__(self, subject: Subject):
        self.subject = subject
        self.pictures = list(subject.pictures)
        self.picture = widgets.Dropdown(
            options=self._options(), description="Image", layout=_WIDE, style=_LABEL
        )
        self.upload = widgets.FileUpload(accept=SUFFIXES, multiple=False, description="Your own")
        self.asked = _class_widget(subject)
        self.message = widgets.HTML()
        self.output = widgets.Output()
        size = subject.view.image_size
        hint = widgets.HTML(
            f"{KINDS}, up to 10 MB. The middle square is resized to {size} x {size} pixels."
        )
        own = widgets.HBox([self.upload, hint], layout=widgets.Layout(flex_flow="row wrap"))
        super().__init__([self.picture, own, self.asked, self.message, self.output])
        self.picture.observe(self._show, "value")
        self.asked.observe(self._show, "value")
        self.upload.observe(self._receive, "value")
        self._show()

    def _options(self) -> list[tuple[str, int]]:
        return [(picture.caption, number) for number, picture in enumerate(self.pictures)]

    def _receive(self, _change: object = None) -> None:
        """A file has come: it joins the pictures and is shown, or a message says why not."""
        if not self.upload.value:
            return
        file = self.upload.value[0]
        self.upload.value = ()  # so that the same file can be chosen again
        try:
            pixels, said = fit_to_view(
                read_upload(bytes(file.content), file.name), self.subject.view
            )
        except Exception as error:  # a stranger's bytes; the app must outlive them
            self._say(error)
            return
        self.pictures.append(Picture(f"Your own: {file.name}", pixels, said))
        self.picture.unobserve(self._show, "value")  # new options choose, and would show, the first
        self.picture.options = self._options()
        self.picture.value = len(self.pictures) - 1
        self.picture.observe(self._show, "value")
        self._show()

    def _show(self, _change: object = None) -> None:
        if self.picture.value is None:
            self.message.value = "Choose an image of your own."
            return
        picture = self.pictures[self.picture.value]
        self.message.value = "Computing ..."
        try:
            exhibit = self.subject.explore(picture, self.subject.find_class(self.asked.value))
        except Exception as error:  # likewise: what stands below stays
            self._say(error)
            return
        self.shown = Explorer([exhibit], self.subject.class_names, self.subject.title, "live")
        self.output.clear_output(wait=True)
        with self.output:
            display(self.shown)
        self.message.value = f'<span role="status">Shown: {html.escape(picture.caption)}.</span>'

    def _say(self, error: Exception) -> None:
        text = str(error) or type(error).__name__
        self.message.value = alert(f"{text[:1].upper()}{text[1:]}.")


def alert(text: str) -> str:
    """What went wrong and what to do, as HTML."""
    style = "border-left:4px solid #D55E00;padding:0.5em 1em"
    return f'<p role="alert" style="{style}">{html.escape(text)}</p>'


def _class_widget(subject: Subject) -> widgets.Dropdown | widgets.Combobox:
    """A small model's classes in a list, a large one's by typing; "" is the likeliest."""
    if len(subject.class_names) <= LIKELIEST:
        options = [("the likeliest", ""), *((name, name) for name in subject.class_names)]
        return widgets.Dropdown(options=options, description="Class", layout=_WIDE, style=_LABEL)
    return widgets.Combobox(
        options=subject.class_names, description="Class", continuous_update=False, layout=_WIDE,
        style=_LABEL, placeholder="the likeliest; or type a class or its number",
    )  # fmt: skip
