/** How old the mask is that is shown: one that is too old is told to be stale, and never shown as if it were live. */

/** Age from which on a mask is stale. */
export const STALE_MS = 250;
const LOOK_MS = 100;

const NAMES = { live: "Live", stale: "Stale", paused: "Paused" };

export class AgeWatch {
  /** @param {(state: "live" | "stale" | "paused" | null, words: string) => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    this.timer = null;
  }

  /** Watch from now on; `isPlaying` tells whether newer frames are to come. */
  start(isPlaying) {
    this.stop();
    this.isPlaying = isPlaying;
    this.taken = null;
    this.timer = setInterval(() => this.look(), LOOK_MS);
  }

  /** A mask is shown, of a frame that was taken then. */
  show(taken) {
    this.taken = taken;
    this.look();
  }

  look() {
    // Before the first mask there is nothing that could be live.
    if (this.timer === null || this.taken === null) return;
    const age = performance.now() - this.taken;
    const state = !this.isPlaying() ? "paused" : age > STALE_MS ? "stale" : "live";
    const old = age < 1000 ? `${age.toFixed(0)} ms` : `${(age / 1000).toFixed(1)} s`;
    this.onChange(state, state === "paused" ? NAMES.paused : `${NAMES[state]}: mask ${old} old`);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.onChange(null, "");
  }
}
