/** PNG and JPEG as one frame, decoded by the browser: pixels as stored, neither turned nor coloured. */
import { makeImage } from "../pipeline/image.js";

const NO_SCALE = "the file has no pixel spacing; areas are given in pixels";
const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const GREY_PNG = [0, 4];

export function isPicture(begin) {
  return isPng(begin) || isJpeg(begin);
}

const isPng = (begin) => PNG.every((byte, k) => begin[k] === byte);
const isJpeg = (begin) => begin[0] === 0xff && begin[1] === 0xd8 && begin[2] === 0xff;

export async function openPicture(file) {
  const begin = new Uint8Array(await file.slice(0, 33).arrayBuffer());
  const png = isPng(begin);
  if (png && begin[24] > 8) {
    throw new Error(`${file.name} has ${begin[24]} bits per value, of which a browser shows 8. Save it in 8 bits.`);
  }
  const image = await decodePicture(file, { grey: png && GREY_PNG.includes(begin[25]) });
  const warnings = [NO_SCALE, ...(png ? [] : ["the image is compressed with loss (JPEG)"])];
  return { kind: "picture", count: 1, width: image.width, height: image.height, warnings, read: async () => image };
}

/**
 * Decode a picture without colour management, turning or blending.
 *
 * @param {Blob} blob PNG or JPEG.
 * @param {{grey: boolean}} options Whether it is known to be grey, and so becomes one channel.
 */
export async function decodePicture(blob, { grey }) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, {
      colorSpaceConversion: "none",
      imageOrientation: "none",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new Error(`${blob.name ?? "a frame"} cannot be decoded; it is damaged or truncated.`);
  }
  const image = grabPixels(bitmap, bitmap.width, bitmap.height, { grey });
  bitmap.close();
  return image;
}

/** Pixels of anything that a canvas draws: three channels, or one of what is grey. */
export function grabPixels(drawn, width, height, { grey = false, canvas = new OffscreenCanvas(width, height) } = {}) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true, alpha: !grey });
  context.drawImage(drawn, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  return makeImage(grey ? everyFourth(data) : withoutAlpha(data), width, height, grey ? 1 : 3);
}

function everyFourth(data) {
  const values = new Uint8Array(data.length / 4);
  for (let k = 0; k < values.length; k += 1) values[k] = data[4 * k];
  return values;
}

function withoutAlpha(data) {
  const values = new Uint8Array((data.length / 4) * 3);
  for (let from = 0, to = 0; to < values.length; from += 4, to += 3) {
    values[to] = data[from];
    values[to + 1] = data[from + 1];
    values[to + 2] = data[from + 2];
  }
  return values;
}
