// The page's gate on tensors and logits.
// usage: node gate.mjs STATIC CASE.json
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [statics, file] = process.argv.slice(2);
const { Gate, judgedFrames, medianVerdict } = await import(pathToFileURL(`${statics}/pipeline/gate.js`));
const { gate, settings, pairs, counts } = JSON.parse(readFileSync(file, "utf8"));
const read = (path) => {
  const bytes = readFileSync(path);
  return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
};
const judge = new Gate(gate, settings);
const began = performance.now();
const verdicts = pairs.map(([tensor, logits]) => judge.judge(read(tensor), read(logits)));
const ms = (performance.now() - began) / pairs.length;
console.log(JSON.stringify({ verdicts, ms, median: medianVerdict(verdicts), texts: verdicts.map((each) => judge.explain(each)), judged: counts.map(judgedFrames) }));
