/* HTML and SVG elements in one line each, and a group of buttons of which one is chosen. */

const SVG = "http://www.w3.org/2000/svg";

function make(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function makeSvg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/* Attributes that begin with "on" are listeners; those that are null or undefined are left out. */
function fill(element, attributes, children = []) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/* A radio group of buttons: one stop of the Tab key, arrows, Home and End move and choose. */
function makeChooser(label, className, buttons, choose) {
  const group = make("div", { role: "radiogroup", "aria-label": label, class: className });
  buttons.forEach((button, index) => {
    group.append(fill(button, { type: "button", role: "radio", onclick: () => choose(index) }));
  });
  const last = buttons.length - 1;
  group.addEventListener("keydown", (event) => {
    const at = buttons.indexOf(document.activeElement);
    const to = {
      ArrowRight: at < last ? at + 1 : 0, ArrowDown: at < last ? at + 1 : 0,
      ArrowLeft: at > 0 ? at - 1 : last, ArrowUp: at > 0 ? at - 1 : last,
      Home: 0, End: last,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(to);
    buttons[to].focus();
  });
  const mark = (chosen) => buttons.forEach((button, index) => {
    button.setAttribute("aria-checked", index === chosen);
    button.tabIndex = index === chosen ? 0 : -1;
  });
  return { group, buttons, mark };
}
