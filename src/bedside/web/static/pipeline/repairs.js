/** Repairs of labels: a step changes the labels of one structure, and says what it changed. */
import { findBox, flood, listComponents } from "./components.js";
import { makeEllipse } from "./ellipse.js";
import { columnsOf, cut, rowsOf } from "./image.js";

/** Function of (labels, step, value, spacingMm) by the name of a step: an edit, several, or null for none. */
export const POSTPROCESS = {
  keep_largest: keepLargest,
  fill_holes: fillHoles,
  drop_small: dropSmall,
  fit_ellipse: makeEllipse,
};

/** Run all repairs of a spec, in place; returns what they changed. */
export function repair(labels, steps, values, spacingMm) {
  const edits = [];
  for (const step of steps) {
    for (const value of step.labels.length ? step.labels : values) {
      const found = POSTPROCESS[step.step](labels, step, value, spacingMm) ?? [];
      for (const edit of [found].flat()) edits.push({ step: step.step, value, ...edit });
    }
  }
  return edits;
}

function keepLargest(labels, step, value) {
  return remove(labels, value, (parts) => {
    const largest = parts.reduce((most, part) => (part.length > most.length ? part : most));
    return parts.filter((part) => part !== largest);
  });
}

function dropSmall(labels, step, value, spacingMm) {
  let least = step.min_px;
  if (least === null || least === undefined) {
    if (!spacingMm) return { action: "skipped", reason: "the scale of the image is not known" };
    const size = step.min_mm2 ?? 1e3 * step.min_ml;
    least = (size / (spacingMm[0] * spacingMm[1])) * (1 - 1e-9);
  }
  return remove(labels, value, (parts) => parts.filter((part) => part.length < least));
}

/** Turn the components that `choose` returns into background. */
function remove(labels, value, choose) {
  const found = maskOf(labels, value);
  if (!found) return null;
  const { box, mask, grid } = found;
  const dropped = choose(listComponents(mask, grid));
  let pixels = 0;
  for (const part of dropped) {
    pixels += part.length;
    for (const pixel of part) labels.data[outside(pixel, grid, box, labels.width)] = 0;
  }
  return dropped.length ? { action: "removed", components: dropped.length, pixels } : null;
}

function fillHoles(labels, step, value) {
  const found = maskOf(labels, value);
  if (!found) return null;
  const { box, mask, grid } = found;
  const open = mask.slice();
  for (let k = 0; k < open.length; k += 1) open[k] ^= 1;
  const { width, height } = grid;
  for (let pixel = 0; pixel < open.length; pixel += 1) {
    const x = pixel % width;
    const border = x === 0 || x === width - 1 || pixel < width || pixel >= width * (height - 1);
    if (border && open[pixel]) flood(open, pixel, { ...grid, corners: false });
  }
  let pixels = 0;
  for (let pixel = 0; pixel < open.length; pixel += 1) {
    if (!open[pixel]) continue;
    const at = outside(pixel, grid, box, labels.width);
    // Only background is ever filled.
    if (labels.data[at]) {
      open[pixel] = 0;
    } else {
      labels.data[at] = value;
      pixels += 1;
    }
  }
  return pixels ? { action: "added", components: listComponents(open, grid).length, pixels } : null;
}

function maskOf(labels, value) {
  const box = findBox(labels, value);
  if (!box) return null;
  const part = cut(labels, box).data;
  const mask = new Uint8Array(part.length);
  for (let k = 0; k < mask.length; k += 1) mask[k] = part[k] === value ? 1 : 0;
  return { box, mask, grid: { width: columnsOf(box), height: rowsOf(box) } };
}

/** A pixel of a box as a pixel of the whole. */
function outside(pixel, grid, box, width) {
  const x = pixel % grid.width;
  return (box.top + (pixel - x) / grid.width) * width + box.left + x;
}
