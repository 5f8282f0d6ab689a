/** Connected pixels of 8-bit images. */

/** Box around the pixels of one value; null if there are none. */
export function findBox(labels, value) {
  const { data, width, height } = labels;
  let [top, left, bottom, right] = [-1, width, 0, 0];
  for (let y = 0; y < height; y += 1) {
    const row = data.subarray(y * width, (y + 1) * width);
    const first = row.indexOf(value);
    if (first < 0) continue;
    if (top < 0) top = y;
    bottom = y + 1;
    left = Math.min(left, first);
    right = Math.max(right, row.lastIndexOf(value) + 1);
  }
  return top < 0 ? null : { top, left, bottom, right };
}

/**
 * Close the open pixels that are connected to a first one.
 *
 * @param {Uint8Array} open 1 where a pixel may be entered; those reached become 0.
 * @param {number} first An open pixel.
 * @param {{width, height, corners: boolean}} grid `corners`: whether corners connect too.
 * @returns {Int32Array} The pixels reached.
 */
export function flood(open, first, { width, height, corners }) {
  let pixels = new Int32Array(256);
  let count = 1;
  pixels[0] = first;
  open[first] = 0;
  for (let k = 0; k < count; k += 1) {
    const x = pixels[k] % width;
    const y = (pixels[k] - x) / width;
    if (count + 8 > pixels.length) {
      const larger = new Int32Array(2 * pixels.length);
      larger.set(pixels);
      pixels = larger;
    }
    for (let dy = y > 0 ? -1 : 0; dy <= (y < height - 1 ? 1 : 0); dy += 1) {
      for (let dx = x > 0 ? -1 : 0; dx <= (x < width - 1 ? 1 : 0); dx += 1) {
        if (!corners && dx && dy) continue;
        const next = pixels[k] + dy * width + dx;
        if (open[next]) {
          open[next] = 0;
          pixels[count] = next;
          count += 1;
        }
      }
    }
  }
  return pixels.subarray(0, count);
}

/** All 8-connected components of the open pixels, in the order of their first 2 x 2 block. */
export function listComponents(open, { width, height }) {
  const found = [];
  for (let y = 0; y < height; y += 2) {
    for (let x = 0; x < width; x += 2) {
      for (const pixel of [y * width + x, y * width + x + 1, (y + 1) * width + x, (y + 1) * width + x + 1]) {
        const inside = pixel < open.length && (x + 1 < width || pixel % width === x);
        // The pixels of a block touch each other, so that it begins one component at most.
        if (inside && open[pixel]) found.push(flood(open, pixel, { width, height, corners: true }));
      }
    }
  }
  return found;
}
