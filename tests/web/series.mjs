// Opens a zip of a DICOM series with the page's reader, and prints its slices.
// usage: node series.mjs STATIC FILE.zip
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [statics, file] = process.argv.slice(2);
const { openSeries } = await import(pathToFileURL(`${statics}/io/series.js`));
const { read, ...source } = await openSeries(new File([readFileSync(file)], "series.zip"));
const values = [];
for (let index = 0; index < source.count; index += 1) values.push([...(await read(index)).data]);
console.log(JSON.stringify({ ...source, values }));
