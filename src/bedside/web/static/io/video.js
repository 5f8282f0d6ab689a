/** Films that the browser plays, and the camera: frames as they are shown. */
import { grabPixels } from "./picture.js";

const NO_SCALE = "a film has no pixel spacing; areas are given in pixels";
const LONGEST_WAIT_MS = 60000;

/** A film; `live` sources are played, and the frame that is shown is segmented. */
export async function openVideo(file) {
  const video = makeElement();
  video.loop = true;
  const url = URL.createObjectURL(file);
  video.src = url;
  try {
    await happens(video, "loadeddata");
  } catch {
    URL.revokeObjectURL(url);
    throw new Error(`${file.name} is no image or film that this browser can open. Use DICOM, PNG, JPEG, NIfTI or a film.`);
  }
  if (!video.videoWidth) {
    URL.revokeObjectURL(url);
    throw new Error(`${file.name} has no picture.`);
  }
  return describe(video, {
    name: file.name,
    kind: "film",
    duration: Number.isFinite(video.duration) ? video.duration : 0,
    close: () => URL.revokeObjectURL(url),
  });
}

/** The camera of the device, after the person has allowed it. */
export async function openCamera() {
  if (!navigator.mediaDevices?.getUserMedia) {
    throw new Error("this browser gives a page the camera only over https or on localhost.");
  }
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } }, audio: false });
  } catch (error) {
    throw new Error(error.name === "NotAllowedError" ? "the camera was not allowed." : "there is no camera that can be used.");
  }
  const video = makeElement();
  video.srcObject = stream;
  await happens(video, "loadeddata");
  const close = () => stream.getTracks().forEach((track) => track.stop());
  return describe(video, { name: "camera", kind: "camera", duration: 0, close });
}

function makeElement() {
  return Object.assign(document.createElement("video"), { className: "hidden", muted: true, playsInline: true, preload: "auto" });
}

function describe(video, { name, kind, duration, close }) {
  const [width, height] = [video.videoWidth, video.videoHeight];
  const canvas = new OffscreenCanvas(width, height);
  return {
    name, kind, video, duration, width, height,
    live: true,
    range: null,
    refused: null,
    sliceMm: null,
    count: 0,
    modality: null,
    region: null,
    spacingMm: null,
    frameMs: null,
    warnings: [NO_SCALE],
    /** The frame that is shown now. */
    read: async () => grabPixels(video, width, height, { canvas }),
    /** Call with the time at which each frame was taken, as `performance.now` counts; returns what ends that. */
    watch(onFrame) {
      let number = null;
      const next = (now, { captureTime }) => {
        number = video.requestVideoFrameCallback(next);
        onFrame(captureTime ?? now);
      };
      number = video.requestVideoFrameCallback(next);
      return () => video.cancelVideoFrameCallback(number);
    },
    async seek(seconds) {
      const done = happens(video, "seeked");
      video.currentTime = seconds;
      await done;
    },
    close() {
      video.pause();
      video.removeAttribute("src");
      video.srcObject = null;
      video.remove();
      close();
    },
  };
}

function happens(video, name) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error("the film does not go on.")), LONGEST_WAIT_MS);
    const settle = (how) => () => {
      clearTimeout(timer);
      how();
    };
    video.addEventListener(name, settle(resolve), { once: true });
    video.addEventListener("error", settle(() => reject(new Error("the film cannot be played."))), { once: true });
  });
}
