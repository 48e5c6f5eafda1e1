// Tables whose heads sort; boxes that scroll by keyboard. The pages read well without it.
"use strict";

const AS_PRINTED = "none";
const NEXT = { [AS_PRINTED]: "ascending", ascending: "descending", descending: AS_PRINTED };

// "1,234.5 ± 0.6", "−0.3", "97 %" and ".5x" are numbers; "○" (not run yet), "-" and "" are no values.
function toNumber(text) {
  const found = /^[~≈<>≤≥]?\s*([-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?)(?![\d.:/]|\s*[-–]\s*\d)/i.exec(
    text.replaceAll("\u2212", "-"),
  );
  return found ? Number(found[1].replaceAll(",", "")) : NaN;
}

function isMissing(text) {
  return /^(|[-–—○]|not (run|timed|scored|measured)\b.*)$/i.test(text);
}

function compareTexts(a, b) {
  return a.localeCompare(b, "en", { numeric: true, sensitivity: "base" });
}

function sortRows(body, column, order) {
  const texts = new Map(
    [...body.rows].map((row) => [row, row.cells[column].textContent.trim()]),
  );
  const present = [...texts.values()].filter((text) => !isMissing(text));
  const numeric = 2 * present.filter((text) => !isNaN(toNumber(text))).length > present.length;
  const isLast = (text) => isMissing(text) || (numeric && isNaN(toNumber(text)));
  const sign = order === "descending" ? -1 : 1;
  const rows = [...body.rows].sort((one, other) => {
    const printed = one.dataset.printed - other.dataset.printed;
    const [a, b] = [texts.get(one), texts.get(other)];
    if (order === AS_PRINTED) return printed;
    if (isLast(a) || isLast(b)) return isLast(a) - isLast(b) || printed;
    return sign * (numeric ? toNumber(a) - toNumber(b) : compareTexts(a, b)) || printed;
  });
  body.append(...rows);
}

function makeSortable(table) {
  const body = table.tBodies[0];
  const heads = table.tHead?.rows.length === 1 ? [...table.tHead.rows[0].cells] : [];
  const regular = body && [...body.rows].every((row) => row.cells.length === heads.length);
  if (!regular || body.rows.length < 3) return;
  [...body.rows].forEach((row, index) => (row.dataset.printed = index));
  heads.forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sorts";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const order = NEXT[head.getAttribute("aria-sort") ?? AS_PRINTED];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order !== AS_PRINTED) head.setAttribute("aria-sort", order);
      sortRows(body, column, order);
    });
  });
}

function nameOf(box) {
  const table = box.querySelector(":scope > table");
  if (table) return table.caption?.textContent.trim() || "Table";
  return box.classList.contains("picture") ? "Figure" : "";
}

// Whether there is more to the right.
function markRest(box) {
  const rest = box.scrollWidth - box.clientWidth - box.scrollLeft;
  box.classList.toggle("has-more", rest > 1);
}

// What is wider than its box is reached by keyboard, and named where it is a table or a figure.
function markScrolling() {
  for (const box of document.querySelectorAll(".bd-article div, .bd-article pre")) {
    if (!/auto|scroll/.test(getComputedStyle(box).overflowX)) continue;
    const name = nameOf(box);
    markRest(box);
    if (box.scrollWidth > box.clientWidth + 1) {
      box.tabIndex = 0;
      if (!name) continue;
      box.setAttribute("role", "region");
      box.setAttribute("aria-label", name);
    } else if (name) {
      for (const key of ["tabindex", "role", "aria-label"]) box.removeAttribute(key);
    }
  }
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".bd-article table").forEach(makeSortable);
  markScrolling();
  document.querySelectorAll("details").forEach((d) => d.addEventListener("toggle", markScrolling));
});
document.addEventListener(
  "scroll", (event) => event.target instanceof Element && markRest(event.target),
  { capture: true, passive: true }, // the scrolling of a box does not bubble
);
window.addEventListener("load", markScrolling);
window.addEventListener("resize", markScrolling);
