/** Lossless JPEG of one component (ITU-T T.81 process 14), which no browser decodes. */

const [SOF3, DHT, DRI, SOS, EOI] = [0xc3, 0xc4, 0xdd, 0xda, 0xd9];

/** Values of a frame, at most 16 bits each. */
export function decodeLossless(bytes, { rows, columns }) {
  const { frame, scan, tables, interval } = readMarkers(bytes);
  if (frame.rows !== rows || frame.columns !== columns) {
    throw new Error(`a frame does not decode to ${rows} x ${columns} pixels; the file is damaged.`);
  }
  const bits = new BitReader(bytes, scan.begin);
  const table = tables.get(scan.table);
  if (!table) throw new Error("a frame names a table that is not there; the file is damaged.");
  const { predictor, shift } = scan;
  const values = new Uint16Array(rows * columns);
  const start = 2 ** (frame.precision - shift - 1);
  let fresh = 0; // the row from which prediction began anew
  for (let y = 0, at = 0; y < rows; y += 1) {
    if (interval && y && (y * columns) % interval === 0) {
      bits.restart();
      fresh = y;
    }
    for (let x = 0; x < columns; x += 1, at += 1) {
      let guess = start;
      if (y === fresh) guess = x ? values[at - 1] : start;
      else if (x === 0) guess = values[at - columns];
      else guess = predict(predictor, values[at - 1], values[at - columns], values[at - columns - 1]);
      values[at] = guess + readDifference(bits, table);
    }
  }
  return shift ? values.map((value) => value << shift) : values;
}

/** From the pixel on the left, the one above, and the one left of that (T.81, table H.1). */
function predict(predictor, left, above, corner) {
  switch (predictor) {
    case 1:
      return left;
    case 2:
      return above;
    case 3:
      return corner;
    case 4:
      return left + above - corner;
    case 5:
      return left + ((above - corner) >> 1);
    case 6:
      return above + ((left - corner) >> 1);
    default:
      return (left + above) >> 1;
  }
}

function readDifference(bits, table) {
  const size = bits.symbol(table);
  if (size === 0) return 0;
  if (size === 16) return 32768;
  const value = bits.take(size);
  return value < 2 ** (size - 1) ? value - 2 ** size + 1 : value;
}

function readMarkers(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const tables = new Map();
  let [frame, interval] = [null, 0];
  for (let at = 2; ; ) {
    while (bytes[at] === 0xff && bytes[at + 1] === 0xff) at += 1;
    if (at + 4 > bytes.length || bytes[at] !== 0xff || bytes[at + 1] === EOI) throw new Error("a frame is truncated; export it again.");
    const marker = bytes[at + 1];
    const end = at + 2 + view.getUint16(at + 2);
    const begin = at + 4;
    if (marker === SOF3) {
      if (bytes[begin + 5] !== 1) throw new Error("colours in lossless JPEG are not read here.");
      frame = { precision: bytes[begin], rows: view.getUint16(begin + 1), columns: view.getUint16(begin + 3) };
      if (frame.precision < 2 || frame.precision > 16) throw new Error("a frame has values of more than 16 bits.");
    } else if (marker > 0xc0 && marker < 0xd0 && ![DHT, 0xc8, 0xcc].includes(marker)) {
      throw new Error("a frame is no lossless JPEG, which its file says that it is.");
    } else if (marker === DHT) {
      for (let place = begin; place < end; ) place = readTable(bytes, place, tables);
    } else if (marker === DRI) {
      interval = view.getUint16(begin);
    } else if (marker === SOS) {
      if (!frame || bytes[begin] !== 1) throw new Error("a frame is damaged; export it again.");
      const scan = { begin: end, table: bytes[begin + 2] >> 4, predictor: bytes[begin + 3], shift: bytes[begin + 5] & 15 };
      if (scan.predictor < 1 || scan.predictor > 7 || scan.shift >= frame.precision) throw new Error("a frame is damaged; export it again.");
      if (interval % frame.columns) throw new Error("a frame restarts within a row, which is not read here.");
      return { frame, scan, tables, interval };
    }
    at = end;
  }
}

/** Add a table of codes; return where the next one begins. */
function readTable(bytes, at, tables) {
  const table = { first: new Int32Array(18), last: new Int32Array(18).fill(-1), place: new Int32Array(18), symbols: null };
  let [code, count] = [0, 0];
  for (let length = 1; length <= 16; length += 1) {
    const here = bytes[at + length];
    table.first[length] = code;
    table.place[length] = count;
    if (here) table.last[length] = code + here - 1;
    code = (code + here) << 1;
    count += here;
  }
  table.symbols = bytes.subarray(at + 17, at + 17 + count);
  tables.set(bytes[at] & 15, table);
  return at + 17 + count;
}

class BitReader {
  constructor(bytes, at) {
    Object.assign(this, { bytes, at, held: 0, count: 0 });
  }

  bit() {
    if (!this.count) {
      const byte = this.bytes[this.at];
      // A marker ends the data; a byte of ones in it is followed by a zero.
      if (byte === undefined || (byte === 0xff && this.bytes[this.at + 1] !== 0)) throw new Error("a frame is truncated; export it again.");
      this.at += byte === 0xff ? 2 : 1;
      [this.held, this.count] = [byte, 8];
    }
    this.count -= 1;
    return (this.held >> this.count) & 1;
  }

  take(size) {
    let value = 0;
    for (let k = 0; k < size; k += 1) value = value * 2 + this.bit();
    return value;
  }

  symbol({ first, last, place, symbols }) {
    let code = 0;
    for (let length = 1; length <= 16; length += 1) {
      code = code * 2 + this.bit();
      if (code <= last[length]) return Math.min(symbols[place[length] + code - first[length]], 16);
    }
    throw new Error("a frame is damaged; export it again.");
  }

  /** Go on behind the next marker of a restart. */
  restart() {
    this.count = 0;
    if (this.bytes[this.at] !== 0xff || (this.bytes[this.at + 1] & 0xf8) !== 0xd0) throw new Error("a frame is damaged; export it again.");
    this.at += 2;
  }
}
