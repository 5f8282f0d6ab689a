/**
 * From decoded frame to tensor: each step is planned once for the frames of a sequence, then run
 * for each. A plan has the same numbers as the one that Python makes of the same frames.
 */
import { boundingBox, findFan } from "./fan.js";
import { columnsOf, cut, makeBox, makeImage, rowsOf, sameBox, within } from "./image.js";
import { checkNumbers, planBytes } from "./levels.js";
import { planResize } from "./resize.js";
import { rint, spread } from "./rounding.js";

export const SAMPLE_FRAMES = 16;
const ALIGNMENT = 4;
const DOPPLER_SHARE = 0.02;
const STRONG_COLOUR = 24;
const SQUARE = 0.01;
const BLACK = "the images looked at are black.";
const UNIFORM = "the images looked at have one value in all pixels: their labels mean nothing.";

/** Planner of (step, builder) by the name of a step. */
export const PREPROCESS = {
  grey: planGrey,
  rgb: planRgb,
  crop_fan: planCropFan,
  crop_centre: planCropCentre,
  fit: planFit,
  scale_percentile: planScalePercentile,
};

/** Numbers of the frames that a plan for `count` frames is made from. */
export function sampleOf(count) {
  return spread(0, count - 1, Math.min(count, SAMPLE_FRAMES));
}

/**
 * Plan every step from some frames of a sequence.
 *
 * @param {Array} steps Of the spec's `preprocess`.
 * @param {Array} sample Images of one size and kind.
 * @param {{input, region, sides}} options What the network takes; the box that the file states, or null; height and
 *   width of a pixel in any unit, or null.
 * @returns {{apply, trace, transform, warnings}} `apply` turns an image into the tensor's values;
 *   `trace` lists the image after each step.
 */
export function planFrames(steps, sample, { input, region = null, sides = null }) {
  sample.forEach(checkNumbers);
  const builder = new Builder(sample, input, region, findAspect(sides));
  const { toBytes, warning } = planBytes(sample, input.modality);
  if (warning) builder.warnings.push(warning);
  if (toBytes) builder.add(toBytes, { pointwise: true });
  if (sample.every(isUniform)) builder.warnings.push(UNIFORM);
  for (const step of steps) {
    builder.steps.push([]);
    PREPROCESS[step.step](step, builder);
  }
  const { crop, stages, transform, warnings } = builder;
  const run = (functions, image) => functions.reduce((each, stage) => stage(each), image);
  return {
    transform,
    warnings,
    kind: kindOf(sample[0]),
    apply(image) {
      checkNumbers(image);
      return channelsFirst(run(stages, cut(image, crop)));
    },
    trace(image) {
      let each = image;
      return builder.steps.map((functions) => {
        each = run(functions, each);
        return each;
      });
    },
  };
}

/** Size, channels and number type of an image: those of the frames that a plan is for. */
export function kindOf({ data, width, height, channels }) {
  return `${height} x ${width} x ${channels} of ${data.constructor.name.replace("Array", "").toLowerCase()}`;
}

/** Values channel by channel, in f32. */
export function channelsFirst({ data, width, height, channels }) {
  if (channels === 1) return Float32Array.from(data);
  const planes = new Float32Array(data.length);
  for (let c = 0, at = 0; c < channels; c += 1) {
    for (let k = c; k < width * height * channels; k += channels, at += 1) planes[at] = data[k];
  }
  return planes;
}

/** Steps planned so far; each further one reads and extends it. */
class Builder {
  constructor(sample, input, region, aspect) {
    const { width, height } = sample[0];
    const whole = makeBox(0, 0, height, width);
    this.sample = sample;
    this.input = input;
    this.region = region;
    this.aspect = aspect;
    this.crop = whole;
    this.transform = { source: { height, width }, box: whole, inner: whole };
    this.stages = [];
    this.steps = [[]];
    this.warnings = [];
    this.pointwise = true;
  }

