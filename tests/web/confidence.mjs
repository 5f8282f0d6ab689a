// The page's confidence in masks, from tensors and logits.
// usage: node confidence.mjs STATIC CASE.json
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [statics, file] = process.argv.slice(2);
const { ConfidenceEstimator } = await import(pathToFileURL(`${statics}/pipeline/confidence.js`));
const { confidence, settings, pairs } = JSON.parse(readFileSync(file, "utf8"));
const read = (path) => {
  const bytes = readFileSync(path);
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
};
const estimator = new ConfidenceEstimator(confidence, settings);
const inputs = pairs.map(([tensor, logits]) => [read(tensor), read(logits)]);
const found = inputs.map((each) => estimator.assess(...each));
const began = performance.now();
for (let turn = 0; turn < 10; turn += 1) inputs.forEach((each) => estimator.assess(...each));
console.log(JSON.stringify({ found, ms: (performance.now() - began) / 10 / inputs.length }));
