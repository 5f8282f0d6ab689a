/** Keys, sliders and the theme. */

export const element = (id) => document.getElementById(id);

const VIEW = { opacity: 35, level: 128, width: 256 };
const THEMES = [null, "dark", "light"];

/** Sliders and boxes of the view. */
export function bindView(stage) {
  const set = () => {
    stage.set({
      opacity: Number(element("opacity").value) / 100,
      level: Number(element("level").value),
      width: Number(element("width").value),
      outlines: element("outlines").checked,
      numbers: element("numbers").checked,
    });
  };
  for (const id of [...Object.keys(VIEW), "outlines", "numbers"]) element(id).addEventListener("input", set);
  element("reset").addEventListener("click", () => {
    for (const [id, value] of Object.entries(VIEW)) element(id).value = value;
    for (const id of ["outlines", "numbers"]) element(id).checked = true;
    stage.view = { zoom: 1, x: 0.5, y: 0.5 };
    set();
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
