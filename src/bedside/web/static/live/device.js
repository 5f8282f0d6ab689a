/** Live frames through the network on this device. */

/** Frames of a film after which it is planned for again, as a stream of `bedside` is. */
const PLANNED_AT = [1, 4, 11];
/** The gate judges one of so many frames, and its last verdicts together. */
const [JUDGED_EVERY, VERDICTS] = [10, 7];

/**
 * Segment what a film or a camera shows, the latest frame first; frames that come meanwhile are dropped.
 *
 * @param {object} source See `openVideo`.
 * @param {object} engine See `DeviceEngine`.
 * @param {{onWarnings, onFrame, onError}} told
 *   `onFrame` gets the labels with the image that they belong to, when that was taken, and the frames dropped so far.
 * @returns {() => void} Ends it.
 */
export function runOnDevice(source, engine, { onWarnings, onFrame, onError }) {
  const { region, spacingMm } = source;
  const sample = [];
  let [busy, ended, seen, dropped] = [false, false, 0, 0];
  let planned = [];
  const verdicts = [];

  async function take(taken) {
    const begin = performance.now();
    const image = await source.read();
    const decode = performance.now() - begin;
    seen += 1;
    if (seen <= PLANNED_AT.at(-1)) {
      sample.push(image);
      if (PLANNED_AT.includes(seen)) {
        const plan = await engine.plan(sample, { region, spacingMm });
        planned = plan.warnings;
        onWarnings(planned);
      }
    }
    const found = await engine.run(image, seen % JUDGED_EVERY === 1);
    if (ended) return;
    if (found.verdict) {
      verdicts.push(found.verdict);
      if (verdicts.length > VERDICTS) verdicts.shift();
      const foreign = await engine.explain(verdicts);
      if (!ended) onWarnings(foreign ? [foreign, ...planned] : planned, Boolean(foreign));
    }
    onFrame({ ...found, image, taken, dropped, ms: { decode, ...found.ms } });
  }

  const stop = source.watch((taken) => {
    if (busy) {
      dropped += 1;
      return;
    }
    busy = true;
    take(taken)
      .catch((error) => {
        if (!ended) onError(error);
        end();
      })
      .finally(() => {
        busy = false;
      });
  });
  function end() {
    ended = true;
    stop();
  }
  return end;
}
