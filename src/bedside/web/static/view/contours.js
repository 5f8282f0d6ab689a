/** Outlines of labels, half-way between the pixels inside and those outside. */

import { findBox } from "../pipeline/components.js";
import { cut } from "../pipeline/image.js";

/** From side to side of a cell between four pixels, by which of them are inside (8 4 / 1 2). */
const TURNS = {
  1: ["LB"], 2: ["BR"], 3: ["LR"], 4: ["RT"], 5: ["LT", "RB"], 6: ["BT"], 7: ["LT"],
  8: ["TL"], 9: ["TB"], 10: ["TR", "BL"], 11: ["TR"], 12: ["RL"], 13: ["RB"], 14: ["BL"],
};
const SIDES = { T: [1, 0], R: [2, 1], B: [1, 2], L: [0, 1] };

/**
 * Closed outlines of one label.
 *
 * @returns {Array<Array<[number, number]>>} Points [x, y] in pixels from the corner of the image.
 */
export function traceOutlines(labels, value) {
  const box = findBox(labels, value);
  if (!box) return [];
  const { data, width, height } = cut(labels, box);
  const pitch = 2 * (width + 2);
  const next = new Map();
  const inside = (x, y) => (x >= 0 && y >= 0 && x < width && y < height && data[y * width + x] === value ? 1 : 0);
  for (let y = -1; y < height; y += 1) {
    for (let x = -1; x < width; x += 1) {
      const code = 8 * inside(x, y) + 4 * inside(x + 1, y) + 2 * inside(x + 1, y + 1) + inside(x, y + 1);
      for (const [from, to] of TURNS[code] ?? []) next.set(place(x, y, from, pitch), place(x, y, to, pitch));
    }
  }
  const outlines = [];
  while (next.size) {
    const [first] = next.keys();
    const outline = [];
    for (let at = first; next.has(at); ) {
      const following = next.get(at);
      next.delete(at);
      // Places are counted in half pixels from the middle of a pixel beyond the corner.
      outline.push([(at % pitch) / 2 - 0.5 + box.left, Math.floor(at / pitch) / 2 - 0.5 + box.top]);
      at = following;
    }
    outlines.push(outline);
  }
  return outlines;
}

function place(x, y, side, pitch) {
  const [dx, dy] = SIDES[side];
  return (2 * (y + 1) + dy) * pitch + 2 * (x + 1) + dx;
}

/** Outlines as a path whose corners are rounded within half a pixel. */
export function toPath(outlines) {
  const path = new Path2D();
  for (const outline of outlines) {
    const middle = (k) => {
      const [ax, ay] = outline[k];
      const [bx, by] = outline[(k + 1) % outline.length];
      return [(ax + bx) / 2, (ay + by) / 2];
    };
    path.moveTo(...middle(outline.length - 1));
    outline.forEach((corner, k) => path.quadraticCurveTo(...corner, ...middle(k)));
    path.closePath();
  }
  return path;
}
