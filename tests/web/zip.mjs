// First byte and length of the files in a zip, or why it cannot be read.
// usage: node zip.mjs STATIC FILE.zip
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [statics, file] = process.argv.slice(2);
const { unzip } = await import(pathToFileURL(`${statics}/io/zip.js`));
try {
  const found = await unzip(new Uint8Array(readFileSync(file)));
  console.log(JSON.stringify(found.map((content) => [content[0], content.length])));
} catch (error) {
  console.log(JSON.stringify({ error: error instanceof RangeError ? "the zip is damaged." : error.message }));
}
