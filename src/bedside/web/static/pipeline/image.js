/**
 * An image is { data, width, height, channels }: rows of pixels, the channels of a pixel together.
 * A box is { top, left, bottom, right }, the last two exclusive.
 */

export function makeImage(data, width, height, channels) {
  return { data, width, height, channels };
}

export function makeBox(top, left, bottom, right) {
  return { top, left, bottom, right };
}

export const rowsOf = (box) => box.bottom - box.top;
export const columnsOf = (box) => box.right - box.left;

export function sameBox(one, other) {
  return ["top", "left", "bottom", "right"].every((edge) => one[edge] === other[edge]);
}

/** A part of a box, in the coordinates of that box, in those of what the box lies in. */
export function within(outer, part) {
  return makeBox(outer.top + part.top, outer.left + part.left, outer.top + part.bottom, outer.left + part.right);
}

/** Copy of the part of an image inside a box; the image itself if that is all of it. */
export function cut(image, box) {
  const { data, width, height, channels } = image;
  const [rows, columns] = [rowsOf(box), columnsOf(box)];
  if (rows === height && columns === width) return image;
  const part = new data.constructor(rows * columns * channels);
  for (let y = 0; y < rows; y += 1) {
    const begin = ((box.top + y) * width + box.left) * channels;
    part.set(data.subarray(begin, begin + columns * channels), y * columns * channels);
  }
  return makeImage(part, columns, rows, channels);
}
