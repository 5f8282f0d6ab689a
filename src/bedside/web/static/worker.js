/* Runs a network and the steps around it, away from the page's own thread. */
import * as ort from "./vendor/ort.js";
import { medianVerdict } from "./pipeline/gate.js";
import { makeImage } from "./pipeline/image.js";
import { Pipeline } from "./pipeline/model.js";

const AGREEMENT = 0.999;
const vendor = (name) => new URL(`./vendor/${name}`, import.meta.url).href;

let pipeline = null;
let session = null;
let plan = null;

const CALLS = { open, plan: makePlan, run, explain };

self.addEventListener("message", async ({ data: { id, call, values } }) => {
  try {
    const { value, moved = [] } = await CALLS[call](values);
    self.postMessage({ id, value }, moved);
  } catch (error) {
    self.postMessage({ id, error: error.message });
  }
});
self.postMessage({ ready: true });

/** Load a model, and run the frame that comes with it: its labels must be those of Python. */
async function open({ url, threads }) {
  await session?.release();
  session = pipeline = plan = null;
  ort.env.wasm.numThreads = threads;
  ort.env.wasm.wasmPaths = { mjs: vendor("ort-threads.js"), wasm: vendor("ort.wasm") };
  const about = JSON.parse(new TextDecoder().decode(await read(url, "model.json")));
  if (about.schema_version !== 1) throw new Error(`${url} has the schema version ${about.schema_version}; expected 1.`);
  const { input } = about.spec;
  const shape = [1, input.channels, ...input.size_px];
  const graph = await read(url, "graph.onnx");
  session = await ort.InferenceSession.create(graph, { executionProviders: ["wasm"], graphOptimizationLevel: "all" });
  pipeline = new Pipeline(about.spec, async (values) => {
    const image = new ort.Tensor("float32", values, shape);
    const { logits } = await session.run({ image });
    return logits.data;
  }, about.gate, about.confidence);
  const check = await checkSelf(about.check, url);
  return { value: { about, check, threads } };
}

async function checkSelf({ height, width, channels }, url) {
  const frame = makeImage(await read(url, "check-frame.bin"), width, height, channels);
  const wanted = await read(url, "check-labels.bin");
  const { labels, ms } = await pipeline.run(frame, pipeline.plan([frame]));
  const equal = labels.data.reduce((count, value, k) => count + (value === wanted[k] ? 1 : 0), 0);
  const agreement = equal / wanted.length;
  if (agreement < AGREEMENT) {
    pipeline = null;
    throw new Error(
      `this browser computes other labels than it should: ${(100 * agreement).toFixed(2)} % of the pixels of the ` +
        "frame that the page checks itself with are right. Nothing is segmented on this device."
    );
  }
  return { agreement, ms: ms.total };
}

async function read(url, name) {
  const answer = await fetch(`${url}/${name}`);
  if (!answer.ok) throw new Error(`${name} of the model cannot be loaded (${answer.status}).`);
  return new Uint8Array(await answer.arrayBuffer());
}

/** Plan for the frames of one image; those that follow are run with it. */
async function makePlan({ sample, region, spacingMm, pixelAspect }) {
  if (!pipeline) throw new Error("no model is loaded.");
  plan = await pipeline.planUpright(sample, { region, spacingMm, pixelAspect });
  return { value: { warnings: plan.warnings, box: plan.transform.box } };
}

async function run({ image, judged }) {
  const found = await pipeline.run(image, plan, judged);
  return { value: found, moved: [found.labels.data.buffer] };
}

/** What the gate says of some frames of one image: a warning, or null. */
async function explain({ verdicts, isFilm }) {
  const { gate } = pipeline;
  return { value: gate?.explain(medianVerdict(verdicts)) ?? (isFilm ? gate?.describeForeign(verdicts) : null) ?? null };
}
