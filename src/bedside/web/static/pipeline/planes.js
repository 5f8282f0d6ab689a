/** Planes of tensors and logits: cut out, averaged, made into probabilities. */

/** The planes of a tensor: { data, height, width } each. */
export function cutPlanes(values, planes, height, width) {
  const size = height * width;
  return Array.from({ length: planes }, (_, k) => ({ data: values.subarray(k * size, (k + 1) * size), height, width }));
}

/** Class probabilities of planes of logits. */
export function softmax(planes) {
  const count = planes.length;
  const found = planes.map((plane) => ({ ...plane, data: new Float32Array(plane.data.length) }));
  const parts = new Float64Array(count);
  for (let i = 0; i < planes[0].data.length; i += 1) {
    let top = -Infinity;
    for (let k = 0; k < count; k += 1) top = Math.max(top, planes[k].data[i]);
    let sum = 0;
    for (let k = 0; k < count; k += 1) sum += parts[k] = Math.exp(planes[k].data[i] - top);
    for (let k = 0; k < count; k += 1) found[k].data[i] = parts[k] / sum;
  }
  return found;
}

/** Average over rows x columns cells, which share the pixels at their edges by area. */
export function shrink(plane, rows, columns = rows) {
  const { data, height, width } = plane;
  if (height === rows && width === columns) return plane;
  const lines = new Float64Array(height * columns);
  const across = coverCells(width, columns);
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < columns; x += 1) {
      const [begin, at] = [y * width + across.first[x], x * across.most];
      let sum = 0;
      for (let k = 0; k < across.count[x]; k += 1) sum += data[begin + k] * across.weights[at + k];
      lines[y * columns + x] = sum;
    }
  }
  const small = new Float32Array(rows * columns);
  const down = coverCells(height, rows);
  for (let y = 0; y < rows; y += 1) {
    for (let x = 0; x < columns; x += 1) {
      let sum = 0;
      for (let k = 0; k < down.count[y]; k += 1) sum += lines[(down.first[y] + k) * columns + x] * down.weights[y * down.most + k];
      small[y * columns + x] = sum;
    }
  }
  return { data: small, height: rows, width: columns };
}

/** The pixels of each cell: the first, how many, and their weights, `most` for each cell. */
function coverCells(size, cells) {
  const step = size / cells;
  const most = Math.ceil(step) + 1;
  const [first, count, weights] = [new Int32Array(cells), new Int32Array(cells), new Float64Array(cells * most)];
  for (let cell = 0; cell < cells; cell += 1) {
    const [begin, end] = [cell * step, (cell + 1) * step];
    first[cell] = Math.floor(begin + 1e-9);
    count[cell] = Math.min(Math.ceil(end - 1e-9), size) - first[cell];
    for (let k = 0; k < count[cell]; k += 1) {
      const place = first[cell] + k;
      weights[cell * most + k] = (Math.min(place + 1, end) - Math.max(place, begin)) / step;
    }
  }
  return { first, count, weights, most };
}
