/** NIfTI-1: frames read from it, and labels written to it. */
import { makeImage } from "../pipeline/image.js";
import { inflate, gzip } from "./streams.js";

const HEADER_BYTES = 348;
const DATA_OFFSET = 352;
const LARGEST_BYTES = 2 ** 30;
const SAMPLE_VALUES = 20000;
const IN_PIXELS = "areas are given in pixels";
const TYPES = {
  2: Uint8Array,
  4: Int16Array,
  8: Int32Array,
  16: Float32Array,
  64: Float64Array,
  512: Uint16Array,
};

export function isNifti(begin, name) {
  const zipped = begin[0] === 0x1f && begin[1] === 0x8b;
  return (zipped && /\.nii\.gz$/i.test(name)) || hasMagic(begin);
}

function hasMagic(begin) {
  return begin.length >= HEADER_BYTES && String.fromCharCode(...begin.subarray(344, 347)) === "n+1";
}

export async function openNifti(file) {
  let bytes = new Uint8Array(await file.arrayBuffer());
  if (bytes[0] === 0x1f) bytes = await inflate(bytes, LARGEST_BYTES);
  try {
    return describe(parseNifti(bytes), bytes);
  } catch (error) {
    throw new Error(`${file.name}: ${error instanceof RangeError ? "it is truncated or damaged." : error.message}`);
  }
}

/** Sizes, spacing and values of a file. */
export function parseNifti(bytes) {
  if (!hasMagic(bytes)) throw new Error("it is no NIfTI-1 file.");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getInt32(0, true) !== HEADER_BYTES) throw new Error("it is stored big-endian, which is not read here.");
  const dims = Array.from({ length: 8 }, (_, k) => view.getInt16(40 + 2 * k, true));
  const sizes = [1, 2, 3, 4, 5, 6, 7].map((axis) => (axis <= dims[0] ? dims[axis] : 1));
  const [width, height, third, fourth] = sizes;
  if (Math.min(...sizes) < 1) throw new Error(`it declares the sizes ${dims.slice(1, dims[0] + 1).join(" x ")}.`);
  if (sizes.slice(4).some((size) => size > 1) || (third > 1 && fourth > 1)) throw new Error("it has more axes than frames have.");
  const Type = TYPES[view.getInt16(70, true)];
  if (!Type) throw new Error("its values are of a kind that is not read here.");
  const count = third * fourth;
  const total = width * height * count;
  const offset = Math.round(view.getFloat32(108, true));
  if (offset < HEADER_BYTES || offset + total * Type.BYTES_PER_ELEMENT > bytes.length) throw new Error("it is truncated; export it again.");
  const begin = bytes.byteOffset + offset;
  const values = new Type(bytes.buffer.slice(begin, begin + total * Type.BYTES_PER_ELEMENT));
  const sliceMm = third > 1 ? view.getFloat32(88, true) * unitMm(view) : null;
  return { width, height, count, values, scale: readScale(view), spacing: readSpacing(view), sliceMm, untold: isUntold(view) };
}

function readScale(view) {
  const [slope, intercept] = [view.getFloat32(112, true), view.getFloat32(116, true)];
  if (!Number.isFinite(slope) || slope === 0 || (slope === 1 && intercept === 0)) return null;
  return { slope, intercept };
}

function readSpacing(view) {
  return [view.getFloat32(84, true) * unitMm(view), view.getFloat32(80, true) * unitMm(view)];
}

/** Whether the image lies where programs put what they know no place of. */
function isUntold(view) {
  const [qform, sform] = [view.getInt16(252, true), view.getInt16(254, true)];
  if (qform <= 0 && sform <= 0) return true;
  if (sform <= 0) return false;
  const affine = Array.from({ length: 12 }, (_, k) => view.getFloat32(280 + 4 * k, true));
  const isUnit = affine.every((value, k) => Math.abs(value) === (k % 5 === 0 ? 1 : 0));
  // Without a qform it is nibabel's; in LPS axes it is ITK's.
  return isUnit && (qform <= 0 || (affine[0] === -1 && affine[5] === -1 && affine[10] === 1));
}

function unitMm(view) {
  return { 1: 1000, 3: 0.001 }[view.getUint8(123) & 7] ?? 1;
}

