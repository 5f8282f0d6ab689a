/** Convex hulls of pixels, and their inside, drawn as OpenCV's `fillConvexPoly` draws it. */

const ONE = 1 << 16;
const HALF = ONE >> 1;

/** Corners of the convex hull of points [x, y], in order around it; none lies on an edge. */
export function findHull(points) {
  const sorted = [...points].sort(([ax, ay], [bx, by]) => ay - by || ax - bx);
  const chain = (ordered) => {
    const hull = [];
    for (const point of ordered) {
      while (hull.length > 1 && turn(hull[hull.length - 2], hull[hull.length - 1], point) <= 0) hull.pop();
      hull.push(point);
    }
    return hull.slice(0, -1);
  };
  const hull = [...chain(sorted), ...chain(sorted.reverse())];
  return hull.length ? hull : [sorted[0]];
}

function turn([ax, ay], [bx, by], [cx, cy]) {
  return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax);
}

/** 255 inside a convex polygon and on its outline. Points may lie left and right of the image. */
export function fillConvex(hull, width, height) {
  const mask = new Uint8Array(width * height);
  hull.forEach((point, index) => drawLine(mask, width, height, hull[(index + hull.length - 1) % hull.length], point));
  if (hull.length < 3) return mask;
  const [left, right] = [new Float64Array(height).fill(Infinity), new Float64Array(height).fill(-Infinity)];
  hull.forEach((point, index) => {
    const ends = [hull[(index + hull.length - 1) % hull.length], point];
    const [[x0, y0], [x1, y1]] = ends[0][1] < ends[1][1] ? ends : ends.reverse();
    if (y0 === y1) return;
    // In parts of 65536, rounded towards zero.
    const slope = Math.trunc((2 * ONE * (x1 - x0) + (y1 - y0)) / (2 * (y1 - y0)));
    for (let y = y0; y < y1; y += 1) {
      const x = ONE * x0 + slope * (y - y0);
      left[y] = Math.min(left[y], x);
      right[y] = Math.max(right[y], x);
    }
  });
  for (let y = 0; y < height; y += 1) {
    if (left[y] > right[y]) continue;
    const first = Math.max(0, Math.floor((left[y] + HALF) / ONE));
    const last = Math.min(width - 1, Math.floor((right[y] + HALF) / ONE));
    if (first <= last) mask.fill(255, y * width + first, y * width + last + 1);
  }
  return mask;
}

/** A line of connected pixels, from left to right; what lies beside the image is cut off first. */
function drawLine(mask, width, height, one, other) {
  let [from, to] = clip(one, other, width);
  if (!from) return;
  if (to[0] < from[0]) [from, to] = [to, from];
  const [dx, dy] = [to[0] - from[0], Math.abs(to[1] - from[1])];
  const down = to[1] < from[1] ? -1 : 1;
  const [long, short] = dy > dx ? [dy, dx] : [dx, dy];
  let [x, y] = from;
  let error = long - 2 * short;
  for (let count = 0; count <= long; count += 1) {
    mask[y * width + x] = 255;
    const turns = error < 0;
    error += (turns ? 2 * long : 0) - 2 * short;
    if (dy > dx || turns) y += down;
    if (dy <= dx || turns) x += 1;
  }
}

/** The part of a line within the columns of an image; its ends move along it, rounded towards zero. */
function clip(one, other, width) {
  const ends = [[...one], [...other]];
  const last = width - 1;
  const side = ([x]) => (x < 0 ? -1 : x > last ? 1 : 0);
  if (side(ends[0]) && side(ends[0]) === side(ends[1])) return [null, null];
  for (const [index, point] of ends.entries()) {
    const beyond = side(point);
    if (!beyond) continue;
    const edge = beyond < 0 ? 0 : last;
    const [p, q] = [ends[0], ends[1]];
    point[1] += Math.trunc(((edge - point[0]) * (q[1] - p[1])) / (q[0] - p[0]));
    point[0] = edge;
    ends[index] = point;
  }
  return ends;
}
