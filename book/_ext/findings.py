"""The directive `{findings}`: each script of findings/, its summary and the points of its head."""

import re
from pathlib import Path

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

POINTS = ("Expected", "Happens", "Hurt", "Source")
HEAD = re.compile(r"#!.*\n((?:#.*\n)+)")
ADDRESS = re.compile(r"https://[^\s,;]+[^\s,;.]")


def read_head(path: Path) -> tuple[str, dict[str, str]]:
    """The summary of a script, which is the first line of its head comment, and the head's points.

    Raises:
        ValueError: the head has other points than POINTS, or they stand in another order.
    """
    summary, *lines = [line[2:] for line in HEAD.match(path.read_text())[1].splitlines()]
    points = {}
    for line in lines:
        name, colon, text = line.partition(": ")
        if colon and name in POINTS:
            points[name] = text
        else:
            points[[*points][-1]] += " " + line.strip()
    if (*points,) != POINTS:
        raise ValueError(
            f"{path}: its head has {', '.join(points)}; needed are {', '.join(POINTS)}"
        )
    return summary, points


class Findings(SphinxDirective):
    """One line per script; its points fold open."""

    def run(self) -> list[nodes.Node]:
        folder = Path(self.env.srcdir, "findings")
        self.env.note_dependency(str(folder))
        return [node for path in sorted(folder.glob("*.sh")) for node in self.entry(path)]

    def entry(self, path: Path) -> list[nodes.Node]:
        self.env.note_dependency(str(path))
        summary, points = read_head(path)
        points["Script"] = f"{{download}}`{path.name} </findings/{path.name}>`"
        fields = "\n".join(f":{name}: {text}" for name, text in points.items())
        fields = ADDRESS.sub(r"<\g<0>>", fields)  # a link
        return self.parse_text_to_nodes(f":::{{dropdown}} {summary}\n\n{fields}\n:::")


def setup(app) -> dict:
    app.add_directive("findings", Findings)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
