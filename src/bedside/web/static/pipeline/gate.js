/**
 * Whether an image is one that a network was made for: its description, and that of the network's logits, against
 * the training images, as `bedside.pipeline.gate` judges it.
 */
import { cutPlanes, shrink, softmax } from "./planes.js";

const VERSION = 2;
const JUDGED_FRAMES = 7;
const [THUMBNAIL_PX, TEXTURE_PX, OUTLINES_PX, SIDE_PX] = [12, 8, 8, 64];
const SAMPLED_ROWS = 32;
const GRAIN_STEPS_PX = [1, 2, 4];
const WHITE = 255;
const BRIGHTNESS_BINS = Array.from({ length: 16 }, (_, k) => 16 * k);
const CHANGE_BINS = [0, 3, 11, 23, 41, 64, 92, 125, 164, 207];
const [UNSURE, DARK] = [0.8, 0.02];
const [CONTRAST, SIZE] = ["contrast", "size"];
const CONTRAST_LIMIT = 6;
const SIZE_FACTOR = 1.5;

const { fround } = Math;

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
    if (gate.version !== VERSION) throw new Error("it was fitted by another version");
    const unknown = gate.views.find(({ name }) => !(name in VIEW_NAMES));
    if (unknown) throw new Error(`it has the view "${unknown.name}", which the page does not know`);
  }

  /**
   * How far an image is, as a multiple of what 99 % of the training images stay within, and in which view.
   *
   * @param {[number, number] | null} framePx Height and width of the frame that the tensor is cut from.
   */
  judge(tensor, logits, framePx = null) {
    const { channels, height, width, classes, stride } = this.settings;
    const described = describe(
      cutPlanes(tensor, channels, height, width), cutPlanes(logits, classes, height / stride, width / stride),
    );
    const { views, contrast } = this.gate;
    const scaled = views.map(({ name, mean, scale }) => described[name].map((value, k) => (value - mean[k]) / scale[k]));
    const found = views.map((view, k) => ({ view: view.name, distance: measure(view, scaled[k]) }));
    if (contrast) found.push({ view: CONTRAST, distance: measureContrast(contrast, scaled) });
    if (this.gate.frame_px && framePx) found.push({ view: SIZE, distance: measureSize(this.gate, framePx) });
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
    if (verdict.view === SIZE) {
      const [low, high] = this.gate.frame_px;
      return (
        `this looks unlike ${this.settings.madeFor}: a side of its frame is more than ${SIZE_FACTOR} times off the ` +
        `${low === high ? low : `${low} to ${high}`} pixels of the training images, and the network takes pixels as they are; ` +
        "do not rely on its labels."
      );
    }
    return (
      `this looks unlike ${this.settings.madeFor}: in ${VIEW_NAMES[verdict.view]} it is ${verdict.distance.toFixed(1)} ` +
      `times as far from the ${images} training images as 99 % of them are; do not rely on its labels.`
    );
  }

  /** A warning of a film that is of the bundle's view as a whole, and of another in some frames; null of others. */
  describeForeign(verdicts) {
    const frames = verdicts.filter(({ distance }) => distance > this.gate.threshold).map(({ frame }) => frame + 1);
    if (!frames.length) return null;
    const numbers = frames.sort((one, other) => one - other).join(", ");
    return (
      `${frames.length} of ${verdicts.length} frames that were judged (${numbers}, counted from 1) ` +
      `${frames.length === 1 ? "looks" : "look"} unlike ${this.settings.madeFor}: the view changes, or the image is lost. ` +
      "Do not rely on labels there, nor on changes of areas."
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

/** Beyond the threshold if a side is SIZE_FACTOR times off. */
function measureSize({ frame_px: [low, high], threshold }, framePx) {
  const factor = Math.max(Math.max(...framePx) / high, low / Math.max(1, Math.min(...framePx)), 1);
  return (threshold * Math.log(factor)) / Math.log(SIZE_FACTOR);
}

/** Descriptions from planes { data, height, width } of the tensor and of the logits, by name. */
function describe(tensor, logits) {
  const { height, width } = logits[0];
  const factor = Math.min(1, SIDE_PX / Math.max(height, width));
  const size = [height, width].map((side) => Math.max(1, roundEven(factor * side)));
  const chances = softmax(logits.map((plane) => shrink(plane, ...size)));
  const image = tensor.map((plane) => shrink(plane, ...size));
  const grey = tensor[tensor.length >> 1];
  const step = Math.max(1, Math.floor(grey.height / SAMPLED_ROWS));
  const [rows, below] = [takeRows(grey, 0, grey.height - 1, step), takeRows(grey, 1, grey.height, step)];
  const down = { ...rows, data: rows.data.map((value, k) => Math.abs(below.data[k] - value)) };
  const right = GRAIN_STEPS_PX.map((apart) => changeAlong(rows, apart));
  const outlines = layOut(chances.slice(1), OUTLINES_PX);
  const thumbnail = layOut(image, THUMBNAIL_PX);
  return {
    outlines,
    thumbnail,
    texture: layOut([{ ...down, data: Float32Array.from(down.data) }], TEXTURE_PX).map((value) => value / WHITE),
    grain: [count(rows.data, BRIGHTNESS_BINS), ...[down, ...right].map(({ data }) => count(data, CHANGE_BINS))].flat(),
    figures: describeFigures(chances, image, outlines, thumbnail),
  };
}

/** Planes averaged over side x side cells, one after the other. */
function layOut(planes, side) {
  return planes.flatMap((plane) => [...shrink(plane, side, side).data]);
}

/** Some rows of a plane of [0, 1], in grey levels from 0 to 255. */
function takeRows({ data, height, width }, begin, end, step) {
  const places = [];
  for (let y = begin; y < end; y += step) places.push(y);
  const kept = new Uint8Array(places.length * width);
  places.forEach((y, row) => {
    for (let x = 0; x < width; x += 1) {
      kept[row * width + x] = Math.min(roundEven(Math.abs(fround(data[y * width + x] * WHITE))), WHITE);
    }
  });
  return { data: kept, height: places.length, width };
}

/** To the nearest integer, to the even one of two. */
function roundEven(value) {
  const low = Math.floor(value);
  if (value - low !== 0.5) return Math.round(value);
  return low % 2 === 0 ? low : low + 1;
}

/** Absolute changes between pixels of a row so far apart. */
function changeAlong({ data, height, width }, apart) {
  const changes = new Uint8Array(height * (width - apart));
  let k = 0;
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width - apart; x += 1, k += 1) changes[k] = Math.abs(data[y * width + x + apart] - data[y * width + x]);
  }
  return { data: changes, height, width: width - apart };
}

