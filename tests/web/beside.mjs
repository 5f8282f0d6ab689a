// The page's words of a scale that does not hold, and of films with frames of another view.
// usage: node beside.mjs STATIC CASE.json
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [statics, file] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${statics}/${name}`));
const { ScaledRegion, dropForeignScale } = await load("pipeline/scaled_region.js");
const { Gate } = await load("pipeline/gate.js");
const { runFrames } = await load("runs.js");
const { scales, films } = JSON.parse(readFileSync(file, "utf8"));

const described = scales.map(({ frames, width, region, structures }) => {
  const scaled = new ScaledRegion(region, structures);
  frames.forEach((data) => scaled.add({ data, width }));
  const source = { region, spacingMm: [0.2, 0.4], kind: "cine" };
  const warning = dropForeignScale(source, structures, frames.map((data) => ({ data, width })));
  const byHand = { region, spacingMm: [1, 1], scaledByHand: true };
  dropForeignScale(byHand, structures, frames.map((data) => ({ data, width })));
  return { counted: scaled.describe(), warning, spacingMm: source.spacingMm, pixelAspect: source.pixelAspect ?? null, byHand: byHand.spacingMm };
});

/** The notes of a whole run, with an engine that has the labels and verdicts ready. */
async function runFilm({ source, spec, labels, distances, madeFor }) {
  const gate = new Gate({ version: 2, views: [], threshold: 1, images: 9 }, { madeFor });
  const { medianVerdict } = await load("pipeline/gate.js");
  let told = { notes: [], foreign: false };
  const engine = {
    plan: async () => ({ warnings: ["planned"] }),
    run: async (index) => ({ labels: labels[index], verdict: { view: "texture", distance: distances[index] }, ms: {} }),
    explain: async (verdicts, isFilm) => gate.explain(medianVerdict(verdicts)) ?? (isFilm ? gate.describeForeign(verdicts) : null),
  };
  await runFrames(source, { read: async (index) => index }, engine, {
    spec, first: () => source.count - 1, cancelled: () => false, onFrame: () => {},
    onWarnings: (notes, foreign = false) => (told = { notes, foreign }),
  });
  return { ...told, spacingMm: source.spacingMm };
}
const ran = [];
for (const film of films) ran.push(await runFilm(film));
console.log(JSON.stringify({ described, ran }));
