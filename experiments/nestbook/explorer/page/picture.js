/* The image with its class map, the frames of the paths, and blocks that answer the pointer. */

const POSITIVE = "#E69F00", NEGATIVE = "#56B4E9"; // Okabe and Ito's, neither a path's colour

/* x, y, width, height in pixels of a node: the root at step 0, else a child of the chosen parent. */
function blockOf(image, row, step, child) {
  if (step === 0) return [0, 0, image.width, image.height];
  const [x, y, width, height] = blockOf(image, row, step - 1, row.path[step - 2]);
  return [x + (child % 2) * width / 2, y + Math.floor(child / 2) * height / 2, width / 2, height / 2];
}

/* Colours run from middle - limit to middle + limit: about the map's mean, which is the logit, or
 * about zero, with one limit for all classes of the image. */
function colorScale(image, row, about) {
  const middle = about === "mean" ? row.logit : 0;
  const maps = about === "mean" ? [row.map] : image.rows.map((each) => each.map);
  const reach = maps.flat(2).map((value) => Math.abs(value - middle));
  return { middle, limit: Math.max(...reach) || 1 };
}

function drawMap(image, row, { middle, limit }) {
  const width = image.width / row.map[0].length, height = image.height / row.map.length;
  const places = row.map.flatMap((line, y) => line.map((value, x) => makeRect(
    [x * width, y * height, width, height], {
      fill: value < middle ? NEGATIVE : POSITIVE,
      "fill-opacity": (Math.abs(value - middle) / limit).toFixed(3),
    })));
  return makeSvg("g", { class: "nx-map" }, ...places);
}

/* The chosen blocks of a row's first steps; slot is its place among the colours. */
function drawFrames(image, row, steps, color, slot) {
  return row.path.slice(0, steps).flatMap((child, i) => {
    const [x, y, width, height] = blockOf(image, row, i + 1, child);
    const wanted = image.width / 64 * (0.55 + 0.9 * i + 0.8 * slot); // nested frames stay apart
    const inset = Math.min(wanted, width / 4, height / 4);
    const place = [x + inset, y + inset, width - 2 * inset, height - 2 * inset];
    const leaf = i === row.path.length - 1 ? " nx-leaf" : "";
    return [
      makeRect(place, { class: `nx-casing${leaf}` }),
      makeRect(place, { class: `nx-frame${leaf}`, stroke: color }),
    ];
  });
}

function drawTruth([x0, y0, x1, y1]) {
  const place = [x0, y0, x1 - x0 + 1, y1 - y0 + 1];
  return ["nx-truth", "nx-truth nx-dotted"].map((name) => makeRect(place, { class: name }));
}

/* Clear rectangles over all children of the steps taken, inner ones on top. */
function drawTouchable(image, row, steps) {
  const children = [...Array(4 * steps).keys()].map((i) => [Math.floor(i / 4) + 1, i % 4]);
  return children.map(([step, child]) => makeRect(
    blockOf(image, row, step, child), { class: "nx-touch", "data-key": `${step}.${child}` }));
}

function drawLegend(row, { middle, limit }) {
  const values = row.map.flat(), low = Math.min(...values), high = Math.max(...values);
  const place = (value) => `${50 + 50 * (value - middle) / limit}%`;
  return [
    make("div", {
      class: "nx-ramp", "aria-hidden": true,
      style: `--low: ${NEGATIVE}; --high: ${POSITIVE}; --from: ${place(low)}; --to: ${place(high)}`,
    }),
    make("div", { class: "nx-ticks", "aria-hidden": true },
      ...[middle - limit, middle, middle + limit].map((tick) => make("span", {}, number(tick)))),
    make("p", {}, `Class ${row.name}: from ${number(low)} to ${number(high)} on `
      + `${row.map.length} \u00d7 ${row.map[0].length} places. The mean, ${number(row.logit)}, is the logit.`),
  ];
}
