/** DICOM pictures and cines: uncompressed, RLE, lossless JPEG, or JPEG baseline, which the browser decodes. */
import { makeImage } from "../pipeline/image.js";
import { readAspect, readCalibration } from "./calibration.js";
import { listFragments, unpackRle } from "./dicom_frames.js";
import { readHeader } from "./dicom_tags.js";
import { decodeLossless } from "./jpeg_lossless.js";
import { decodePicture } from "./picture.js";

const LARGEST_BYTES = 2 ** 31;
const RAW = ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"];
const JPEG = "1.2.840.10008.1.2.4.50";
const RLE = "1.2.840.10008.1.2.5";
const LOSSLESS = ["1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"];
const COLOURS = ["RGB", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT"];

export function isDicom(begin) {
  return begin.length >= 132 && String.fromCharCode(...begin.subarray(128, 132)) === "DICM";
}

export async function openDicom(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  try {
    return describeDicom(bytes);
  } catch (error) {
    const reason = error instanceof RangeError ? "it is truncated or damaged." : error.message;
    throw new Error(`${file.name}: ${reason}`);
  }
}

/** A source of frames from the bytes of a file; see `openFile`. */
export function describeDicom(bytes) {
  const { header, syntax, pixels } = readHeader(bytes);
  const form = readForm(header, syntax, pixels);
  const calibration = readCalibration(header, form);
  const warnings = [...calibration.warnings];
  if (header.text("LossyImageCompression") === "01") warnings.push("the image is compressed with loss");
  return {
    kind: form.count > 1 ? "cine" : "picture",
    count: form.count,
    width: form.columns,
    height: form.rows,
    modality: header.text("Modality") || null,
    region: calibration.region,
    spacingMm: calibration.spacingMm,
    pixelAspect: readAspect(header),
    frameMs: readFrameMs(header),
    range: form.bits === 16 ? readWindow(header, form) : null,
    refused: form.refused,
    warnings,
    read: makeDecoder(form, syntax, pixels),
  };
}

/** Size and kind of the pixels; what the page does not read is refused. */
function readForm(header, syntax, pixels) {
  if (!pixels) throw new Error("it holds no image.");
  const form = {
    rows: header.integer("Rows"),
    columns: header.integer("Columns"),
    samples: header.integer("SamplesPerPixel") ?? 1,
    bits: header.integer("BitsAllocated"),
    stored: header.integer("BitsStored"),
    planar: header.integer("PlanarConfiguration") ?? 0,
    photometric: header.text("PhotometricInterpretation") ?? "",
    count: Math.max(1, Number(header.text("NumberOfFrames") ?? 1) || 1),
  };
  if (!form.rows || !form.columns || !form.bits) throw new Error("Rows, Columns or BitsAllocated is missing.");
  if (form.rows * form.columns * form.samples * form.count > LARGEST_BYTES) {
    throw new Error(`it declares ${form.count} frames of ${form.rows} x ${form.columns}, over 2 GiB.`);
  }
  if (![...RAW, ...LOSSLESS, JPEG, RLE].includes(syntax)) {
    throw new Error(`its compression (${syntax}) is not read here. Convert it to an uncompressed transfer syntax.`);
  }
  const grey = form.samples === 1 && ["MONOCHROME1", "MONOCHROME2"].includes(form.photometric);
  if (form.bits !== 8 && !(form.bits === 16 && grey && syntax !== JPEG)) {
    throw new Error(`its values have ${form.bits} bits, which are shown only if they are grey.`);
  }
  if (!grey && !(form.samples === 3 && COLOURS.includes(form.photometric))) {
    throw new Error(`colours of the kind ${form.photometric || "that it does not name"} are not read here.`);
  }
  form.signed = header.integer("PixelRepresentation") === 1;
  form.slope = header.numbers("RescaleSlope")?.[0] ?? 1;
  form.intercept = header.numbers("RescaleIntercept")?.[0] ?? 0;
  return { ...form, grey, refused: grey ? whyRefused(header, form) : null };
}

/** Why an image that can be shown is not segmented here: its values would have to become others first. */
function whyRefused(header, form) {
  if (form.bits !== 8 || (form.stored ?? 8) !== 8 || form.signed) {
    return `its values have ${form.stored ?? form.bits} bits${form.signed ? " and a sign" : ""}; this page takes pictures of 8 bits`;
  }
  if (form.slope !== 1 || form.intercept !== 0) return "its values are rescaled; this page takes them as they are stored";
  if (header.integer("PixelPaddingValue")) return "it marks pixels that are no image (PixelPaddingValue)";
  return null;
}

/** The window that the file asks for, in the limits of its values. */
function readWindow(header, { stored, signed, slope, intercept }) {
  const ends = signed ? [-(2 ** (stored - 1)), 2 ** (stored - 1) - 1] : [0, 2 ** stored - 1];
  const [low, high] = ends.map((end) => end * slope + intercept);
  const [level, width] = ["WindowCenter", "WindowWidth"].map((name) => header.numbers(name)?.[0]);
  const known = Number.isFinite(level) && width > 0;
  return { low, high, level: known ? level : (low + high) / 2, width: known ? width : high - low };
}

function makeDecoder(form, syntax, pixels) {
  if (RAW.includes(syntax)) {
    const perFrame = (form.rows * form.columns * form.samples * form.bits) / 8;
    if (form.photometric === "YBR_FULL_422") throw new Error("uncompressed colours of the kind YBR_FULL_422 are not read here.");
    if (pixels.bytes.length < perFrame * form.count) throw new Error("the pixels are truncated; export it again.");
    if (form.bits === 16) return async (index) => rescale(readWords(pixels.bytes, index, form), form);
    return async (index) => finish(pixels.bytes.slice(index * perFrame, (index + 1) * perFrame), form);
  }
  const frames = listFragments(pixels.bytes, form.count);
  if (LOSSLESS.includes(syntax)) {
    return async (index) => {
      const values = decodeLossless(frames[index], form);
      return form.bits === 16 ? rescale(values, form) : finish(Uint8Array.from(values), form);
    };
  }
  if (syntax === RLE && form.bits === 16) {
    return async (index) => rescale(joinBytes(unpackRle(frames[index], { ...form, samples: 2 })), form);
  }
  if (syntax === RLE) {
    return async (index) => finish(unpackRle(frames[index], form), { ...form, planar: 1 });
  }
  return async (index) => {
    const coded = form.photometric === "RGB" ? markedAsRgb(frames[index]) : frames[index];
    const image = await decodePicture(new Blob([coded], { type: "image/jpeg" }), { grey: form.grey });
    if (image.width !== form.columns || image.height !== form.rows) {
      throw new Error(`frame ${index + 1} does not decode to ${form.rows} x ${form.columns} pixels; the file is damaged.`);
    }
    return form.photometric === "MONOCHROME1" ? inverted(image) : image;
  };
}

/** Words of a frame as they are stored, little end first. */
function readWords(bytes, index, { rows, columns }) {
  const size = 2 * rows * columns;
  const begin = bytes.byteOffset + size * index;
  return new Uint16Array(bytes.buffer.slice(begin, begin + size));
}

/** Words from a plane of their upper bytes and one of their lower bytes. */
function joinBytes(planes) {
  const size = planes.length / 2;
  return Uint16Array.from({ length: size }, (_, k) => 256 * planes[k] + planes[size + k]);
}

/** Values of 16 bits for the screen: without what lies above the bits stored, and rescaled. */
function rescale(words, { rows, columns, stored, signed, slope, intercept, photometric }) {
  const spare = new (signed ? Int16Array : Uint16Array)(words.length);
  for (let k = 0; k < words.length; k += 1) spare[k] = words[k] << (16 - stored);
  const factor = photometric === "MONOCHROME1" ? -1 : 1;
  return makeImage(Float32Array.from(spare, (value) => factor * ((value >> (16 - stored)) * slope + intercept)), columns, rows, 1);
}

/** Stored bytes as an image: colours together at each pixel, and as red, green and blue. */
function finish(bytes, form) {
  const { rows, columns, samples } = form;
  let data = bytes;
  if (samples === 3 && form.planar) {
    const plane = rows * columns;
    data = new Uint8Array(3 * plane);
    for (let k = 0; k < plane; k += 1) for (let c = 0; c < 3; c += 1) data[3 * k + c] = bytes[c * plane + k];
  }
  if (samples === 3 && form.photometric.startsWith("YBR_FULL")) toRgb(data);
  const image = makeImage(data, columns, rows, samples);
  return form.photometric === "MONOCHROME1" ? inverted(image) : image;
}

/** Y, Cb and Cr to red, green and blue, in place, rounded as OpenCV does it. */
function toRgb(data) {
  const clamp = (value) => Math.min(Math.max(value, 0), 255);
  const half = 1 << 13;
  for (let k = 0; k < data.length; k += 3) {
    const [y, cb, cr] = [data[k], data[k + 1] - 128, data[k + 2] - 128];
    data[k] = clamp(y + ((cr * 22987 + half) >> 14));
    data[k + 1] = clamp(y + ((cb * -5636 + cr * -11698 + half) >> 14));
    data[k + 2] = clamp(y + ((cb * 29049 + half) >> 14));
  }
}

function inverted(image) {
  return makeImage(image.data.map((value) => 255 - value), image.width, image.height, image.channels);
}

/** A JPEG with the mark that its colours are red, green and blue, which a browser looks for. */
function markedAsRgb(frame) {
  const mark = [0xff, 0xee, 0, 14, 0x41, 0x64, 0x6f, 0x62, 0x65, 0, 100, 0, 0, 0, 0, 0];
  const marked = new Uint8Array(frame.length + mark.length);
  marked.set(frame.subarray(0, 2));
  marked.set(mark, 2);
  marked.set(frame.subarray(2), 2 + mark.length);
  return marked;
}

function readFrameMs(header) {
  const time = header.numbers("FrameTime")?.[0];
  if (time > 0) return time;
  const rate = header.numbers("CineRate")?.[0];
  return rate > 0 ? 1000 / rate : null;
}
