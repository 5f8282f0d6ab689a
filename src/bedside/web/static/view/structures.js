/** The list of structures: shown or not, their areas, and how these change over a film. */
import { compareAreas, describeArea } from "../measure.js";
import { dashOf } from "./dashes.js";

export class StructureList {
  constructor(body, onToggle) {
    this.body = body;
    this.onToggle = onToggle;
    this.rows = new Map();
  }

  /** Make a row for each structure. */
  fill(structures) {
    this.rows.clear();
    this.body.replaceChildren(...structures.map((structure) => this.makeRow(structure)));
  }

  makeRow({ value, name, color }) {
    const row = document.createElement("tr");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true, id: `structure-${value}` });
    box.addEventListener("change", () => this.onToggle(value, box.checked));
    const label = document.createElement("label");
    label.htmlFor = box.id;
    label.append(makeSample(color, value), `${value} ${name}`);
    const head = document.createElement("th");
    head.scope = "row";
    const both = document.createElement("span");
    both.className = "structure";
    both.append(box, label);
    head.append(both);
    const [area, change] = [document.createElement("td"), document.createElement("td")];
    area.className = change.className = "number";
    row.append(head, area, change);
    this.rows.set(value, { box, area, change });
    return row;
  }

  /**
   * @param {{areas: Map, frame, spacingMm, sliceMm}} measured Areas of all frames by value; null where unknown.
   *   `sliceMm`: the distance of slices, for the volumes of a scan; null for frames.
   */
  show({ areas, frame, spacingMm, sliceMm = null }) {
    for (const [value, { area, change }] of this.rows) {
      const own = areas.get(value) ?? [];
      const now = own[frame] ?? null;
      area.textContent = now === null ? "" : now === 0 ? "not seen" : describeArea(now, spacingMm);
      change.textContent = sliceMm === null ? describeChange(own) : describeVolume(own, spacingMm, sliceMm);
    }
  }

  /** Largest and smallest areas over the frames that are known, in words. */
  describeChanges({ areas, spacingMm }, structures) {
    return structures.flatMap(({ value, name }) => {
      const found = compareAreas(areas.get(value) ?? []);
      if (!found?.largest) return [];
      const [most, least] = [found.largest, found.smallest].map((area) => describeArea(area, spacingMm));
      return [`${name}: ${most} (frame ${found.largestFrame}) to ${least} (frame ${found.smallestFrame})`];
    });
  }

  /** Turn one structure on or off, as the keyboard does. */
  flip(value) {
    this.rows.get(value)?.box.click();
  }
}

function describeChange(areas) {
  const compared = compareAreas(areas);
  return compared?.fraction == null ? "" : `${(100 * compared.fraction).toFixed(1)} %`;
}

function describeVolume(areas, spacingMm, sliceMm) {
  if (!spacingMm || areas.includes(null)) return "";
  const pixels = areas.reduce((sum, area) => sum + area, 0);
  return `${((pixels * spacingMm[0] * spacingMm[1] * sliceMm) / 1000).toFixed(2)} ml`;
}

/** A piece of the outline as it is drawn on the image. */
function makeSample(color, value) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 28 14");
  svg.setAttribute("aria-hidden", "true");
  svg.classList.add("sample");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  const attributes = { x1: 0, x2: 28, y1: 7, y2: 7, stroke: `rgb(${color.join(",")})`, "stroke-width": 4 };
  for (const [key, each] of Object.entries(attributes)) line.setAttribute(key, each);
  line.setAttribute("stroke-dasharray", dashOf(value).join(" "));
  svg.append(line);
  return svg;
}
