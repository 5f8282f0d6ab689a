/** Keys, sliders and the theme. */

export const element = (id) => document.getElementById(id);

const BYTES = { low: 0, high: 255, level: 128, width: 256 };
const OPACITY = 35;
const THEMES = [null, "dark", "light"];

/** Sliders and boxes of the view. */
export class ViewControls {
  constructor(stage, volume) {
    Object.assign(this, { stage, volume });
    this.range = BYTES;
    for (const id of ["opacity", "level", "width", "outlines", "numbers"]) {
      element(id).addEventListener("input", () => this.apply());
    }
    element("reset").addEventListener("click", () => this.reset());
    this.setRange(null);
  }

  /** Brightness for an image: the limits of its values and a window to begin with; null for 8 bits. */
  setRange(range) {
    this.range = range ?? BYTES;
    const { low, high, level, width } = this.range;
    const span = high - low;
    const step = span > 20 ? 1 : span / 256;
    Object.assign(element("level"), { min: low, max: high, step, value: level });
    Object.assign(element("width"), { min: Math.max(step, span / 128), max: Math.max(2 * span, width), step, value: width });
    this.apply();
  }

  reset() {
    element("opacity").value = OPACITY;
    for (const id of ["outlines", "numbers"]) element(id).checked = true;
    this.stage.view = { zoom: 1, x: 0.5, y: 0.5 };
    this.setRange(this.range);
  }

  apply() {
    const [level, width] = [Number(element("level").value), Number(element("width").value)];
    const opacity = Number(element("opacity").value) / 100;
    this.volume.set({ opacity, level, width });
    this.stage.set({ opacity, level, width, outlines: element("outlines").checked, numbers: element("numbers").checked });
    element("opacity-number").textContent = `${element("opacity").value} %`;
    for (const [id, value] of Object.entries({ level, width })) element(`${id}-number`).textContent = Number(value.toPrecision(4));
  }
}

/** Files that are dropped anywhere on the page. */
export function bindDrop(zone, onFiles) {
  const stop = (event) => event.preventDefault();
  for (const name of ["dragover", "drop"]) document.addEventListener(name, stop);
  zone.addEventListener("dragover", () => zone.classList.add("over"));
  zone.addEventListener("dragleave", () => zone.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    zone.classList.remove("over");
    onFiles([...event.dataTransfer.files]);
  });
}

/** Keys for all of the page, but not while a field has them. */
export function bindKeys({ open, back, forward, play, flip, zoom }) {
  const dialog = element("keys");
  const help = () => dialog.showModal();
  element("help").addEventListener("click", help);
  let shown = null;
  const mask = () => {
    const boxes = [element("opacity"), element("outlines"), element("numbers")];
    if (shown) {
      [boxes[0].value, boxes[1].checked, boxes[2].checked] = shown;
      shown = null;
    } else {
      shown = [boxes[0].value, boxes[1].checked, boxes[2].checked];
      [boxes[0].value, boxes[1].checked, boxes[2].checked] = [0, false, false];
    }
    boxes[0].dispatchEvent(new Event("input"));
  };
  const keys = {
    o: open, ArrowLeft: back, ArrowRight: forward, " ": play, "?": help, m: mask,
    "+": () => zoom(1.25), "=": () => zoom(1.25), "-": () => zoom(0.8), 0: () => zoom(0.01),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    const { tagName, type } = event.target;
    const taken = tagName === "SELECT" || (tagName === "INPUT" && type === "range");
    // Space and the arrows belong to the control that has the focus.
    if ((taken && event.key.startsWith("Arrow")) || (event.key === " " && /^(BUTTON|INPUT|SELECT)$/.test(tagName))) return;
    const work = keys[event.key] ?? keys[event.key.toLowerCase()] ?? (/^[1-9]$/.test(event.key) ? () => flip(Number(event.key)) : null);
    if (!work) return;
    event.preventDefault();
    work();
  });
}

/** The button goes from the system's theme to dark, light, and back; the choice is kept. */
export function followTheme() {
  const root = document.documentElement;
  const apply = (theme) => {
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
  };
  let theme = localStorage.getItem("bedside theme");
  if (!THEMES.includes(theme)) theme = null;
  apply(theme);
  element("theme").addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    if (theme) localStorage.setItem("bedside theme", theme);
    else localStorage.removeItem("bedside theme");
    apply(theme);
    element("theme").title = theme ?? "as the system";
  });
}
