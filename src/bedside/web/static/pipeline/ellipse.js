/** A label made the ellipse along its outline, as `pipeline/postprocess/ellipse.py` does it. */
const ROUNDS = 10;
const FEWEST_POINTS = 12;
const SIGMAS = 2.5;
const SIGMA_OF_MEDIAN = 1.4826;
const LEAST_TOLERANCE_PX = 1;
const LEAST_ROUNDNESS = 1e-6;
const LEAST_OVERLAP = 0.8;

/** Fill the background inside the ellipse of a label, and remove the rest; returns the edits. */
export function makeEllipse(labels, step, value) {
  const { data, width, height } = labels;
  const points = listOutline(labels, value);
  if (!points.length && !data.includes(value)) return null;
  const sides = findSides(fitRobustly(points), height);
  const isInside = (at) => {
    const y = Math.floor(at / width);
    const x = at - y * width;
    return x >= sides[y][0] && x <= sides[y][1];
  };
  const [added, removed] = [[], []];
  let [drawn, fitted, both] = [0, 0, 0];
  for (let at = 0; at < data.length; at += 1) {
    const inside = isInside(at);
    const own = data[at] === value;
    drawn += own;
    fitted += inside;
    both += own && inside;
    if (inside && !data[at]) added.push(at);
    if (own && !inside) removed.push(at);
  }
  if (2 * both < LEAST_OVERLAP * (drawn + fitted)) {
    return { action: "skipped", reason: "its outline is far from an ellipse", components: 0, pixels: 0 };
  }
  for (const at of added) data[at] = value;
  for (const at of removed) data[at] = 0;
  return Object.entries({ added, removed })
    .filter(([, pixels]) => pixels.length)
    .map(([action, pixels]) => ({ action, components: 0, pixels: pixels.length }));
}

/** Points [row, column] half-way between neighbours of which one has the label. */
function listOutline({ data, width, height }, value) {
  const [below, beside] = [[], []];
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      const here = data[y * width + x] === value;
      if (y + 1 < height && (data[(y + 1) * width + x] === value) !== here) below.push([y + 0.5, x]);
      if (x + 1 < width && (data[y * width + x + 1] === value) !== here) beside.push([y, x + 0.5]);
    }
  }
  return [...below, ...beside];
}

/** Conic A x^2 + B x y + C y^2 + D x + E y = 1 about a centre, in parts of a length; null if it is no ellipse. */
function fitRobustly(points) {
  if (points.length < FEWEST_POINTS) return null;
  const mean = (values) => values.reduce((sum, each) => sum + each, 0) / values.length;
  const [row, column] = [0, 1].map((axis) => mean(points.map((point) => point[axis])));
  const length = mean(points.map(([y, x]) => Math.abs(y - row) + Math.abs(x - column)));
  const terms = points.map(([py, px]) => {
    const [y, x] = [(py - row) / length, (px - column) / length];
    return [x * x, x * y, y * y, x, y];
  });
  let weights = terms.map(() => 1);
  let conic = null;
  for (let round = 0; round < ROUNDS; round += 1) {
    conic = solve(terms, weights);
    if (!conic) return null;
    const [a, b, c, d, e] = conic;
    if (!(4 * a * c - b * b > LEAST_ROUNDNESS * (a + c) ** 2)) return null;
    const slopes = terms.map(([, , , x, y]) => (2 * a * x + b * y + d) ** 2 + (b * x + 2 * c * y + e) ** 2);
    const distances = terms.map((term, k) => {
      const level = term.reduce((sum, each, i) => sum + conic[i] * each, 0);
      return (length * Math.abs(level - 1)) / Math.sqrt(slopes[k]);
    });
    const limit = Math.max(SIGMAS * SIGMA_OF_MEDIAN * median(distances), LEAST_TOLERANCE_PX);
    weights = distances.map((distance, k) => (distance <= limit ? 1 / slopes[k] : 0));
  }
  return { conic, row, column, length };
}

/** First and last column inside an ellipse in each row, as fractions. */
function findSides(ellipse, height) {
  const none = [0, -1];
  if (!ellipse) return Array.from({ length: height }, () => none);
  const { conic: [a, b, c, d, e], row, column, length } = ellipse;
  return Array.from({ length: height }, (_, at) => {
    const y = (at - row) / length;
    const linear = b * y + d;
    const square = linear * linear - 4 * a * (c * y * y + e * y - 1);
    if (!(square > 0)) return none;
    const root = Math.sqrt(square);
    return [-1, 1].map((side) => column + (length * (-linear + side * root)) / (2 * a));
  });
}

function median(values) {
  const sorted = Float64Array.from(values).sort();
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/** Coefficients of least squares whose products with each weighted row sum to 1; null if there are none. */
function solve(rows, weights) {
  const size = rows[0].length;
  const sum = (product) => rows.reduce((total, row, k) => total + weights[k] * product(row), 0);
  const matrix = Array.from({ length: size }, (_, i) => [
    ...Array.from({ length: size }, (__, j) => sum((row) => row[i] * row[j])),
    sum((row) => row[i]),
  ]);
  for (let i = 0; i < size; i += 1) {
    const pivot = matrix.slice(i).reduce((best, row, k) => (Math.abs(row[i]) > Math.abs(matrix[best][i]) ? i + k : best), i);
    [matrix[i], matrix[pivot]] = [matrix[pivot], matrix[i]];
    if (!matrix[i][i]) return null;
    for (let k = 0; k < size; k += 1) {
      if (k === i) continue;
      const factor = matrix[k][i] / matrix[i][i];
      for (let j = i; j <= size; j += 1) matrix[k][j] -= factor * matrix[i][j];
    }
  }
  return matrix.map((row, i) => row[size] / row[i]);
}
