"""The book's pages say what the code does, cite what exists, and build without a warning."""

import html
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
import torch
import yaml

import nestlib
from nestlib.models.nest import LAYERS_PER_HIERARCHY, NEST_MODELS

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
PAGES = sorted(BOOK.glob("*.md"))
DIFFERENCES = (BOOK / "differences.md").read_text()
TIMES = "\N{MULTIPLICATION SIGN}"
LARGEST_PAGE = 2_000_000  # bytes
DEFINED = [int(number) for number in re.findall(r"^\(d(\d+)\)=$", DIFFERENCES, re.MULTILINE)]


def source_of(*folders: str, suffix: str = ".py") -> str:
    """All code in these folders of the repository, as one text."""
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob(f"*{suffix}"))]
    return "\n".join(path.read_text() for path in files)


def table_rows(page: str, header: str) -> list[list[str]]:
    """Cells of the Markdown table whose header begins so, code quotes removed."""
    lines = (BOOK / page).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(header))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows


def toc_files() -> list[str]:
    toc = yaml.safe_load((BOOK / "_toc.yml").read_text())
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *chapters]


# Differences


def test_differences_are_numbered_without_a_gap():
    assert DEFINED and sorted(set(DEFINED)) == DEFINED and DEFINED[-1] == len(DEFINED)
    headings = re.findall(r"^\(d(\d+)\)=\n## D(\d+): ", DIFFERENCES, re.MULTILINE)
    assert headings == [(str(n), str(n)) for n in DEFINED]  # each label stands at its own heading
    listed = re.findall(r"^\| \[D(\d+)\]\(#d(\d+)\) \|", DIFFERENCES, re.MULTILINE)
    assert listed == headings  # and each heading in the table at the top


def test_every_difference_says_its_four_points():
    sections = re.split(r"^## D\d+: ", DIFFERENCES, flags=re.MULTILINE)[1:]
    for number, section in zip(DEFINED, sections, strict=True):
        points = re.findall(r"^:(\w[\w ]+): ", section, re.MULTILINE)
        assert points == ["Paper", "Published code", "Here", "Evidence"], f"D{number}"


def test_what_to_read_first_has_its_numbers_from_the_differences_it_names():
    sections = re.split(r"^## D\d+: ", DIFFERENCES, flags=re.MULTILINE)
    listed = re.findall(r"^- (\[D.*)$", sections[0], re.MULTILINE)
    assert 5 <= len(listed) <= 10
    number = r"(?<![\w.])\d[\d.]*(?:e-?\d+)?"
    for line in listed:
        links = re.findall(r"\[D(\d+)\]\(#d(\d+)\)", line)
        assert links and all(name == target for name, target in links), line
        told = " ".join(sections[int(name)] for name, _ in links)
        words = re.sub(r"\[D\d+\]\(#d\d+\)|Table A?\d|(?<=\d)\.(?=\s|$)", "", line)
        found = {one.rstrip(".") for one in re.findall(number, words)}
        assert found <= {one.rstrip(".") for one in re.findall(number, told)}, line


@pytest.mark.parametrize("where", ["nestlib", "experiments", "book", "README.md"])
def test_cited_differences_exist(where):
    path = ROOT / where
    if path.is_dir():
        text = source_of(where, suffix=".md" if where == "book" else ".py")
    else:
        text = path.read_text() if path.is_file() else ""
    cited = {int(number) for number in re.findall(r"\bD([1-9]\d?)\b", text)}
    assert cited <= set(DEFINED), f"{where} cites what book/differences.md lacks"


def test_tests_named_as_evidence_exist():
    cited = {name for page in PAGES for name in re.findall(r"`(tests/[^`]+)`", page.read_text())}
    assert cited
    for name in cited:
        file, function = name.split("::")
        assert f"\ndef {function}(" in (ROOT / file).read_text(), name


# The model's page


def test_included_sources_exist():
    includes = r"```\{literalinclude\} (\S+)\n((?::.*\n)*)"
    found = [(page, *hit) for page in PAGES for hit in re.findall(includes, page.read_text())]
    assert found
    for page, target, options in found:
        source = (page.parent / target).resolve().read_text()  # a missing file raises here
        for marker in re.findall(r':(?:start-at|end-before): "?(.+?)"?$', options, re.MULTILINE):
            assert marker in source, f"{page.name}: {marker!r} is not in {target}"
        for name in re.findall(r":pyobject: (\S+)", options):
            for part in name.split("."):
                assert re.search(rf"^\s*(def|class) {part}\b", source, re.MULTILINE), name


def test_names_in_the_table_are_names_in_the_code():
    code = source_of("nestlib")
    rows = table_rows("model.md", "| Paper |")
    names = {name for row in rows for name in re.findall(r"[A-Za-z]\w+", row[1])}
    assert len(names) > 20
    for name in names - {"images", "level"}:
        assert re.search(rf"\b{name}", code), f"{name} is nowhere in nestlib"


def test_configurations_in_the_table_are_the_models():
    expected = []
    for name in NEST_MODELS:
        with torch.device("meta"):
            model = nestlib.create_model(name)
        layers = [hierarchy[0] for hierarchy in model.hierarchies]
        lists = (
            model.num_blocks,
            [model.block_size**2],
            [layer.norm1.normalized_shape[0] for layer in layers],
            [layer.attn.num_heads for layer in layers],
            [len(hierarchy) for hierarchy in model.hierarchies],
        )
        # As the words above the table say.
        assert (layers[0].attn.num_kv_heads > 1) == name.endswith("_imagenet"), name
        edges = str(model.img_size[0]), str(model.patch_size)
        # One number where all hierarchies have the same.
        cells = [", ".join(map(str, v if len(set(v)) > 1 else v[:1])) for v in lists]
        expected.append([name, *edges, *cells])
    assert table_rows("model.md", "| Model |") == expected


