/** Decoded frames of a source, the latest used ones: a long film would not fit into memory. */

const LARGEST_BYTES = 128 * 2 ** 20;

export class FrameCache {
  constructor(source) {
    this.source = source;
    this.frames = new Map();
  }

  /** A frame that is held, else null. */
  held(index) {
    const image = this.frames.get(index);
    if (!image) return null;
    this.frames.delete(index);
    this.frames.set(index, image);
    return image;
  }

  async read(index) {
    const found = this.held(index) ?? (await this.source.read(index));
    this.frames.set(index, found);
    const most = Math.max(2, Math.floor(LARGEST_BYTES / found.data.byteLength));
    for (const oldest of this.frames.keys()) {
      if (this.frames.size <= most) break;
      this.frames.delete(oldest);
    }
    return found;
  }
}
