/** The network on this device: a worker that is asked one thing after another. */

export class DeviceEngine {
  constructor() {
    this.waiting = new Map();
    this.count = 0;
    this.worker = null;
  }

  /**
   * Threads of the network: one core is left to the page, since threads that wait for each other lose most
   * where something else takes a core. More than one needs the headers of an isolated page.
   */
  static get threads() {
    return globalThis.crossOriginIsolated ? Math.min(4, Math.max(1, (navigator.hardwareConcurrency || 1) - 1)) : 1;
  }

  /** Load a model from its folder; resolves to what it is, and how it checked itself. */
  async open(url, threads = DeviceEngine.threads) {
    this.close();
    this.worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module", name: "bedside" });
    await new Promise((resolve, reject) => {
      this.worker.onmessage = resolve;
      this.worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error("the network's runtime cannot be started; files of the page are missing."));
      };
    });
    this.worker.onmessage = ({ data }) => this.settle(data);
    this.worker.onerror = (event) => this.fail(event.message || "the network's thread ended.");
    return this.ask("open", { url: new URL(url, document.baseURI).href, threads });
  }

  /** Plan for an image from some of its frames; see `sampleOf`. */
  plan(sample, { region, spacingMm, pixelAspect = null }) {
    return this.ask("plan", { sample, region, spacingMm, pixelAspect });
  }

  /** Labels of one frame; `judged`: whether the gate judges it, too. */
  run(image, judged = false) {
    return this.ask("run", { image, judged });
  }

  /** What the gate's verdicts on frames of one image amount to: a warning, or null; `isFilm`: single frames count, too. */
  explain(verdicts, isFilm = false) {
    return this.ask("explain", { verdicts: verdicts.filter(Boolean), isFilm });
  }

  close() {
    this.worker?.terminate();
    this.worker = null;
    this.fail("the model was closed.");
  }

  ask(call, values) {
    this.count += 1;
    const id = this.count;
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.worker.postMessage({ id, call, values });
    });
  }

  settle({ id, value, error }) {
    const asked = this.waiting.get(id);
    this.waiting.delete(id);
    if (error === undefined) asked?.resolve(value);
    else asked?.reject(new Error(error));
  }

  fail(message) {
    for (const { reject } of this.waiting.values()) reject(new Error(message));
    this.waiting.clear();
  }
}
