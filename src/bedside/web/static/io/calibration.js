/** Region and scale of a frame from its header, used only where they fit the frame. */
import { columnsOf, makeBox, rowsOf } from "../pipeline/image.js";

const SPATIAL_FORMAT = 0x00186012;
const DATA_TYPE = 0x00186014;
const CORNERS = [0x0018601a, 0x00186018, 0x0018601e, 0x0018601c];
const UNITS = [0x00186024, 0x00186026];
const DELTAS = [0x0018602e, 0x0018602c];
const [FLAT, TISSUE, CENTIMETRES] = [1, 1, 3];
const CALIBRATED = ["GEOMETRY", "FIDUCIAL"];
const PROJECTIONS = ["CR", "DX", "IO", "MG", "PX", "RF", "RG", "XA"];
const AT_DETECTOR = ["ImagerPixelSpacing", "NominalScannedPixelSpacing"];
const [ROUNDING, SAME_SCALE, SHARED_PX] = [0.005, 0.02, 2];
const IN_PIXELS = "areas are given in pixels";

/** { region, spacingMm, warnings }: a box or null, [row, column] or null, and why they are null. */
export function readCalibration(header, { rows, columns }) {
  const regions = header.items("SequenceOfUltrasoundRegions");
  if (regions.length) return fromRegions(regions, rows, columns);
  const spacing = header.numbers("PixelSpacing");
  const ultrasound = ["US", "IVUS"].includes(header.text("Modality"));
  const nothing = (warning) => ({ region: null, spacingMm: null, warnings: [`${warning}; ${IN_PIXELS}`] });
  if (!spacing) return nothing(ultrasound ? "the file has no ultrasound calibration" : "the file has no pixel spacing");
  if (spacing.length !== 2 || !spacing.every((value) => value > 0 && value < Infinity)) {
    return nothing("the pixel spacing is not valid");
  }
  if (ultrasound && !CALIBRATED.includes(header.text("PixelSpacingCalibrationType"))) {
    return nothing("the file has no ultrasound regions, and nothing says how its PixelSpacing was measured");
  }
  if (PROJECTIONS.includes(header.text("Modality"))) return ofProjection(header, spacing, nothing);
  return { region: null, spacingMm: spacing, warnings: [] };
}

/** Height of a pixel divided by its width, as a file without a scale can state it; null if it does not. */
export function readAspect(header) {
  const own = PROJECTIONS.includes(header.text("Modality")) ? ["PixelSpacing"] : [];
  for (const name of [...own, "PixelAspectRatio", ...AT_DETECTOR]) {
    const sides = readLengths(header, name);
    if (sides) return sides[0] / sides[1];
  }
  return null;
}

function readLengths(header, name) {
  const sides = header.numbers(name);
  return sides?.length === 2 && sides.every((side) => side > 0 && side < Infinity) ? sides : null;
}

/** The PixelSpacing of a projection may be that at the detector, where the patient appears magnified. */
function ofProjection(header, spacing, nothing) {
  const there = AT_DETECTOR.map((name) => readLengths(header, name)).filter(Boolean);
  const corrected = there.some((sides) => sides.some((side, axis) => Math.abs(side / spacing[axis] - 1) > ROUNDING));
  if (corrected || CALIBRATED.includes(header.text("PixelSpacingCalibrationType"))) {
    return { region: null, spacingMm: spacing, warnings: [] };
  }
  return nothing("its PixelSpacing may be that at the detector, where the patient appears magnified");
}

/** The largest region of tissue in 2D; some machines write the column after its last one. */
function fromRegions(items, rows, columns) {
  const tissue = items
    .filter((item) => item.integer(SPATIAL_FORMAT) === FLAT && item.integer(DATA_TYPE) === TISSUE)
    .map((item) => ({ item, box: readBox(item) }))
    .filter(({ box }) => box);
  if (!tissue.length) return { region: null, spacingMm: null, warnings: [`no ultrasound region shows tissue in 2D; ${IN_PIXELS}`] };
  const size = ({ box }) => rowsOf(box) * columnsOf(box);
  const { item, box } = tissue.reduce((most, each) => (size(each) > size(most) ? each : most));
  const warnings = tissue.length > 1 ? [`the file has ${tissue.length} ultrasound regions of 2D tissue; the largest is taken`] : [];
  const past = box.right === columns + 1 || box.bottom === rows + 1;
  if (box.right === columns + 1) box.right = columns;
  if (box.bottom === rows + 1) box.bottom = rows;
  if (box.right > columns || box.bottom > rows || rowsOf(box) < 2 || columnsOf(box) < 2) {
    const warning =
      `the ultrasound region does not fit the frame of ${rows} x ${columns}: its crop and its calibration belong to ` +
      `another frame size; ${IN_PIXELS}`;
    return { region: null, spacingMm: null, warnings: [...warnings, warning] };
  }
  if (past) warnings.push("the ultrasound region ends one pixel past the frame, and is cut to it");
  const spacingMm = readSpacing(item);
  if (spacingMm && isOverlaid(box, spacingMm, items)) {
    const warning = `a region of another scale lies within the ultrasound region, as an enlarged inset does; ${IN_PIXELS}`;
    return { region: box, spacingMm: null, warnings: [...warnings, warning] };
  }
  if (spacingMm) return { region: box, spacingMm, warnings };
  return { region: box, spacingMm: null, warnings: [...warnings, `the ultrasound region is not calibrated in cm; ${IN_PIXELS}`] };
}

/** [row, column] in mm of a region; null if it is not calibrated in cm. */
function readSpacing(item) {
  const spacingMm = DELTAS.map((delta) => Math.abs(item.double(delta) ?? 0) * 10);
  const calibrated = UNITS.every((unit) => item.integer(unit) === CENTIMETRES);
  return calibrated && spacingMm.every((length) => length > 0 && length < Infinity) ? spacingMm : null;
}

/** Whether a region of another scale in 2D lies over a part of a box. */
function isOverlaid(box, spacingMm, items) {
  return items.some((item) => {
    const [other, scale] = [readBox(item), readSpacing(item)];
    if (item.integer(SPATIAL_FORMAT) !== FLAT || !other || !scale) return false;
    const across = Math.min(box.right, other.right) - Math.max(box.left, other.left);
    const down = Math.min(box.bottom, other.bottom) - Math.max(box.top, other.top);
    const overlaid = Math.min(across, down) > SHARED_PX;
    return overlaid && scale.some((side, axis) => Math.abs(side / spacingMm[axis] - 1) > SAME_SCALE);
  });
}

function readBox(item) {
  const corners = CORNERS.map((corner) => item.integer(corner));
  if (corners.some((corner) => corner === null)) return null;
  const [top, left, bottom, right] = corners;
  return makeBox(top, left, bottom + 1, right + 1);
}
