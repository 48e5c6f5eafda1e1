/* Puts a fragment's exploration into its page. One state: an action changes it and calls draw(),
 * which redraws what depends on it. Step 0 is the root; step s compares the four children of the
 * node that step s - 1 chose. */

const SKELETON = `
  <div class="nx-row">
    <span class="nx-label" aria-hidden="true">Image</span>
    <div>
      <div class="nx-thumbs" role="radiogroup" aria-label="Image"></div>
      <p class="nx-caption"></p>
    </div>
  </div>
  <div class="nx-row">
    <span class="nx-label" aria-hidden="true">Class</span>
    <div class="nx-classes" role="radiogroup" aria-label="Class"></div>
  </div>
  <div class="nx-main">
    <section class="nx-look" aria-label="Image, framed paths and class map">
      <svg class="nx-picture" role="img" aria-label="The image and its framed paths"></svg>
      <p class="nx-readout" aria-hidden="true"></p>
      <ul class="nx-paths" aria-label="Framed paths"></ul>
      <label class="nx-check"><input type="checkbox" class="nx-box"><span class="nx-outline"></span></label>
    </section>
    <section class="nx-walk" aria-label="Walk down the tree">
      <div class="nx-stepper" role="group" aria-label="Steps of the walk">
        <button type="button" class="nx-back">&larr; Back</button>
        <span class="nx-position"></span>
        <button type="button" class="nx-next">Next &rarr;</button>
      </div>
      <div class="nx-words" role="status" aria-live="polite"></div>
      <svg class="nx-tree" role="group" aria-label="Tree from the root to a leaf"></svg>
    </section>
    <section class="nx-controls" aria-label="Class activation map">
      <b>Class activation map</b>
      <label>Opacity <input type="range" class="nx-opacity" min="0" max="100" value="60"></label>
      <label>Colours centred on
        <select class="nx-about"><option value="mean">its mean<option value="zero">zero</select></label>
      <div class="nx-legend"></div>
    </section>
  </div>`;

class Explorer {
  constructor(root) {
    this.data = JSON.parse(root.querySelector(".nx-data").textContent);
    const plain = root.querySelector(".nx-plain");
    plain.querySelectorAll("img").forEach(({ src }, index) => {
      this.data.images[index].png = src;
    });
    this.id = root.id;
    this.state = { image: 0, row: 0, step: 0, kept: new Map(), about: "mean", outline: false };
    this.app = make("div", { class: "nx-app" });
    this.app.innerHTML = SKELETON;
    this.parts = Object.fromEntries(
      [...this.app.querySelectorAll("[class]")].map((part) => [part.getAttribute("class").slice(3), part]));
    this.buildImages();
    this.listen();
    this.chooseImage(0);
    plain.replaceWith(this.app);
  }

  get image() { return this.data.images[this.state.image]; }
  get row() { return this.image.rows[this.state.row]; }
  get room() { return this.data.colors.length - 1; } // for kept paths: one colour is for the next

  // Actions

  /* An image begins with its start class, and the paths of the other classes planted in it. */
  chooseImage(image) {
    const { start, rows } = this.data.images[image];
    const planted = [...rows.keys()].filter((row) => rows[row].truth && row !== start);
    const kept = new Map(planted.slice(0, this.room).map((row, i) => [row, i + 1]));
    Object.assign(this.state, { image, row: start, step: rows[start].path.length, kept });
    this.buildClasses();
    this.draw();
  }

  choose(changes) {
    Object.assign(this.state, changes);
    this.draw();
  }

  goBy(steps) {
    const step = Math.min(Math.max(this.state.step + steps, 0), this.row.path.length);
    this.choose({ step });
  }

  /* A kept path stays framed while other classes are chosen. */
  toggleKept(row) {
    const { kept } = this.state, slot = this.slotOf(row);
    if (!kept.delete(row)) kept.set(row, slot);
    if (kept.size > this.room) kept.delete(kept.keys().next().value);
    this.draw();
  }

