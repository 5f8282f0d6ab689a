/** The page: opens files, has them segmented, and shows what comes out. */
import { DeviceEngine } from "./engine.js";
import { FrameCache } from "./io/cache.js";
import { openFile } from "./io/open.js";
import { bindApp, bindPlace } from "./bindings.js";
import { AgeWatch } from "./live/age.js";
import { runOnDevice } from "./live/device.js";
import { runOnSocket } from "./live/socket.js";
import { measureOwn } from "./ellipse.js";
import { countPixels } from "./measure.js";
import { isolate, keepOffline } from "./offline.js";
import { Player } from "./player.js";
import { runFrames, runOnServer } from "./runs.js";
import { checkSource, resolveScale } from "./fitness.js";
import { element, followTheme, ViewControls } from "./controls.js";
import { offerSaves } from "./save.js";
import { ServerEngine } from "./server.js";
import { Curve } from "./view/curve.js";
import { Panel } from "./view/panel.js";
import { Stage } from "./view/stage.js";
import { ScanView } from "./view/scan.js";
import { StructureList } from "./view/structures.js";

class App {
  constructor() {
    this.engine = new DeviceEngine();
    this.server = null;
    this.stage = new Stage(element("stage"));
    this.scan = new ScanView({ onSlice: (slice) => this.go(slice), attempt: (work) => this.attempt(work) });
    this.view = new ViewControls(this.stage, this.scan.volume);
    this.panel = new Panel();
    this.age = new AgeWatch((state, words) => this.panel.age(state, words));
    this.player = new Player((playing) => this.panel.playing(playing));
    this.list = new StructureList(element("structures").tBodies[0], (value, visible) => {
      this.stage.toggle(value, visible);
      this.scan.volume.hide(this.stage.hidden);
      this.refresh();
    });
    this.curve = new Curve(element("curve"), (frame) => this.go(frame));
    this.structures = [];
    this.source = null;
    // Counts what is segmented and what is opened: what an earlier one brings is dropped.
    this.turn = this.opening = 0;
    this.loading = true;
    this.drawing = null;
    this.clear();
  }

  /** Load what the page offers, and the first model. */
  async start() {
    followTheme();
    bindApp(this);
    const site = await (await fetch("site.json")).json();
    if (site.server === null && (await isolate())) return;
    this.site = site;
    this.scan.offer(site.viewer);
    this.server = site.server === null ? null : new ServerEngine(site.server);
    bindPlace(this);
    keepOffline(
      () => this.panel.offline(),
      (apply) => this.panel.offerUpdate(apply)
    );
    const select = element("model");
    select.replaceChildren(...site.models.map(({ name, task }) => Object.assign(new Option(name, name), { title: task })));
    await this.openModel(site.models[0].name);
  }

  /** Whether the network runs here, and not on the server. */
  get onDevice() {
    return this.server === null || element("on-device").checked;
  }

  async openModel(name) {
    this.turn += 1;
    this.endRun?.();
    const { turn } = this;
    this.loading = true;
    this.about = null;
    // A mask never stands under the name of another model.
    this.clear();
    this.state("loading", "loading the model …");
    this.panel.problem("");
    const offered = this.site.models.find((each) => each.name === name);
    try {
      if (this.onDevice && !offered.on_device) {
        throw new Error(`${name} does not run in a browser. ${this.server ? 'Switch "on this device" off.' : ""}`);
      }
      const opened = this.onDevice ? await this.engine.open(`models/${name}`) : { about: await this.server.open(name) };
      if (turn !== this.turn) return;
      this.loading = false;
      this.about = opened.about;
      this.structures = this.about.spec.labels;
      this.list.fill(this.structures);
      this.stage.hidden.clear();
      this.panel.model({ ...opened, runtime: this.site.runtime });
      this.state("ready");
      if (this.source) await this.segment();
    } catch (error) {
      if (turn === this.turn) this.loading = false;
      if (!this.loading) this.fail(error);
    }
  }

  async open(opening) {
    if (!this.loading) this.leave();
    this.opening += 1;
    const mine = this.opening;
    this.state("busy", "opening …");
    try {
      const source = await opening();
      if (mine !== this.opening) {
        source.close();
        return;
      }
      this.source?.close();
      this.source = source;
      this.frames = new FrameCache(source);
      element("welcome").hidden = true;
      // A model that is being loaded segments what it finds.
      if (!this.loading) await this.segment();
    } catch (error) {
      if (mine === this.opening) this.fail(error);
    }
  }

  openFiles(files) {
    if (!files.length) return;
    this.open(async () => {
      const source = await openFile(files[0]);
      const several = files.length > 1 ? [`${files.length} files were given, and the first was opened`] : [];
      return { ...source, warnings: [...several, ...source.warnings] };
    });
  }

