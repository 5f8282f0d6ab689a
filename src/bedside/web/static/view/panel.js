/** Everything beside the image: where it runs, times, notes, problems, the bar of frames. */
import { element } from "../controls.js";

const STAGES = { decode: "Decode", preprocess: "Prepare", network: "Network", postprocess: "Labels", server: "Server and network" };
const STEPS = {
  keep_largest: "smaller pieces",
  fill_holes: "holes",
  drop_small: "small pieces",
  fit_ellipse: "an ellipse",
};

const ANNOUNCED = {
  live: "The mask is live.",
  stale: "The mask is stale: it is not of the image that the camera or film has now.",
  paused: "Paused.",
};

const ms = (value) => (value < 1000 ? `${value.toFixed(1)} ms` : `${(value / 1000).toFixed(2)} s`);

export class Panel {
  /** The model that is loaded, and where it runs; `check` is that of this device. */
  model({ about, check, threads, runtime }) {
    this.here = Boolean(check);
    const place = element("place");
    place.classList.toggle("safe", Boolean(check));
    place.textContent = check ? "On this device: no image leaves it" : "On the server";
    element("privacy").textContent = check
      ? "It is segmented in this browser and sent nowhere."
      : "It is sent to the server that this page comes from.";
    const { name, version } = about.bundle;
    const count = `${threads} ${threads > 1 ? "threads" : "thread"}`;
    const told = check
      ? ` Checked at loading: ${(100 * check.agreement).toFixed(2)} % of a test frame's pixels are as they should be. ${runtime}, ${count}.`
      : "";
    this.origin = `${name} ${version}: ${about.spec.task}.${told}`;
    this.describe();
    if (about.card.disclaimer) element("disclaimer").textContent = about.card.disclaimer;
  }

  offline() {
    this.kept = true;
    this.describe();
  }

  describe() {
    element("about").textContent = `${this.origin ?? ""}${this.kept && this.here ? " Works offline." : ""}`;
  }

