/** Whether an image is one for a model, and at what scale, as `bedside` decides it. */

/** Refuse an image of another kind than the model's, or one that only a server takes. */
export function checkSource({ name, modality, refused }, spec, { onDevice, hasServer }) {
  if (modality && modality !== spec.input.modality) {
    throw new Error(
      `${name}: modality is ${modality}, the model ${spec.name} is for ${spec.input.modality}. Choose another model.`
    );
  }
  if (onDevice && refused) {
    const where = hasServer ? 'Switch "on this device" off.' : "A server with `bedside serve` takes it.";
    throw new Error(`${name}: ${refused}. ${where}`);
  }
}

/** Kinds of images that mostly are films, whose files write 1 mm where nothing is known. */
const FILMED = ["US", "IVUS", "ES", "XC", "GM", "XA", "RF", "OP", "OPT"];

/** Whether frames follow each other in time, as far as is known; slices of a scan differ as they should. */
export function isFilm({ kind, count, frameMs }, spec) {
  return kind !== "scan" && count > 1 && (Boolean(frameMs) || FILMED.includes(spec.input.modality));
}

/** Distances between pixels, and sizes of a plane, that a kind of image can have. */
const PIXEL_MM = { US: [0.005, 2], IVUS: [0.001, 0.2], CT: [0.02, 6], MR: [0.02, 12] };
const PLANE_MM = { US: [3, 500], IVUS: [1, 40], CT: [8, 1100], MR: [8, 1100] };

/**
 * The scale that sizes are measured by.
 *
 * @param {object} source Its `statedMm` is what the file states, [row, column] or null.
 * @param {object} spec Of the model.
 * @returns {{spacingMm, scaleWarnings}} `spacingMm` is null where the scale is not known.
 */
export function resolveScale({ statedMm, defaultGrid, width, height }, spec) {
  if (!statedMm) return { spacingMm: null, scaleWarnings: [] };
  const kind = spec.input.modality;
  const words = statedMm.map((mm) => Number(mm.toPrecision(6))).join(" x ");
  if (defaultGrid || (FILMED.includes(kind) && statedMm.every((mm) => mm === 1))) {
    const warning =
      `the spacing of ${words} mm is what programs write when they know none, and not measured; ` +
      "areas are given in pixels";
    return { spacingMm: null, scaleWarnings: [warning] };
  }
  const doubt = findDoubt(statedMm, [height * statedMm[0], width * statedMm[1]], kind);
  const warning = `the spacing of ${words} mm is hardly possible for ${kind}: ${doubt}. Sizes in mm, cm2 and ml may not hold`;
  return { spacingMm: statedMm, scaleWarnings: doubt ? [warning] : [] };
}

function findDoubt(pixelMm, sidesMm, kind) {
  const [low, high] = PIXEL_MM[kind] ?? [0, Infinity];
  if (Math.min(...pixelMm) < low || Math.max(...pixelMm) > high) return `pixels are ${low} to ${high} mm wide`;
  const [least, most] = PLANE_MM[kind] ?? [0, Infinity];
  const longest = Math.max(...sidesMm);
  return longest < least || longest > most ? `an image would be ${Number(longest.toPrecision(3))} mm wide` : null;
}
