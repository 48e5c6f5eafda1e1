/* The tree: the root, and under each chosen node its four children as crops of the image, with
 * their values. Steps not taken yet are empty places, so that nothing jumps. */

const NODE = 74, GAP = 12, MARGIN = 54, ABOVE = 34, BELOW = 34, ROOT = 62;

/* Fills svg. scene: image, row, step, color, light(key). */
function drawTree(svg, scene) {
  const { image, row } = scene, ratio = Math.min(2, image.height / image.width);
  const tall = NODE * ratio, rootTall = ROOT * ratio, depth = row.path.length;
  const middle = MARGIN + 2 * NODE + 1.5 * GAP, rowTall = ABOVE + tall + BELOW;
  const height = rootTall + 4 + depth * rowTall;
  const lines = makeSvg("g"), nodes = makeSvg("g");
  nodes.append(drawNode(scene, 0, 0, [middle - ROOT / 2, 2, ROOT, rootTall]));
  let from = [middle, rootTall + 2];
  row.path.forEach((chosen, i) => {
    const step = i + 1, top = rootTall + 4 + i * rowTall + ABOVE;
    const left = (child) => MARGIN + child * (NODE + GAP);
    nodes.append(drawRowLabel(scene, step, top, tall));
    for (const child of [0, 1, 2, 3].sort((a, b) => (a === chosen) - (b === chosen))) {
      lines.append(drawLine(scene, step, child, from, [left(child) + NODE / 2, top]));
    }
    for (const child of [0, 1, 2, 3]) {
      nodes.append(drawNode(scene, step, child, [left(child), top, NODE, tall]));
    }
    from = [left(chosen) + NODE / 2, top + tall + BELOW - 5];
  });
  svg.setAttribute("viewBox", `0 0 ${MARGIN + 4 * NODE + 3 * GAP + 8} ${height}`);
  svg.replaceChildren(lines, nodes);
  const last = `${scene.step}.${scene.step ? row.path[scene.step - 1] : 0}`;
  svg.querySelector(`[data-key="${last}"]`).setAttribute("tabindex", 0);
}

function drawRowLabel({ row, step: taken }, step, top, tall) {
  const unit = comparable(row.values[step - 1]).unit;
  return makeSvg("g", { class: `nx-row-label${step > taken ? " nx-later" : ""}` },
    makeSvg("text", { x: 0, y: top + tall / 2 }, `Step ${step}`),
    makeSvg("text", { x: 0, y: top + tall + 15, class: "nx-unit" }, step > taken ? "" : `\u0125${unit}`));
}

function drawLine({ row, step: taken, color }, step, child, [x0, y0], [x1, y1]) {
  const later = step > taken, chosen = !later && row.path[step - 1] === child;
  const half = (y0 + y1) / 2;
  return makeSvg("path", {
    d: `M${x0} ${y0}C${x0} ${half} ${x1} ${half} ${x1} ${y1}`,
    class: `nx-line${chosen ? " nx-chosen" : ""}${later ? " nx-later" : ""}`,
    style: `--path: ${color}`,
  });
}

function drawNode(scene, step, child, [x, y, width, height]) {
  const { image, row, color, light } = scene;
  if (step > scene.step) return makeSvg("rect", { x, y, width, height, rx: 3, class: "nx-empty" });
  const key = `${step}.${child}`, chosen = step === 0 || row.path[step - 1] === child;
  const crop = makeSvg("svg", {
    x, y, width, height, viewBox: blockOf(image, row, step, child).join(" "),
    preserveAspectRatio: "none",
  }, makeSvg("image", {
    href: image.png, width: image.width, height: image.height, class: "nx-pixels",
  }));
  return makeSvg("g", {
    class: `nx-node${chosen ? " nx-chosen" : ""}`, style: `--path: ${color}`,
    "data-key": key, tabindex: -1, role: "img", "aria-label": describeBlock(row, step, child),
    onpointerenter: () => light(key), onpointerleave: () => light(null),
    onfocus: () => light(key), onblur: () => light(null),
  },
  crop,
  makeSvg("rect", { x, y, width, height, rx: 3, class: "nx-edge" }),
  ...(chosen && step ? [drawTick(x + width, y)] : []),
  ...(step ? drawValue(row.values[step - 1], child, [x, y + height, width]) : []));
}

function drawTick(x, y) {
  return makeSvg("g", { class: "nx-tick" },
    makeSvg("circle", { cx: x - 3, cy: y + 3, r: 8 }),
    makeSvg("path", { d: `M${x - 7} ${y + 3}l3 3 5 -6` }));
}

/* A value in digits, and as a bar that begins at the middle: to the right, or left if negative. */
function drawValue(values, child, [x, y, width]) {
  const largest = Math.max(...values.map(Math.abs)) || 1, zero = x + width / 2;
  const length = (width / 2) * Math.abs(values[child]) / largest;
  return [
    makeSvg("text", { x: zero, y: y + 15, class: "nx-value" }, comparable(values).texts[child]),
    makeSvg("rect", {
      x: values[child] < 0 ? zero - length : zero, y: y + 20, width: length, height: 5,
      class: "nx-amount",
    }),
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
