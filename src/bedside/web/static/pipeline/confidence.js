/**
 * How far the mask of each structure is to be trusted: sums over a frame's pixels, ratios of them, and a calibrated
 * model that turns these into a predicted Dice, as `bedside.pipeline.confidence` does it.
 */
import { cutPlanes, shrink, softmax } from "./planes.js";

const SIDE_PX = 64;
const [LOW, HIGH, DARK, CLIP] = [0.1, 0.9, 0.04, 3];
/** Expected error of a Dice of 1, to which intervals are relative. */
const FLOOR = 0.02;

const FEATURES = [
  "lost", "band", "border_doubt", "inner_doubt", "most_lost", "unsure", "size", "share", "inner_light", "border_gradient",
  "dark_border",
];

export class ConfidenceEstimator {
  /**
   * @param {object} confidence Of the bundle.
   * @param {{channels, height, width, classes, stride, structures}} settings Of its network; names of its structures.
   */
  constructor(confidence, settings) {
    this.settings = settings;
    this.models = confidence.frames.map((model) => ({ ...model, place: settings.structures.indexOf(model.structure) }));
    for (const { structure, features, place } of this.models) {
      if (place < 0) throw new Error(`it is of "${structure}", which the model does not draw`);
      const unknown = features.find((name) => !FEATURES.includes(name));
      if (unknown) throw new Error(`it has the feature "${unknown}", which the page does not know`);
    }
  }

  /** By name of each structure that is drawn: its predicted Dice, the interval of it, and whether it is to be trusted. */
  assess(tensor, logits) {
    const { channels, height, width, classes, stride } = this.settings;
    const image = cutPlanes(tensor, channels, height, width);
    const sums = describeFrame(image[channels >> 1], cutPlanes(logits, classes, height / stride, width / stride));
    const features = makeFeatures(sums);
    const drawn = this.models.filter(({ place }) => sums[place].drawn > 0);
    return Object.fromEntries(drawn.map((model) => [model.structure, predict(model, features[model.place])]));
  }
}

function predict(model, found) {
  const { features, centre, scale, weights, squares, scores, dice, least_dice: least } = model;
  let score = 0;
  features.forEach((name, k) => {
    const scaled = Math.min(Math.max((found[name] - centre[k]) / scale[k], -CLIP), CLIP);
    score += scaled * (weights[k] + squares[k] * scaled);
  });
  const predicted = lookUp(score, scores, dice);
  return { predicted_dice: predicted, ...boundDice(model, predicted), trusted: predicted >= least };
}

/** The interval of a predicted Dice, which is wider for masks that are not to be trusted. */
function boundDice({ dice_tails: usual, doubted_dice_tails: doubted, least_dice: least }, predicted) {
  const tails = predicted < least && doubted ? doubted : usual;
  if (!tails) return { low: 0, high: 1 };
  const error = FLOOR + (1 - predicted);
  return {
    low: Math.min(Math.max(predicted - tails.low * error, 0), 1),
    high: Math.max(Math.min(predicted + tails.high * error, 1), 0),
  };
}

/** A rising table at a place, straight between its rows, and flat beyond them. */
function lookUp(place, places, values) {
  const next = places.findIndex((each) => each > place);
  if (next < 0) return values.at(-1);
  if (next === 0) return values[0];
  const part = (place - places[next - 1]) / (places[next] - places[next - 1]);
  return values[next - 1] + part * (values[next] - values[next - 1]);
}

/** Sums over the pixels of a frame for each structure, on a grid of at most 64 pixels a side. */
function describeFrame(tensor, logits) {
  const { height, width } = logits[0];
  const factor = Math.min(1, SIDE_PX / Math.max(height, width));
  const [rows, columns] = [height, width].map((size) => Math.max(1, Math.round(factor * size)));
  const chances = softmax(logits.map((plane) => shrink(plane, rows, columns)));
  const grey = shrink(tensor, rows, columns).data;
  const pixels = rows * columns;
  const labels = new Uint8Array(pixels);
  let [unsure, light, squared] = [pixels, 0, 0];
  for (let i = 0; i < pixels; i += 1) {
    for (let k = 1; k < chances.length; k += 1) if (chances[k].data[i] > chances[labels[i]].data[i]) labels[i] = k;
    unsure -= chances[labels[i]].data[i];
    light += grey[i];
    squared += grey[i] * grey[i];
  }
  return chances.slice(1).map(({ data }, k) => ({
    ...sumPixels(data, labels, grey, k + 1),
    ...sumBorder(labels, grey, { rows, columns, label: k + 1 }),
    pixels, unsure, light, squared,
  }));
}

function sumPixels(likely, labels, grey, label) {
  const sums = { drawn: 0, expected: 0, agreed: 0, doubt: 0, innerDoubt: 0, band: 0, brightness: 0 };
  for (let i = 0; i < likely.length; i += 1) {
    const chance = likely[i];
    const doubt = chance * (1 - chance);
    sums.expected += chance;
    sums.doubt += doubt;
    if (chance >= LOW && chance <= HIGH) sums.band += 1;
    if (labels[i] === label) {
      sums.drawn += 1;
      sums.agreed += chance;
      sums.innerDoubt += doubt;
      sums.brightness += grey[i];
    }
  }
  return sums;
}

/** Edges between pixels within and outside a mask: number, contrast, and dark ones. */
function sumBorder(labels, grey, { rows, columns, label }) {
  const sums = { border: 0, gradient: 0, darkBorder: 0 };
  const compare = (one, other) => {
    if ((labels[one] === label) === (labels[other] === label)) return;
    sums.border += 1;
    sums.gradient += Math.abs(grey[one] - grey[other]);
    if (grey[one] < DARK && grey[other] < DARK) sums.darkBorder += 1;
  };
  for (let y = 0, i = 0; y < rows; y += 1) {
    for (let x = 0; x < columns; x += 1, i += 1) {
      if (y + 1 < rows) compare(i, i + columns);
      if (x + 1 < columns) compare(i, i + 1);
    }
  }
  return sums;
}

/** Features of each structure, by name, from sums. */
function makeFeatures(sums) {
  const allDrawn = Math.max(sums.reduce((all, { drawn }) => all + drawn, 0), 1);
  const losts = sums.map((of) => Math.log(1.01 - (2 * of.agreed) / Math.max(of.drawn + of.expected, 1)));
  return sums.map((of, k) => {
    const [drawn, border] = [Math.max(of.drawn, 1), Math.max(of.border, 1)];
    const light = of.light / of.pixels;
    const spread = Math.sqrt(Math.max(of.squared / of.pixels - light * light, 1e-6));
    return {
      lost: losts[k],
      band: Math.log((of.band + 1) / drawn),
      border_doubt: of.doubt / border,
      inner_doubt: of.innerDoubt / drawn,
      most_lost: Math.max(...losts),
      unsure: Math.log(of.unsure / of.pixels + 1e-4),
      size: Math.log(drawn / of.pixels),
      share: Math.log(drawn / allDrawn),
      inner_light: of.brightness / drawn / spread,
      border_gradient: of.gradient / border / spread,
      dark_border: of.darkBorder / border,
    };
  });
}
