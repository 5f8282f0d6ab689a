/** Frames of encapsulated pixels, and RLE. */

const ITEM = 0xfffee000;
const JPEG_END = [0xff, 0xd9];

/** Coded bytes of each frame; a frame of several fragments is put together. */
export function listFragments(bytes, count) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const fragments = [];
  let at = 0;
  while (at + 8 <= bytes.length) {
    const tag = view.getUint16(at, true) * 0x10000 + view.getUint16(at + 2, true);
    const length = view.getUint32(at + 4, true);
    if (tag !== ITEM || at + 8 + length > bytes.length) break;
    fragments.push({ offset: at, content: bytes.subarray(at + 8, at + 8 + length) });
    at += 8 + length;
  }
  const [table, ...parts] = fragments;
  if (!table || parts.length < count) {
    throw new Error(`${parts.length} of ${count} frames are there; the file is truncated, export it again.`);
  }
  if (parts.length === count) return parts.map((part) => part.content);
  if (count === 1) return [join(parts)];
  const groups = table.content.length === 4 * count ? byOffsets(table, parts) : byEnds(parts);
  if (groups.length !== count) throw new Error("the pixels cannot be cut into frames; the file is damaged.");
  return groups.map(join);
}

function byOffsets(table, parts) {
  const view = new DataView(table.content.buffer, table.content.byteOffset, table.content.length);
  const begins = Array.from({ length: table.content.length / 4 }, (_, k) => view.getUint32(4 * k, true));
  const first = parts[0].offset;
  return begins.map((begin, k) =>
    parts.filter(({ offset }) => offset - first >= begin && offset - first < (begins[k + 1] ?? Infinity))
  );
}

/** A fragment that holds the end of a JPEG is the last of its frame. */
function byEnds(parts) {
  const groups = [[]];
  for (const part of parts) {
    groups.at(-1).push(part);
    const tail = part.content.subarray(-16);
    const ends = tail.some((byte, k) => byte === JPEG_END[0] && tail[k + 1] === JPEG_END[1]);
    if (ends) groups.push([]);
  }
  return groups.filter((group) => group.length);
}

function join(parts) {
  const total = parts.reduce((sum, { content }) => sum + content.length, 0);
  const whole = new Uint8Array(total);
  parts.reduce((at, { content }) => {
    whole.set(content, at);
    return at + content.length;
  }, 0);
  return whole;
}

/** Bytes of a frame, plane by plane: runs of one byte, and bytes as they are. */
export function unpackRle(frame, { rows, columns, samples }) {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  const plane = rows * columns;
  const result = new Uint8Array(plane * samples);
  if (view.getUint32(0, true) !== samples) throw new Error("a frame has another number of segments than its header says.");
  for (let segment = 0; segment < samples; segment += 1) {
    let from = view.getUint32(4 + 4 * segment, true);
    let to = segment * plane;
    const end = to + plane;
    while (to < end) {
      if (from >= frame.length) throw new Error("a frame is truncated; export it again.");
      const code = view.getInt8(from);
      from += 1;
      if (code >= 0) {
        const length = Math.min(code + 1, end - to);
        result.set(frame.subarray(from, from + length), to);
        from += code + 1;
        to += length;
      } else if (code > -128) {
        result.fill(frame[from], to, Math.min(to - code + 1, end));
        from += 1;
        to += 1 - code;
      }
    }
  }
  return result;
}
