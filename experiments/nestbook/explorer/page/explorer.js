/* Puts a fragment's exploration into its page. One state: an action changes it and calls draw(),
 * which redraws what depends on it. Step 0 is the root; step s compares the four children of the
 * node that step s - 1 chose. */

class Explorer {
  constructor(root) {
    this.data = JSON.parse(root.querySelector(".nx-data").textContent);
    root.querySelectorAll(".nx-plain img").forEach(({ src }, index) => {
      this.data.images[index].png = src;
    });
    this.state = { image: 0, row: 0, step: 0, kept: [], about: "mean", outline: false };
    this.build();
    this.chooseImage(0);
    root.querySelector(".nx-plain").remove();
    root.append(this.app);
  }

  get image() { return this.data.images[this.state.image]; }
  get row() { return this.image.rows[this.state.row]; }
  get room() { return this.data.colors.length - 1; } // for kept paths: one colour is for the next

  // Actions

  /* An image begins with its start class, and the paths of the other classes planted in it. */
  chooseImage(image) {
    const { start, rows } = this.data.images[image];
    Object.assign(this.state, { image, row: start, step: rows[start].path.length, kept: [] });
    const planted = [...rows.keys()].filter((row) => rows[row].truth && row !== start);
    this.state.kept = planted.slice(0, this.room).map((row, i) => ({ row, slot: i + 1 }));
    this.buildClasses();
    this.draw();
  }

  choose(changes) {
    Object.assign(this.state, changes);
    this.draw();
  }

  goTo(step) {
    this.choose({ step: Math.min(Math.max(step, 0), this.row.path.length) });
  }

  /* A kept path stays framed while other classes are chosen. */
  toggleKept(row) {
    const others = this.state.kept.filter((path) => path.row !== row);
    if (others.length === this.state.kept.length) others.push({ row, slot: this.slotOf(row) });
    this.choose({ kept: others.slice(-this.room) });
  }

  /* A class's place among the colours: its own once it is kept, else the first that is free. */
  slotOf(row) {
    const { kept } = this.state, own = kept.find((path) => path.row === row);
    if (own) return own.slot;
    return this.data.colors.findIndex((_, slot) => !kept.some((path) => path.slot === slot));
  }

  colorOf(row) { return this.data.colors[this.slotOf(row)]; }
  isKept(row) { return this.state.kept.some((path) => path.row === row); }

  // What stays

  build() {
    const { images } = this.data;
    this.images = makeChooser("Image", "nx-thumbs", images.map(({ caption, png }) => make(
      "button", { class: "nx-thumb", "aria-label": caption, title: caption },
      make("img", { src: png, alt: "" }),
    )), (index) => this.chooseImage(index));
    this.caption = make("p", { class: "nx-caption" });
    this.classBox = make("div");
    const label = (text) => make("span", { class: "nx-label", "aria-hidden": true }, text);
    this.app = make("div", { class: "nx-app" },
      make("div", { class: "nx-row" }, label("Image"),
        make("div", {}, ...(images.length > 1 ? [this.images.group] : []), this.caption)),
      make("div", { class: "nx-row" }, label("Class"), this.classBox),
      make("div", { class: "nx-main" }, this.buildLook(), this.buildWalk(), this.buildMapControls()));
  }

  buildClasses() {
    const buttons = this.image.rows.map(({ name, share, logit, truth }) => make(
      "button", {
        class: "nx-class",
        "aria-label": `${name}: probability ${percent(share)}, logit ${number(logit)}`
          + (truth ? ", in the image" : ""),
      },
      make("span", { class: "nx-name" }, name, ...(truth ? [make("i", { class: "nx-dot" })] : [])),
      make("span", { class: "nx-share" }, percent(share)),
      make("span", { class: "nx-logit" }, `logit ${number(logit)}`),
      make("span", { class: "nx-bar", style: `--share: ${share}` }),
    ));
    const long = this.image.rows.some(({ name }) => name.length > 8) ? " nx-long" : "";
    this.classes = makeChooser("Class", `nx-classes${long}`, buttons, (row) => this.choose({ row }));
    this.classBox.replaceChildren(this.classes.group);
  }

  buildLook() {
    this.picture = makeSvg("svg", {
      class: "nx-picture", role: "img", onpointermove: (event) => this.readPlace(event),
      onpointerleave: () => this.readPlace(null),
    });
    this.readout = make("p", { class: "nx-readout", "aria-hidden": true });
    this.paths = make("ul", { class: "nx-paths", "aria-label": "Framed paths" });
    const box = make("input", {
      type: "checkbox", onchange: () => this.choose({ outline: box.checked }),
    });
    this.outlineName = make("span");
    this.outline = make("label", { class: "nx-check" }, box, this.outlineName);
    return make("section", { class: "nx-look", "aria-label": "Image, framed paths and class map" },
      this.picture, this.readout, this.paths, this.outline);
  }

  buildWalk() {
    const step = (text, by) => make(
      "button", { type: "button", onclick: () => this.goTo(this.state.step + by) }, text);
    this.back = step("\u2190 Back", -1);
    this.next = step("Next \u2192", 1);
    this.position = make("span", { class: "nx-position" });
    this.words = make("div", { class: "nx-words", role: "status", "aria-live": "polite" });
    this.tree = makeSvg("svg", {
      class: "nx-tree", role: "group", "aria-label": "Tree from the root to a leaf",
      onkeydown: (event) => moveFocus(this.tree, this.row, event),
    });
    const stepper = make("div", {
      class: "nx-stepper", role: "group", "aria-label": "Steps of the walk",
      onkeydown: (event) => {
        const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (by) this.goTo(this.state.step + by);
      },
    }, this.back, this.position, this.next);
    return make("section", { class: "nx-walk", "aria-label": "Walk down the tree" },
      stepper, this.words, this.tree);
  }