  /** Segment the source that is open, from its beginning. */
  async segment() {
    this.turn += 1;
    this.endRun?.();
    this.clear();
    this.panel.problem("");
    const { source, turn } = this;
    if (!this.about) throw new Error("no model is loaded. Choose one.");
    this.prepare(source);
    checkSource(source, this.about.spec, { onDevice: this.onDevice, hasServer: this.server !== null });
    if (source.live) {
      this.follow(source);
      return;
    }
    this.state("busy", `segmenting ${source.count > 1 ? `${source.count} frames` : ""} …`);
    const began = performance.now();
    const options = {
      spec: this.about.spec,
      first: () => this.frame,
      cancelled: () => turn !== this.turn,
      onWarnings: (warnings, foreign) => this.note(warnings, foreign),
      onFrame: (index, found) => this.keep(index, found),
    };
    try {
      if (this.onDevice) await runFrames(source, this.frames, this.engine, options);
      else await this.runOnServer(source, options);
    } catch (error) {
      // What was left meanwhile may fail as it likes.
      if (turn === this.turn) throw error;
    }
    if (turn !== this.turn) return;
    this.state("done");
    if (this.mask && this.isScan) this.scan.take({ source, mask: this.mask, structures: this.structures });
    this.panel.finished(this.results, performance.now() - began);
    this.show();
    element("announce").textContent = `Segmented. ${this.describe()}`;
  }

  /** Show a source without masks. */
  prepare(source) {
    if (!source.scaledByHand) {
      source.statedMm ??= source.spacingMm;
      Object.assign(source, resolveScale(source, this.about.spec));
    }
    this.panel.transport(source);
    this.panel.scale(source);
    this.view.setRange(this.isScan ? (source.scanRange ?? source.range) : source.range);
    this.results = new Array(source.count).fill(null);
    if (!source.live) this.show();
  }

  /** Show what is to be known of the result; `foreign`: the gate finds it unlike the training. */
  note(warnings, foreign = false) {
    const { warnings: own, scaleWarnings, live } = this.source;
    this.notes = [...(this.onDevice || live ? [...own, ...scaleWarnings] : []), ...warnings];
    this.foreign = foreign;
    this.showNotes();
  }

  /** Show the notes, with the scale that a person gave in place of the one that is missing. */
  showNotes() {
    const mm = this.source.scaledByHand ? this.source.spacingMm?.[0] : null;
    const notes = mm ? this.notes.filter((text) => !/(areas|sizes) are given in pixels$/.test(text)) : this.notes;
    this.panel.notes(mm ? [...notes, `the scale of ${mm} mm per pixel was given by hand`] : notes);
    this.panel.scale(this.source);
    this.refresh();
  }

