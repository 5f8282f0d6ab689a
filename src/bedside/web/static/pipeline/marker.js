/** The side of the probe marker: a mirrored view is turned for the network, and its labels turned back. */

const FRAMES = 3;
export const TURNED =
  "the view is mirrored left to right: it was turned for the network, and the labels turned back. " +
  "Check the probe's marker.";
export const UNSURE =
  "whether the view is mirrored left to right cannot be told; it was taken as it is. Check the probe's marker.";
export const LOPSIDED =
  "one side of the sector is dark, so whether the view is mirrored left to right cannot be told; " +
  "it was taken as it is. Check the probe's marker, and its contact.";
const MOST_LEAN = 0.055;
const LIT = 0.03;
const CELL = 4;
const DEPTHS = [0.35, 0.8];
const FEWEST_ROWS = 6;

/** Reverse the columns of planes, row by row, as a copy. */
export function turnColumns(values, width) {
  const turned = new Float32Array(values.length);
  for (let row = 0; row < values.length; row += width) {
    for (let x = 0; x < width; x += 1) turned[row + x] = values[row + width - 1 - x];
  }
  return turned;
}

/** Shrink planes of one size, linearly, into the middle of black ones. */
export function shrink(values, height, width, scale) {
  const [rows, columns] = [height, width].map((size) => Math.max(1, Math.floor(scale * size + 0.5)));
  if (rows === height && columns === width) return values;
  const [top, left] = [(height - rows) >> 1, (width - columns) >> 1];
  const small = new Float32Array(values.length);
  const along = (size, into) =>
    Array.from({ length: into }, (_, k) => {
      const place = Math.min(Math.max(((k + 0.5) * size) / into - 0.5, 0), size - 1);
      const first = Math.floor(place);
      return [first, Math.min(first + 1, size - 1), place - first];
    });
  const [ys, xs] = [along(height, rows), along(width, columns)];
  for (let plane = 0; plane < values.length; plane += height * width) {
    ys.forEach(([above, below, v], y) => {
      xs.forEach(([before, after, u], x) => {
        const line = (row) => {
          const start = plane + row * width;
          return values[start + before] * (1 - u) + values[start + after] * u;
        };
        small[plane + (top + y) * width + left + x] = line(above) * (1 - v) + line(below) * v;
      });
    });
  }
  return small;
}

/** Columns a row by which the middle between a sector's sides drifts over its depth, 0 or more. */
export function findLean(values, height, width) {
  const [rows, columns] = [height, width].map((size) => Math.floor(size / CELL));
  const [top, bottom] = DEPTHS.map((depth) => Math.floor(depth * rows));
  const found = [];
  for (let y = top; y < bottom; y += 1) {
    let [first, last] = [-1, -1];
    for (let x = 0; x < columns; x += 1) {
      let sum = 0;
      for (let k = 0; k < CELL * CELL; k += 1) sum += values[(y * CELL + (k >> 2)) * width + x * CELL + (k & 3)];
      if (sum / (CELL * CELL) <= LIT) continue;
      if (first < 0) first = x;
      last = x;
    }
    if (first >= 0) found.push([y, (first + last) / 2]);
  }
  if (found.length < FEWEST_ROWS) return 0;
  const mean = found.reduce((sum, [y]) => sum + y, 0) / found.length;
  const [over, under] = [1, 0].map((k) => found.reduce((sum, each) => sum + (each[0] - mean) * (k ? each[1] : each[0] - mean), 0));
  return Math.abs(over / under);
}

/** How sure a network is of its labels: the mean over structures of the soft Dice with them. */
export function findCertainty(logits, classes) {
  const pixels = logits.length / classes;
  const [shared, chances, drawn] = [0, 1, 2].map(() => new Float64Array(classes));
  for (let i = 0; i < pixels; i += 1) {
    let best = 0;
    for (let k = 1; k < classes; k += 1) if (logits[k * pixels + i] > logits[best * pixels + i]) best = k;
    const top = logits[best * pixels + i];
    let sum = 0;
    for (let k = 0; k < classes; k += 1) sum += Math.exp(logits[k * pixels + i] - top);
    for (let k = 1; k < classes; k += 1) chances[k] += Math.exp(logits[k * pixels + i] - top) / sum;
    shared[best] += 1 / sum;
    drawn[best] += 1;
  }
  let total = 0;
  for (let k = 1; k < classes; k += 1) if (drawn[k]) total += (2 * shared[k]) / (chances[k] + drawn[k]);
  return total / (classes - 1);
}

/**
 * Whether a view is mirrored, from some of the frames that it is planned from.
 *
 * @returns {Promise<{mirrored: boolean, warning: string | null}>}
 */
export async function checkMarker(sample, plan, { margin, scales, classes, height, width, network }) {
  const count = Math.min(FRAMES, sample.length);
  const places = new Set(Array.from({ length: count }, (_, k) => Math.round((k * (sample.length - 1)) / Math.max(1, count - 1))));
  const tensors = Array.from(places, (place) => Float32Array.from(plan.apply(sample[place])));
  const leans = tensors.map((tensor) => findLean(tensor, height, width)).sort((one, other) => one - other);
  const half = leans.length >> 1;
  const lean = leans.length % 2 ? leans[half] : (leans[half - 1] + leans[half]) / 2;
  if (lean > MOST_LEAN) return { mirrored: false, warning: LOPSIDED };
  let difference = 0;
  for (const tensor of tensors) {
    for (const scale of scales) {
      const seen = shrink(tensor, height, width, scale);
      // One after the other: a runtime may reuse the memory of its result.
      const asItIs = findCertainty(await network(seen), classes);
      difference += asItIs - findCertainty(await network(turnColumns(seen, width)), classes);
    }
  }
  difference /= places.size * scales.length;
  if (difference < -margin) return { mirrored: true, warning: TURNED };
  return { mirrored: false, warning: difference <= margin ? UNSURE : null };
}
