/* HTML and SVG elements in one line each. */

const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function makeRect([x, y, width, height], attributes) {
  return makeSvg("rect", { x, y, width, height, ...attributes });
}

function makePixels({ png, width, height }) {
  return makeSvg("image", { href: png, width, height, class: "nx-pixels" });
}

/* A radio button that lies over the box that it chooses. Of a group, which shares a name, the Tab
 * key stops at the chosen one, and arrows choose. */
function makeChoice(group, attributes, parts, { spoken, checked, choose }) {
  const radio = make("input", { type: "radio", name: group, "aria-label": spoken, onchange: choose });
  radio.checked = checked;
  return make("label", attributes, ...parts, radio);
}

/* Attributes that begin with "on" are listeners. */
function fill(element, attributes, children = []) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}