  /* A class's place among the colours: its own once it is kept, otherwise the first free one. */
  slotOf(row) {
    const { kept } = this.state, taken = [...kept.values()];
    return kept.get(row) ?? this.data.colors.findIndex((_, slot) => !taken.includes(slot));
  }

  colorOf(row) { return this.data.colors[this.slotOf(row)]; }

  // What stays

  buildImages() {
    const { images } = this.data, { thumbs } = this.parts;
    thumbs.hidden = images.length === 1;
    thumbs.append(...images.map(({ caption, png }, index) => makeChoice(
      `${this.id}-image`, { class: "nx-thumb", title: caption }, [make("img", { src: png, alt: "" })],
      { spoken: caption, checked: index === 0, choose: () => this.chooseImage(index) })));
  }

  buildClasses() {
    const { rows } = this.image, { classes } = this.parts;
    classes.classList.toggle("nx-long", rows.some(({ name }) => name.length > 8));
    classes.replaceChildren(...rows.map(({ name, share, logit, truth }, row) => makeChoice(
      `${this.id}-class`, { class: "nx-class" }, [
        make("span", { class: "nx-name" }, name, ...(truth ? [make("i", { class: "nx-dot" })] : [])),
        make("span", { class: "nx-share" }, percent(share)),
        make("span", { class: "nx-logit" }, `logit ${number(logit)}`),
        make("span", { class: "nx-bar", style: `--share: ${share}` }),
      ], {
        spoken: `${name}: probability ${percent(share)}, logit ${number(logit)}`
          + (truth ? ", in the image" : ""),
        checked: row === this.state.row, choose: () => this.choose({ row }),
      })));
  }

  listen() {
    const { about, back, box, next, opacity, picture, stepper, tree } = this.parts;
    const on = (part, type, act) => part.addEventListener(type, act);
    on(back, "click", () => this.goBy(-1));
    on(next, "click", () => this.goBy(1));
    on(stepper, "keydown", ({ key }) => {
      const by = { ArrowLeft: -1, ArrowRight: 1 }[key];
      if (by) this.goBy(by);
    });
    on(tree, "keydown", (event) => moveFocus(tree, this.row, event));
    on(box, "change", () => this.choose({ outline: box.checked }));
    on(about, "change", () => this.choose({ about: about.value }));
    on(opacity, "input", () => picture.style.setProperty("--opacity", opacity.value / 100));
    on(picture, "pointermove", (event) => this.readPlace(event));
    on(picture, "pointerleave", () => this.readPlace(null));
    for (const part of [picture, tree]) {
      for (const type of ["pointerover", "focusin"]) {
        on(part, type, ({ target }) => this.light(target.closest("[data-key]")?.dataset.key));
      }
      for (const type of ["pointerleave", "focusout"]) on(part, type, () => this.light());
    }
  }

  // What changes

  draw() {
    const { image, row, state, parts } = this, depth = row.path.length;
    [...parts.classes.children].forEach((box, index) => {
      const shown = index === state.row || state.kept.has(index);
      box.style.setProperty("--path", shown ? this.colorOf(index) : "");
    });
    parts.caption.textContent = [
      `${image.caption}.`, image.said.length ? `Prepared: ${image.said.join(", ")}.` : "",
      image.planted ? "A dot marks each class that is in the image." : "",
    ].join(" ");
    parts.check.hidden = !row.truth;
    parts.outline.textContent = `Outline the ${row.name}`;
    parts.back.setAttribute("aria-disabled", state.step === 0);
    parts.next.setAttribute("aria-disabled", state.step === depth);
    parts.position.textContent = state.step ? `Step ${state.step} of ${depth}` : "Root";
    parts.tree.style.setProperty("--path", this.colorOf(state.row));
    drawTree(parts.tree, { image, row, step: state.step });
    this.drawPicture();
    this.drawPaths();
    this.drawWords();
    this.light();
  }

