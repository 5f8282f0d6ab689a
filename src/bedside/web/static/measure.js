/** Areas of structures, with the same names and rounding as the reports of `bedside`. */

import { findBox } from "./pipeline/components.js";
import { cut } from "./pipeline/image.js";

/** Pixels of each label in one frame. */
export function countPixels(labels, structures) {
  const counts = new Uint32Array(256);
  for (const value of labels.data) counts[value] += 1;
  return Object.fromEntries(structures.map(({ value }) => [value, counts[value]]));
}

/** The pixel of a structure that lies farthest from its edge, [x, y]; null if it is not there. */
export function findInside(labels, value) {
  const box = findBox(labels, value);
  if (!box) return null;
  const { data, width, height } = cut(labels, box);
  const depth = new Int32Array(data.length);
  const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : depth[y * width + x]);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      if (data[y * width + x] === value) {
        depth[y * width + x] = 1 + Math.min(at(x - 1, y), at(x - 1, y - 1), at(x, y - 1), at(x + 1, y - 1));
      }
    }
  }
  let [deepest, place] = [0, null];
  for (let y = height - 1; y >= 0; y -= 1) {
    for (let x = width - 1; x >= 0; x -= 1) {
      const own = depth[y * width + x];
      if (!own) continue;
      const back = 1 + Math.min(at(x + 1, y), at(x + 1, y + 1), at(x, y + 1), at(x - 1, y + 1));
      depth[y * width + x] = Math.min(own, back);
      if (depth[y * width + x] > deepest) [deepest, place] = [depth[y * width + x], [box.left + x + 0.5, box.top + y + 0.5]];
    }
  }
  return place;
}

/** An area in words: cm² where the scale is known, else pixels. */
export function describeArea(pixels, spacingMm) {
  if (!spacingMm) return `${pixels.toLocaleString("en")} px`;
  return `${((pixels * spacingMm[0] * spacingMm[1]) / 100).toFixed(2)} cm²`;
}

/**
 * A structure at its largest and smallest over the frames that are known.
 *
 * @param {Array<number|null>} areas Pixels by frame; null where a frame is not segmented yet.
 * @returns {{largest, smallest, largestFrame, smallestFrame, fraction} | null} Frames count from 1.
 */
export function compareAreas(areas) {
  const known = areas.flatMap((area, k) => (area === null ? [] : [[area, k + 1]]));
  if (known.length < 2) return null;
  const [largest, largestFrame] = known.reduce((most, each) => (each[0] > most[0] ? each : most));
  const [smallest, smallestFrame] = known.reduce((least, each) => (each[0] < least[0] ? each : least));
  return { largest, smallest, largestFrame, smallestFrame, fraction: largest ? (largest - smallest) / largest : null };
}
