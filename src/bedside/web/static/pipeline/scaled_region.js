/** Labels outside the part of a frame that its scale belongs to, as `bedside.pipeline.scaled_region` finds them. */

/** Part of a structure that may lie outside: its contour runs along the edge of a sector. */
const BESIDE = 0.02;

export class ScaledRegion {
  /**
   * @param {{top, left, bottom, right}} box The region that the scale belongs to.
   * @param {Array<{name, value}>} structures What the values mean.
   */
  constructor(box, structures) {
    Object.assign(this, { box, structures, all: new Float64Array(256), within: new Float64Array(256) });
  }

  /** Count the labels of one more frame. */
  add({ data, width }) {
    const { box, all, within } = this;
    for (const value of data) all[value] += 1;
    for (let y = box.top; y < box.bottom; y += 1) {
      for (let k = y * width + box.left; k < y * width + box.right; k += 1) within[data[k]] += 1;
    }
  }

  /** A warning of structures that lie outside in part, over all frames that were counted; empty if none does. */
  describe() {
    const { box, all, within } = this;
    const beside = this.structures.filter(({ value }) => within[value] < (1 - BESIDE) * all[value]);
    if (!beside.length) return "";
    return (
      `${beside.map(({ name }) => name).join(" and ")}: part of it lies outside the ultrasound region that the file's ` +
      `scale belongs to (columns ${box.left}-${box.right - 1}, rows ${box.top}-${box.bottom - 1}); sizes are given in pixels`
    );
  }
}

/**
 * Take the scale from a source whose labels lie where its file gives none; only the shape of a pixel stays.
 *
 * @param {object} source See `openFile`.
 * @param {Array} structures Of the model.
 * @param {Array} frames Labels of all of its frames.
 * @returns {string} A warning; empty where the scale holds.
 */
export function dropForeignScale(source, structures, frames) {
  const { region, spacingMm, kind, scaledByHand } = source;
  if (!region || !spacingMm || kind === "scan" || scaledByHand) return "";
  const scaled = new ScaledRegion(region, structures);
  frames.forEach((labels) => scaled.add(labels));
  const warning = scaled.describe();
  if (warning) Object.assign(source, { spacingMm: null, pixelAspect: spacingMm[0] / spacingMm[1] });
  return warning;
}
