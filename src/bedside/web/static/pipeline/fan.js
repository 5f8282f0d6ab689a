/** The ultrasound sector, found in the pixels; docs/bundle-format.md, "The sector", has the rules. */
import { listComponents } from "./components.js";
import { fillConvex, findHull } from "./polygon.js";
import { rint } from "./rounding.js";

const SMALLEST_SHARE = 0.04;
const BLUR = 2;
const AROUND = 3;
const LEAST_RESTLESS = 0.3;

/**
 * Outline of the sector in grey frames of one view.
 *
 * @param {Array<{data, width, height}>} frames 8 bits, one channel.
 * @param {{floor: number}} step What a pixel must pass at its brightest.
 * @returns {{data: Uint8Array, width, height} | null} 255 inside; null if there is no sector.
 */
export function findFan(frames, { floor }) {
  const { width, height } = frames[0];
  const { lit, restless } = lookAt(frames, floor);
  if (frames.length > 2) {
    const counts = sumAround(restless, width, height, AROUND);
    const area = (2 * AROUND + 1) ** 2;
    for (let k = 0; k < lit.length; k += 1) lit[k] &= Math.fround(counts[k] / area) > LEAST_RESTLESS ? 1 : 0;
  }
  const side = Math.max(3, rint(0.02 * Math.min(width, height)) | 1);
  const opened = open(lit, width, height, ellipse(side));
  const parts = listComponents(opened, { width, height });
  if (!parts.length) return null;
  const largest = parts.reduce((most, part) => (part.length > most.length ? part : most));
  if (largest.length < SMALLEST_SHARE * width * height) return null;
  const hull = findHull(withMirrorImage(largest, width));
  return { data: fillConvex(hull, width, height), width, height };
}

/** Box around the pixels that are not 0, grown by a part of its longer side within the grid. */
export function boundingBox({ data, width, height }, margin) {
  let [top, left, bottom, right] = [height, width, 0, 0];
  for (let k = 0; k < data.length; k += 1) {
    if (!data[k]) continue;
    const x = k % width;
    const y = (k - x) / width;
    top = Math.min(top, y);
    bottom = y + 1;
    left = Math.min(left, x);
    right = Math.max(right, x + 1);
  }
  const border = rint(margin * Math.max(bottom - top, right - left));
  return {
    top: Math.max(0, top - border),
    left: Math.max(0, left - border),
    bottom: Math.min(height, bottom + border),
    right: Math.min(width, right + border),
  };
}

/** Where the brightest moment of a pixel, blurred, passes the floor; and where a pixel changes. */
function lookAt(frames, floor) {
  const { width, height } = frames[0];
  const most = frames[0].data.slice();
  const least = frames[0].data.slice();
  for (const { data } of frames.slice(1)) {
    for (let k = 0; k < data.length; k += 1) {
      if (data[k] > most[k]) most[k] = data[k];
      if (data[k] < least[k]) least[k] = data[k];
    }
  }
  const sums = sumAround(most, width, height, BLUR);
  const area = (2 * BLUR + 1) ** 2;
  const lit = Uint8Array.from(sums, (sum) => (rint(sum / area) > floor ? 1 : 0));
  return { lit, restless: most.map((value, k) => (value > least[k] ? 1 : 0)) };
}

/** Sum of the square around each pixel; beyond the border the image is mirrored about its edge pixel. */
function sumAround(data, width, height, reach) {
  const mirrored = (at, count) => {
    if (count === 1) return 0;
    const period = 2 * (count - 1);
    const inside = ((at % period) + period) % period;
    return inside < count ? inside : period - inside;
  };
  const line = new Int32Array(width);
  const sums = new Int32Array(width * height);
  for (let y = 0; y < height; y += 1) {
    line.fill(0);
    for (let dy = -reach; dy <= reach; dy += 1) {
      const begin = mirrored(y + dy, height) * width;
      for (let x = 0; x < width; x += 1) line[x] += data[begin + x];
    }
    for (let x = 0; x < width; x += 1) {
      let sum = 0;
      for (let dx = -reach; dx <= reach; dx += 1) sum += line[mirrored(x + dx, width)];
      sums[y * width + x] = sum;
    }
  }
  return sums;
}

/** Half the width of each row of OpenCV's ellipse of an odd side. */
function ellipse(side) {
  const radius = side >> 1;
  const inverse = 1 / (radius * radius);
  return Array.from({ length: side }, (_, row) => {
    const dy = row - radius;
    return rint(radius * Math.sqrt((radius * radius - dy * dy) * inverse));
  });
}

/** Erosion, then dilation; nothing beyond the border takes away or adds. */
function open(mask, width, height, halves) {
  const eroded = erode(mask, width, height, halves);
  const complement = eroded.map((value) => 1 - value);
  return erode(complement, width, height, halves).map((value) => 1 - value);
}

function erode(mask, width, height, halves) {
  const reach = reachOf(mask, width, height);
  const radius = halves.length >> 1;
  const result = new Uint8Array(mask.length).fill(1);
  for (let y = 0; y < height; y += 1) {
    const line = result.subarray(y * width, (y + 1) * width);
    for (let dy = -radius; dy <= radius; dy += 1) {
      if (y + dy < 0 || y + dy >= height) continue;
      const begin = (y + dy) * width;
      const half = halves[dy + radius];
      for (let x = 0; x < width; x += 1) if (reach[begin + x] < half) line[x] = 0;
    }
  }
  return result;
}

/** For each pixel of a mask how many lie on either side of it without a gap; -1 outside. */
function reachOf(mask, width, height) {
  const reach = new Int32Array(mask.length);
  for (let y = 0; y < height; y += 1) {
    const begin = y * width;
    let run = width;
    for (let x = 0; x < width; x += 1) {
      run = mask[begin + x] ? run + 1 : -1;
      reach[begin + x] = run;
    }
    run = width;
    for (let x = width - 1; x >= 0; x -= 1) {
      run = mask[begin + x] ? run + 1 : -1;
      reach[begin + x] = Math.min(reach[begin + x], run);
    }
  }
  return reach;
}

/** Outermost points [x, y] of each row, and of its mirror image about the axis through the top. */
function withMirrorImage(pixels, width) {
  const ends = new Map();
  for (const pixel of pixels) {
    const x = pixel % width;
    const y = (pixel - x) / width;
    const [left, right] = ends.get(y) ?? [x, x];
    ends.set(y, [Math.min(left, x), Math.max(right, x)]);
  }
  const rows = [...ends.keys()].sort((one, other) => one - other);
  const place = 0.03 * (rows.length - 1);
  const below = Math.floor(place);
  const next = rows[Math.min(below + 1, rows.length - 1)];
  const deepest = rows[below] + (next - rows[below]) * (place - below);
  const top = rows.filter((row) => row <= deepest).map((row) => ends.get(row));
  const twice = Math.min(...top.map(([left]) => left)) + Math.max(...top.map(([, right]) => right));
  return rows.flatMap((y) => {
    const [left, right] = ends.get(y);
    return [left, right, twice - left, twice - right].map((x) => [x, y]);
  });
}
