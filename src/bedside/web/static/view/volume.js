/** A scan and its mask in three planes and as a volume, drawn by NiiVue. */

const CROSSHAIR = [0.43, 0.82, 0.89, 0.9];
const BLACK = [0, 0, 0, 1];

export class VolumeView {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {(slice: number) => void} onSlice Told of the slice on which the crosshair lies.
   */
  constructor(canvas, onSlice) {
    Object.assign(this, { canvas, onSlice, niivue: null, hidden: new Set(), structures: [] });
  }

  /** Why it cannot be shown in this browser; null if it can. */
  static whyNot() {
    return new OffscreenCanvas(1, 1).getContext("webgl2") ? null : "this browser has no WebGL 2";
  }

  /**
   * Show a scan.
   *
   * @param {{image: Uint8Array, mask: Uint8Array, structures}} scan Both as NIfTI, on one grid.
   */
  async open({ image, mask, structures }) {
    const { Niivue, NVImage, SHOW_RENDER } = await import("../vendor/niivue.js");
    if (!this.niivue) {
      this.niivue = new Niivue({
        dragAndDropEnabled: false, logLevel: "error", backColor: BLACK, crosshairColor: CROSSHAIR,
        crosshairWidth: 0.4, crosshairWidthUnit: "percent", isRadiologicalConvention: true,
        multiplanarShowRender: SHOW_RENDER.ALWAYS, isNearestInterpolation: false,
      });
      await this.niivue.attachToCanvas(this.canvas);
      this.niivue.onLocationChange = ({ mm }) => this.tell(mm);
    }
    const { niivue } = this;
    while (niivue.volumes.length) niivue.removeVolumeByIndex(niivue.volumes.length - 1);
    for (const [name, bytes] of [["image.nii", image], ["mask.nii", mask]]) {
      niivue.addVolume(await NVImage.loadFromFile({ file: new File([bytes], name), name }));
    }
    this.structures = structures;
    this.colour();
    niivue.setSliceType(niivue.sliceTypeMultiplanar);
    this.apply();
  }

  /** Opacity of the mask, and the window of brightness. */
  set(options) {
    this.options = { ...this.options, ...options };
    this.apply();
  }

  hide(hidden) {
    this.hidden = hidden;
    this.colour();
  }

  /** Go a slice on or back. */
  step(by) {
    this.niivue?.moveCrosshairInVox(0, 0, by);
  }

  apply() {
    const [image, mask] = this.niivue?.volumes ?? [];
    if (!mask || !this.options) return;
    const { level, width, opacity } = this.options;
    Object.assign(image, { cal_min: level - width / 2, cal_max: level + width / 2 });
    mask.opacity = opacity;
    this.niivue.updateGLVolume();
  }

  colour() {
    const mask = this.niivue?.volumes[1];
    if (!mask) return;
    const rows = [{ value: 0, color: [0, 0, 0], name: "" }, ...this.structures];
    const shown = ({ value }) => (value === 0 || this.hidden.has(value) ? 0 : 255);
    const [R, G, B] = [0, 1, 2].map((k) => rows.map(({ color }) => color[k]));
    mask.setColormapLabel({ R, G, B, A: rows.map(shown), I: rows.map(({ value }) => value), labels: rows.map(({ name }) => name) });
    this.niivue.updateGLVolume();
  }

  tell([x, y, z]) {
    const slice = Math.round(this.niivue.volumes[0]?.mm2vox([x, y, z], true)[2]);
    if (Number.isFinite(slice)) this.onSlice(slice);
  }
}
