/** NIfTI-1: frames read from it, and labels written to it. */
import { makeImage } from "../pipeline/image.js";
import { gunzip, gzip } from "./streams.js";

const HEADER_BYTES = 348;
const DATA_OFFSET = 352;
const LARGEST_BYTES = 2 ** 30;
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
  if (bytes[0] === 0x1f) bytes = await gunzip(bytes, LARGEST_BYTES);
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
  return { width, height, count, values, scale: readScale(view), spacing: readSpacing(view) };
}

function readScale(view) {
  const [slope, intercept] = [view.getFloat32(112, true), view.getFloat32(116, true)];
  if (!Number.isFinite(slope) || slope === 0 || (slope === 1 && intercept === 0)) return null;
  return { slope, intercept };
}

function readSpacing(view) {
  const toMm = { 1: 1000, 3: 0.001 }[view.getUint8(123) & 7] ?? 1;
  return [view.getFloat32(84, true) * toMm, view.getFloat32(80, true) * toMm];
}

function describe({ width, height, count, values, scale, spacing }, bytes) {
  const warnings = [];
  let spacingMm = null;
  if (!spacing.every((length) => length > 0 && length < Infinity)) {
    warnings.push(`its pixel spacing is not valid; ${IN_PIXELS}`);
  } else if (spacing.every((length) => length === 1)) {
    // Writers put 1 mm where nothing is known.
    warnings.push(`its pixels are 1 mm, which is what files say that know no scale; ${IN_PIXELS}`);
  } else {
    spacingMm = spacing;
  }
  const size = width * height;
  return {
    kind: count > 1 ? "cine" : "picture",
    count, width, height, spacingMm, warnings,
    header: bytes.slice(0, HEADER_BYTES),
    async read(index) {
      const part = values.slice(index * size, (index + 1) * size);
      return makeImage(scale ? Float64Array.from(part, (value) => value * scale.slope + scale.intercept) : part, width, height, 1);
    },
  };
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
