/** Labels on the frame from the network's logits: interpolated first, compared then. */
import { columnsOf, makeImage, rowsOf } from "./image.js";

const { fround } = Math;

/**
 * Function from logits to labels on the source frame.
 *
 * @param {{source: {height, width}, box, inner}} transform Where the tensor lies on the frame.
 * @param {{stride: number, classes: number, input: {height, width}}} network
 * @returns {(logits: Float32Array) => {data: Uint8Array, width, height, channels}}
 */
export function planRestore(transform, { stride, classes, input }) {
  const { source, box, inner } = transform;
  const shown = { height: rowsOf(inner) / stride, width: columnsOf(inner) / stride };
  const pitch = input.width / stride;
  const size = (input.height / stride) * pitch;
  const begin = (inner.top / stride) * pitch + inner.left / stride;
  const rows = placeAxis(shown.height, rowsOf(box));
  const columns = placeAxis(shown.width, columnsOf(box));
  const planes = Array.from({ length: classes }, () => new Plane(columns, pitch));
  const best = new Float32Array(columnsOf(box));
  return (logits) => {
    const labels = new Uint8Array(source.height * source.width);
    const values = listClasses(logits, classes, size);
    for (const value of values) planes[value].point(logits, value * size + begin);
    for (let y = 0; y < rowsOf(box); y += 1) {
      const at = (box.top + y) * source.width + box.left;
      for (const value of values) planes[value].compare(rows, y, value, best, labels.subarray(at, at + best.length));
    }
    return makeImage(labels, source.width, source.height, 1);
  };
}

/** Where each of `wanted` elements lies between `count` elements that cover the same extent. */
function placeAxis(count, wanted) {
  const first = new Int32Array(wanted);
  const next = new Int32Array(wanted);
  const part = new Float32Array(wanted);
  const scale = count / wanted;
  for (let index = 0; index < wanted; index += 1) {
    const place = Math.min(Math.max((index + 0.5) * scale - 0.5, 0), count - 1);
    first[index] = Math.floor(place);
    next[index] = Math.min(first[index] + 1, count - 1);
    part[index] = place - first[index];
  }
  return { first, next, part };
}

/** The background, and the classes that exceed it anywhere: no other can do so in between. */
function listClasses(logits, classes, size) {
  const values = [0];
  for (let value = 1; value < classes; value += 1) {
    for (let k = 0; k < size; k += 1) {
      if (logits[value * size + k] > logits[k]) {
        values.push(value);
        break;
      }
    }
  }
  return values;
}

/** One class, interpolated along its columns once for each of its rows. */
class Plane {
  constructor(columns, pitch) {
    this.columns = columns;
    this.pitch = pitch;
    this.lines = [new Float32Array(columns.first.length), new Float32Array(columns.first.length)];
    this.held = [-1, -1];
  }

  point(logits, begin) {
    this.logits = logits;
    this.begin = begin;
    this.held.fill(-1);
  }

  line(row) {
    const slot = row & 1;
    const line = this.lines[slot];
    if (this.held[slot] !== row) {
      this.held[slot] = row;
      const { first, next, part } = this.columns;
      const { logits } = this;
      const at = this.begin + row * this.pitch;
      for (let x = 0; x < line.length; x += 1) {
        const left = logits[at + first[x]];
        line[x] = fround(logits[at + next[x]] - left) * part[x] + left;
      }
    }
    return line;
  }

  /** Label the pixels of row `y` where this class has the largest value so far. */
  compare(rows, y, value, best, labels) {
    const above = this.line(rows.first[y]);
    const below = this.line(rows.next[y]);
    const part = rows.part[y];
    for (let x = 0; x < best.length; x += 1) {
      const upper = above[x];
      const found = fround(fround(below[x] - upper) * part + upper);
      if (value === 0) {
        best[x] = found;
      } else if (found > best[x]) {
        best[x] = found;
        labels[x] = value;
      }
    }
  }
}
