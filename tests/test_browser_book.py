"""Every page of the book in a real browser: offline, in both themes, on a phone, by keyboard.

Screenshots are written to runs/screenshots, to be looked at.
"""

import re

import pytest
from browsing import NEEDS_BROWSER, SCREENSHOTS, Watch, contrast
from test_book import toc_files

pytestmark = NEEDS_BROWSER
PAGES = [*toc_files(), "search", "genindex"]


def open_page(browser, site, name, width=1300, scheme="light"):
    """The page at rest, all that folds opened."""
    watch = Watch(browser, viewport={"width": width, "height": 1000}, color_scheme=scheme)
    watch.page.goto(f"{site}/{name}.html", wait_until="load")
    watch.page.add_style_tag(
        content="* { animation: none !important; transition: none !important }"
    )
    watch.page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
    watch.page.evaluate("new Promise(requestAnimationFrame)")  # the fold's own event is through
    return watch


def find_violations(page) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-core")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{rule['impact']} {rule['id']}: {node['target']} {node['html'][:200]}"
        for rule in found if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_offline_and_axe_finds_nothing_serious(browser, site, name, scheme):
    watch = open_page(browser, site, name, scheme=scheme)
    watch.page.wait_for_load_state("networkidle")  # what comes late may fail too
    assert (watch.errors, watch.failed) == ([], [])
    assert watch.page.evaluate("document.documentElement.dataset.theme") == scheme
    watch.page.screenshot(path=SCREENSHOTS / f"{name.replace('/', '_')}_{scheme}.png")
    assert find_violations(watch.page) == []
    watch.page.close()


