/** The button between the slices of a scan and its three planes. */
import { element } from "../controls.js";
import { encodeOnGrid } from "../io/nifti.js";
import { VolumeView } from "./volume.js";

const LARGEST_BYTES = 2 ** 29;
const MISSING = "Three planes need NiiVue, which is not here: python -m bedside.web.vendor gets it. Slices are shown.";

export class ScanView {
  /** @param {{onSlice: (slice: number) => void, attempt}} app */
  constructor({ onSlice, attempt }) {
    this.volume = new VolumeView(element("volume"), onSlice);
    this.isOpen = false;
    this.scan = null;
    element("planes").addEventListener("click", () => attempt(() => this.show(!this.isOpen)));
  }

  /** @param {string | null} viewer Name of the viewer; null if it is not here. */
  offer(viewer) {
    this.viewer = viewer;
  }

  /**
   * Take a scan with its mask, null for none.
   *
   * @param {{source, mask: Uint8Array, structures} | null} scan `mask` is a NIfTI image on the grid of the source.
   */
  take(scan) {
    this.scan = scan;
    if (this.isOpen && !scan) this.close();
    const why = !this.viewer ? MISSING : (VolumeView.whyNot() ?? "");
    element("planes").hidden = !scan;
    element("planes").disabled = Boolean(why);
    element("planes-note").hidden = !scan || !why;
    element("planes-note").textContent = why;
  }

  async show(on) {
    if (!on) {
      this.close();
      return;
    }
    const { source, mask, structures } = this.scan;
    if (source.width * source.height * source.count * 4 > LARGEST_BYTES) throw new Error("the scan is too large for three planes in a browser; its slices are shown.");
    const frames = [];
    for (let index = 0; index < source.count; index += 1) frames.push(greyOf(await source.read(index)));
    this.isOpen = true;
    this.draw();
    await this.volume.open({ image: encodeOnGrid(frames, mask), mask, structures });
  }

  close() {
    this.isOpen = false;
    this.draw();
  }

  draw() {
    element("volume").hidden = !this.isOpen;
    element("stage").hidden = this.isOpen;
    element("planes").setAttribute("aria-pressed", String(this.isOpen));
  }
}

function greyOf({ data, channels }) {
  if (channels !== 1) throw new Error("three planes are for grey scans; the slices are shown.");
  return data;
}
