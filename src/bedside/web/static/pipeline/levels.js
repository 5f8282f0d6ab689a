/** Stored values as 8 bits; docs/bundle-format.md, "Stored values to an image", has the rules. */
import { makeImage } from "./image.js";
import { rint } from "./rounding.js";

const RELATIVE = ["MR", "PT", "NM"];
const OVERSHOOT = 0.02;
const FEW = 0.01;
const DARKEST = 16;
const FULL_16_BITS = 2 ** 14;
const MAX_BROKEN_SHARE = 0.001;

/** Refuse a frame with more than a few values that are no numbers. */
export function checkNumbers({ data }) {
  if (!isFloat(data)) return;
  const broken = data.reduce((count, value) => count + (Number.isFinite(value) ? 0 : 1), 0) / data.length;
  if (broken > MAX_BROKEN_SHARE) throw new Error(`${(100 * broken).toFixed(1)} % of the values of a frame are no numbers.`);
}

/** Function from an image to one of 8 bits, null if they are so already; and a warning or null. */
export function planBytes(sample, modality) {
  if (sample[0].data instanceof Uint8Array) return { toBytes: null, warning: null };
  const range = findRange(sample);
  const { offset, scale, warning } = findScale(sample, range, modality);
  if (scale === null) {
    throw new Error(
      `its values lie between ${show(range.low)} and ${show(range.high)}, and this model takes ${modality} with ` +
        "brightness from 0 to 255. Save it in 8 bits."
    );
  }
  const toBytes = (image) => {
    const bytes = Uint8Array.from(image.data, (value) => {
      const known = Number.isFinite(value) ? value : offset;
      return Math.min(Math.max(rint((known - offset) * scale), 0), 255);
    });
    return makeImage(bytes, image.width, image.height, image.channels);
  };
  return { toBytes, warning };
}

function isFloat(data) {
  return data instanceof Float32Array || data instanceof Float64Array;
}

function findRange(sample) {
  let [low, high] = [Infinity, -Infinity];
  for (const { data } of sample) {
    for (const value of data) {
      if (value < low && value > -Infinity) low = value;
      if (value > high && value < Infinity) high = value;
    }
  }
  return low <= high ? { low, high } : { low: 0, high: 0 };
}

function findScale(sample, { low, high }, modality) {
  const negative = reachesBelowZero(sample, low, high);
  const fractions = isFloat(sample[0].data);
  if (fractions && high > 0 && high <= 1 + OVERSHOOT) {
    if (!negative) return { offset: 0, scale: 255, warning: scaled("0 and 1") };
    if (low >= -1 - OVERSHOOT && low <= -0.5) return { offset: -1, scale: 127.5, warning: scaled("-1 and 1") };
  }
  if (RELATIVE.includes(modality)) return findRelativeScale(low, high, { negative, fractions });
  if (negative || (modality === "CT" && high > 255)) return { offset: 0, scale: null, warning: null };
  if (high > 255) {
    // 16 bits that are used are a range of their own.
    const used = sample[0].data instanceof Uint16Array && high >= FULL_16_BITS;
    return { offset: 0, scale: used ? 1 / 257 : 255 / high, warning: null };
  }
  const inParts = fractions && sample.some(({ data }) => data.some((value) => Number.isFinite(value) && value % 1));
  if (high > 0 && high < DARKEST && inParts) return { offset: 0, scale: null, warning: null };
  return { offset: 0, scale: 1, warning: null };
}

function findRelativeScale(low, high, { negative, fractions }) {
  const offset = negative ? low : 0;
  const span = high - offset;
  const scale = span > 255 || (fractions && span > 0 && span < DARKEST) ? 255 / span : 1;
  const warning = negative ? `values go down to ${show(low)}; the smallest was taken for black` : null;
  return { offset, scale, warning };
}

/** Whether more values lie below 0 than the overshoot of a filter explains. */
function reachesBelowZero(sample, low, high) {
  if (low >= 0) return false;
  const floor = -OVERSHOOT * Math.max(-low, high);
  let [below, all] = [0, 0];
  for (const { data } of sample) {
    for (const value of data) {
      all += Number.isFinite(value) ? 1 : 0;
      below += value < floor && value > -Infinity ? 1 : 0;
    }
  }
  return below / all > FEW;
}

const show = (value) => String(Number(value.toPrecision(4)));
const scaled = (ends) => `values lie between ${ends}; they were taken for parts of full brightness`;
