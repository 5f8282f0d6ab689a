/**
 * Opens a file as a source of frames:
 * { name, file, kind, count, width, height, modality, region, spacingMm, sliceMm, frameMs, range, warnings, refused,
 *   read(index), close() }.
 * `range` is the window of brightness to begin with, null for 0 to 255; `refused` says why the file is not
 * segmented on the device, null if it is.
 */
import { isDicom, openDicom } from "./dicom.js";
import { isNifti, openNifti } from "./nifti.js";
import { isPicture, openPicture } from "./picture.js";
import { isZip, openSeries } from "./series.js";
import { openVideo } from "./video.js";

const LARGEST_BYTES = 2 ** 30;
const BEGIN_BYTES = 512;

/** Formats, in the order in which they are asked; a film is what the browser itself can play. */
const FORMATS = [
  { is: isDicom, open: openDicom },
  { is: isPicture, open: openPicture },
  { is: isNifti, open: openNifti },
  { is: isZip, open: openSeries },
];

const NOTHING = {
  region: null,
  spacingMm: null,
  pixelAspect: null,
  sliceMm: null,
  defaultGrid: false,
  modality: null,
  frameMs: null,
  range: null,
  refused: null,
  warnings: [],
  close() {},
};

export async function openFile(file) {
  if (!file.size) throw new Error(`${file.name} is empty.`);
  const begin = new Uint8Array(await file.slice(0, BEGIN_BYTES).arrayBuffer());
  const format = FORMATS.find((each) => each.is(begin, file.name));
  if (!format) return { ...(await openVideo(file)), file };
  if (file.size > LARGEST_BYTES) {
    throw new Error(`${file.name} has ${(file.size / 2 ** 30).toFixed(1)} GiB; the page opens at most 1 GiB.`);
  }
  const source = await format.open(file);
  return { ...NOTHING, ...source, name: file.name, file };
}
