/** The header of a DICOM file: little-endian, explicit or implicit, up to its pixels. */

const LONG = new Set(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"]);
const UNDEFINED = 0xffffffff;
const DEEPEST = 64;
const ITEM = 0xfffee000;
const ITEM_END = 0xfffee00d;
const SEQUENCE_END = 0xfffee0dd;
const PIXELS = 0x7fe00010;
const SEQUENCES = new Set([0x00186011]);

/** Tags that are read, by name. */
export const TAGS = {
  TransferSyntaxUID: 0x00020010,
  Modality: 0x00080060,
  Manufacturer: 0x00080070,
  ImageType: 0x00080008,
  FrameTime: 0x00181063,
  CineRate: 0x00180040,
  SequenceOfUltrasoundRegions: 0x00186011,
  PixelSpacingCalibrationType: 0x00280a02,
  SamplesPerPixel: 0x00280002,
  PhotometricInterpretation: 0x00280004,
  PlanarConfiguration: 0x00280006,
  NumberOfFrames: 0x00280008,
  SeriesInstanceUID: 0x0020000e,
  ImagePositionPatient: 0x00200032,
  ImageOrientationPatient: 0x00200037,
  Rows: 0x00280010,
  Columns: 0x00280011,
  PixelSpacing: 0x00280030,
  PixelAspectRatio: 0x00280034,
  ImagerPixelSpacing: 0x00181164,
  NominalScannedPixelSpacing: 0x00182010,
  BitsAllocated: 0x00280100,
  BitsStored: 0x00280101,
  PixelRepresentation: 0x00280103,
  PixelPaddingValue: 0x00280120,
  WindowCenter: 0x00281050,
  WindowWidth: 0x00281051,
  RescaleIntercept: 0x00281052,
  RescaleSlope: 0x00281053,
  LossyImageCompression: 0x00282110,
};

/** Elements of one data set: raw bytes by tag, items of the sequences that are read. */
export class Header {
  constructor() {
    this.elements = new Map();
  }

  text(name) {
    const found = this.elements.get(TAGS[name])?.bytes;
    return found ? new TextDecoder("latin1").decode(found).replace(/[\0 ]+$/, "").trim() : null;
  }

  /** Numbers that are written as text, such as `0.1\0.1`. */
  numbers(name) {
    const text = this.text(name);
    return text ? text.split("\\").map(Number) : null;
  }

  /** An unsigned integer of 2 or 4 bytes. */
  integer(tag) {
    const found = this.elements.get(TAGS[tag] ?? tag)?.bytes;
    if (!found || found.length < 2) return null;
    const view = new DataView(found.buffer, found.byteOffset, found.length);
    return found.length >= 4 ? view.getUint32(0, true) : view.getUint16(0, true);
  }

  /** A float of 8 bytes. */
  double(tag) {
    const found = this.elements.get(tag)?.bytes;
    return found?.length === 8 ? new DataView(found.buffer, found.byteOffset, 8).getFloat64(0, true) : null;
  }

  items(name) {
    return this.elements.get(TAGS[name])?.items ?? [];
  }
}

/**
 * Read a file's header and find its pixels.
 *
 * @param {Uint8Array} bytes The whole file.
 * @returns {{header: Header, syntax: string, pixels: {bytes, encapsulated: boolean} | null}}
 */
export function readHeader(bytes) {
  const reader = new Reader(bytes);
  const header = new Header();
  reader.at = 132;
  // The first group is explicit whatever the syntax of the rest.
  while (reader.left >= 8 && reader.peekGroup() === 0x0002) reader.element(header, { explicit: true, depth: 0 });
  const syntax = header.text("TransferSyntaxUID");
  if (!syntax) throw new Error("the file does not say how it is encoded (TransferSyntaxUID).");
  if (["1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"].includes(syntax)) {
    throw new Error(`its transfer syntax ${syntax} is not read here. Convert it to Explicit VR Little Endian.`);
  }
  const explicit = syntax !== "1.2.840.10008.1.2";
  let pixels = null;
  while (!pixels && reader.left >= 8) pixels = reader.element(header, { explicit, depth: 0 });
  return { header, syntax, pixels };
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.at = 0;
  }

  get left() {
    return this.bytes.length - this.at;
  }

  peekGroup() {
    return this.view.getUint16(this.at, true);
  }

  tag() {
    const tag = this.view.getUint16(this.at, true) * 0x10000 + this.view.getUint16(this.at + 2, true);
    this.at += 4;
    return tag;
  }

  length() {
    const length = this.view.getUint32(this.at, true);
    this.at += 4;
    return length;
  }

  take(length) {
    if (length > this.left) throw new Error("the file is truncated: an element goes past its end.");
    const part = this.bytes.subarray(this.at, this.at + length);
    this.at += length;
    return part;
  }

  /** Read one element into `header`; returns the pixels if it is these. */
  element(header, { explicit, depth }) {
    const tag = this.tag();
    const { representation, length } = this.lengthOf(tag, explicit);
    if (tag === PIXELS && depth === 0) {
      const encapsulated = length === UNDEFINED;
      // Of what is truncated, whole frames may be there: the reader of frames looks.
      const bytes = encapsulated ? this.take(this.left) : this.take(Math.min(length, this.left));
      return { bytes, encapsulated };
    }
    if (representation === "SQ" || length === UNDEFINED || SEQUENCES.has(tag)) {
      // A sequence of unknown representation is implicit within.
      const items = this.sequence(length, { explicit: explicit && representation !== "UN", depth: depth + 1 });
      header.elements.set(tag, { items });
      return null;
    }
    header.elements.set(tag, { bytes: this.take(length) });
    return null;
  }

  lengthOf(tag, explicit) {
    if (!explicit) return { representation: null, length: this.length() };
    const representation = String.fromCharCode(this.bytes[this.at], this.bytes[this.at + 1]);
    this.at += 2;
    if (LONG.has(representation)) {
      this.at += 2;
      return { representation, length: this.length() };
    }
    const length = this.view.getUint16(this.at, true);
    this.at += 2;
    return { representation, length };
  }

  sequence(length, { explicit, depth }) {
    if (depth > DEEPEST) throw new Error(`its sequences are nested more than ${DEEPEST} deep.`);
    const end = length === UNDEFINED ? Infinity : this.at + length;
    const items = [];
    while (this.at < end && this.left >= 8) {
      const tag = this.tag();
      const size = this.length();
      if (tag === SEQUENCE_END) break;
      if (tag !== ITEM) throw new Error("a sequence of the file is damaged.");
      items.push(this.item(size, { explicit, depth }));
    }
    return items;
  }

  item(size, { explicit, depth }) {
    const item = new Header();
    const end = size === UNDEFINED ? Infinity : this.at + size;
    while (this.at < end && this.left >= 8) {
      if (this.peekGroup() === 0xfffe) {
        const tag = this.tag();
        this.length();
        if (tag === ITEM_END) break;
        throw new Error("an item of the file is damaged.");
      }
      this.element(item, { explicit, depth });
    }
    return item;
  }
}