  offerUpdate(apply) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Load the new version" });
    button.addEventListener("click", apply);
    element("about").after(button);
  }

  clear() {
    this.span = null;
    element("times").replaceChildren();
    element("edits").textContent = "";
    this.measurements([], []);
    this.notes([]);
    for (const id of ["save-png", "save-nifti"]) element(id).disabled = true;
  }

  problem(text) {
    element("problem").hidden = !text;
    element("problem").textContent = text;
  }

  notes(texts) {
    if (texts.join("\n") === this.noted) return;
    this.noted = texts.join("\n");
    element("notes-section").hidden = !texts.length;
    const items = texts.map((text) => Object.assign(document.createElement("li"), { textContent: text[0].toUpperCase() + text.slice(1) }));
    element("notes").replaceChildren(...items);
  }

  /** The bar of frames for a source; none for a single picture. */
  transport(source) {
    const several = Boolean(source?.live || source?.count > 1);
    element("transport").hidden = !several;
    element("curve-figure").hidden = Boolean(source?.live);
    element("change-head").hidden = !(source?.count > 1);
    for (const id of ["back", "forward"]) element(id).hidden = Boolean(source?.live);
    const slider = element("frame");
    slider.hidden = source?.kind === "camera";
    slider.max = source?.live ? Math.round(1000 * source.duration) : (source?.count ?? 1) - 1;
    slider.value = 0;
  }

  /** Where in the source the frame lies that is shown; `word` is what it is called. */
  frame(source, frame, word) {
    const slider = element("frame");
    if (source.live) {
      if (!slider.matches(":active")) slider.value = 1000 * source.video.currentTime;
      element("frame-number").textContent = source.kind === "camera" ? "camera" : `${source.video.currentTime.toFixed(2)} s`;
      return;
    }
    slider.value = frame;
    slider.setAttribute("aria-valuetext", `${word} ${frame + 1} of ${source.count}`);
    element("frame-number").textContent = `${word[0].toUpperCase()}${word.slice(1)} ${frame + 1} of ${source.count}`;
    element("curve-caption").textContent = `Area by ${word}`;
  }

  playing(on) {
    const button = element("play");
    button.textContent = on ? "❚❚" : "▶";
    button.setAttribute("aria-label", on ? "Pause" : "Play");
  }

  times(spans, results) {
    const rows = Object.entries(STAGES).flatMap(([stage, name]) => (stage in spans ? [[name, ms(spans[stage])]] : []));
    if ("total" in spans) rows.push(["This frame", ms(spans.total + (spans.decode ?? 0))]);
    const known = results.flatMap((each) => each?.ms.total ?? []).sort((one, other) => one - other);
    if (known.length > 1) rows.push(["Median, without decoding", ms(known[known.length >> 1])]);
    element("times").replaceChildren();
    for (const [name, value] of rows) this.addTime(name, value);
    if (this.span) this.addTime(...this.span);
  }

  /** All frames are done. */
  finished(results, span) {
    if (results.length > 1) this.span = [`All ${results.length} frames`, `${(span / 1000).toFixed(2)} s`];
  }

  /**
   * How far each mask is to be trusted; a server tells it of all frames of a file together. Nothing of a `foreign`
   * image is.
   */
  confidence({ confidence, ofAll }, foreign = false) {
    for (const [name, { predicted_dice: dice, low, high, trusted }] of Object.entries(confidence)) {
      const words = `${dice.toFixed(2)} (${low.toFixed(2)} to ${high.toFixed(2)})${trusted && !foreign ? "" : ", not to be trusted"}`;
      addTerm(element("own"), `${name[0].toUpperCase()}${name.slice(1)}, predicted Dice${ofAll ? " of the whole" : ""}`, words);
    }
  }

  live({ age, dropped }) {
    this.addTime("Age of the mask", ms(age));
    this.addTime("Frames dropped", dropped.toLocaleString("en"));
  }

  /** Whether the mask that is shown is live, and how old it is; null where nothing is live. */
  age(state, words) {
    const badge = element("age");
    badge.hidden = state === null;
    badge.textContent = words;
    if (state !== null && state !== badge.dataset.state) element("announce").textContent = ANNOUNCED[state];
    badge.dataset.state = state ?? "";
    for (const id of ["stage", "structures"]) element(id).classList.toggle("stale", state === "stale");
  }

  addTime(name, value) {
    addTerm(element("times"), name, value);
  }

  /** Lengths that are measured of one kind of structure alone, and how areas change. */
  measurements(own, changes) {
    element("own").replaceChildren();
    for (const [name, length] of own) addTerm(element("own"), name[0].toUpperCase() + name.slice(1), `${length.toFixed(1)} mm`);
    element("changes").replaceChildren(...changes.map((text) => Object.assign(document.createElement("li"), { textContent: text })));
  }

  /** The field for a scale, where a file has none. */
  scale(source) {
    element("scale-row").hidden = !source || (source.spacingMm !== null && !source.scaledByHand);
    if (!source?.scaledByHand) element("scale").value = "";
  }

  /** What repairs changed in the frame that is shown. */
  edits(edits, structures) {
    const nameOf = (value) => structures.find((each) => each.value === value)?.name;
    const texts = edits.map(({ step, value, action, components, pixels, reason }) => {
      if (action === "skipped") return `${nameOf(value)}: ${STEPS[step]} not looked for, ${reason}`;
      if (step === "fit_ellipse") return `${nameOf(value)}: made an ellipse, ${pixels} px ${action}`;
      return `${nameOf(value)}: ${components} ${STEPS[step]} ${action === "removed" ? "removed" : "filled"}, ${pixels} px`;
    });
    element("edits").textContent = texts.length ? `Repaired in this frame. ${texts.join("; ")}.` : "";
  }
}

function addTerm(list, name, value) {
  const term = Object.assign(document.createElement("dt"), { textContent: name });
  const data = Object.assign(document.createElement("dd"), { textContent: value });
  list.append(term, data);
}
