/** Live frames through the server's WebSocket `/stream`. */
import { inflate } from "../io/streams.js";
import { STALE_MS } from "./age.js";

const MOST_ON_THE_WAY = 2;
const MOST_BYTES = 2 ** 25;
const LOST_MS = 5000;
const AGAIN_MS = 2000;
const REFUSED = 1008;

/**
 * Have a server segment what a film or a camera shows. Few frames are on the way at a time, so a slow network or
 * server delays none that follow: what comes meanwhile is dropped here.
 *
 * @param {object} source See `openVideo`.
 * @param {URL} address Of `/stream`.
 * @param {object} told As of `runOnDevice`; `onLost` is told of a connection that is tried again.
 * @returns {() => void} Ends it.
 */
export function runOnSocket(source, address, { onWarnings, onFrame, onError, onLost }) {
  let [ended, reading, dropped] = [false, false, 0];
  let connection = null;

  const stop = source.watch(async (taken) => {
    connection ??= connect();
    if (reading || !connection.isFree()) {
      dropped += 1;
      return;
    }
    reading = true;
    try {
      const image = await source.read();
      if (!ended) connection?.send(image, taken);
    } catch (error) {
      if (!ended) onError(error);
    }
    reading = false;
  });

  function connect() {
    const opened = new Connection(address, {
      onFrame: (found) => ended || onFrame({ ...found, dropped: dropped + found.dropped }),
      onWarnings: (texts) => ended || onWarnings(texts),
      onEnd: (message, final) => {
        if (ended) return;
        if (final) {
          end();
          onError(new Error(message));
          return;
        }
        onLost(message);
        setTimeout(() => {
          if (connection === opened) connection = null;
        }, AGAIN_MS);
      },
    });
    return opened;
  }

  function end() {
    ended = true;
    stop();
    connection?.close();
  }
  return end;
}

/** One connection: frames are numbered as the server counts them. */
class Connection {
  constructor(address, { onFrame, onWarnings, onEnd }) {
    this.told = { onFrame, onWarnings, onEnd };
    this.waiting = new Map();
    this.number = this.heard = 0;
    this.shown = -1;
    this.ready = false;
    this.shape = this.error = "";
    this.event = null;
    this.work = Promise.resolve();
    this.socket = new WebSocket(address);
    this.socket.binaryType = "arraybuffer";
    this.socket.onmessage = ({ data }) => {
      this.work = this.work.then(() => this.take(data)).catch((error) => this.refuse(error));
    };
    this.socket.onclose = ({ code }) => this.finish(code);
  }

  /** Whether a frame that is sent now is not kept waiting by those before it. */
  isFree() {
    if (!this.ready || this.socket.readyState !== WebSocket.OPEN) return false;
    if (this.socket.bufferedAmount > 0) return false;
    return this.waiting.size < MOST_ON_THE_WAY || performance.now() - this.heard > LOST_MS;
  }

  send(image, taken) {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    const { data, width, height, channels } = image;
    const shape = JSON.stringify({ shape: channels === 3 ? [height, width, 3] : [height, width] });
    if (shape !== this.shape) this.socket.send(shape);
    this.shape = shape;
    const message = new Uint8Array(8 + data.length);
    new DataView(message.buffer).setFloat64(0, taken / 1000, true);
    message.set(data, 8);
    this.socket.send(message);
    this.waiting.set(this.number, { image, taken, sent: performance.now() });
    this.number += 1;
  }

  async take(data) {
    this.heard = performance.now();
    if (typeof data !== "string") {
      const labels = await inflate(new Uint8Array(data), MOST_BYTES, "deflate");
      this.settle(this.event, labels);
      return;
    }
    const event = JSON.parse(data);
    if (event.error) this.error = event.error.message;
    else if (event.state === "ready") this.ready = true;
    else if (event.labels) this.event = event;
    else this.settle(event, null);
  }

  settle(event, data) {
    const own = this.waiting.get(event.frame);
    for (const number of this.waiting.keys()) if (number <= event.frame) this.waiting.delete(number);
    // That there is no mask is seen; why a frame has none is told until the next one.
    if (event.state === "stale" && !data) return;
    this.told.onWarnings([...(event.warnings ?? []), ...(event.reason && !data ? [event.reason] : [])]);
    // A mask that is repeated because it became stale was shown with its own time.
    if (!data || !own || event.frame <= this.shown) return;
    this.shown = event.frame;
    const [height, width] = event.labels.shape;
    const { decode, preprocess, network, postprocess, total } = event.stage_ms;
    this.told.onFrame({
      labels: { data, width, height, channels: 1 },
      image: own.image,
      taken: own.taken,
      dropped: event.dropped,
      edits: [],
      confidence: event.confidence ?? {},
      warnings: event.warnings ?? [],
      reply: event,
      ms: { decode, preprocess, network, postprocess, total, server: performance.now() - own.sent },
    });
  }

  refuse(error) {
    this.error = error.message;
    this.socket.close();
  }

  finish(code) {
    const message = this.error || "the connection to the server was lost.";
    this.told.onEnd(message, code === REFUSED);
  }

  close() {
    this.socket.onclose = null;
    this.socket.close();
  }
}

/** Where a server takes the frames of a model. */
export function streamAddress(base, model) {
  const address = new URL("stream", base);
  address.protocol = address.protocol.replace("http", "ws");
  address.search = new URLSearchParams({ model, deadline_ms: STALE_MS });
  return address;
}
