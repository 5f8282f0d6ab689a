/** What buttons, fields, keys and dropped files do. */
import { bindDrop, bindKeys, element } from "./controls.js";
import { openCamera } from "./io/video.js";
import { saveNifti, savePng, saveSeg } from "./save.js";

const CHOICE = "bedside on this device";

export function bindApp(app) {
  const choose = () => element("file").click();
  const on = (id, event, work) => element(id).addEventListener(event, work);
  on("open", "click", choose);
  on("file", "change", ({ target }) => {
    app.openFiles([...target.files]);
    target.value = "";
  });
  on("camera", "click", () => app.open(openCamera));
  on("model", "change", ({ target }) => app.openModel(target.value));
  on("play", "click", () => app.play());
  on("back", "click", () => app.step(-1));
  on("forward", "click", () => app.step(1));
  on("frame", "input", ({ target }) => app.seek(Number(target.value)));
  on("scale", "change", ({ target }) => app.setScale(Number(target.value)));
  on("save-png", "click", () => app.attempt(() => savePng(app.source, app.results[app.frame].labels, app.structures, app.frame)));
  on("save-nifti", "click", () => app.attempt(() => saveNifti(app.source, app.results, app.mask)));
  on("save-seg", "click", () => app.attempt(() => saveSeg(app.source, app.server, app.about.bundle.name)));
  bindDrop(element("drop-zone"), (files) => app.openFiles(files));
  bindKeys({
    open: choose,
    back: () => app.step(-1),
    forward: () => app.step(1),
    play: () => app.play(),
    flip: (value) => app.list.flip(value),
    zoom: (factor) => app.stage.zoom(factor),
  });
}

/** The switch between this device and the server, where there is one. */
export function bindPlace(app) {
  const box = element("on-device");
  element("place-switch").hidden = app.server === null;
  box.disabled = app.site.runtime === null;
  box.checked = !box.disabled && localStorage.getItem(CHOICE) === "1";
  box.addEventListener("change", () => {
    localStorage.setItem(CHOICE, box.checked ? "1" : "0");
    app.openModel(element("model").value);
  });
}
