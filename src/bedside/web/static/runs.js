/** Runs of the network over the frames of a source. */
import { isFilm } from "./fitness.js";
import { judgedFrames } from "./pipeline/gate.js";
import { sampleOf } from "./pipeline/plan.js";
import { dropForeignScale } from "./pipeline/scaled_region.js";

/**
 * Segment all frames of a file, those that are shown first.
 *
 * @param {object} source See `openFile`.
 * @param {object} frames Its frames; see `FrameCache`.
 * @param {object} engine See `DeviceEngine`.
 * @param {{spec, first: () => number, cancelled: () => boolean, onWarnings, onFrame}} options
 *   `spec`: of the model. `first`: the frame that is wanted most. A source whose labels lie beside the region that
 *   its scale belongs to loses its scale at the end.
 */
export async function runFrames(source, frames, engine, { spec, first, cancelled, onWarnings, onFrame }) {
  const { region, spacingMm, pixelAspect } = source;
  const spans = new Map();
  const decode = async (index) => {
    const begin = performance.now();
    const image = await frames.read(index);
    if (!spans.has(index)) spans.set(index, performance.now() - begin);
    return image;
  };
  const sample = [];
  for (const index of sampleOf(source.count)) sample.push(await decode(index));
  if (cancelled()) return;
  const plan = await engine.plan(sample, { region, spacingMm, pixelAspect });
  onWarnings(plan.warnings);
  const judged = new Set(judgedFrames(source.count));
  const [verdicts, masks] = [[], []];
  let foreign = null;
  const left = new Set(Array.from({ length: source.count }, (_, index) => index));
  const choose = () => {
    const index = nextOf(left, first(), source.count);
    left.delete(index);
    const decoded = index === null ? null : decode(index);
    // It is looked at when its turn comes; what fails before that ends the run.
    decoded?.catch(() => {});
    return { index, decoded };
  };
  let coming = choose();
  while (coming.index !== null && !cancelled()) {
    const { index, decoded } = coming;
    const image = await decoded;
    // The next frame is decoded while the network runs.
    coming = choose();
    const found = await engine.run(image, judged.delete(index));
    if (cancelled()) return;
    masks.push(found.labels);
    if (found.verdict) verdicts.push({ ...found.verdict, frame: index });
    onFrame(index, { ...found, ms: { decode: spans.get(index), ...found.ms } });
    if (judged.size || !verdicts.length) continue;
    foreign = await engine.explain(verdicts.splice(0), isFilm(source, spec));
    if (foreign && !cancelled()) onWarnings([foreign, ...plan.warnings], true);
  }
  if (cancelled()) return;
  const beside = dropForeignScale(source, spec.labels, masks);
  if (beside) onWarnings([...(foreign ? [foreign] : []), ...plan.warnings, beside], Boolean(foreign));
}

/**
 * Have a server segment a file: the labels of all frames come at once.
 *
 * @param {object} options As for `runFrames`; `model` is the name of the model.
 */
export async function runOnServer(source, server, { model, spec, signal, onWarnings, onFrame, onMask }) {
  const begin = performance.now();
  const found = await server.segment(model, source.file, signal);
  const { width, height, count, values } = found;
  if (width !== source.width || height !== source.height || count !== source.count) {
    throw new Error(
      `the server's mask has ${count} frames of ${height} x ${width}, the image that is shown ${source.count} of ` +
        `${source.height} x ${source.width}. Save the mask and open it in a viewer.`
    );
  }
  onMask(found.bytes);
  const told = { edits: [], confidence: found.confidence, ofAll: count > 1, ms: { server: performance.now() - begin } };
  const masks = Array.from({ length: count }, (_, index) => {
    const data = Uint8Array.from(values.subarray(index * width * height, (index + 1) * width * height));
    return { data, width, height, channels: 1 };
  });
  // The server warns of it; the page's own measurements follow.
  dropForeignScale(source, spec.labels, masks);
  onWarnings(found.warnings);
  masks.forEach((labels, index) => onFrame(index, { labels, ...told }));
}

/** The next frame to do from the one that is shown, around the end; null if all are done. */
function nextOf(left, from, count) {
  for (let step = 0; step < count; step += 1) {
    const index = (from + step) % count;
    if (left.has(index)) return index;
  }
  return null;
}
