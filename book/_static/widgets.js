// Draws the widgets saved in a page without a network: vendor/libembed-amd.js holds Jupyter's html-manager
// as named modules, and expects a module loader. This one knows no module from elsewhere.
"use strict";

(() => {
  const modules = new Map();
  window.define = (name, needs, make) => {
    modules.set(name, make(...needs.map((need) => modules.get(need))));
  };
  window.define.amd = {};
  window.requirejs = (names, done, failed) => {
    const missing = names.filter((name) => !modules.has(name));
    if (missing.length) failed(new Error(`${missing} is not in this page`));
    else done(...names.map((name) => modules.get(name)));
  };
  window.addEventListener("load", () => {
    window.requirejs(
      ["@jupyter-widgets/html-manager/dist/libembed-amd"],
      (embed) => embed.renderWidgets(),
      (error) => console.error(error),
    );
  });
})();
