// The page's check of the probe marker on the film and the network of sided_network.py.
// usage: node marker.mjs STATIC SPEC.json FILM.raw WIDTH HEIGHT
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [statics, specFile, film, width, height] = process.argv.slice(2);
const { Pipeline } = await import(pathToFileURL(`${statics}/pipeline/model.js`));
const { findCertainty } = await import(pathToFileURL(`${statics}/pipeline/marker.js`));
const spec = JSON.parse(readFileSync(specFile, "utf8"));
const [rows, columns] = spec.input.size_px.map((size) => size / spec.model.logit_stride);

async function network(tensor) {
  const logits = new Float32Array(2 * rows * columns);
  for (let y = 0; y < rows; y += 1) {
    for (let x = 0; x < columns; x += 1) {
      const bright = (tensor[2 * y * spec.input.size_px[1] + 2 * x] - 0.5) * (x >= columns / 2 ? 20 : 2);
      logits[y * columns + x] = -bright;
      logits[(rows + y) * columns + x] = bright;
    }
  }
  return logits;
}

const bytes = new Uint8Array(readFileSync(film));
const size = width * height;
const frames = Array.from({ length: bytes.length / size }, (_, k) => ({
  data: bytes.slice(k * size, (k + 1) * size), width: Number(width), height: Number(height), channels: 1,
}));
const pipeline = new Pipeline(spec, network);
const plan = await pipeline.planUpright(frames);
const labels = [];
for (const frame of frames) labels.push(...(await pipeline.run(frame, plan)).labels.data);
const certainty = findCertainty(await network(plan.apply(frames[0])), 2);
console.log(JSON.stringify({ mirrored: plan.mirrored, warnings: plan.warnings, labels, certainty }));
