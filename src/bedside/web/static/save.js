/** Masks as files. */
import { element } from "./controls.js";
import { writeNifti } from "./io/nifti.js";
import { gzip } from "./io/streams.js";
import { writePng } from "./io/png_labels.js";

/** Name of a result: that of the image without its suffix. */
function nameResult(name, suffix) {
  return `${name.replace(/(\.nii)?\.[^.]+$/i, "") || "image"}-segmentation${suffix}`;
}

/** Switch buttons on for what can be saved: the frame that is shown, or all of them; `seg`: whether a server makes it. */
export function offerSaves({ shown, complete, seg }) {
  element("save-png").disabled = !shown;
  element("save-nifti").disabled = !complete;
  element("save-seg").hidden = !seg;
  element("save-seg").disabled = !complete;
}

export async function savePng(source, labels, structures, frame) {
  const suffix = source.count > 1 ? `-frame-${String(frame + 1).padStart(4, "0")}.png` : ".png";
  download(await writePng(labels, structures), nameResult(source.name, suffix));
}

/** The mask as NIfTI: as a server made it of a zip of images, else on the grid of the source. */
export async function saveNifti(source, results, mask) {
  const blob = source.kind === "scan" && mask ? new Blob([await gzip(mask)]) : await writeNifti(results.map(({ labels }) => labels.data), source);
  download(blob, nameResult(source.name, ".nii.gz"));
}

/** The mask as DICOM SEG, which a server makes of the file. */
export async function saveSeg(source, server, model) {
  download(await server.save(model, source.file, "application/dicom"), nameResult(source.name, ".dcm"));
}

function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
