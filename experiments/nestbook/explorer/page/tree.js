/* The tree: the root, and under each chosen node its four children as crops of the image, with
 * their values. Steps not taken yet are empty places, so that nothing jumps. */

const NODE = 74, GAP = 12, MARGIN = 54, ABOVE = 34, BELOW = 34, ROOT = 62;

/* Fills svg. scene: image, row, step. */
function drawTree(svg, scene) {
  const { image, row } = scene, ratio = Math.min(2, image.height / image.width);
  const tall = NODE * ratio, rootTall = ROOT * ratio;
  const middle = MARGIN + 2 * NODE + 1.5 * GAP, rowTall = ABOVE + tall + BELOW;
  const lines = makeSvg("g"), nodes = makeSvg("g");
  const left = (child) => MARGIN + child * (NODE + GAP);
  nodes.append(drawNode(scene, 0, 0, [middle - ROOT / 2, 2, ROOT, rootTall]));
  let from = [middle, rootTall + 2];
  row.path.forEach((chosen, i) => {
    const step = i + 1, top = rootTall + 4 + i * rowTall + ABOVE;
    nodes.append(drawRowLabel(scene, step, top, tall));
    for (const child of [0, 1, 2, 3]) {
      const line = drawLine(scene, step, child, from, [left(child) + NODE / 2, top]);
      if (child === chosen) lines.append(line); // above the others
      else lines.prepend(line);
      nodes.append(drawNode(scene, step, child, [left(child), top, NODE, tall]));
    }
    from = [left(chosen) + NODE / 2, top + tall + BELOW - 5];
  });
  const height = rootTall + 4 + row.path.length * rowTall;
  svg.setAttribute("viewBox", `0 0 ${MARGIN + 4 * NODE + 3 * GAP + 8} ${height}`);
  svg.replaceChildren(lines, nodes);
  const last = `${scene.step}.${scene.step ? row.path[scene.step - 1] : 0}`;
  svg.querySelector(`[data-key="${last}"]`).setAttribute("tabindex", 0);
}

function drawRowLabel({ row, step: taken }, step, top, tall) {
  const later = step > taken, unit = `\u0125${comparable(row.values[step - 1]).unit}`;
  return makeSvg("g", { class: `nx-row-label${later ? " nx-later" : ""}` },
    makeSvg("text", { x: 0, y: top + tall / 2 }, `Step ${step}`),
    makeSvg("text", { x: 0, y: top + tall + 15, class: "nx-unit" }, later ? "" : unit));
}

function drawLine({ row, step: taken }, step, child, [x0, y0], [x1, y1]) {
  const half = (y0 + y1) / 2, chosen = row.path[step - 1] === child ? " nx-chosen" : "";
  return makeSvg("path", {
    d: `M${x0} ${y0}C${x0} ${half} ${x1} ${half} ${x1} ${y1}`,
    class: `nx-line${step > taken ? " nx-later" : chosen}`,
  });
}

function drawNode({ image, row, step: taken }, step, child, place) {
  if (step > taken) return makeRect(place, { rx: 3, class: "nx-empty" });
  const [x, y, width, height] = place, chosen = step === 0 || row.path[step - 1] === child;
  const viewBox = blockOf(image, row, step, child).join(" ");
  return makeSvg("g", {
    class: `nx-node${chosen ? " nx-chosen" : ""}`, role: "img", tabindex: -1,
    "data-key": `${step}.${child}`, "aria-label": describeBlock(row, step, child),
  },
  makeSvg("svg", { x, y, width, height, viewBox, preserveAspectRatio: "none" }, makePixels(image)),
  makeRect(place, { rx: 3, class: "nx-edge" }),
  ...(chosen && step ? [drawTick(x + width, y)] : []),
  ...(step ? drawValue(row.values[step - 1], child, [x, y + height, width]) : []));
}

function drawTick(x, y) {
  return makeSvg("g", { class: "nx-tick" },
    makeSvg("circle", { cx: x - 3, cy: y + 3, r: 8 }),
    makeSvg("path", { d: `M${x - 7} ${y + 3}l3 3 5 -6`, fill: "none", "stroke-width": 2 }));
}

/* A value in digits, and as a bar that begins at the middle: to the right, or left if negative. */
function drawValue(values, child, [x, y, width]) {
  const largest = Math.max(...values.map(Math.abs)) || 1, zero = x + width / 2;
  const length = (width / 2) * Math.abs(values[child]) / largest;
  const start = values[child] < 0 ? zero - length : zero;
  return [
    makeSvg("text", { x: zero, y: y + 15, class: "nx-value" }, comparable(values).texts[child]),
    makeRect([start, y + 20, length, 5], { class: "nx-amount" }),
    makeSvg("path", { d: `M${zero} ${y + 18}v9`, class: "nx-zero" }),
  ];
}

/* Arrow keys: along the four children, up to the parent, down to the chosen child. */
function moveFocus(svg, row, event) {
  const move = {
    ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
  }[event.key];
  if (!move || !event.target.dataset.key) return;
  event.preventDefault();
  const [step, child] = event.target.dataset.key.split(".").map(Number);
  const to = step + move[0];
  const at = move[0] === 0 ? child + move[1] : to > 0 ? row.path[to - 1] : 0;
  svg.querySelector(`[data-key="${to}.${at}"]`)?.focus();
}
