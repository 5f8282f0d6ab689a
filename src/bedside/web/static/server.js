/** The server that sent the page: it segments what is posted to it. */
import { inflate } from "./io/streams.js";
import { parseNifti } from "./io/nifti.js";
import { streamAddress } from "./live/socket.js";

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

  /** Labels of all frames of a file, as bytes of a NIfTI image's voxels, what it warns of, and how far they are to be trusted. */
  async segment(model, file, signal) {
    const answer = await this.post(model, file, "application/gzip", signal);
    const sent = new Uint8Array(await answer.arrayBuffer());
    const bytes = sent[0] === 0x1f ? await inflate(sent, LARGEST_BYTES) : sent;
    const [warnings, confidence] = ["Warnings", "Confidence"].map((name) => answer.headers.get(`Bedside-${name}`));
    return { ...parseNifti(bytes), bytes, warnings: JSON.parse(warnings ?? "[]"), confidence: JSON.parse(confidence ?? "{}") };
  }

  /** Where the server takes live frames for a model. */
  streamAddress(model) {
    return streamAddress(this.base, model);
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