  async runOnServer(source, options) {
    const asked = new AbortController();
    this.endRun = () => asked.abort();
    const model = this.about.bundle.name;
    try {
      const onMask = (mask) => (this.mask = mask);
      await runOnServer(source, this.server, { ...options, model, onMask, signal: asked.signal });
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  }

  keep(index, found) {
    this.results[index] = found;
    const counts = countPixels(found.labels, this.structures);
    for (const { value } of this.structures) this.areas.get(value)[index] = counts[value];
    if (index === this.frame) this.show();
    else this.refreshSoon();
    const done = this.results.filter(Boolean).length;
    if (done < this.results.length) this.state("busy", `${done} of ${this.results.length} frames`);
  }

  /** Segment what a film or a camera shows until something else is opened. */
  follow(source) {
    document.body.append(source.video);
    this.play(true);
    this.state("busy", "waiting for the first mask …");
    const told = {
      onWarnings: (warnings, foreign) => this.note(warnings, foreign),
      onFrame: (found) => this.showLive(found),
      onError: (error) => this.fail(error),
      onLost: (message) => this.fail(new Error(`${message} It is tried again.`)),
    };
    const end = this.onDevice
      ? runOnDevice(source, this.engine, told)
      : runOnSocket(source, this.server.streamAddress(this.about.bundle.name), told);
    this.age.start(() => this.player.playing);
    this.endRun = () => {
      end();
      this.age.stop();
    };
  }

  showLive(found) {
    if (document.body.dataset.state !== "done") this.panel.problem("");
    this.results = [found];
    const counts = countPixels(found.labels, this.structures);
    for (const { value } of this.structures) this.areas.set(value, [counts[value]]);
    this.show();
    this.state("done");
    this.panel.live({ ...found, age: performance.now() - found.taken });
    this.age.show(found.taken);
  }

  /** Show the frame that is chosen, and its mask as soon as there is one. */
  show() {
    const { source, frame, frames } = this;
    const image = source.live ? this.results[0]?.image : frames.held(frame);
    if (image) {
      this.showImage(image);
      return;
    }
    frames.read(frame).then(
      (found) => {
        if (source === this.source && frame === this.frame) this.showImage(found);
      },
      (error) => this.fail(error)
    );
  }

  showImage(image) {
    const { source, frame, structures } = this;
    const found = this.results[frame];
    const aspect = source.spacingMm ? source.spacingMm[0] / source.spacingMm[1] : (source.pixelAspect ?? 1);
    this.stage.show({ image, labels: found?.labels ?? null, structures, aspect });
    if (found) {
      this.panel.times(found.ms, this.results);
      this.panel.edits(found.edits, structures);
    }
    this.refresh();
  }

  /** Refresh once for all that comes until the screen is drawn. */
  refreshSoon() {
    this.drawing ??= requestAnimationFrame(() => {
      this.drawing = null;
      this.refresh();
    });
  }

  refresh() {
    const { areas, frame, structures, source } = this;
    if (!source) return;
    const count = source.live ? 1 : source.count;
    for (const { value } of structures) if (!areas.has(value)) areas.set(value, new Array(count).fill(null));
    const { spacingMm } = source;
    const sliceMm = this.isScan ? source.sliceMm : null;
    this.list.show({ areas, frame, spacingMm, sliceMm });
    const labels = this.results[frame]?.labels;
    const own = labels ? structures.flatMap((structure) => measureOwn(labels, structure, spacingMm)) : [];
    this.panel.measurements(own, sliceMm === null ? this.list.describeChanges({ areas, spacingMm }, structures) : []);
    if (this.results[frame]) this.panel.confidence(this.results[frame], this.foreign);
    element("change-head").textContent = sliceMm === null ? "Change" : "Volume";
    this.panel.frame(source, frame, this.isScan ? "slice" : "frame");
    if (count > 1) this.curve.show({ areas, structures, hidden: this.stage.hidden, frame, count });
    const complete = this.results.length > 0 && this.results.every(Boolean) && !source.live;
    offerSaves({ shown: Boolean(this.results[frame]), complete, seg: !this.onDevice && Boolean(source.modality) });
    element("stage").setAttribute("aria-label", this.describe());
  }

  /** Whether the frames are slices: their areas sum up to volumes, and nothing changes in time. */
  get isScan() {
    return this.source.kind === "scan" || this.about?.spec.model?.spatial_dims === 3;
  }

  /** A frame on or back; in three planes, a slice up or down. */
  step(by) {
    if (this.scan.isOpen) this.scan.volume.step(by);
    else this.go(this.frame + by);
  }

  go(frame) {
    if (!this.source || this.source.live) return;
    this.frame = ((frame % this.source.count) + this.source.count) % this.source.count;
    this.show();
  }

  play(on = !this.player.playing) {
    // A frame without its mask is waited for.
    const isDone = () => this.results[(this.frame + 1) % this.source.count];
    this.player.set(on, this.source, () => isDone() && this.go(this.frame + 1));
  }

  describe() {
    const { source, frame, areas, structures } = this;
    const sizes = structures.map(({ value, name }) => `${name} ${this.list.rows.get(value)?.area.textContent || "not known"}`);
    const place = source.count > 1 ? `, frame ${frame + 1} of ${source.count}` : "";
    return areas.size ? `${source.name}${place}: ${sizes.join(", ")}` : source.name;
  }

  /** Forget the results, not the source. */
  clear() {
    this.mask = null;
    this.scan.take(null);
    this.frame = 0;
    this.results = [];
    this.areas = new Map(this.structures.map(({ value }) => [value, new Array(this.source?.count || 1).fill(null)]));
    this.stage.show({ image: null, labels: null, structures: this.structures });
    this.panel.clear();
  }

  leave() {
    this.turn += 1;
    this.endRun?.();
    this.endRun = null;
    this.play(false);
    this.source?.close();
    this.source = this.frames = null;
    this.clear();
    this.panel.transport(null);
    element("welcome").hidden = false;
  }

  state(name, text = "") {
    document.body.dataset.state = name;
    element("busy").textContent = text;
  }

  fail(error) {
    this.state("error");
    this.panel.problem(error.message);
  }

  /** Take the scale that a person knows, of a file that has none; 0 takes it back. */
  setScale(mm) {
    if (!this.source) return;
    this.source.spacingMm = mm > 0 ? [mm, mm] : null;
    this.source.scaledByHand = true;
    this.showNotes();
  }

  seek(place) {
    if (this.source?.live) this.source.seek(place / 1000).catch((error) => this.fail(error));
    else this.go(place);
  }

  /** Do what may fail, and tell if it does. */
  async attempt(work) {
    try {
      await work();
    } catch (error) {
      this.fail(error);
    }
  }
}

const app = new App();
app.start().catch((error) => app.fail(error));
