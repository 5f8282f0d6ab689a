/** Zip files, whose members are inflated by the browser. */
import { inflate } from "./streams.js";

const [END, MEMBER, LOCAL] = [0x06054b50, 0x02014b50, 0x04034b50];
const END_BYTES = 22;
const LONGEST_COMMENT = 65535;
const MOST_MEMBERS = 20000;
const LARGEST_BYTES = 2 ** 30;
const [STORED, DEFLATED] = [0, 8];
const ENCRYPTED = 1;

export function isZip(begin) {
  return begin[0] === 0x50 && begin[1] === 0x4b && begin[2] === 3 && begin[3] === 4;
}

/** The contents of all files in a zip, in the order of its directory; its folders are left out. */
export async function unzip(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found = [];
  let left = LARGEST_BYTES;
  for (const { method, flags, packed, size, at } of listMembers(view)) {
    if (flags & ENCRYPTED || ![STORED, DEFLATED].includes(method)) throw new Error("the zip is encrypted, or packed in a way that is not read here.");
    if (view.getUint32(at, true) !== LOCAL) throw new Error("the zip is damaged. Pack it again.");
    const begin = at + 30 + view.getUint16(at + 26, true) + view.getUint16(at + 28, true);
    const part = bytes.subarray(begin, begin + packed);
    if (part.length < packed) throw new Error("the zip is truncated. Pack it again.");
    const content = method === STORED ? part : await inflate(part, left, "deflate-raw");
    if (content.length !== size) throw new Error("the zip is damaged. Pack it again.");
    left -= content.length;
    found.push(content);
  }
  return found;
}

function listMembers(view) {
  const last = view.byteLength - END_BYTES;
  let end = last;
  while (end >= 0 && end >= last - LONGEST_COMMENT && view.getUint32(end, true) !== END) end -= 1;
  if (end < 0 || view.getUint32(end, true) !== END) throw new Error("the zip is truncated or damaged. Pack it again.");
  const count = view.getUint16(end + 10, true);
  if (count > MOST_MEMBERS) throw new Error(`the zip has more than ${MOST_MEMBERS} files.`);
  let at = view.getUint32(end + 16, true);
  return Array.from({ length: count }, () => {
    if (view.getUint32(at, true) !== MEMBER) throw new Error("the zip is damaged. Pack it again.");
    const member = {
      flags: view.getUint16(at + 8, true),
      method: view.getUint16(at + 10, true),
      packed: view.getUint32(at + 20, true),
      size: view.getUint32(at + 24, true),
      at: view.getUint32(at + 42, true),
    };
    at += 46 + view.getUint16(at + 28, true) + view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    return member;
  }).filter(({ size }) => size > 0);
}
