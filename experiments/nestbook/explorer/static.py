"""Images to explore in a page, without a kernel: tree, path and class map of the class one picks.

The drawing is done by the scripts and the style sheet in page/; here their data is put together.
All of it is one piece of HTML that fetches nothing, so it works in the rendered book, in Jupyter,
and offline. Where scripts do not run, pictures and paths in words are left.
"""

import base64
import hashlib
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files

import numpy as np
from PIL import Image

from nestbook.evaluations.grounding import judge_paths
from nestbook.explorer.answer import Exploration
from nestbook.report.grounding import say_rate
from nestbook.report.tables import Sources, Table
from nestbook.report.tree import CHILDREN, COLORS
from nestlib.records import Record

Box = tuple[int, int, int, int]
STYLE = "explorer.css"
TITLE = "Where the paths end on the images above"
SCRIPTS = ("elements.js", "words.js", "picture.js", "tree.js", "explorer.js")


@dataclass(frozen=True)
class Picture:
    """What a model is shown.

    pixels: (H, W, 3) uint8, before they are normalised.
    said: how they became so, one clause per step.
    truth: where classes are known to lie, {class: (x0, y0, x1, y1)}, both ends inside.

    Raises:
        ValueError: pixels of another shape or type.
    """

    caption: str
    pixels: np.ndarray
    said: Sequence[str] = ()
    truth: Mapping[int, Box] = field(default_factory=dict)

    def __post_init__(self):
        pixels = self.pixels
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(
                f"pixels are {pixels.dtype} of shape {pixels.shape}, expected uint8 (H, W, 3)"
            )


@dataclass(frozen=True)
class Exhibit:
    """A picture and what a NesT says of it.

    start: the class shown first; the predicted one where not given.

    Raises:
        ValueError: a start that was not explored.
    """

    picture: Picture
    exploration: Exploration
    start: int | None = None

    def __post_init__(self):
        classes = self.exploration.traversal.classes.tolist()
        if self.start is not None and self.start not in classes:
            raise ValueError(f"class {self.start} was not explored; explored are {classes}")

    @property
    def predicted(self) -> int:
        return int(self.exploration.probabilities.argmax())

    def judge(self, row: int) -> tuple[bool, bool] | None:
        """Whether a row's path ends in the true quadrant, and in a leaf block that shows the class.

        As nestbook.evaluations.grounding judges; None of a class that is not known to be there.
        """
        walk = self.exploration.traversal
        label = int(walk.classes[row])
        if label not in self.picture.truth:
            return None
        height, width = self.picture.pixels.shape[:2]
        if height != width:
            raise ValueError(f"paths are judged on square images, this one is {height}x{width}")
        box, one = np.array([self.picture.truth[label]]), slice(row, row + 1)
        quadrant, leaf = judge_paths(walk.path[one], walk.boxes[one, -1], box, width)[0].tolist()
        return quadrant, leaf


@dataclass(frozen=True)
class Explorer:
    """Exhibits to choose from; shows itself in Jupyter and in the book.

    class_names: of every class of the model. model: what is explored, as its readers call it.
    stem: begins the fragment's id.

    Raises:
        ValueError: no exhibit.
    """

    exhibits: Sequence[Exhibit]
    class_names: Sequence[str]
    model: str
    stem: str = "explore"

    def __post_init__(self):
        if not self.exhibits:
            raise ValueError("nothing to explore; give one exhibit or more")

    def _repr_html_(self) -> str:
        # "<" would end the script element wherever "</script" stands in a name.
        data = json.dumps(self._data(), separators=(",", ":")).replace("<", "\\u003c")
        own_id = f"{self.stem}-{hashlib.sha256(data.encode()).hexdigest()[:8]}"
        return (
            f'<div class="nest-explorer mathjax_ignore" id="{html.escape(own_id)}" role="region" '
            f'aria-label="Explore {html.escape(self.model)}">\n'
            f"<style>\n{read_page(STYLE)}</style>\n"
            f'<div class="nx-plain">{self._plain()}</div>\n'
            f'<script type="application/json" class="nx-data">{data}</script>\n'
            f"<script>\n{page_script()}</script>\n</div>"
        )

    def __repr__(self) -> str:
        return f"<Explorer of {self.model}: {'; '.join(map(self._words, self.exhibits))}>"

    def _data(self) -> dict:
        images = [self._image_data(exhibit) for exhibit in self.exhibits]
        return {"colors": COLORS, "images": images}

    def _image_data(self, exhibit: Exhibit) -> dict:
        classes, best = exhibit.exploration.traversal.classes.tolist(), exhibit.predicted
        height, width = exhibit.picture.pixels.shape[:2]
        return {
            "caption": exhibit.picture.caption,
            "said": list(exhibit.picture.said),
            "width": width,
            "height": height,
            "planted": bool(exhibit.picture.truth),
            "predicted": self.class_names[best],
            "start": classes.index(best if exhibit.start is None else exhibit.start),
            "rows": [self._row_data(exhibit, row) for row in range(len(classes))],
        }

    def _row_data(self, exhibit: Exhibit, row: int) -> dict:
        seen, judged = exhibit.exploration, exhibit.judge(row)
        walk, label = seen.traversal, int(seen.traversal.classes[row])
        data = {
            "name": self.class_names[label],
            "logit": _short(walk.logits[row, label]),
            "share": _short(seen.probabilities[label]),
            "path": walk.path[row].tolist(),
            "values": _short(walk.activations[row].reshape(-1, 4)),
            "map": _short(seen.maps[row]),
        }
        if judged:
            data |= {"truth": list(map(int, exhibit.picture.truth[label])), "found": judged}
        return data

    def _plain(self) -> str:
        """What is left where scripts do not run: each image, and one class's path in words.

        The scripts take the images from here, so that each is in the page once.
        """
        items = "".join(
            f'<li><img src="{_data_uri(exhibit.picture.pixels)}" alt="" width="64"> '
            f"{html.escape(self._words(exhibit))}</li>"
            for exhibit in self.exhibits
        )
        hint = "To choose images and classes, run the notebook's cells or allow scripts here."
        return f"<p>{hint}</p><ul>{items}</ul>"

    def _words(self, exhibit: Exhibit) -> str:
        walk, best = exhibit.exploration.traversal, exhibit.predicted
        row = walk.classes.tolist().index(best)
        steps = ", then ".join(CHILDREN[child] for child in walk.path[row])
        share, caption = exhibit.exploration.probabilities[best], exhibit.picture.caption
        return f"{caption}: predicted {self.class_names[best]} ({share:.0%}), path {steps}"