# What stands out of the window and in no box that scrolls or clips.
WIDE = """() => [...document.querySelectorAll("main *")].filter(e => {
  const box = e.getBoundingClientRect();
  if (!box.width || (box.right <= innerWidth + 1 && box.left >= -1)) return false;
  for (let p = e; p; p = p.parentElement)
    if (getComputedStyle(p).position === "fixed") return false;
  for (let p = e.parentElement; p; p = p.parentElement)
    if (/auto|scroll|hidden/.test(getComputedStyle(p).overflowX)) return false;
  return true;
}).map(e => e.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("name", PAGES)
def test_a_page_fits_a_phone(browser, site, name):
    watch = open_page(browser, site, name, width=390)
    watch.page.screenshot(path=SCREENSHOTS / f"{name.replace('/', '_')}_phone.png")
    assert watch.page.evaluate(WIDE) == []
    assert watch.page.evaluate("document.documentElement.scrollWidth") <= 390
    watch.page.close()


def test_search_finds_gradcat(browser, site):
    watch = Watch(browser)
    watch.page.goto(f"{site}/search.html?q=GradCAT")
    results = watch.page.locator("#search-results li a")
    results.first.wait_for()
    watch.page.locator(".search-summary", has_text=re.compile(r"\d+ page")).wait_for()
    found = " ".join(results.evaluate_all("links => links.map(a => a.getAttribute('href'))"))
    assert {"experiments/figure3.html", "experiments/explore.html"} <= set(
        re.findall(r"experiments/\w+\.html", found)
    )
    assert watch.errors == [] and watch.failed == []
    watch.page.close()


def table_of(watch, caption):
    return watch.page.locator("table", has=watch.page.locator("caption", has_text=caption)).first


def column(table, index):
    return table.locator("tbody tr").evaluate_all(
        "(rows, i) => rows.map(row => row.cells[i].textContent.trim())", index
    )


def test_a_table_sorts_by_keyboard_numbers_as_numbers(browser, site):
    watch = open_page(browser, site, "experiments/table1")
    table = table_of(watch, "Table 1, accuracy")
    printed, head = column(table, 0), table.locator("thead th").nth(5)
    head.locator("button").focus()
    orders = []
    for order in ("ascending", "descending", None):
        watch.page.keyboard.press("Enter")
        assert head.get_attribute("aria-sort") == order
        orders.append([float(text.rstrip("?")) for text in column(table, 5)])
    assert orders[0] == sorted(orders[2]) != orders[2]
    assert orders[1] == sorted(orders[2], reverse=True)
    assert column(table, 0) == printed  # the third press brings the paper's order back
    watch.page.close()


def test_what_is_missing_sorts_last_either_way(browser, site):
    watch = open_page(browser, site, "experiments/table1")
    rows = ["9", "10.5 \u00b1 0.1", "not run yet", "\u22121.5", "", "1,200?", "-", "85 %"]
    watch.page.evaluate(
        """rows => {
            const box = document.createElement("div");
            box.innerHTML = "<table><thead><tr><th>N</th></tr></thead><tbody>" +
              rows.map(text => `<tr><td>${text}</td></tr>`).join("") + "</tbody></table>";
            document.querySelector(".bd-article").append(box);
            makeSortable(box.firstChild);
            box.firstChild.id = "made";
        }""",
        rows,
    )
    table, seen = watch.page.locator("#made"), []
    for _ in range(3):
        table.locator("button").click()
        seen.append(column(table, 0))
    missing = ["not run yet", "", "-"]
    numbers = ["\u22121.5", "9", "10.5 \u00b1 0.1", "85 %", "1,200?"]
    assert seen == [numbers + missing, numbers[::-1] + missing, rows]
    watch.page.close()


def test_a_wide_table_scrolls_in_a_named_box_that_takes_the_focus(browser, site):
    watch = open_page(browser, site, "experiments/table1", width=390)
    box = table_of(watch, "Table 1, accuracy").locator("xpath=..")
    assert box.get_attribute("role") == "region"
    assert box.get_attribute("aria-label").startswith("Table 1, accuracy")
    assert "has-more" in box.get_attribute("class")  # it fades where it goes on
    box.focus()
    watch.page.keyboard.press("ArrowRight")
    watch.page.wait_for_function("box => box.scrollLeft > 0", arg=box.element_handle())
    box.evaluate("box => box.scrollTo(box.scrollWidth, 0)")
    watch.page.wait_for_function(
        "box => !box.classList.contains('has-more')", arg=box.element_handle()
    )
    watch.page.set_viewport_size({"width": 1300, "height": 1000})
    watch.page.wait_for_function(  # and where all is seen, tabbing passes it by
        "box => !box.hasAttribute('tabindex')", arg=box.element_handle()
    )
    watch.page.close()


def test_a_figure_keeps_its_size_on_a_phone_and_scrolls_in_a_box_that_takes_the_focus(
    browser, site
):
    sizes = {}
    for width in (390, 1300):
        watch = open_page(browser, site, "experiments/table1", width=width)
        box = watch.page.locator(".picture").first
        letters = box.locator("svg text").first
        sizes[width] = letters.evaluate("text => text.getBoundingClientRect().height")
        assert box.get_attribute("aria-label") == ("Figure" if width == 390 else None)
        if width == 390:
            box.focus()
            watch.page.keyboard.press("ArrowRight")
            watch.page.wait_for_function("b => b.scrollLeft > 0", arg=box.element_handle())
        watch.page.close()
    assert sizes[390] >= sizes[1300] > 0


def test_formulas_are_drawn_without_a_script(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{site}/book/differences.html")
    formula = page.locator("math").first
    assert formula.is_visible() and formula.bounding_box()["width"] > 40
    assert formula.locator("annotation").first.is_hidden()
    assert "\\(" not in page.locator("main").inner_text()
    context.close()


def test_code_is_copied_by_a_button(browser, site):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{site}/book/index.html", wait_until="networkidle")
    block = page.locator("div.highlight", has_text="make table1").first
    block.hover()
    block.locator("button.copybtn").click()
    assert page.evaluate("navigator.clipboard.readText()").strip() == "make table1"
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_tables_and_text_keep_contrast_in_both_themes(browser, site, scheme):
    watch = open_page(browser, site, "experiments/table1", scheme=scheme)
    ground = watch.page.evaluate("getComputedStyle(document.body).backgroundColor")
    for name in ("p", "table td", "table caption", "details.figure-data summary"):
        color = watch.page.locator(f".bd-article {name}").first.evaluate(
            "e => getComputedStyle(e).color"
        )
        assert contrast(color, ground) > 7, name
    picture = watch.page.locator(".text_html svg[role=img] path").first
    assert "#ffffff" in picture.evaluate("e => e.outerHTML")  # black text keeps its white ground
    watch.page.close()


# Where a page's first picture, table or sentence begins, and code that is seen above its point.
OPENING = """() => {
  const top = e => e.getBoundingClientRect().top;
  const shown = [...document.querySelectorAll(
    ".bd-article :is(.point, svg[role=img], .cell_output table, .nest-explorer)")];
  const point = top(document.querySelector(".bd-article .point"));
  const code = [...document.querySelectorAll(".bd-article div.highlight")]
    .filter(e => e.checkVisibility() && top(e) < point);
  return [Math.min(...shown.map(top)), code.map(e => e.textContent.slice(0, 80))];
}"""


@pytest.mark.parametrize("name", [name for name in toc_files() if name.startswith("experiments/")])
def test_a_page_opens_with_its_point_before_any_code(browser, site, name):
    watch = Watch(browser, viewport={"width": 1300, "height": 1000})
    watch.page.goto(f"{site}/{name}.html", wait_until="load")
    top, code = watch.page.evaluate(OPENING)
    assert top <= 300 and code == []
    watch.page.close()