  /** Append a function from image to image. */
  add(stage, { pointwise = false } = {}) {
    this.sample = this.sample.map(stage);
    this.stages.push(stage);
    this.steps.at(-1).push(stage);
    this.pointwise &&= pointwise;
  }

  /** Crop to a part of the image: in front of all stages if each pixel depends on itself only. */
  keep(part) {
    this.transform = {
      ...this.transform,
      box: within(this.transform.box, part),
      inner: makeBox(0, 0, rowsOf(part), columnsOf(part)),
    };
    const crop = (image) => cut(image, part);
    if (!this.pointwise) {
      this.add(crop);
      return;
    }
    this.steps.at(-1).push(crop);
    this.crop = within(this.crop, part);
    this.sample = this.sample.map(crop);
  }

  checkUnscaled(name) {
    const { box, inner } = this.transform;
    if (!sameBox(inner, makeBox(0, 0, rowsOf(box), columnsOf(box)))) {
      throw new Error(`${name} cuts the source's own pixels; it must stand in front of fit.`);
    }
  }
}

function planGrey(step, builder) {
  const coloured = Math.max(...builder.sample.map(colourShare));
  const found = `${(100 * coloured).toFixed(0)} % of the pixels are strongly coloured`;
  if (coloured > step.max_colour) {
    throw new Error(
      `${found}, at most ${(100 * step.max_colour).toFixed(0)} % are expected of ${builder.input.modality}: this looks ` +
        "like a colour photograph."
    );
  }
  if (coloured > DOPPLER_SHARE) {
    builder.warnings.push(
      `${found}, as by Doppler: the network knows grey images only, do not rely on its labels.`
    );
  }
  builder.add(toGrey, { pointwise: true });
}

function toGrey(image) {
  const { data, width, height, channels } = image;
  if (channels === 1) return image;
  const grey = new Uint8Array(width * height);
  for (let k = 0, at = 0; k < grey.length; k += 1, at += 3) {
    grey[k] = (9798 * data[at] + 19235 * data[at + 1] + 3735 * data[at + 2] + 16384) >> 15;
  }
  return makeImage(grey, width, height, 1);
}

function colourShare({ data, width, height, channels }) {
  if (channels === 1) return 0;
  let count = 0;
  for (let at = 0; at < data.length; at += 3) {
    const [red, green, blue] = [data[at], data[at + 1], data[at + 2]];
    if (Math.max(red, green, blue) - Math.min(red, green, blue) > STRONG_COLOUR) count += 1;
  }
  return count / (width * height);
}

function planRgb(step, builder) {
  builder.add(
    (image) => {
      if (image.channels === 3) return image;
      const data = new Uint8Array(3 * image.data.length);
      image.data.forEach((value, k) => data.fill(value, 3 * k, 3 * k + 3));
      return makeImage(data, image.width, image.height, 3);
    },
    { pointwise: true }
  );
}

function planCropFan(step, builder) {
  const { source, box } = builder.transform;
  const whole = makeBox(0, 0, source.height, source.width);
  if (!sameBox(box, whole)) throw new Error("crop_fan looks at the whole frame; it must stand in front of crop_centre.");
  builder.checkUnscaled("crop_fan");
  builder.keep(builder.region ?? whole);
  const outline = findFan(builder.sample, step);
  if (!outline) {
    if (!builder.region) {
      builder.warnings.push("no ultrasound sector was found; the whole image was segmented, do not rely on it.");
    }
    return;
  }
  const inner = boundingBox(outline, step.margin);
  const mask = cut(makeImage(outline.data, outline.width, outline.height, 1), inner).data;
  builder.keep(inner);
  builder.add((image) => {
    const data = new Uint8Array(mask.length);
    for (let k = 0; k < data.length; k += 1) data[k] = image.data[k] & mask[k];
    return makeImage(data, image.width, image.height, 1);
  });
}

