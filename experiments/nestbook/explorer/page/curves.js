/* Curves of training runs: choose what is drawn and whose, rest the pointer on a curve or move along
 * it by the arrow keys. data: metrics [{key, label, unit, digits}] and runs [{id, dataset, family,
 * unit, x, y: {key: values}}]. */

const DASHES = { NesT: null, "NesT decoder": "1 4" };
const OTHERS = "6 4";
const LEFT = 48, RIGHT = 14, TOP = 12, BOTTOM = 40;

const unique = (values) => [...new Set(values)].sort();
const lastOf = (values) => values.findLastIndex((value) => value !== null);

/* Round steps that cut low..high into about `wanted` parts. */
function ticks(low, high, wanted) {
  const rough = (high - low) / wanted || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].find((factor) => factor * power >= rough) * power;
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step);
  return found;
}

class Curves {
  constructor(root) {
    const { metrics, runs } = JSON.parse(root.querySelector(".nc-data").textContent);
    Object.assign(this, { metrics, runs, metric: metrics[0], kept: new Set(), lit: null, at: 0 });
    this.hidden = { dataset: new Set(), family: new Set() };
    this.words = "";
    this.svg = makeSvg("svg", {
      class: "nc-chart", "aria-hidden": true,
      onpointermove: (event) => this.point(event), onpointerleave: () => this.light(null),
    });
    this.readout = make("p", { class: "nc-readout", "aria-live": "polite" });
    this.list = make("ul", { class: "nc-runs", "aria-label": "Curves" });
    this.count = make("p", { class: "nc-count" });
    root.querySelector(".nc-view").append(
      this.makeControls(), this.svg, this.readout, this.count, this.list);
    new ResizeObserver(() => this.draw()).observe(root);
    this.filter();
  }

  makeControls() {
    const select = make("select", {
      onchange: () => { this.metric = this.metrics[select.selectedIndex]; this.filter(); },
    }, ...this.metrics.map(({ label }) => make("option", {}, label)));
    const search = make("input", {
      type: "search", placeholder: "part of a name",
      oninput: () => { this.words = search.value.toLowerCase(); this.filter(); },
    });
    return make("div", { class: "nc-controls" },
      make("label", {}, "Show ", select), make("label", {}, "Filter ", search),
      this.makeBoxes("Data", "dataset"), this.makeBoxes("Models", "family"));
  }

  makeBoxes(legend, field) {
    const boxes = unique(this.runs.map((run) => run[field])).map((value) => {
      const box = make("input", {
        type: "checkbox",
        onchange: () => {
          this.hidden[field][box.checked ? "delete" : "add"](value);
          this.filter();
        },
      });
      box.checked = true;
      return make("label", {}, box, ` ${value}`);
    });
    return make("fieldset", {}, make("legend", {}, legend), ...boxes);
  }

  filter() {
    const fits = (run) => run.y[this.metric.key] && run.id.toLowerCase().includes(this.words)
      && !this.hidden.dataset.has(run.dataset) && !this.hidden.family.has(run.family);
    this.shown = this.runs.filter(fits);
    this.lit = null;
    this.count.textContent = `${this.shown.length} of ${this.runs.length} curves. Press one to keep `
      + "it marked; Left and Right move along it.";
    this.list.replaceChildren(...this.shown.map((run) => make("li", {}, this.makeButton(run))));
    this.draw();
  }

  makeButton(run) {
    const values = run.y[this.metric.key], last = lastOf(values);
    const button = make("button", {
      type: "button", "aria-pressed": this.kept.has(run), class: familyClass(run),
      onclick: () => {
        this.kept[this.kept.has(run) ? "delete" : "add"](run);
        button.setAttribute("aria-pressed", this.kept.has(run));
        this.draw();
      },
      onfocus: () => this.light(run, last), onblur: () => this.light(null),
      onpointerenter: () => this.light(run, last), onpointerleave: () => this.light(null),
      onkeydown: (event) => {
        const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (!move) return;
        event.preventDefault();
        this.light(run, Math.min(Math.max(this.at + move, 0), last));
      },
    },
    makeSvg("svg", { width: 26, height: 8, "aria-hidden": true },
      makeSvg("path", { d: "M0 4H26", class: "nc-curve", "stroke-dasharray": dashOf(run) })),
    make("span", { class: "nc-name" }, run.id), make("span", {}, this.say(values[last])));
    return button;
  }

  say(value) {
    const { digits, unit } = this.metric;
    return `${withMinus(value.toFixed(digits))}${unit ? ` ${unit}` : ""}`;
  }

