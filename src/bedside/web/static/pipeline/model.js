/** What a page can run of a bundle: its steps are looked up in the tables, by name. */
import { ConfidenceEstimator } from "./confidence.js";
import { Gate } from "./gate.js";
import { checkMarker, turnColumns } from "./marker.js";
import { planFrames, PREPROCESS, kindOf } from "./plan.js";
import { planRestore } from "./logits.js";
import { POSTPROCESS, repair } from "./repairs.js";

export const STEPS = {
  preprocess: Object.keys(PREPROCESS),
  refine: [],
  postprocess: Object.keys(POSTPROCESS),
  priors: [],
};

/** Refuse a spec with anything that is not in the tables. */
export function checkSpec(spec) {
  const dims = spec.model.spatial_dims ?? spec.input.size_px.length;
  if (dims !== 2) throw new Error(`${spec.name} takes whole scans; a page runs networks for frames.`);
  if (spec.input.neighbours) throw new Error(`${spec.name} takes the neighbours of each slice; a page has frames only.`);
  for (const [list, known] of Object.entries(STEPS)) {
    for (const { step } of spec[list]) {
      if (!known.includes(step)) throw new Error(`${spec.name} has the step "${step}", which the page does not know.`);
    }
  }
}

/**
 * The steps around a network.
 *
 * @param {object} spec The bundle's, as in `bundle.json`.
 * @param {(tensor: Float32Array) => Promise<Float32Array>} network
 * @param {object | null} gate The bundle's, which tells images unlike those it was trained on.
 * @param {object | null} confidence The bundle's calibration, which tells how far masks are to be trusted.
 */
export class Pipeline {
  constructor(spec, network, gate = null, confidence = null) {
    checkSpec(spec);
    this.spec = spec;
    this.network = network;
    this.values = spec.labels.map((label) => label.value);
    this.gate = this.estimator = null;
    this.warnings = [];
    this.openJudges(gate, confidence);
  }

  /** A gate or a confidence that cannot be worked out here is told, and not left out in silence. */
  openJudges(gate, confidence) {
    const { input, labels, model, name, task } = this.spec;
    const [height, width] = input.size_px;
    const settings = { channels: input.channels, height, width, classes: model.num_classes, stride: model.logit_stride };
    const attempt = (what, without, make) => {
      try {
        return make();
      } catch (error) {
        this.warnings.push(`the ${what} of ${name} is not worked out on this device: ${error.message}. ${without}`);
        return null;
      }
    };
    if (gate) {
      const make = () => new Gate(gate, { ...settings, madeFor: input.view || task });
      this.gate = attempt("gate", "Foreign images are not told", make);
    }
    if (confidence) {
      const make = () => new ConfidenceEstimator(confidence, { ...settings, structures: labels.map((label) => label.name) });
      this.estimator = attempt("confidence", "How far masks are to be trusted is not told", make);
    }
  }

  /** Plan for the frames of a sequence; see `planFrames`. */
  plan(sample, { region = null, spacingMm = null, pixelAspect = null } = {}) {
    const { input, model, preprocess } = this.spec;
    const plan = planFrames(preprocess, sample, { input, region, sides: spacingMm ?? (pixelAspect ? [pixelAspect, 1] : null) });
    const [height, width] = input.size_px;
    const restore = planRestore(plan.transform, {
      stride: model.logit_stride,
      classes: model.num_classes,
      input: { height, width },
    });
    return { ...plan, warnings: [...this.warnings, ...plan.warnings], restore, spacingMm };
  }

  /** Plan as `plan` does, and turn the view if it is mirrored and the spec has that checked. */
  async planUpright(sample, options = {}) {
    const plan = this.plan(sample, options);
    const { marker, model, input } = this.spec;
    if (!marker) return plan;
    const { network } = this;
    const [height, width] = input.size_px;
    const settings = { ...marker, classes: model.num_classes, height, width, network };
    const { mirrored, warning } = await checkMarker(sample, plan, settings);
    return { ...plan, mirrored, warnings: warning ? [...plan.warnings, warning] : plan.warnings };
  }

  /**
   * Segment one frame: labels on its grid, how far they are to be trusted, what repairs changed, and the time of each
   * stage in ms.
   *
   * @param {boolean} judged Whether the gate, if there is one, judges the frame.
   */
  async run(image, plan, judged = false) {
    if (kindOf(image) !== plan.kind) {
      throw new Error(`the frame is ${kindOf(image)}; the plan is for ${plan.kind}.`);
    }
    const moments = [performance.now()];
    const tensor = plan.apply(image);
    moments.push(performance.now());
    const logits = await this.predict(tensor, plan.mirrored);
    moments.push(performance.now());
    const verdict = judged && this.gate ? this.judge(tensor, logits, plan.mirrored, [image.height, image.width]) : null;
    const confidence = this.estimator?.assess(tensor, logits) ?? {};
    const labels = plan.restore(logits);
    const edits = repair(labels, this.spec.postprocess, this.values, plan.spacingMm);
    moments.push(performance.now());
    const [preprocess, network, postprocess] = moments.slice(1).map((moment, k) => moment - moments[k]);
    return { labels, confidence, edits, verdict, ms: { preprocess, network, postprocess, total: moments[3] - moments[0] } };
  }

  /** The gate's verdict on a frame as the network saw it. */
  judge(tensor, logits, mirrored, framePx) {
    if (!mirrored) return this.gate.judge(tensor, logits, framePx);
    const { input, model } = this.spec;
    const width = input.size_px[1];
    return this.gate.judge(turnColumns(tensor, width), turnColumns(logits, width / model.logit_stride), framePx);
  }

  /** Logits of a tensor; of a mirrored view the network sees it turned. */
  async predict(tensor, mirrored) {
    if (!mirrored) return this.network(tensor);
    const { input, model } = this.spec;
    const width = input.size_px[1];
    return turnColumns(await this.network(turnColumns(tensor, width)), width / model.logit_stride);
  }
}
