/** A zip with a DICOM series: its slices, in the order in which they lie. */
import { describeDicom, isDicom } from "./dicom.js";
import { readHeader } from "./dicom_tags.js";
import { isZip, unzip } from "./zip.js";

export { isZip };

/** Slices whose distances differ by more than this part are told not to be even. */
const EVEN = 0.01;

export async function openSeries(file) {
  let contents;
  try {
    contents = await unzip(new Uint8Array(await file.arrayBuffer()));
  } catch (error) {
    throw new Error(`${file.name}: ${error instanceof RangeError ? "the zip is damaged. Pack it again." : error.message}`);
  }
  const slices = contents.filter((bytes) => isDicom(bytes)).map(readSlice);
  if (!slices.length) throw new Error(`${file.name} holds no DICOM images.`);
  const series = Map.groupBy ? [...Map.groupBy(slices, ({ uid }) => uid).values()] : groupBy(slices);
  series.sort((one, other) => other.length - one.length);
  const chosen = series[0].sort((one, other) => one.place - other.place);
  const [first] = chosen;
  if (chosen.some(({ rows, columns }) => rows !== first.rows || columns !== first.columns)) {
    throw new Error(`${file.name}: the images of the series have different sizes, which only a viewer shows.`);
  }
  const warnings = series.length > 1 ? [`the zip holds ${series.length} series; the one with the most images is shown`] : [];
  const opened = new Map();
  // A slice is decoded when it is looked at; its bytes are held.
  const open = (index) => {
    if (!opened.has(index)) opened.set(index, describeDicom(chosen[index].bytes));
    return opened.get(index);
  };
  const { width, height, modality, spacingMm, range, warnings: own } = open(0);
  return {
    kind: "scan",
    count: chosen.length, width, height, modality, spacingMm, range,
    sliceMm: findDistance(chosen, warnings),
    refused: "a zip of images is segmented by a server only",
    warnings: [...warnings, ...own],
    read: async (index) => open(index).read(0),
  };
}

function readSlice(bytes) {
  const { header } = readHeader(bytes);
  const position = header.numbers("ImagePositionPatient");
  const [a, b, c, d, e, f] = header.numbers("ImageOrientationPatient") ?? [];
  const normal = [b * f - c * e, c * d - a * f, a * e - b * d];
  const place = position?.length === 3 && normal.every(Number.isFinite) ? position.reduce((sum, mm, k) => sum + mm * normal[k], 0) : null;
  return { bytes, place, uid: header.text("SeriesInstanceUID"), rows: header.integer("Rows"), columns: header.integer("Columns") };
}

function groupBy(slices) {
  const groups = new Map();
  for (const slice of slices) groups.set(slice.uid, [...(groups.get(slice.uid) ?? []), slice]);
  return [...groups.values()];
}

/** The distance of slices in mm; null where it is not known. */
function findDistance(slices, warnings) {
  if (slices.length < 2) return null;
  if (slices.some(({ place }) => place === null)) {
    warnings.push("where the slices lie is not in the files; they are shown in the order of the zip");
    return null;
  }
  const steps = slices.slice(1).map(({ place }, k) => place - slices[k].place);
  const mean = steps.reduce((sum, step) => sum + step, 0) / steps.length;
  if (steps.some((step) => Math.abs(step - mean) > EVEN * mean)) {
    warnings.push("the slices are not evenly spaced; volumes are left to the server's report");
    return null;
  }
  return mean;
}
