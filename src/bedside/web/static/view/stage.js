/** The image with its labels on a canvas: brightness, opacity, outlines, numbers, zoom. */
import { findInside } from "../measure.js";
import { toPath, traceOutlines } from "./contours.js";
import { dashOf } from "./dashes.js";

const LARGEST_ZOOM = 12;

export class Stage {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.structures = [];
    this.hidden = new Set();
    this.options = { opacity: 0.35, outlines: true, numbers: true, level: 128, width: 256 };
    this.view = { zoom: 1, x: 0.5, y: 0.5 };
    this.picture = new OffscreenCanvas(1, 1);
    this.paint = new OffscreenCanvas(1, 1);
    this.image = this.labels = null;
    new ResizeObserver(() => this.draw()).observe(canvas);
    this.listen();
  }

  /** @param {{image, labels, structures, aspect}} shown `aspect`: height of a pixel over its width. */
  show({ image, labels, structures, aspect = 1 }) {
    const other = !this.image || this.image.width !== image?.width || this.image.height !== image?.height;
    Object.assign(this, { image, labels, structures, aspect });
    if (other) this.view = { zoom: 1, x: 0.5, y: 0.5 };
    this.paths = this.marks = null;
    this.drawPicture();
    this.drawPaint();
    this.draw();
  }

  set(options) {
    Object.assign(this.options, options);
    if ("level" in options || "width" in options) this.drawPicture();
    this.drawPaint();
    this.draw();
  }

  toggle(value, visible) {
    if (visible) this.hidden.delete(value);
    else this.hidden.add(value);
    this.drawPaint();
    this.draw();
  }

  zoom(factor, at = [0.5, 0.5]) {
    const zoom = Math.min(Math.max(this.view.zoom * factor, 1), LARGEST_ZOOM);
    const shift = 1 / this.view.zoom - 1 / zoom;
    this.view = {
      zoom,
      x: clampView(this.view.x + (at[0] - 0.5) * shift, zoom),
      y: clampView(this.view.y + (at[1] - 0.5) * shift, zoom),
    };
    this.draw();
  }

  pan(dx, dy) {
    const { zoom } = this.view;
    this.view.x = clampView(this.view.x - dx / zoom, zoom);
    this.view.y = clampView(this.view.y - dy / zoom, zoom);
    this.draw();
  }

  listen() {
    const { canvas } = this;
    canvas.addEventListener("wheel", (event) => {
      if (!this.image) return;
      event.preventDefault();
      const { left, top, width, height } = canvas.getBoundingClientRect();
      this.zoom(Math.exp(-event.deltaY / 400), [(event.clientX - left) / width, (event.clientY - top) / height]);
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => canvas.setPointerCapture(event.pointerId));
    canvas.addEventListener("pointermove", (event) => {
      if (!canvas.hasPointerCapture(event.pointerId) || this.view.zoom === 1) return;
      this.pan(event.movementX / canvas.clientWidth, event.movementY / canvas.clientHeight);
    });
    canvas.addEventListener("dblclick", () => this.zoom(1 / LARGEST_ZOOM));
  }

  /** The image through the window of brightness. */
  drawPicture() {
    if (!this.image) return;
    const { data, width, height, channels } = this.image;
    Object.assign(this.picture, { width, height });
    const { level, width: span } = this.options;
    const shade = (value) => ((value - level) / span + 0.5) * 255;
    const table = Uint8ClampedArray.from({ length: 256 }, (_, value) => shade(value));
    const inBytes = data instanceof Uint8Array;
    const bytes = inBytes ? data : Uint8ClampedArray.from(data, shade);
    if (!inBytes) table.forEach((_, value) => (table[value] = value));
    const shown = new ImageData(width, height);
    for (let k = 0, from = 0; k < shown.data.length; k += 4, from += channels) {
      shown.data[k] = table[bytes[from]];
      shown.data[k + 1] = table[bytes[from + (channels === 3 ? 1 : 0)]];
      shown.data[k + 2] = table[bytes[from + (channels === 3 ? 2 : 0)]];
      shown.data[k + 3] = 255;
    }
    this.picture.getContext("2d").putImageData(shown, 0, 0);
  }

  /** The labels as colours. */
  drawPaint() {
    if (!this.labels) return;
    const { data, width, height } = this.labels;
    Object.assign(this.paint, { width, height });
    const colours = new Uint32Array(256);
    for (const { value, color: [red, green, blue] } of this.visible()) {
      colours[value] = (Math.round(255 * this.options.opacity) << 24) | (blue << 16) | (green << 8) | red;
    }
    const shown = new ImageData(width, height);
    const pixels = new Uint32Array(shown.data.buffer);
    for (let k = 0; k < data.length; k += 1) pixels[k] = colours[data[k]];
    this.paint.getContext("2d").putImageData(shown, 0, 0);
  }

  visible() {
    return this.structures.filter(({ value }) => !this.hidden.has(value));
  }

  draw() {
    const { canvas, context, image } = this;
    const ratio = devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (!width || !height) return;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, width, height);
    if (!image) return;
    const { zoom, x, y } = this.view;
    const fit = Math.min(width / image.width, height / (image.height * this.aspect)) * zoom;
    const tall = fit * this.aspect;
    context.setTransform(fit, 0, 0, tall, width / 2 - x * image.width * fit, height / 2 - y * image.height * tall);
    context.imageSmoothingQuality = "high";
    context.drawImage(this.picture, 0, 0);
    if (!this.labels) return;
    context.imageSmoothingEnabled = false;
    if (this.options.opacity > 0) context.drawImage(this.paint, 0, 0);
    context.imageSmoothingEnabled = true;
    if (this.options.outlines) this.drawOutlines(fit, ratio);
    if (this.options.numbers) this.drawNumbers(ratio);
  }

  drawOutlines(fit, ratio) {
    const { context } = this;
    this.paths ??= new Map(this.structures.map(({ value }) => [value, toPath(traceOutlines(this.labels, value))]));
    for (const { value, color } of this.visible()) {
      context.lineWidth = (2 * ratio) / fit;
      context.lineJoin = "round";
      context.setLineDash(dashOf(value).map((length) => (length * ratio) / fit));
      context.strokeStyle = `rgb(${color.join(" ")})`;
      context.stroke(this.paths.get(value));
    }
    context.setLineDash([]);
  }

  /** The number of each structure, as in the list beside the image. */
  drawNumbers(ratio) {
    const { context } = this;
    this.marks ??= this.structures.flatMap(({ value }) => {
      const middle = findInside(this.labels, value);
      return middle ? [{ value, middle }] : [];
    });
    const turned = context.getTransform();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.font = `600 ${13 * ratio}px system-ui, sans-serif`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (const { value, middle: [x, y] } of this.marks) {
      if (this.hidden.has(value)) continue;
      const at = turned.transformPoint({ x, y });
      context.fillStyle = "rgb(0 0 0 / 70%)";
      context.beginPath();
      context.arc(at.x, at.y, 10 * ratio, 0, 2 * Math.PI);
      context.fill();
      context.fillStyle = "white";
      context.fillText(String(value), at.x, at.y + ratio);
    }
  }
}

function clampView(place, zoom) {
  return Math.min(Math.max(place, 0.5 / zoom), 1 - 0.5 / zoom);
}