function describeFigures(chances, image, outlines, thumbnail) {
  const pixels = chances[0].data.length;
  let [squares, surest, unsure] = [0, 0, 0];
  for (let i = 0; i < pixels; i += 1) {
    let most = 0;
    for (const { data } of chances) {
      squares += data[i] * data[i];
      most = Math.max(most, data[i]);
    }
    surest += most;
    unsure += most < fround(UNSURE) ? 1 : 0;
  }
  let [dark, light, total] = [0, 0, 0];
  for (const { data } of image) {
    for (const value of data) {
      dark += value < fround(DARK) ? 1 : 0;
      light += value * value;
    }
    total += data.length;
  }
  const average = (values) => values.reduce((sum, each) => sum + each, 0) / values.length;
  const cells = OUTLINES_PX * OUTLINES_PX;
  const sizes = chances.slice(1).map((_, k) => average(outlines.slice(k * cells, (k + 1) * cells)));
  const mean = average(thumbnail);
  return [1 - squares / pixels, surest / pixels, unsure / pixels, ...sizes, dark / total, mean, Math.sqrt(Math.max(light / total - mean * mean, 0))];
}

/** Roots of the shares of grey levels in bins, by the first level of each. */
function count(values, begins) {
  const counts = new Array(begins.length).fill(0);
  for (const value of values) {
    let bin = begins.length - 1;
    while (begins[bin] > value) bin -= 1;
    counts[bin] += 1;
  }
  return counts.map((each) => Math.sqrt(each / values.length));
}
