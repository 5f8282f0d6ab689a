/**
 * Resizing of 8-bit images, bit for bit as the pipeline does it in Python; docs/bundle-format.md,
 * "Resizing 8 bits", has the formulas. A plan is made once for the frames of a sequence.
 */
import { makeImage } from "./image.js";
import { rint } from "./rounding.js";

const { fround } = Math;
const LEAST_COVER = 1e-3;

/** Function from an image of one size to an 8-bit image of another. */
export function planResize(from, to, { linear }) {
  const grows = linear || to.height > from.height || to.width > from.width;
  if (grows) {
    const rows = weighTwo(from.height, to.height, { linear, clamp: false });
    const columns = weighTwo(from.width, to.width, { linear, clamp: true });
    return (image) => mixTwo(image, to, rows, columns);
  }
  const [down, across] = [from.height / to.height, from.width / to.width];
  if (Number.isInteger(down) && Number.isInteger(across)) return (image) => average(image, to, down, across);
  const rows = weighCovered(from.height, to.height);
  const columns = weighCovered(from.width, to.width);
  return (image) => mixCovered(image, to, rows, columns);
}

/** The two old elements of each new one, with integer weights that sum to 2048. */
function weighTwo(count, wanted, { linear, clamp }) {
  const growth = wanted / count;
  const scale = 1 / growth;
  const first = new Int32Array(wanted);
  const second = new Int32Array(wanted);
  const weights = new Int32Array(2 * wanted);
  for (let index = 0; index < wanted; index += 1) {
    const centre = fround((index + 0.5) * scale - 0.5);
    const place = Math.floor(linear ? centre : index * scale);
    let part = linear ? fround(centre - place) : fround(index + 1 - (place + 1) * growth);
    if (!linear) part = part <= 0 ? 0 : fround(part - Math.floor(part));
    if (clamp && (place < 0 || place >= count - 1)) part = 0;
    first[index] = Math.min(Math.max(place, 0), count - 1);
    second[index] = Math.min(Math.max(place + 1, 0), count - 1);
    weights[2 * index] = rint(fround(fround(1 - part) * 2048));
    weights[2 * index + 1] = rint(fround(part * 2048));
  }
  return { first, second, weights };
}

function mixTwo(image, to, rows, columns) {
  const { data, width, channels } = image;
  const result = new Uint8Array(to.height * to.width * channels);
  const lines = [new Int32Array(to.width * channels), new Int32Array(to.width * channels)];
  const held = [-1, -1];
  const lineOf = (row) => {
    // Two neighbours never share a parity, but where the last row stands for both.
    const slot = row & 1;
    if (held[slot] !== row) {
      held[slot] = row;
      mixLine(data.subarray(row * width * channels), lines[slot], columns, channels);
    }
    return lines[slot];
  };
  for (let y = 0, at = 0; y < to.height; y += 1) {
    const [above, below] = [lineOf(rows.first[y]), lineOf(rows.second[y])];
    const [upper, lower] = [rows.weights[2 * y], rows.weights[2 * y + 1]];
    for (let x = 0; x < above.length; x += 1, at += 1) {
      result[at] = (((upper * (above[x] >> 4)) >> 16) + ((lower * (below[x] >> 4)) >> 16) + 2) >> 2;
    }
  }
  return makeImage(result, to.width, to.height, channels);
}

function mixLine(source, line, columns, channels) {
  const { first, second, weights } = columns;
  for (let x = 0, at = 0; x < first.length; x += 1) {
    for (let c = 0; c < channels; c += 1, at += 1) {
      line[at] = weights[2 * x] * source[first[x] * channels + c] + weights[2 * x + 1] * source[second[x] * channels + c];
    }
  }
}

/** The old elements that each new one covers: where they begin, and their weights in f32. */
function weighCovered(count, wanted) {
  const scale = 1 / (wanted / count);
  const begins = new Int32Array(wanted + 1);
  const places = [];
  const weights = [];
  for (let index = 0; index < wanted; index += 1) {
    const begin = index * scale;
    const end = begin + scale;
    const length = Math.min(scale, count - begin);
    for (let k = Math.floor(begin); k < end && k < count; k += 1) {
      const covered = Math.min(end, k + 1) - Math.max(begin, k);
      if (covered > LEAST_COVER) {
        places.push(k);
        weights.push(covered / length);
      }
    }
    begins[index + 1] = places.length;
  }
  return { begins, places: Int32Array.from(places), weights: Float32Array.from(weights) };
}

function mixCovered(image, to, rows, columns) {
  const { data, width, channels } = image;
  const pitch = to.width * channels;
  const result = new Uint8Array(to.height * pitch);
  const line = new Float32Array(pitch);
  const sums = new Float32Array(pitch);
  let held = -1;
  for (let y = 0; y < to.height; y += 1) {
    sums.fill(0);
    for (let place = rows.begins[y]; place < rows.begins[y + 1]; place += 1) {
      const row = rows.places[place];
      const weight = rows.weights[place];
      if (row !== held) sumColumns(data, row * width * channels, line, columns, channels);
      held = row;
      for (let x = 0; x < pitch; x += 1) sums[x] = fround(sums[x] + fround(line[x] * weight));
    }
    for (let x = 0; x < pitch; x += 1) result[y * pitch + x] = rint(sums[x]);
  }
  return makeImage(result, to.width, to.height, channels);
}

function sumColumns(data, offset, line, columns, channels) {
  const { begins, places, weights } = columns;
  for (let x = 0, at = 0; x < begins.length - 1; x += 1) {
    for (let c = 0; c < channels; c += 1, at += 1) {
      let sum = fround(0);
      for (let k = begins[x]; k < begins[x + 1]; k += 1) {
        sum = fround(sum + fround(data[offset + places[k] * channels + c] * weights[k]));
      }
      line[at] = sum;
    }
  }
}

/** Mean of blocks of `down` x `across` pixels. */
function average(image, to, down, across) {
  const { data, width, channels } = image;
  const result = new Uint8Array(to.height * to.width * channels);
  const part = fround(1 / (down * across));
  const halves = down === 2 && across === 2;
  for (let y = 0, at = 0; y < to.height; y += 1) {
    for (let x = 0; x < to.width; x += 1) {
      for (let c = 0; c < channels; c += 1, at += 1) {
        let total = 0;
        for (let row = y * down; row < (y + 1) * down; row += 1) {
          for (let column = x * across; column < (x + 1) * across; column += 1) {
            total += data[(row * width + column) * channels + c];
          }
        }
        result[at] = halves ? (total + 2) >> 2 : rint(fround(total * part));
      }
    }
  }
  return makeImage(result, to.width, to.height, channels);
}