  buildMapControls() {
    const opacity = make("input", {
      type: "range", min: 0, max: 100, value: 60,
      oninput: () => this.picture.style.setProperty("--opacity", opacity.value / 100),
    });
    const about = make("select", { onchange: () => this.choose({ about: about.value }) },
      make("option", { value: "mean" }, "its mean"), make("option", { value: "zero" }, "zero"));
    this.legend = make("div");
    return make("fieldset", { class: "nx-controls" },
      make("legend", {}, "Class activation map"), make("label", {}, "Opacity", opacity),
      make("label", {}, "Colours about", about), this.legend);
  }

  // What changes

  draw() {
    const { image, row, state } = this, depth = row.path.length;
    this.images.mark(state.image);
    this.classes.mark(state.row);
    this.classes.buttons.forEach((button, index) => {
      const shown = index === state.row || this.isKept(index);
      button.style.setProperty("--path", shown ? this.colorOf(index) : "");
    });
    this.caption.textContent = [
      `${image.caption}.`, image.said.length ? `Prepared: ${image.said.join(", ")}.` : "",
      image.planted ? "A dot marks the classes that are in it." : "",
    ].join(" ");
    this.outline.hidden = !row.truth;
    this.outlineName.textContent = `Outline the ${row.name}`;
    this.back.setAttribute("aria-disabled", state.step === 0);
    this.next.setAttribute("aria-disabled", state.step === depth);
    this.position.textContent = state.step ? `Step ${state.step} of ${depth}` : "Root";
    this.drawPicture();
    this.drawPaths();
    drawTree(this.tree, {
      image, row, step: state.step, color: this.colorOf(state.row), light: (key) => this.light(key),
    });
    this.drawWords();
    this.light(null);
  }

  drawPicture() {
    const { image, row, state } = this, scale = colorScale(image, row, state.about);
    fill(this.picture, {
      viewBox: `0 0 ${image.width} ${image.height}`,
      "aria-label": `${image.caption}. Path of ${row.name}: ${pathInWords(row, state.step)}.`,
    });
    const frames = (index, steps) => drawFrames(
      image, image.rows[index], steps, this.colorOf(index), this.slotOf(index));
    const others = state.kept.filter((path) => path.row !== state.row);
    this.picture.replaceChildren(
      makeSvg("image", {
        href: image.png, width: image.width, height: image.height, class: "nx-pixels",
      }),
      drawMap(image, row, scale),
      ...(state.outline && row.truth ? [drawTruth(row.truth)] : []),
      ...others.flatMap((path) => frames(path.row, row.path.length)),
      ...frames(state.row, state.step),
      ...drawTouchable(image, row, state.step, (key) => this.light(key)),
    );
    this.legend.replaceChildren(...drawLegend(row, scale));
  }

  drawPaths() {
    const { rows } = this.image, current = this.state.row;
    const shown = this.state.kept.map((path) => path.row);
    if (!shown.includes(current)) shown.push(current);
    this.paths.replaceChildren(...shown.map((index) => {
      const steps = index === current ? this.state.step : rows[index].path.length;
      const keep = make("button", {
        type: "button", "aria-pressed": this.isKept(index), "data-row": index,
        onclick: () => {
          this.toggleKept(index);
          // The list is drawn anew, and with it the button that had the focus.
          (this.paths.querySelector(`[data-row="${index}"]`) || this.next).focus();
        },
      }, this.isKept(index) ? "Kept \u2715" : "Keep path",
      make("span", { class: "nx-spoken" }, ` of ${rows[index].name}`));
      return make("li", { style: `--path: ${this.colorOf(index)}` },
        make("span", { class: "nx-swatch", "aria-hidden": true }),
        make("span", {}, make("b", {}, rows[index].name), ` ${pathInWords(rows[index], steps)}`),
        keep);
    }));
  }

  drawWords() {
    const { image, row, state } = this;
    const [title, text] = explainStep(image, row, state.step);
    this.words.replaceChildren(make("b", {}, title), make("p", {}, text));
    if (!image.planted || state.step < row.path.length) return;
    const [verdict, hit] = judge(image, row);
    const [mark, name] = hit === null ? ["", ""] : hit ? ["\u2713 ", "nx-hit"] : ["\u2717 ", "nx-miss"];
    this.words.append(make("p", { class: `nx-verdict ${name}` }, mark + verdict));
  }

  /* Marks a block, "step.child", in the tree and on the image, and tells its value. */
  light(key) {
    this.app.querySelectorAll("[data-key]").forEach((element) =>
      element.classList.toggle("nx-lit", element.dataset.key === key));
    this.block = key === null ? null : describeBlock(this.row, ...key.split(".").map(Number));
    this.drawReadout();
  }

  /* The class map's value under the pointer. */
  readPlace(event) {
    const { map } = this.row, frame = this.picture.getBoundingClientRect();
    const at = (position, size, count) => Math.min(Math.max(Math.floor(position / size * count), 0), count - 1);
    this.place = event && map[at(event.clientY - frame.top, frame.height, map.length)][
      at(event.clientX - frame.left, frame.width, map[0].length)];
    this.drawReadout();
  }

  drawReadout() {
    const parts = [this.block, this.place == null ? null : `map here: ${number(this.place)}`];
    this.readout.textContent = parts.filter(Boolean).join(" \u00b7 ") || "Rest the pointer on a block.";
  }
}

for (const root of document.querySelectorAll(".nest-explorer:not([data-mounted])")) {
  root.setAttribute("data-mounted", "");
  new Explorer(root);
}
