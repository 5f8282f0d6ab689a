// Runs the page's pipeline in node on raw frames, and writes the result of each step.
// usage: node steps.mjs STATIC CASES.json; a case is {spec, region, width, height, channels, dtype,
// frames: [files], index, logits, out}: a plan of all frames, and the steps of the one at `index`.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [statics, list] = process.argv.slice(2);
const { Pipeline, STEPS } = await import(pathToFileURL(`${statics}/pipeline/model.js`));
const { SAMPLE_FRAMES } = await import(pathToFileURL(`${statics}/pipeline/plan.js`));
const { measureOwn } = await import(pathToFileURL(`${statics}/ellipse.js`));
const TYPES = { uint8: Uint8Array, uint16: Uint16Array, int16: Int16Array, float32: Float32Array };

const read = (path, Type) => {
  const content = readFileSync(path);
  return new Type(content.buffer.slice(content.byteOffset, content.byteOffset + content.length));
};
const write = (path, values) => writeFileSync(path, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));

async function run(each) {
  const { width, height, channels } = each;
  const frames = each.frames.map((file) => ({ data: read(file, TYPES[each.dtype]), width, height, channels }));
  let tensor;
  const network = async (values) => {
    tensor = values;
    return each.logits ? read(each.logits, Float32Array) : new Float32Array(each.logit_count);
  };
  const pipeline = new Pipeline(each.spec, network);
  const plan = pipeline.plan(frames, { region: each.region, spacingMm: each.spacing_mm });
  const frame = frames[each.index];
  const found = await pipeline.run(frame, plan);
  plan.trace(frame).forEach(({ data }, k) => write(`${each.out}/js_step${k}.raw`, data));
  write(`${each.out}/js_tensor.raw`, tensor);
  write(`${each.out}/js_labels.raw`, found.labels.data);
  const own = each.spec.labels.flatMap((label) => measureOwn(found.labels, label, each.spacing_mm));
  return { own, transform: plan.transform, warnings: plan.warnings, edits: found.edits, ms: found.ms };
}

const results = [];
for (const each of JSON.parse(readFileSync(list, "utf8"))) {
  try {
    results.push(await run(each));
  } catch (error) {
    results.push({ error: error.message });
  }
}
console.log(JSON.stringify({ steps: STEPS, sample_frames: SAMPLE_FRAMES, results }));
