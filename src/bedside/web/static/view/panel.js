/** Everything beside the image: where it runs, times, notes, problems, the bar of frames. */
import { element } from "../controls.js";

const STAGES = { decode: "Decode", preprocess: "Prepare", network: "Network", postprocess: "Labels" };
const STEPS = { keep_largest: "smaller pieces", fill_holes: "holes", drop_small: "small pieces" };

const ms = (value) => `${value.toFixed(1)} ms`;

export class Panel {
  /** The model that is loaded, and how it runs. */
  model(about, { check, threads, runtime }) {
    const place = element("place");
    place.className = "chip safe";
    place.textContent = "On this device: no image leaves it";
    place.title = `${runtime}, ${threads} ${threads > 1 ? "threads" : "thread"}`;
    element("privacy").textContent = "It is segmented in this browser and sent nowhere.";
    const { name, version } = about.bundle;
    this.origin =
      `${name} ${version}: ${about.spec.task}. Checked at loading: ${(100 * check.agreement).toFixed(2)} % of the pixels of ` +
      `a test frame are as they should be. ${threads} ${threads > 1 ? "threads" : "thread"}.`;
    this.describe();
    element("disclaimer").textContent = about.card.disclaimer;
  }

  offline() {
    this.kept = " Works offline.";
    this.describe();
  }

  describe() {
    element("about").textContent = `${this.origin ?? ""}${this.kept ?? ""}`;
  }

  offerUpdate(apply) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: "Load the new version" });
    button.addEventListener("click", apply);
    element("about").after(button);
  }

  clear() {
    element("times").replaceChildren();
    element("edits").textContent = "";
    this.notes([]);
    for (const id of ["save-png", "save-nifti"]) element(id).disabled = true;
  }

  problem(text) {
    element("problem").hidden = !text;
    element("problem").textContent = text ? text[0].toUpperCase() + text.slice(1) : "";
  }

  notes(texts) {
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

  frame(source, frame) {
    const slider = element("frame");
    if (source.live) {
      if (!slider.matches(":active")) slider.value = 1000 * source.video.currentTime;
      element("frame-number").textContent = source.kind === "camera" ? "live" : `${source.video.currentTime.toFixed(2)} s`;
      return;
    }
    slider.value = frame;
    slider.setAttribute("aria-valuetext", `frame ${frame + 1} of ${source.count}`);
    element("frame-number").textContent = `Frame ${frame + 1} of ${source.count}`;
  }

  playing(on) {
    const button = element("play");
    button.textContent = on ? "❚❚" : "▶";
    button.setAttribute("aria-label", on ? "Pause" : "Play");
  }

  times(spans, results) {
    const known = results.filter(Boolean).map((each) => each.ms.total).sort((one, other) => one - other);
    const rows = Object.entries(STAGES).map(([stage, name]) => [name, ms(spans[stage])]);
    rows.push(["This frame", ms(spans.total + spans.decode)]);
    if (known.length > 1) rows.push(["Median, without decoding", ms(known[known.length >> 1])]);
    this.fillTimes(rows);
  }

  finished(results, span) {
    if (results.length < 2) return;
    this.addTime(`All ${results.length} frames`, `${(span / 1000).toFixed(2)} s`);
  }

  live({ age }) {
    this.addTime("Age of the mask", ms(age));
  }

  fillTimes(rows) {
    element("times").replaceChildren();
    for (const [name, value] of rows) this.addTime(name, value);
  }

  addTime(name, value) {
    const term = Object.assign(document.createElement("dt"), { textContent: name });
    const data = Object.assign(document.createElement("dd"), { textContent: value });
    element("times").append(term, data);
  }

  /** What repairs changed in the frame that is shown. */
  edits(edits, structures) {
    const nameOf = (value) => structures.find((each) => each.value === value)?.name;
    const texts = edits.map(({ step, value, action, components, pixels, reason }) =>
      action === "skipped"
        ? `${nameOf(value)}: ${STEPS[step]} not looked for, ${reason}`
        : `${nameOf(value)}: ${components} ${STEPS[step]} ${action === "removed" ? "removed" : "filled"}, ${pixels} px`
    );
    element("edits").textContent = texts.length ? `Repaired in this frame. ${texts.join("; ")}.` : "";
  }
}
