"""A case run again from its report: are the labels the very same?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bedside.bundle import Bundle
from bedside.errors import FormatError, SpecError, UsageError
from bedside.io.channels import join_channels
from bedside.io.dicom.options import DicomOptions
from bedside.io.image import open_image
from bedside.io.opened import Source
from bedside.io.read_options import ReadOptions
from bedside.options import RunOptions
from bedside.report.provenance import InputFacts
from bedside.report.record import Report
from bedside.segment import Model
from bedside.spec.reading import from_mapping
from bedside.system.regular_files import read_regular
from bedside.system.strict_json import read_json

_FACTS = ("backend", "precision", "runtime", "bedside_version", "threads")


@dataclass(frozen=True)
class RunChoices:
    """Options of a run that may change labels, as a report names them.

    Attributes:
        force: See `RunOptions`, as `gate`.
        gate: What happens to images that look unlike those the network was trained on.
        select: See `ReadOptions`, as `third_axis` and `pixel_spacing_mm`.
        third_axis: Whether the third axis is time or space.
        pixel_spacing_mm: (row, column) in mm.
        gaps: See `DicomOptions`, as `values_are_hu`.
        values_are_hu: Whether stored values of CT are Hounsfield units.
    """

    force: bool = False
    gate: Literal["refuse", "warn", "off"] = "warn"
    select: Mapping[str, int] = field(default_factory=dict)
    third_axis: Literal["auto", "time", "space"] = "auto"
    pixel_spacing_mm: tuple[float, float] | None = None
    gaps: Literal["refuse", "interpolate"] = "refuse"
    values_are_hu: bool = False

    @property
    def read(self) -> ReadOptions:
        """How files are opened."""
        return ReadOptions(
            tuple(self.select.items()),
            dicom=DicomOptions(self.gaps, self.values_are_hu),
            third_axis=self.third_axis,
            pixel_spacing_mm=self.pixel_spacing_mm,
        )


@dataclass(frozen=True)
class RecordedCase:
    """What a report says of its case.

    Attributes:
        path: The report.
        source: Name of the image's file.
        bundle: Name of the bundle.
        bundle_sha256: Hash of its file.
        input: Hash of the image; None if the report has none.
        choices: Options of the run.
        facts: Backend, precision, runtime, version of bedside; threads if the report has them.
        labels_sha256: Hash of the labels.
        area_px: Area of each structure in pixels, per frame.
    """

    path: Path
    source: str
    bundle: str
    bundle_sha256: str
    input: InputFacts | None
    choices: RunChoices
    facts: Mapping[str, Any]
    labels_sha256: str
    area_px: Mapping[str, Sequence[int]]


@dataclass(frozen=True)
class Replay:
    """A case run again.

    Attributes:
        same_labels: Whether every label is the same.
        same_case: Whether bundle and image are the report's; False if one differs or the report
            does not identify it.
        differences: What differs from the report, in sentences.
        labels_sha256: Hash of the new labels.
        report: The new report.
    """

    same_labels: bool
    same_case: bool
    differences: tuple[str, ...]
    labels_sha256: str
    report: Report


def read_case(path: Path) -> RecordedCase:
    """Read what a `report.json` says of its case.

    Raises:
        FormatError: If it is not such a report, or one without the hash of its labels.
    """
    try:
        found = read_json(read_regular(path))
        if not found["labels_sha256"]:
            raise KeyError("labels_sha256")
        given = found["input"]
        return RecordedCase(
            path=path,
            source=str(found["source"]),
            bundle=str(found["bundle"]["name"]),
            bundle_sha256=str(found["bundle"]["sha256"]),
            input=None if given is None else from_mapping(InputFacts, given, "input"),
            choices=from_mapping(RunChoices, found["options"], "options"),
            facts={key: found[key] for key in _FACTS if key in found},
            labels_sha256=str(found["labels_sha256"]),
            area_px={each["name"]: list(each["area_px"]) for each in found["structures"]},
        )
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}.") from error
    except (KeyError, TypeError, ValueError, SpecError) as error:
        what = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise FormatError(
            f"{path} is not a report.json that a case can be run again from: {what}. "
            "Segment the case anew to get one."
        ) from error


def find_input(case: RecordedCase) -> Path:
    """Path of a report's image: beside the report, above it, or in the working folder.

    Raises:
        UsageError: If there is no file of its name.
    """
    folder = case.path.absolute().parent
    for place in (folder, folder.parent, Path.cwd()):
        if Path(case.source).name == case.source and (place / case.source).exists():
            return place / case.source
    raise UsageError(
        f"{case.source!r}, the image of {case.path}, is not beside the report, above it, or in the "
        "working folder; name it with --input."
    )


def replay(
    case: RecordedCase, bundle: Bundle, inputs: Sequence[Path], *, run: RunOptions | None = None
) -> Replay:
    """Run a case again as its report says, and compare the labels.

    Args:
        case: What the report says.
        bundle: The bundle to run.
        inputs: The image: a file, or the folder of a DICOM series; or its channels.
        run: Backend, precision and threads in place of the report's.

    Raises:
        InputError: If the image is refused.
        BackendError: If the runtime of the report is not installed.
    """
    options = run or run_options(case)
    source = _open(inputs, case.choices.read)
    with Model.open(bundle, options) as model:
        result = model.segment_source(source)
        report = result.report
    differences, same_case = _compare_case(case, bundle, report)
    differences += [
        f"{key} is {now}; the report's is {before}"
        for key, before in case.facts.items()
        if (now := getattr(report, key)) != before
    ]
    same = report.labels_sha256 == case.labels_sha256
    if not same:
        differences += _compare_areas(case, report)
    return Replay(same, same_case, tuple(differences), report.labels_sha256, report)


def run_options(
    case: RecordedCase,
    *,
    backend: str | None = None,
    precision: str | None = None,
    threads: int | None = None,
) -> RunOptions:
    """How a case was run, with what is given in place of what its report says."""
    facts = case.facts
    return RunOptions(
        backend or str(facts["backend"]),
        precision or str(facts["precision"]),
        threads or facts.get("threads"),
        force=case.choices.force,
        gate=case.choices.gate,
    )


def _open(inputs: Sequence[Path], read: ReadOptions) -> Source:
    """Open an image, or the channels of one."""
    return join_channels([open_image(path, read=read) for path in inputs])


def _compare_case(case: RecordedCase, bundle: Bundle, report: Report) -> tuple[list[str], bool]:
    """Whether bundle and image are the report's, and in what they differ."""
    found = []
    if bundle.sha256 != case.bundle_sha256:
        found.append(
            f"the bundle is {bundle.spec.name} {bundle.spec.version} with sha256 {bundle.sha256}; "
            f"the report's is {case.bundle} with {case.bundle_sha256}"
        )
    if case.input is None:
        found.append("the report has no hash of its image, so that this is the same one is unknown")
    elif report.input is None:
        found.append("the image is not one file that can be identified by its hash")
    elif report.input.sha256 != case.input.sha256:
        found.append(
            f"the image has sha256 {report.input.sha256}; the report's has {case.input.sha256}"
        )
    return found, not found


def _compare_areas(case: RecordedCase, report: Report) -> list[str]:
    """In how many frames each structure has another area."""
    found = []
    for structure in report.structures:
        before = case.area_px.get(structure.name)
        if before is None or len(before) != len(structure.area_px):
            found.append(f"{structure.name}: the report has other frames or not this structure")
            continue
        changes = [abs(a - b) for a, b in zip(before, structure.area_px, strict=True) if a != b]
        if changes:
            found.append(
                f"{structure.name}: another area in {len(changes)} of {len(before)} "
                f"{report.unit}s, by at most {max(changes)} pixels"
            )
    return found or ["labels differ while all areas are the same"]