  drawPicture() {
    const { image, row, state } = this, scale = colorScale(image, row, state.about);
    fill(this.parts.picture, {
      viewBox: `0 0 ${image.width} ${image.height}`,
      "aria-label": `${image.caption}. Path of ${row.name}: ${pathInWords(row, state.step)}.`,
    });
    const others = [...state.kept.keys()].filter((index) => index !== state.row);
    this.parts.picture.replaceChildren(
      makePixels(image),
      drawMap(image, row, scale),
      ...(state.outline && row.truth ? drawTruth(row.truth) : []),
      ...[...others, state.row].flatMap((index) => drawFrames(
        image, image.rows[index], this.stepsOf(index), this.colorOf(index), this.slotOf(index))),
      ...drawTouchable(image, row, state.step),
    );
    this.parts.legend.replaceChildren(...drawLegend(row, scale));
  }

  /* How many steps of a class's path are framed: a kept one's all. */
  stepsOf(row) { return row === this.state.row ? this.state.step : this.image.rows[row].path.length; }

  drawPaths() {
    const { kept, row } = this.state, { paths, next } = this.parts;
    const shown = [...new Set([...kept.keys(), row])];
    paths.replaceChildren(...shown.map((index) => {
      const { name } = this.image.rows[index], text = kept.has(index) ? "Kept \u2715" : "Keep path";
      const keep = make("button", {
        type: "button", "aria-pressed": kept.has(index), "aria-label": `${text} of ${name}`,
        "data-row": index,
        onclick: () => {
          this.toggleKept(index);
          // The list is drawn anew, and with it the button that had the focus.
          (paths.querySelector(`[data-row="${index}"]`) || next).focus();
        },
      }, text);
      const words = pathInWords(this.image.rows[index], this.stepsOf(index));
      return make("li", { style: `--path: ${this.colorOf(index)}` },
        make("span", { class: "nx-swatch", "aria-hidden": true }),
        make("span", {}, make("b", {}, name), ` ${words}`), keep);
    }));
  }

  drawWords() {
    const { image, row, state: { step }, parts: { words } } = this;
    const [title, text] = step ? explainStep(image, row, step) : explainRoot(image, row);
    words.replaceChildren(make("b", {}, title), make("p", {}, text));
    if (!image.planted || step < row.path.length) return;
    const [verdict, hit] = judge(image, row);
    const [mark, name] = hit === null ? ["", ""] : hit ? ["\u2713 ", "nx-hit"] : ["\u2717 ", "nx-miss"];
    words.append(make("p", { class: `nx-verdict ${name}` }, mark + verdict));
  }

  /* Marks a block, "step.child", in the tree and on the image, and tells its value. */
  light(key) {
    this.app.querySelectorAll("[data-key]").forEach((element) =>
      element.classList.toggle("nx-lit", element.dataset.key === key));
    this.block = key && describeBlock(this.row, ...key.split(".").map(Number));
    this.drawReadout();
  }

  /* The class map's value under the pointer. */
  readPlace(event) {
    const { map } = this.row, frame = this.parts.picture.getBoundingClientRect();
    const at = (position, size, count) => Math.min(Math.max(Math.floor(position / size * count), 0), count - 1);
    this.place = event && map[at(event.clientY - frame.top, frame.height, map.length)][
      at(event.clientX - frame.left, frame.width, map[0].length)];
    this.drawReadout();
  }

  drawReadout() {
    const parts = [this.block, this.place == null ? null : `map here: ${number(this.place)}`];
    this.parts.readout.textContent = parts.filter(Boolean).join(" \u00b7 ") || "Point at a block to see its value.";
  }
}

for (const root of document.querySelectorAll(".nest-explorer:not([data-mounted])")) {
  root.setAttribute("data-mounted", "");
  new Explorer(root);
}
