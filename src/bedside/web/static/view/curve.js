/** Areas over the frames of a film, as lines; a click or a drag goes to that frame. */
import { dashOf } from "./dashes.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, MARGIN] = [600, 96, 4];

function make(name, attributes) {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

export class Curve {
  constructor(svg, onFrame) {
    this.svg = svg;
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    const go = (event) => {
      const { left, width } = svg.getBoundingClientRect();
      onFrame(Math.min(Math.max(Math.round(((event.clientX - left) / width) * (this.count - 1)), 0), this.count - 1));
    };
    svg.addEventListener("pointerdown", (event) => {
      svg.setPointerCapture(event.pointerId);
      go(event);
    });
    svg.addEventListener("pointermove", (event) => svg.hasPointerCapture(event.pointerId) && go(event));
  }

  /** @param {{areas: Map, structures, hidden: Set, frame, count}} shown Areas by value, null where unknown. */
  show({ areas, structures, hidden, frame, count }) {
    this.count = count;
    const most = Math.max(1, ...structures.flatMap(({ value }) => (hidden.has(value) ? [] : areas.get(value).map((area) => area ?? 0))));
    const x = (index) => (count > 1 ? (index / (count - 1)) * WIDTH : WIDTH / 2);
    const y = (area) => HEIGHT - MARGIN - (area / most) * (HEIGHT - 2 * MARGIN);
    const lines = structures.filter(({ value }) => !hidden.has(value)).map(({ value, color }) => {
      let pen = "M";
      const path = areas.get(value).map((area, index) => {
        if (area === null) {
          pen = "M";
          return "";
        }
        const part = `${pen}${x(index).toFixed(1)} ${y(area).toFixed(1)}`;
        pen = "L";
        return part;
      });
      return make("path", {
        d: path.join(""), fill: "none", stroke: `rgb(${color.join(",")})`, "stroke-width": 2,
        "stroke-dasharray": dashOf(value).join(" "), "vector-effect": "non-scaling-stroke",
      });
    });
    const cursor = make("line", {
      x1: x(frame), x2: x(frame), y1: 0, y2: HEIGHT, class: "cursor", "vector-effect": "non-scaling-stroke",
    });
    this.svg.replaceChildren(...lines, cursor);
  }
}