/** A window from the 1st to the 99th percentile of some values; null for those of 8 bits, but of scans. */
function findWindow(values, scale, asScan) {
  if (values instanceof Uint8Array && !scale && !asScan) return null;
  const step = Math.max(1, Math.floor(values.length / SAMPLE_VALUES));
  const sample = Float64Array.from({ length: Math.floor(values.length / step) }, (_, k) => values[k * step]);
  const sorted = sample.filter(Number.isFinite).sort();
  if (!sorted.length) return null;
  const [low, first, last, high] = [0, 0.01, 0.99, 1].map((part) => {
    const value = sorted[Math.round(part * (sorted.length - 1))];
    return scale ? value * scale.slope + scale.intercept : value;
  });
  return high > low ? { low, high, level: (first + last) / 2, width: Math.max(last - first, (high - low) / 128) } : null;
}

function describe({ width, height, count, values, scale, spacing, sliceMm, untold }, bytes) {
  const warnings = [];
  let spacingMm = null;
  if (!spacing.every((length) => length > 0 && length < Infinity)) {
    warnings.push(`its pixel spacing is not valid; ${IN_PIXELS}`);
  } else {
    spacingMm = spacing;
  }
  const size = width * height;
  return {
    kind: count > 1 ? "cine" : "picture",
    count, width, height, spacingMm, sliceMm, warnings,
    defaultGrid: untold && spacing.every((length) => length === 1),
    range: findWindow(values, scale, false),
    scanRange: findWindow(values, scale, true),
    header: bytes.slice(0, HEADER_BYTES),
    async read(index) {
      const part = values.slice(index * size, (index + 1) * size);
      return makeImage(scale ? Float64Array.from(part, (value) => value * scale.slope + scale.intercept) : part, width, height, 1);
    },
  };
}

/**
 * Frames as an image on the grid of another.
 *
 * @param {Array<Uint8Array | Float32Array>} frames Grey, of one size.
 * @param {Uint8Array} grid A NIfTI file of as many frames of that size.
 */
export function encodeOnGrid(frames, grid) {
  const inBytes = frames.every((frame) => frame instanceof Uint8Array);
  const Type = inBytes ? Uint8Array : Float32Array;
  const size = frames[0].length;
  const values = new Type(size * frames.length);
  frames.forEach((frame, k) => values.set(frame, k * size));
  const bytes = new Uint8Array(DATA_OFFSET + values.byteLength);
  bytes.set(grid.subarray(0, HEADER_BYTES));
  const view = new DataView(bytes.buffer);
  view.setInt16(70, inBytes ? 2 : 16, true);
  view.setInt16(72, inBytes ? 8 : 32, true);
  view.setFloat32(108, DATA_OFFSET, true);
  view.setFloat32(112, 1, true);
  view.setFloat32(116, 0, true);
  bytes.set(new Uint8Array(values.buffer), DATA_OFFSET);
  return bytes;
}

/**
 * Labels of all frames as a compressed file.
 *
 * @param {Uint8Array[]} frames Of one size.
 * @param {{width, height, spacingMm, header}} source `header`: of a NIfTI source, whose place is kept.
 */
export async function writeNifti(frames, { width, height, spacingMm = null, header = null }) {
  const bytes = new Uint8Array(DATA_OFFSET + width * height * frames.length);
  if (header) bytes.set(header);
  const view = new DataView(bytes.buffer);
  view.setInt32(0, HEADER_BYTES, true);
  if (!header) {
    const dims = [frames.length > 1 ? 3 : 2, width, height, frames.length, 1, 1, 1, 1];
    dims.forEach((size, k) => view.setInt16(40 + 2 * k, size, true));
    const [row, column] = spacingMm ?? [1, 1];
    [1, column, row, 1, 1, 1, 1, 1].forEach((size, k) => view.setFloat32(76 + 4 * k, size, true));
    view.setUint8(123, spacingMm ? 2 : 0);
  }
  view.setInt16(70, 2, true);
  view.setInt16(72, 8, true);
  view.setFloat32(108, DATA_OFFSET, true);
  view.setFloat32(112, 1, true);
  view.setFloat32(116, 0, true);
  bytes.fill(0, 148, 228);
  bytes.set(new TextEncoder().encode("bedside labels"), 148);
  bytes.set(new TextEncoder().encode("n+1\0"), 344);
  frames.forEach((labels, k) => bytes.set(labels, DATA_OFFSET + k * width * height));
  return new Blob([await gzip(bytes)], { type: "application/gzip" });
}
