/** Dashes of the outlines, so that structures are not told apart by colour alone. */
const DASHES = [[], [7, 4], [2, 4], [10, 3, 2, 3], [4, 2], [12, 5]];

/** Lengths of dashes and gaps of a label's lines; none of a line without gaps. */
export function dashOf(value) {
  return DASHES[(value - 1) % DASHES.length];
}
