/** Areas of structures, with the same names and rounding as the reports of `bedside`. */

/** Pixels of each label in one frame. */
export function countPixels(labels, structures) {
  const counts = new Uint32Array(256);
  for (const value of labels.data) counts[value] += 1;
  return Object.fromEntries(structures.map(({ value }) => [value, counts[value]]));
}

/** Where the middle of a structure lies, [x, y] in pixels; the pixel of it that is next to that. */
export function findMiddle({ data, width }, value) {
  let [count, sumX, sumY] = [0, 0, 0];
  const places = [];
  for (let k = 0; k < data.length; k += 1) {
    if (data[k] !== value) continue;
    const x = k % width;
    places.push([x, (k - x) / width]);
    count += 1;
    sumX += x;
    sumY += (k - x) / width;
  }
  if (!count) return null;
  const [midX, midY] = [sumX / count, sumY / count];
  const far = ([x, y]) => (x - midX) ** 2 + (y - midY) ** 2;
  const [x, y] = places.reduce((best, place) => (far(place) < far(best) ? place : best));
  return [x + 0.5, y + 0.5];
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
