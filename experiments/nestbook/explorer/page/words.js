/* Numbers and sentences. An image has rows, one per class; a row has its path, its values (four per
 * step), its map, and, where the class is planted, truth (its box) and found (quadrant, leaf). */

const CHILDREN = ["upper left", "upper right", "lower left", "lower right"];

const withMinus = (text) => text.replace("-", "\u2212");

function percent(share) {
  if (share < 0.001) return "< 0.1 %";
  if (share > 0.999) return "> 99.9 %";
  return `${(100 * share).toFixed(share < 0.1 || share > 0.99 ? 1 : 0)} %`;
}

function number(value) {
  const small = value !== 0 && Math.abs(value) < 1e-2;
  return withMinus(small ? value.toExponential(1) : value.toFixed(2));
}

/* Values to be compared: one power of ten for all, and digits enough to tell the best two apart. */
function comparable(values) {
  const largest = Math.max(...values.map(Math.abs));
  let power = largest > 0 ? Math.floor(Math.log10(largest)) : 0;
  if (power >= -1 && power <= 2) power = 0;
  const scaled = values.map((value) => value / 10 ** power);
  const [best, next] = [...scaled].sort((a, b) => b - a);
  const digits = best.toFixed(2) === next.toFixed(2) ? 3 : 2;
  const raised = String(power).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)]);
  const unit = power ? `\u00a0\u00d7\u00a010${raised}` : "";
  return { texts: scaled.map((value) => withMinus(value.toFixed(digits))), unit };
}

function pathInWords(row, steps) {
  if (steps === 0) return "at the root";
  return row.path.slice(0, steps).map((child) => CHILDREN[child]).join(" \u203a ");
}

function describeBlock(row, step, child) {
  if (step === 0) return "The root: the whole image";
  const { texts, unit } = comparable(row.values[step - 1]);
  const chosen = row.path[step - 1] === child ? ", chosen" : "";
  return `Step ${step}, ${CHILDREN[child]}: \u0125 = ${texts[child]}${unit}${chosen}`;
}

/* Title and text of the root. */
function explainRoot({ predicted }, { name, logit, share }) {
  const rank = predicted === name ? "its first choice" : `its first choice is ${predicted}`;
  return [
    `${name}: at the root, the whole image`,
    `The model gives ${name} a logit of ${number(logit)} and a probability of ${percent(share)}; `
    + `${rank}. Step 1 asks which quadrant counts most for ${name}.`,
  ];
}

/* Title and text of a step, 1 or more. */
function explainStep(image, row, step) {
  const { texts, unit } = comparable(row.values[step - 1]), best = row.path[step - 1];
  const others = [0, 1, 2, 3].filter((child) => child !== best);
  const next = others.reduce((a, b) => (row.values[step - 1][b] > row.values[step - 1][a] ? b : a));
  const parts = step === 1 ? "four quadrants"
    : `four parts of the ${CHILDREN[row.path[step - 2]]} block`;
  const scale = 2 ** (step - 1);
  return [
    `${row.name}: step ${step} compares the ${parts}`,
    `A block's value \u0125 is the mean, over its places on the ${step === 1 ? "top" : "next lower"} `
    + `hierarchy's ${row.map.length * scale} \u00d7 ${row.map[0].length * scale} map, of the map times `
    + `the gradient of the logit. Highest: ${CHILDREN[best]}, ${texts[best]}${unit}; `
    + `next: ${CHILDREN[next]}, ${texts[next]}${unit}. `
    + (step < row.path.length ? `The walk continues in the ${CHILDREN[best]} block.`
      : `This block of ${image.width / 2 ** step} \u00d7 ${image.height / 2 ** step} pixels is a leaf: `
        + "the walk ends."),
  ];
}

/* How a whole path fares against planted truth: [text, whether its leaf block shows the class]. */
function judge(image, row) {
  if (!row.truth) return [`There is no ${row.name} in this image.`, null];
  const [x0, y0, x1, y1] = row.truth, [quadrant, leaf] = row.found;
  const low = y0 + y1 + 1 >= image.height, right = x0 + x1 + 1 >= image.width;
  const outcome = quadrant && leaf ? "the path ends on it"
    : quadrant ? "the path finds this quadrant, but its leaf block shows little of it"
      : leaf ? "the path takes another quadrant, but ends on a part of it" : "the path misses it";
  return [`The ${row.name} lies in the ${CHILDREN[2 * low + right]} quadrant: ${outcome}.`, leaf];
}
