"""Golden tensors: every intermediate result of one image, to check programs in other languages."""

import hashlib
import json
import shutil
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from nibabel import Nifti1Image
from PIL import Image

from bedside.bundle import Bundle
from bedside.errors import InputError
from bedside.evaluation.generated import make_samples
from bedside.export.folder import written_folder
from bedside.io.source import open_source
from bedside.pipeline.frames.geometry_steps import find_aspect
from bedside.pipeline.frames.plan import FramePlan, channels_first, stack_neighbours
from bedside.pipeline.postprocess import grid_of
from bedside.pipeline.refine import refine_logits
from bedside.pipeline.segmenter import Segmenter, open_segmenter
from bedside.pipeline.volumes.prepare import prepare_volume
from bedside.pipeline.volumes.scan import read_scan
from bedside.pipeline.volumes.sliding_window import plan_window, predict_windows
from bedside.pipeline.volumes.tilt import correct_gantry_tilt
from bedside.spec import CropFan, DeploymentSpec, Fit, Grey, PreprocessStep, to_mapping
from bedside.volume import ImageSequence

SCHEMA_VERSION = 1
DESCRIPTION = "golden.json"
SAMPLE = Path(__file__).with_name("sample")
"""A program in C++, which leads from golden tensors to labels."""


@dataclass(frozen=True)
class _Tensors:
    """Raw tensors in a folder, and their descriptions.

    Attributes:
        folder: Where they are written.
        described: File, type, shape, axes and hash of each, by its name.
    """

    folder: Path
    described: dict[str, dict[str, Any]] = field(default_factory=dict)

    def write(self, name: str, array: np.ndarray, axes: str) -> str:
        """Write one tensor, little-endian, its last axis fastest; returns its name."""
        content = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        (self.folder / f"{name}.raw").write_bytes(content)
        self.described[name] = {
            "file": f"{name}.raw",
            "dtype": array.dtype.name,
            "shape": list(array.shape),
            "axes": axes,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        return name


def export_golden(bundle: Bundle, output: Path, *, image: Path | None = None) -> dict[str, Any]:
    """Segment one frame or scan in f32, and write every intermediate tensor with a description.

    Args:
        bundle: What to run.
        output: Folder to write; it appears whole, or not at all.
        image: A scan, or an image whose middle frame is taken. Only pixels are written, neither
            its name nor its header. None for an image made of noise and ellipses, which is
            written too where a picture or a scan can hold it.

    Returns:
        The description, which lies in the folder as `golden.json`.

    Raises:
        InputError: If the image is refused.
        OutputError: If the folder cannot be written.
    """
    with written_folder(output, marker=DESCRIPTION) as folder:
        return write_golden(bundle, folder, image=image)


def write_golden(bundle: Bundle, folder: Path, *, image: Path | None = None) -> dict[str, Any]:
    """Write golden tensors into a folder that is there; see `export_golden`."""
    spec = bundle.spec
    drawn = None if image else next(make_samples(spec, count=1)).sequence
    path = image if drawn is None else _write_input(spec, drawn, folder)
    sequence = cast(ImageSequence, drawn) if path is None else open_source(path).sequence
    content = path.read_bytes() if path is not None and path.is_file() else None
    tensors = _Tensors(folder)
    described = {
        "schema_version": SCHEMA_VERSION,
        "bundle": {"name": spec.name, "version": spec.version, "sha256": bundle.sha256},
        "input": {
            "file": None if image or path is None else path.name,
            "sha256": None if content is None else hashlib.sha256(content).hexdigest(),
        },
        **_run(bundle, sequence, tensors),
        "byte_order": "little",
        "tensors": tensors.described,
    }
    text = json.dumps(described, indent=1, allow_nan=False)
    (folder / DESCRIPTION).write_text(text + "\n", "utf-8")
    return described


def describe_for_programs(folder: Path, bundle: Bundle) -> str:
    """Write golden tensors and the C++ sample into an export, for programs in other languages.

    Args:
        folder: The export; it gets `golden/` and `sample/`.
        bundle: What was exported.

    Returns:
        Why there are no golden tensors: the bundle refuses a synthetic image. Empty if there are.
    """
    shutil.copytree(SAMPLE, folder / "sample")
    golden = folder / "golden"
    golden.mkdir()
    try:
        write_golden(bundle, golden)
    except InputError as error:
        shutil.rmtree(golden)
        return str(error)
    return ""


def _run(bundle: Bundle, sequence: ImageSequence, tensors: _Tensors) -> dict[str, Any]:
    """Segment an image step by step; returns the numbers of the steps."""
    spec = bundle.spec
    opened = open_segmenter(bundle, precision="f32", threads=1)
    # The tensors are of the frame as it is, whichever way the probe's marker points.
    segmenter = Segmenter(replace(spec, marker=None), opened.session, warnings=opened.warnings)
    sequence = segmenter.resolve_axes(sequence)
    run = _run_frame if spec.model.spatial_dims == 2 else _run_scan
    return {
        "made_with": {"backend": segmenter.session.backend, "precision": "f32"},
        **run(segmenter, sequence, tensors),
        "refine": to_mapping(spec.refine),
        "postprocess": to_mapping(spec.postprocess),
        "priors": to_mapping(spec.priors),
        "labels": [{"value": label.value, "name": label.name} for label in spec.labels],
    }


def _run_frame(segmenter: Segmenter, sequence: ImageSequence, tensors: _Tensors) -> dict[str, Any]:
    """Segment the middle frame of a sequence."""
    spec = segmenter.spec
    sequence = stack_neighbours(sequence, spec.input.neighbours)
    plan = segmenter.plan(sequence)
    index, aspect = len(sequence) // 2, find_aspect(sequence.proportions)
    frame = sequence.decode(index)
    tensors.write("frame", np.moveaxis(frame, 0, -1), "HWC")
    steps = _write_steps(spec, plan, frame, tensors)
    tensor = plan.apply(frame)
    tensors.write("tensor", tensor, "NCHW")
    logits = segmenter.session.predict(tensor)
    tensors.write("logits", logits, "NCHW")
    stride = spec.model.logit_stride
    refined = logits[0]
    if spec.refine:
        refined = refine_logits(refined, tensor, spec.refine, stride=stride)
        tensors.write("refined", refined, "CHW")
    restored = plan.transform.restore(refined, stride=stride)
    tensors.write("restored", restored, "HW")
    grid = grid_of(sequence, spatial_dims=2, spacing_mm=sequence.spacing_mm)
    tensors.write("labels", segmenter.segment_frame(frame, plan, grid=grid).labels, "HW")
    return {
        "frame_index": index,
        "spacing_mm": sequence.spacing_mm,
        "plan": {
            "frame_shape": [*plan.transform.source_shape, len(frame)],
            "box": astuple(plan.transform.box),
            "inner": astuple(plan.transform.inner),
            "input_shape": list(tensor.shape),
            "pixel_aspect": aspect,
            "resize": _resize_of(spec, plan, aspect),
            "logit_stride": stride,
            "num_classes": spec.model.num_classes,
        },
        "preprocess": steps,
        "warnings": list(plan.warnings),
    }


def _run_scan(segmenter: Segmenter, sequence: ImageSequence, tensors: _Tensors) -> dict[str, Any]:
    """Segment a scan."""
    spec, window = segmenter.spec, plan_window(segmenter.spec)
    found = segmenter.segment_sequence(sequence)
    tensors.write("volume", read_scan(sequence), "CDHW")
    prepared = prepare_volume(correct_gantry_tilt(sequence)[0], spec)
    tensors.write("tensor", prepared.tensor[None], "NCDHW")
    logits = predict_windows(segmenter.session.predict, prepared.tensor, window)
    tensors.write("logits", logits[None], "NCDHW")
    transform = prepared.transform
    restored = transform.restore([logits], stride=spec.model.logit_stride)
    tensors.write("restored", restored, "DHW")
    tensors.write("labels", found.labels.array, "DHW")
    return {
        "spacing_mm": found.spacing_mm,
        "plan": {
            "volume_shape": [sequence.shape[1], *transform.source_shape],
            "axes_order": list(transform.orientation.order),
            "axes_reversed": list(transform.orientation.reversed),
            "grid_shape": list(transform.grid),
            "grid_offset": list(transform.offset),
            "window_shape": [1, spec.input.channels, *spec.input.size_px],
            "windows": to_mapping(spec.windows),
            "logit_stride": spec.model.logit_stride,
            "num_classes": spec.model.num_classes,
        },
        "preprocess": to_mapping(spec.preprocess),
        "warnings": list(found.warnings),
    }


def _resize_of(spec: DeploymentSpec, plan: FramePlan, aspect: float) -> str | None:
    """How `fit` resizes a frame: "area" if it shrinks along the tighter axis; None without it."""
    box, (height, width) = plan.transform.box, spec.input.size_px
    for step in spec.preprocess:
        if isinstance(step, Fit):
            scale = min(height / (box.height * step.stretch * aspect), width / box.width)
            return "area" if scale < 1 else "linear"
    return None


def _write_steps(
    spec: DeploymentSpec, plan: FramePlan, frame: np.ndarray, tensors: _Tensors
) -> list[dict[str, Any]]:
    """Write the result of each step; returns its settings and the names of its tensors."""
    traced = plan.trace(frame)
    _, before = next(traced)
    tensors.write("opened", channels_first(before), "CHW")
    steps = []
    for place, (step, (stage, image)) in enumerate(zip(spec.preprocess, traced, strict=True), 1):
        numbers = _write_numbers(step, stage, before, image, tensors)
        result = tensors.write(f"step{place}_{step.step}", channels_first(image), "CHW")
        steps.append({**to_mapping(step), "result": result, **numbers})
        before = image
    return steps


def _write_numbers(
    step: PreprocessStep, stage: Any, before: np.ndarray, after: np.ndarray, tensors: _Tensors
) -> dict[str, str]:
    """Write what a step has found in the image: the mask of a sector, the table of a scale."""
    if isinstance(step, CropFan):
        white = np.full(before.shape, 255, np.uint8)
        return {"mask": tensors.write("fan_mask", channels_first(stage(white)), "CHW")}
    if before.dtype == np.uint8 and after.dtype == np.float32:
        levels = np.arange(256, dtype=np.uint8)[None]
        return {"table": tensors.write(f"{step.step}_table", stage(levels)[0], "V")}
    return {}


def _write_input(spec: DeploymentSpec, drawn: ImageSequence, folder: Path) -> Path | None:
    """Write a drawn image: a frame as PNG, a scan as NIfTI.

    A frame is in colour, with a mark beside it, if a step makes it grey. None is written of values
    that are no brightness of 8 bits, which a picture cannot hold: its frame is `frame.raw`.
    """
    frame = drawn.decode(0)
    if frame.dtype != np.uint8:
        return None
    if drawn.geometry is not None:
        # NIfTI's axes are (x, y, z), and its coordinates run to the right and to the front.
        affine = np.diag([-1.0, -1, 1, 1]) @ drawn.geometry.affine[:, [2, 1, 0, 3]]
        affine[:, :3] *= 0.9  # so that there is something to resample
        path, image = folder / "input.nii", cast(Any, Nifti1Image)
        image(read_scan(drawn)[0].transpose(2, 1, 0), affine).to_filename(path)
        return path
    planes = np.pad(np.moveaxis(frame, 0, -1), ((12, 20), (30, 10), (0, 0)))
    if any(isinstance(step, Grey) for step in spec.preprocess):
        planes = np.repeat(planes[..., :1], 3, axis=-1)
        planes[4:7, 4:60] = (250, 180, 20)
    path = folder / "input.png"
    Image.fromarray(planes.squeeze()).save(path, "PNG")
    return path