def test_depths_in_the_table_are_the_models():
    expected = []
    for depth, layers in LAYERS_PER_HIERARCHY.items():
        row = [depth, layers, depth * layers]
        for patch_size in (1, 2):
            options = {"num_hierarchies": depth, "patch_size": patch_size}
            with torch.device("meta"):
                row.append(nestlib.create_model("nest_tiny_cifar", **options).block_size ** 2)
        expected.append([str(value) for value in row])
    assert table_rows("model.md", "| `num_hierarchies` |") == expected


def test_shapes_in_the_table_are_the_models():
    with torch.device("meta"):
        model = nestlib.create_model("nest_tiny_cifar")
        maps = model.features(torch.zeros(1, 3, 32, 32))
    expected = []
    for level, (down, across) in enumerate(model.grids):
        _, channels, height, width = maps[level].shape
        shape = f"({down * across}, {model.block_size**2}, {channels})"
        plane, stride = f"{height} {TIMES} {width}", str(model.strides[level])
        hierarchy = f"hierarchy {model.num_hierarchies - level}"
        grid = f"{down} {TIMES} {across}"
        expected.append([str(level), grid, shape, plane, stride, hierarchy])
    assert table_rows("model.md", "| Level |") == expected


# The log of tries


def test_each_try_has_a_row_that_leads_to_it():
    text = (BOOK / "tries.md").read_text()
    rows = table_rows("tries.md", "| Tried |")
    linked = [re.search(r"\[(.+)\]\(#(try-[\w-]+)\)", row[0]).groups() for row in rows]
    told = re.findall(r"^\((try-[\w-]+)\)=\n\*\*(.+?)\.\*\*", text, re.MULTILINE)
    assert linked == [(title, anchor) for anchor, title in told]
    assert len(linked) == len(set(linked)) > 30
    dropped = [row for row in rows if row[2].startswith("no")]
    assert len(dropped) > len(rows) / 2  # as its first sentence says


# The build


def test_every_page_of_the_toc_exists():
    for name in toc_files():
        assert any((ROOT / f"{name}{suffix}").is_file() for suffix in (".md", ".ipynb")), name
    assert {f"book/{page.stem}" for page in PAGES} <= set(toc_files())  # and no page is forgotten


def test_the_book_executes_nothing_and_names_no_repository():
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert config["execute"]["execute_notebooks"] == "off"
    no_pages = {".venv", "runs", "data", "tests", "_build", "README.md"}
    assert no_pages <= set(config["exclude_patterns"])
    buttons = [value for key, value in config["html"].items() if key.endswith("_button")]
    assert config["repository"]["url"] or not any(buttons)


@pytest.mark.slow
def test_book_builds_without_a_warning(book_html):  # the fixture fails at one
    for name in toc_files():
        assert (book_html / f"{name}.html").is_file(), name


@pytest.mark.slow
def test_every_figure_has_words_and_its_data(book_html):
    figures = [
        (name, figure)
        for name in toc_files()
        for figure in re.findall(
            r'<svg\b[^>]*role="img".*?</svg>(?:</div><details class="figure-data">.*?</details>)?',
            (book_html / f"{name}.html").read_text(), re.DOTALL,
        )
    ]  # fmt: skip
    assert len(figures) > 10
    for name, figure in figures:
        assert re.search(r'<svg\b[^>]*aria-label="[^"]{20,}"', figure), name
        drawn, _, data = figure.partition("</svg>")
        assert drawn.count("<title>") == data.count('<th scope="row">'), name


@pytest.mark.slow
def test_no_page_asks_the_network_for_a_part(book_html):
    parts = r'<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)="((?:https?:)?//[^"]*)"'
    for path in book_html.rglob("*.html"):
        assert re.findall(parts, path.read_text()) == [], path


@pytest.mark.slow
def test_pages_are_small(book_html):
    """Beside the scripts and styles that all pages share."""
    sizes = {path: path.stat().st_size for path in book_html.rglob("*.html")}
    largest = max(sizes, key=sizes.get)
    print(f"largest page: {largest.relative_to(book_html)}, {sizes[largest] / 1e6:.2f} MB")
    assert sizes[largest] < LARGEST_PAGE, largest


@pytest.mark.slow
def test_every_internal_link_leads_somewhere(book_html):
    pages = {
        path: path.read_text()
        for path in book_html.rglob("*.html") if "_static" not in path.parts  # templates
    }  # fmt: skip
    ids = {
        path: set(re.findall(r'\s(?:id|name)="([^"]*)"', text)) | {"", "top"}
        for path, text in pages.items()
    }
    found = 0
    for path, text in pages.items():
        text = re.sub(r"<script\b.*?</script>", "", text, flags=re.DOTALL)
        for link in re.findall(r'\s(?:href|src)="([^"]*)"', text):
            if re.match(r"[a-z]+:|//", link):
                continue
            file, _, anchor = unquote(html.unescape(link)).partition("#")
            target = (path.parent / file.split("?")[0]).resolve() if file else path
            assert target.exists(), f"{path.name}: {link}"
            if target in ids:
                assert anchor in ids[target], f"{path.name}: {link}"
            found += 1
    assert found > 1000