function planCropCentre(step, builder) {
  builder.checkUnscaled("crop_centre");
  const { box } = builder.transform;
  const side = Math.max(1, Math.floor((step.share ?? 1) * Math.min(rowsOf(box), columnsOf(box)) + 0.5));
  const size = step.size_px ?? [side, side];
  const [height, width] = [Math.min(size[0], rowsOf(box)), Math.min(size[1], columnsOf(box))];
  const [top, left] = [(rowsOf(box) - height) >> 1, (columnsOf(box) - width) >> 1];
  builder.keep(makeBox(top, left, top + height, left + width));
}

function planFit(step, builder) {
  const { box } = builder.transform;
  const [height, width] = builder.input.size_px;
  const stretch = step.stretch * builder.aspect;
  const scale = Math.min(height / (rowsOf(box) * stretch), width / columnsOf(box));
  const rows = align(rowsOf(box) * stretch * scale, height);
  const columns = align(columnsOf(box) * scale, width);
  const top = ALIGNMENT * Math.floor((height - rows) / (2 * ALIGNMENT));
  const left = ALIGNMENT * Math.floor((width - columns) / (2 * ALIGNMENT));
  const inner = makeBox(top, left, top + rows, left + columns);
  builder.transform = { ...builder.transform, inner };
  const from = { height: rowsOf(box), width: columnsOf(box) };
  const resize = planResize(from, { height: rows, width: columns }, { linear: scale >= 1 });
  builder.add((image) => {
    const resized = resize(image);
    const { channels } = resized;
    const canvas = new Uint8Array(height * width * channels);
    for (let y = 0; y < rows; y += 1) {
      const line = resized.data.subarray(y * columns * channels, (y + 1) * columns * channels);
      canvas.set(line, ((top + y) * width + left) * channels);
    }
    return makeImage(canvas, width, height, channels);
  });
  if (builder.aspect !== 1) builder.warnings.push(describeAspect(builder.aspect));
}

/** Height of a pixel by its width; 1 where it is not known, or square to a hundredth. */
function findAspect(sides) {
  if (!sides) return 1;
  const aspect = sides[0] / sides[1];
  return Math.abs(Math.log(aspect)) <= SQUARE ? 1 : aspect;
}

function describeAspect(aspect) {
  const [long, short] = aspect > 1 ? ["high", "wide"] : ["wide", "high"];
  return (
    `pixels are ${Math.max(aspect, 1 / aspect).toFixed(2)} times as ${long} as ${short}, by the file: ` +
    "the network was shown them in their true shape."
  );
}

function align(length, limit) {
  return Math.min(limit, Math.max(ALIGNMENT, rint(length / ALIGNMENT) * ALIGNMENT));
}

function planScalePercentile(step, builder) {
  const counts = new Float64Array(256);
  for (const { data } of builder.sample) for (const value of data) counts[value] += 1;
  // Levels from 1 on: black is what lies around the image.
  for (let level = 2; level < 256; level += 1) counts[level] += counts[level - 1];
  const total = counts[255];
  const levelOf = (percent) => {
    const wanted = (percent / 100) * total;
    let level = 1;
    while (level < 256 && counts[level] < wanted) level += 1;
    return level;
  };
  let [low, span] = [0, 255];
  if (total === 0) {
    builder.warnings.push(BLACK);
  } else {
    low = step.low ? levelOf(step.low) : 0;
    span = Math.max(levelOf(step.high) - low, 255 / step.max_gain);
  }
  const table = Float32Array.from({ length: 256 }, (_, level) => Math.min(Math.max((level - low) / span, 0), 1));
  builder.add((image) => {
    const data = new Float32Array(image.data.length);
    for (let k = 0; k < data.length; k += 1) data[k] = table[image.data[k]];
    return makeImage(data, image.width, image.height, image.channels);
  });
}

function isUniform({ data }, index, sample) {
  const level = sample[0].data[0];
  return level !== 0 && data.every((value) => value === level);
}
