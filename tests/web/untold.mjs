// What the page's pipeline warns of with a gate and a confidence.
// usage: node untold.mjs STATIC CASE.json
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [statics, file] = process.argv.slice(2);
const { Pipeline } = await import(pathToFileURL(`${statics}/pipeline/model.js`));
const { spec, gate, confidence } = JSON.parse(readFileSync(file, "utf8"));
console.log(JSON.stringify(new Pipeline(spec, null, gate, confidence).warnings));
