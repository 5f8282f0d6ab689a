/** Measurements of one kind of structure alone: the ellipse of a head, as `bedside` reports it. */
import { listComponents } from "./pipeline/components.js";
import { POSTPROCESS } from "./pipeline/repairs.js";

const FEWEST_POINTS = 5;
const LINE_INSET_PX = 0.5;

/** Function of (labels, value, spacingMm) by the code of a structure's type; lengths in mm, or null. */
const MEASURES = { "SCT 69536005": measureHead };

/**
 * What is measured of a structure beside its area.
 *
 * @returns {Array<[string, number]>} Names and lengths in mm; none without a scale.
 */
export function measureOwn(labels, { value, type }, spacingMm) {
  const measure = type && MEASURES[`${type.scheme} ${type.value}`];
  return measure && spacingMm ? measure(labels, value, spacingMm) : [];
}

/** Circumference and axes of the ellipse along the middle of a skull's outline. */
function measureHead(labels, value, spacingMm) {
  const points = outlineOf(largestPart(labels, value), labels.width, labels.height);
  if (points.length < FEWEST_POINTS) return [];
  const axes = fitEllipse(points.map(([row, column]) => [column * spacingMm[1], row * spacingMm[0]]));
  if (!axes) return [];
  const [long, short] = axes.map((axis) => axis - (LINE_INSET_PX * (spacingMm[0] + spacingMm[1])) / 2);
  if (!(short > 0)) return [];
  const excess = 3 * ((long - short) / (long + short)) ** 2;
  const around = Math.PI * (long + short) * (1 + excess / (10 + Math.sqrt(4 - excess)));
  return [
    ["head circumference", around],
    ["head long axis", 2 * long],
    ["head short axis", 2 * short],
  ];
}

/** The largest part of a label, 1 inside, with its holes filled. */
function largestPart({ data, width, height }, value) {
  const open = Uint8Array.from(data, (each) => (each === value ? 1 : 0));
  const parts = listComponents(open, { width, height });
  const mask = new Uint8Array(data.length);
  if (!parts.length) return mask;
  for (const pixel of parts.reduce((most, part) => (part.length > most.length ? part : most))) mask[pixel] = 1;
  POSTPROCESS.fill_holes({ data: mask, width, height, channels: 1 }, {}, 1);
  return mask;
}

/** Points [row, column] half-way between neighbours of which one is inside. */
function outlineOf(mask, width, height) {
  const points = [];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const here = mask[y * width + x];
      if (y + 1 < height && mask[(y + 1) * width + x] !== here) points.push([y + 0.5, x]);
      if (x + 1 < width && mask[y * width + x + 1] !== here) points.push([y, x + 0.5]);
    }
  }
  return points;
}

/**
 * Half the longer and half the shorter axis of the ellipse of least algebraic distance.
 *
 * The conic is fitted first with its centre free, then about that centre, as OpenCV's `fitEllipse` does.
 */
export function fitEllipse(points) {
  const count = points.length;
  const mean = [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / count);
  const spread = points.reduce((sum, [x, y]) => sum + Math.abs(x - mean[0]) + Math.abs(y - mean[1]), 0) / count;
  const scaled = points.map(([x, y]) => [(x - mean[0]) / spread, (y - mean[1]) / spread]);
  const free = solveLeastSquares(scaled.map(([x, y]) => [-x * x, -y * y, -x * y, x, y]));
  if (!free) return null;
  const [a, b, c, d, e] = free;
  const determinant = 4 * a * b - c * c;
  const [centreX, centreY] = [(2 * b * d - c * e) / determinant, (2 * a * e - c * d) / determinant];
  const fixed = solveLeastSquares(
    scaled.map(([x, y]) => [(x - centreX) ** 2, (y - centreY) ** 2, (x - centreX) * (y - centreY)])
  );
  if (!fixed) return null;
  const [p, q, r] = fixed;
  const apart = Math.hypot(p - q, r);
  const axes = [p + q - apart, p + q + apart].map((sum) => spread * Math.sqrt(2 / Math.abs(sum)));
  return axes.every(Number.isFinite) ? axes : null;
}

/** Coefficients whose products with each row sum to 1, as nearly as can be; null if there are none. */
function solveLeastSquares(rows) {
  const size = rows[0].length;
  const matrix = Array.from({ length: size }, (_, i) => [
    ...Array.from({ length: size }, (__, j) => rows.reduce((sum, row) => sum + row[i] * row[j], 0)),
    rows.reduce((sum, row) => sum + row[i], 0),
  ]);
  for (let i = 0; i < size; i += 1) {
    const pivot = matrix.slice(i).reduce((best, row, k) => (Math.abs(row[i]) > Math.abs(matrix[best][i]) ? i + k : best), i);
    [matrix[i], matrix[pivot]] = [matrix[pivot], matrix[i]];
    if (Math.abs(matrix[i][i]) < 1e-12) return null;
    for (let k = 0; k < size; k += 1) {
      if (k === i) continue;
      const factor = matrix[k][i] / matrix[i][i];
      for (let j = i; j <= size; j += 1) matrix[k][j] -= factor * matrix[i][j];
    }
  }
  return matrix.map((row, i) => row[size] / row[i]);
}
