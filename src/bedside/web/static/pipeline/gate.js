/**
 * Whether an image is one that a network was made for: its description, and that of the network's logits, against
 * the training images, as `bedside.pipeline.gate` judges it.
 */

const JUDGED_FRAMES = 7;
const [THUMBNAIL_PX, TEXTURE_PX, OUTLINES_PX, LOGITS_PX] = [12, 6, 8, 32];
const [BRIGHTNESS_BINS, CHANGE_BINS] = [16, 10];
const [GRAIN_STEPS_PX, GRAIN_ROWS] = [[1, 2, 4], 8];
const [UNSURE, DARK] = [0.8, 0.02];
const CONTRAST = "contrast";
const CONTRAST_LIMIT = 6;
const HISTOGRAM_END = 1 + 1e-6;

const { fround } = Math;

/** Descriptions from planes { data, height, width } of the tensor and of class probabilities, by name. */
const VIEWS = { outlines: describeOutlines, thumbnail: describeThumbnail, texture: describeTexture, grain: describeGrain, figures: describeFigures };

const VIEW_NAMES = {
  outlines: "what the network finds in it",
  thumbnail: "its picture",
  texture: "its texture",
  grain: "its brightness and grain",
  figures: "how sure the network is and how bright it is",
};

/** Frames of a film that are judged: all of a few, else some spread over it. */
export function judgedFrames(count) {
  if (count <= JUDGED_FRAMES) return Array.from({ length: count }, (_, k) => k);
  return Array.from({ length: JUDGED_FRAMES }, (_, k) => Math.floor((k + 0.5) * (count / JUDGED_FRAMES)));
}

/** The verdict in the middle by distance, the lower one of two; null of none. */
export function medianVerdict(verdicts) {
  const ordered = [...verdicts].sort((one, other) => one.distance - other.distance);
  return ordered[(ordered.length - 1) >> 1] ?? null;
}

export class Gate {
  /**
   * @param {object} gate Of the bundle.
   * @param {{channels, height, width, classes, stride, madeFor}} settings Of its network, and what it is for.
   */
  constructor(gate, settings) {
    Object.assign(this, { gate, settings });
    const { height, width, stride } = settings;
    if (Math.min(height, width) / stride < LOGITS_PX) throw new Error(`its logits are smaller than ${LOGITS_PX} pixels`);
    const unknown = gate.views.find(({ name }) => !(name in VIEWS));
    if (unknown) throw new Error(`it has the view "${unknown.name}", which the page does not know`);
  }

  /** How far an image is, as a multiple of what 99 % of the training images stay within, and in which view. */
  judge(tensor, logits) {
    const { channels, height, width, classes, stride } = this.settings;
    const image = cutPlanes(tensor, channels, height, width);
    const chances = softmax(cutPlanes(logits, classes, height / stride, width / stride).map((plane) => shrink(plane, LOGITS_PX)));
    const { views, contrast } = this.gate;
    const scaled = views.map(({ name, mean, scale }) => VIEWS[name](image, chances).map((value, k) => (value - mean[k]) / scale[k]));
    const found = views.map((view, k) => ({ view: view.name, distance: measure(view, scaled[k]) }));
    if (contrast) found.push({ view: CONTRAST, distance: measureContrast(contrast, scaled) });
    return found.reduce((farthest, each) => (each.distance > farthest.distance ? each : farthest));
  }

  /** A warning of a foreign image; null of others. */
  explain(verdict) {
    const { threshold, images, contrast } = this.gate;
    if (!verdict || verdict.distance <= threshold) return null;
    if (verdict.view === CONTRAST) {
      return (
        `this looks unlike ${this.settings.madeFor}: all in all it is closer to ${contrast.images} images of other kinds ` +
        `than 99 % of the ${images} training images are; do not rely on its labels.`
      );
    }
    return (
      `this looks unlike ${this.settings.madeFor}: in ${VIEW_NAMES[verdict.view]} it is ${verdict.distance.toFixed(1)} ` +
      `times as far from the ${images} training images as 99 % of them are; do not rely on its labels.`
    );
  }
}

/** By a logistic regression of training images against others: 1 at a training image that is far. */
function measureContrast({ weights, bias, far, spread }, scaled) {
  const limit = (value) => Math.min(Math.max(value, -CONTRAST_LIMIT), CONTRAST_LIMIT);
  const score = weights.flatMap((row, k) => row.map((weight, n) => weight * limit(scaled[k][n]))).reduce((sum, each) => sum + each, bias);
  return Math.max(0, 1 + (score - far) / spread);
}

function measure({ axes, spread, residual, far_along, far_beside }, scaled) {
  const along = axes.map((axis) => axis.reduce((sum, each, k) => sum + each * scaled[k], 0));
  const all = scaled.reduce((sum, value) => sum + value * value, 0);
  const beside = Math.max(all - along.reduce((sum, value) => sum + value * value, 0), 0);
  const inside = along.length ? along.reduce((sum, value, k) => sum + (value * value) / spread[k], 0) / along.length : NaN;
  return Math.sqrt(Math.max(inside / far_along, beside / residual / far_beside));
}

function describeOutlines(image, chances) {
  return chances.slice(1).flatMap((plane) => [...shrink(plane, OUTLINES_PX).data]);
}

function describeThumbnail(image) {
  return image.flatMap((plane) => [...shrink(thin(plane), THUMBNAIL_PX).data]);
}

function describeTexture(image) {
  const grey = thin(image[image.length >> 1]);
  const smooth = blur(grey, 2);
  const change = grey.data.map((value, k) => Math.abs(value - smooth[k]));
  return [...shrink({ ...grey, data: change }, TEXTURE_PX).data];
}