def say_explore(explorer: Explorer, planted: Sequence[Record]) -> str:
    """How many paths end on their digit: of the exhibits, and of the record of the same models."""
    judged = [
        (len(exhibit.picture.truth) > 1, exhibit.judge(row)[1])
        for exhibit in explorer.exhibits
        for row, label in enumerate(exhibit.exploration.traversal.classes.tolist())
        if label in exhibit.picture.truth
    ]
    if not judged:
        return (
            "A path always ends somewhere. It is not known where the classes lie in these images, "
            "so nothing here says whether a path is right."
        )
    kinds = {
        "that share a canvas": [hit for several, hit in judged if several],
        "that stand alone": [hit for several, hit in judged if not several],
    }
    counts = (f"{sum(hits)} of {len(hits)} {kind}" for kind, hits in kinds.items() if hits)
    said = f"Of the digits above, GradCAT's path ends on {' and on '.join(counts)}."
    if planted and explorer.model in planted[0].summary["runs"]:
        four, small = (say_rate(planted[0], canvas, "leaf") for canvas in ("four", "small"))
        said += f" On many canvases it does so in {four} with four digits and {small} with one."
    return said


def exploration_table(explorer: Explorer) -> Table:
    """One row per image: what the model predicts, and how its paths for the planted classes do."""
    head = ("Image", "Predicted", "Quadrant found for", "Leaf block found for", "Neither for")
    rows = []
    for exhibit in explorer.exhibits:
        walk, best = exhibit.exploration.traversal, exhibit.predicted
        judged = {
            explorer.class_names[label]: exhibit.judge(row)
            for row, label in enumerate(walk.classes.tolist()) if label in exhibit.picture.truth
        }  # fmt: skip
        share = exhibit.exploration.probabilities[best]
        rows.append((
            exhibit.picture.caption,
            f"{explorer.class_names[best]} ({share:.0%})",
            *(_list(name for name, found in judged.items() if found[part]) for part in (0, 1)),
            _list(name for name, found in judged.items() if not any(found)),
        ))  # fmt: skip
    return Table(
        TITLE, head, rows,
        ["Quadrant found: the path's first step takes the quadrant of the digit's middle"],
        Sources(f"Computed in this notebook by {explorer.model}, with nestlib.explain's defaults"),
    )  # fmt: skip


def _list(names) -> str:
    return ", ".join(names) or "-"


def page_script(scripts: Sequence[str] = SCRIPTS) -> str:
    """The scripts as one, in a scope of its own: several fragments share a page."""
    return "\n".join(["(() => {", '"use strict";', *map(read_page, scripts), "})();", ""])


def read_page(name: str) -> str:
    """A script or style sheet of the folder page/."""
    return files("nestbook.explorer").joinpath("page", name).read_text(encoding="utf-8")


def _short(values):
    """Four significant digits: more than is drawn, a third of what fp32 takes as text."""
    if np.ndim(values):
        return [_short(value) for value in values]
    return float(f"{float(values):.4g}")


def _data_uri(pixels: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