  /* Marks a run and tells its value at the place `at`; null marks none. */
  light(run, at = 0) {
    Object.assign(this, { lit: run, at });
    const value = run?.y[this.metric.key][at];
    this.readout.textContent = value == null ? ""
      : `${run.id}, ${run.unit} ${run.x[at]}: ${this.say(value)}`;
    this.draw();
  }

  /* The nearest point of all curves, within a finger's width. */
  point(event) {
    const frame = this.svg.getBoundingClientRect();
    const x = event.clientX - frame.left, y = event.clientY - frame.top;
    let best = [30, null, 0];
    for (const run of this.shown) {
      run.y[this.metric.key].forEach((value, i) => {
        if (value === null) return;
        const far = Math.hypot(this.toX(run.x[i]) - x, this.toY(value) - y);
        if (far < best[0]) best = [far, run, i];
      });
    }
    if (best[1] !== this.lit || best[2] !== this.at) this.light(best[1], best[2]);
  }

  draw() {
    const width = Math.max(280, this.svg.parentNode.clientWidth), height = width < 500 ? 280 : 360;
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    if (!this.shown.length) {
      this.svg.replaceChildren(makeSvg("text", { x: LEFT, y: height / 2 }, "No curve fits the filters."));
      return;
    }
    const values = this.shown.flatMap((run) => run.y[this.metric.key]).filter((v) => v !== null);
    const low = Math.min(0, ...values), most = Math.max(...values), steps = ticks(low, most, 5);
    const high = Math.max(most, steps.at(-1) < most ? 2 * steps.at(-1) - steps.at(-2) : most);
    const long = Math.max(...this.shown.flatMap((run) => run.x));
    this.toX = (x) => LEFT + x / long * (width - LEFT - RIGHT);
    this.toY = (y) => height - BOTTOM - (y - low) / (high - low || 1) * (height - TOP - BOTTOM);
    const marked = (run) => run === this.lit || this.kept.has(run);
    const quiet = this.lit || this.kept.size;
    const sorted = [...this.shown].sort((a, b) => marked(a) - marked(b));
    this.svg.replaceChildren(
      this.drawAxes(low, high, long, width, height),
      ...sorted.map((run) => this.drawCurve(run, marked(run), quiet)));
  }

  drawAxes(low, high, long, width, height) {
    const bottom = height - BOTTOM, axes = makeSvg("g", { class: "nc-axes" });
    for (const y of ticks(low, high, 5)) {
      axes.append(makeSvg("path", { d: `M${LEFT} ${this.toY(y)}H${width - RIGHT}` }),
        makeSvg("text", { x: LEFT - 6, y: this.toY(y) + 4, "text-anchor": "end" }, String(+y.toFixed(6))));
    }
    for (const x of ticks(0, long, width < 500 ? 4 : 8)) {
      axes.append(makeSvg("text", { x: this.toX(x), y: bottom + 16, "text-anchor": "middle" }, String(x)));
    }
    const { label, unit } = this.metric;
    axes.append(
      makeSvg("text", { x: width - RIGHT, y: height - 6, "text-anchor": "end" }, this.shown[0].unit),
      makeSvg("text", { x: LEFT, y: height - 6 }, `${label}${unit ? ` (${unit})` : ""}`));
    return axes;
  }

  drawCurve(run, marked, quiet) {
    const values = run.y[this.metric.key];
    const points = values.flatMap((y, i) => (y === null ? [] : [`${this.toX(run.x[i])} ${this.toY(y)}`]));
    const curve = makeSvg("g", {
      class: `${familyClass(run)}${marked ? " nc-marked" : quiet ? " nc-quiet" : ""}`,
    }, makeSvg("path", { d: `M${points.join("L")}`, class: "nc-curve", "stroke-dasharray": dashOf(run) }));
    if (run === this.lit && values[this.at] != null) {
      curve.append(makeSvg("circle", { cx: this.toX(run.x[this.at]), cy: this.toY(values[this.at]), r: 5 }));
    } else if (points.length === 1) {
      const [x, y] = points[0].split(" ");
      curve.append(makeSvg("circle", { cx: x, cy: y, r: 3 }));
    }
    return curve;
  }
}

const dashOf = (run) => (run.family in DASHES ? DASHES[run.family] : OTHERS);
const familyClass = (run) => `nc-family nc-${run.family.toLowerCase().replace(" ", "-")}`;
const withMinus = (text) => text.replace("-", "\u2212");

for (const root of document.querySelectorAll(".nest-curves:not([data-mounted])")) {
  root.setAttribute("data-mounted", "");
  new Curves(root);
}
