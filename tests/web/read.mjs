// Opens files with the page's readers in node, and writes their frames.
// usage: node read.mjs STATIC FOLDER FILE...; frames of file N become FOLDER/N.raw, one after another.
// JPEG and pictures need a browser and are not read here.
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { pathToFileURL } from "node:url";

const [statics, folder, ...files] = process.argv.slice(2);
const { openDicom, isDicom } = await import(pathToFileURL(`${statics}/io/dicom.js`));
const { resolveScale } = await import(pathToFileURL(`${statics}/fitness.js`));
const { openNifti, isNifti } = await import(pathToFileURL(`${statics}/io/nifti.js`));

async function read(path, number) {
  const file = new File([readFileSync(path)], basename(path));
  const begin = new Uint8Array(await file.slice(0, 512).arrayBuffer());
  const open = isDicom(begin) ? openDicom : isNifti(begin, file.name) ? openNifti : null;
  if (!open) throw new Error("of no kind that is read here");
  const { read: frameOf, header, ...source } = await open(file);
  const frames = [];
  for (let index = 0; index < source.count; index += 1) frames.push(await frameOf(index));
  const bytes = frames.map(({ data }) => Buffer.from(data.buffer, data.byteOffset, data.byteLength));
  writeFileSync(`${folder}/${number}.raw`, Buffer.concat(bytes));
  const scale = (modality) => resolveScale({ ...source, statedMm: source.spacingMm }, { input: { modality } });
  const scales = { US: scale("US"), MR: scale("MR") };
  return { ...source, scales, channels: frames[0].channels, dtype: frames[0].data.constructor.name };
}

const results = [];
for (const [number, path] of files.entries()) {
  try {
    results.push(await read(path, number));
  } catch (error) {
    results.push({ error: error.message });
  }
}
console.log(JSON.stringify(results));
