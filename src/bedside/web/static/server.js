/** The server that sent the page: it segments what is posted to it. */
import { gunzip } from "./io/streams.js";
import { parseNifti } from "./io/nifti.js";

const LARGEST_BYTES = 2 ** 30;
const KEPT_SUFFIX = /(\.nii)?\.[a-z0-9]{1,5}$/i;

export class ServerEngine {
  /** @param {string} base Where its API is, relative to the page. */
  constructor(base) {
    this.base = new URL(base, document.baseURI);
  }

  /** What a model is, in the form of a model that runs on this device. */
  async open(name) {
    const found = await (await this.ask(`models/${encodeURIComponent(name)}`, {})).json();
    return {
      bundle: { name, version: found.version },
      spec: { name, task: found.task, labels: found.labels, input: { modality: found.modality }, model: { spatial_dims: found.dimensions } },
      card: {},
    };
  }

  /** Labels of all frames of a file, as bytes of a NIfTI image's voxels, and what it warns of. */
  async segment(model, file, signal) {
    const answer = await this.post(model, file, "application/gzip", signal);
    const bytes = new Uint8Array(await answer.arrayBuffer());
    const image = parseNifti(bytes[0] === 0x1f ? await gunzip(bytes, LARGEST_BYTES) : bytes);
    return { ...image, warnings: JSON.parse(answer.headers.get("Bedside-Warnings") ?? "[]") };
  }

  /** The server as `runLive` takes an engine: each frame is an image of its own. */
  live(model) {
    const canvas = new OffscreenCanvas(1, 1);
    return {
      plan: async () => ({ warnings: [] }),
      run: async (image) => {
        const begin = performance.now();
        const blob = await encodePng(image, canvas);
        const { width, height, values } = await this.segment(model, blob);
        return { labels: { data: Uint8Array.from(values), width, height, channels: 1 }, edits: [], ms: { server: performance.now() - begin } };
      },
    };
  }

  /** The mask as a file in another format. */
  async save(model, file, accept) {
    return (await this.post(model, file, accept)).blob();
  }

  post(model, file, accept, signal) {
    const body = new FormData();
    // Names of files may be those of patients; the suffix says what kind it is.
    body.append("file", file, `image${(file.name ?? "").match(KEPT_SUFFIX)?.[0] ?? ""}`);
    return this.ask(`segment?model=${encodeURIComponent(model)}`, { method: "POST", headers: { Accept: accept }, body, signal });
  }

  async ask(path, options) {
    let answer;
    try {
      answer = await fetch(new URL(path, this.base), options);
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Error("the server cannot be reached. Try again, or segment on this device.");
    }
    if (answer.ok) return answer;
    const said = await answer.json().catch(() => null);
    throw new Error(said?.error?.message ?? `the server refuses this (${answer.status}).`);
  }
}

function encodePng({ data, width, height, channels }, canvas) {
  Object.assign(canvas, { width, height });
  const shown = new ImageData(width, height);
  for (let k = 0, from = 0; k < shown.data.length; k += 4, from += channels) {
    for (let c = 0; c < 3; c += 1) shown.data[k + c] = data[from + (channels === 3 ? c : 0)];
    shown.data[k + 3] = 255;
  }
  canvas.getContext("2d").putImageData(shown, 0, 0);
  return canvas.convertToBlob({ type: "image/png" });
}