function describeGrain(image) {
  const { data, height, width } = image[image.length >> 1];
  const rows = [];
  for (let y = 0; y < height - Math.max(...GRAIN_STEPS_PX); y += GRAIN_ROWS) rows.push(y);
  const found = count(rows.flatMap((y) => [...data.subarray(y * width, (y + 1) * width)]), BRIGHTNESS_BINS);
  for (const step of GRAIN_STEPS_PX) {
    for (const [down, right] of [[step, 0], [0, step]]) {
      const changes = new Float32Array(rows.length * (width - right));
      let k = 0;
      for (const y of rows) {
        for (let x = 0; x < width - right; x += 1, k += 1) {
          changes[k] = Math.sqrt(fround(Math.abs(data[(y + down) * width + x + right] - data[y * width + x])));
        }
      }
      found.push(...count(changes, CHANGE_BINS));
    }
  }
  return found;
}

function describeFigures(image, chances) {
  const pixels = LOGITS_PX * LOGITS_PX;
  let [entropy, surest, unsure] = [0, 0, 0];
  for (let i = 0; i < pixels; i += 1) {
    let most = 0;
    for (const { data } of chances) {
      entropy -= data[i] * Math.log(data[i] + 1e-6);
      most = Math.max(most, data[i]);
    }
    surest += most;
    unsure += most < UNSURE ? 1 : 0;
  }
  const thinned = image.map((plane) => thin(plane).data);
  let [dark, sum, squares, total] = [0, 0, 0, 0];
  for (const data of thinned) {
    for (const value of data) {
      dark += value < fround(DARK) ? 1 : 0;
      sum += value;
      squares += value * value;
    }
    total += data.length;
  }
  const mean = sum / total;
  const sizes = chances.slice(1).map(({ data }) => data.reduce((all, each) => all + each, 0) / pixels);
  return [entropy / pixels, surest / pixels, unsure / pixels, ...sizes, dark / total, mean, Math.sqrt(Math.max(squares / total - mean * mean, 0))];
}

function cutPlanes(values, planes, height, width) {
  const size = height * width;
  return Array.from({ length: planes }, (_, k) => ({ data: values.subarray(k * size, (k + 1) * size), height, width }));
}

function softmax(planes) {
  const found = planes.map((plane) => ({ ...plane, data: new Float32Array(plane.data.length) }));
  for (let i = 0; i < planes[0].data.length; i += 1) {
    const top = Math.max(...planes.map(({ data }) => data[i]));
    const parts = planes.map(({ data }) => Math.exp(data[i] - top));
    const sum = parts.reduce((all, each) => all + each, 0);
    parts.forEach((part, k) => (found[k].data[i] = part / sum));
  }
  return found;
}

/** Every second pixel of every second row. */
function thin({ data, height, width }) {
  const [rows, columns] = [(height + 1) >> 1, (width + 1) >> 1];
  const kept = new Float32Array(rows * columns);
  for (let y = 0; y < rows; y += 1) for (let x = 0; x < columns; x += 1) kept[y * columns + x] = data[2 * y * width + 2 * x];
  return { data: kept, height: rows, width: columns };
}

/** Average over side x side cells, which share the pixels at their edges by area. */
function shrink({ data, height, width }, side) {
  const [down, across] = [coverCells(height, side), coverCells(width, side)];
  const lines = new Float64Array(height * side);
  for (let y = 0; y < height; y += 1) {
    across.forEach((cell, x) => {
      for (const [place, weight] of cell) lines[y * side + x] += data[y * width + place] * weight;
    });
  }
  const small = new Float32Array(side * side);
  down.forEach((cell, y) => {
    for (let x = 0; x < side; x += 1) {
      let sum = 0;
      for (const [place, weight] of cell) sum += lines[place * side + x] * weight;
      small[y * side + x] = sum;
    }
  });
  return { data: small, height: side, width: side };
}

/** The pixels of each cell with their weights. */
function coverCells(size, cells) {
  const step = size / cells;
  return Array.from({ length: cells }, (_, cell) => {
    const [begin, end] = [cell * step, (cell + 1) * step];
    const covered = [];
    for (let place = Math.floor(begin + 1e-9); place < Math.min(Math.ceil(end - 1e-9), size); place += 1) {
      covered.push([place, (Math.min(place + 1, end) - Math.max(place, begin)) / step]);
    }
    return covered;
  });
}

/** Mean over (2 radius + 1)² pixels; beyond the border the image is reflected. */
function blur({ data, height, width }, radius) {
  const across = new Float64Array(data.length);
  const mirror = (place, size) => (place < 0 ? -place : place >= size ? 2 * size - 2 - place : place);
  const parts = Array.from({ length: 2 * radius + 1 }, (_, k) => k - radius);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      for (const d of parts) across[y * width + x] += data[y * width + mirror(x + d, width)];
    }
  }
  const smooth = new Float32Array(data.length);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) {
      let sum = 0;
      for (const d of parts) sum += across[mirror(y + d, height) * width + x];
      smooth[y * width + x] = sum / parts.length ** 2;
    }
  }
  return smooth;
}

/** Roots of the shares of values in even bins of [0, 1]; what lies outside counts nowhere. */
function count(values, bins) {
  const counts = new Array(bins).fill(0);
  for (const value of values) {
    const bin = Math.floor((value * bins) / HISTOGRAM_END);
    if (bin >= 0 && bin < bins) counts[bin] += 1;
  }
  return counts.map((each) => Math.sqrt(each / values.length));
}
