/** Plays films: a cine frame by frame at its own rate, a film of the browser by itself. */

const DEFAULT_FRAME_MS = 40;

export class Player {
  /** @param {(playing: boolean) => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    this.playing = false;
  }

  /** Play or pause a source, null for none; `next` goes to the next frame of a cine. */
  set(on, source, next) {
    this.playing = Boolean(on && source);
    this.onChange(this.playing);
    clearInterval(this.timer);
    if (source?.live) {
      // A film that is closed while it begins says so; nobody needs to know.
      if (this.playing) source.video.play().catch(() => {});
      else source.video.pause();
    } else if (this.playing) {
      this.timer = setInterval(next, source.frameMs ?? DEFAULT_FRAME_MS);
    }
  }
}
