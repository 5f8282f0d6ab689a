"""`bedside segment`: images on disk in, masks, pictures and reports in a folder out."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedside.batch.case import Finished, Loaded, OutputOptions, segment_case
from bedside.batch.manifest import name_cases
from bedside.batch.results import check_apart, results_folder
from bedside.cli.amounts import parse_bytes
from bedside.cli.arguments import option, positional
from bedside.cli.batch import is_batch, segment_batch
from bedside.cli.bundles import REQUIRE_SIGNED_HELP, TRUSTED_KEYS_HELP, open_bundle
from bedside.cli.console import frame_progress, group_warnings, print_err, print_out, summary, table
from bedside.errors import BackendError, BedsideError, FormatError, OutputError, UsageError
from bedside.io.formats import label_formats

if TYPE_CHECKING:
    from bedside.io.read_options import ReadOptions
    from bedside.io.source import Source

_BAD_INPUT = 3


@dataclass(frozen=True)
class Settings:
    """Segment an image, a cine, a scan, or many of them: masks, pictures and a report.

    Of a folder with several images each gets a folder of its own. The slices of a DICOM
    series are one image.
    """

    source: Path | None = positional(
        help="a DICOM, NIfTI, NRRD, MetaImage, PNG or JPEG file, or a folder of them",
        default=None,
    )
    output: Path = option(help="folder to write to", short="-o")
    channels: tuple[Path, ...] = option(
        help="further files of the same scan, one a channel, in the bundle's order", default=()
    )
    model: str | None = option(
        help="a bundle's file, or the name of a shipped one (default: the only shipped one)",
        default=None,
        short="-m",
    )
    format: str = option(
        help="how the mask is written; auto keeps the kind of the source",
        default="auto",
        choices=("auto", *label_formats()),
    )
    sr: bool = option(
        help="beside a DICOM SEG, write the measurements as a DICOM SR (TID 1500)", default=False
    )
    select: tuple[str, ...] = option(
        help="which image of a file with several: time=N, channel=N or stack=N, from 1",
        default=(),
    )
    third_axis: str = option(
        help="what the third axis of a NIfTI, NRRD or MetaImage file is; auto goes by its header "
        "and the bundle",
        default="auto",
        choices=("auto", "time", "space"),
    )
    untrusted: bool = option(
        help="decode files in a process of their own, with a cap on memory and a deadline",
        default=False,
    )
    untrusted_mb: int = option(help="memory for decoding an untrusted file, in MiB", default=2048)
    untrusted_s: float = option(help="seconds for decoding an untrusted file", default=60.0)
    backend: str = option(help="runtime", default="auto")
    precision: str = option(
        help="graph and arithmetic: f32, bf16, int8; auto times them at first use and remembers "
        "the fastest, default times nothing",
        default="auto",
    )
    threads: int | None = option(
        help="threads of the runtime (default: every core allowed)", default=None
    )
    manifest: Path | None = option(
        help='instead of a source: a file of lines {"id": ..., "source": ...}', default=None
    )
    jobs: int = option(help="cases at once, each by a process of its own", default=1)
    shard: str | None = option(help="do only the i-th of n parts, i/n", default=None)
    resume: bool = option(
        help="take an earlier run up again: do what it has not done", default=False
    )
    timeout: float | None = option(help="seconds after which a case is given up", default=None)
    ray: str | None = option(
        help='workers on a Ray cluster: its address, "auto", or "local"', default=None
    )
    max_ram: str | None = option(
        help="memory that the process must not exceed, such as 1GB; shared by --jobs", default=None
    )
    force: bool = option(
        help="go on where the image is of another kind than the bundle's", default=False
    )
    gaps: str = option(
        help="a DICOM series with missing slices, or uneven ones of unknown thickness, is "
        "refused, or read with missing slices marked",
        default="refuse",
        choices=("refuse", "interpolate"),
    )
    values_are_hu: bool = option(
        help="take CT values as HU where the file does not say how to rescale them", default=False
    )
    no_report: bool = option(help="leave out report.json and report.html", default=False)
    require_signed: bool = option(help=REQUIRE_SIGNED_HELP, default=False)
    trusted_keys: Path | None = option(help=TRUSTED_KEYS_HELP, default=None)
    json: bool = option(help="print the report as JSON, and nothing else", default=False)


def run(settings: Settings) -> int:
    """Segment, write, and sum up.

    Returns:
        0, or 3 if one of several images was refused or failed.

    Raises:
        UsageError: If an option has no meaning, or the output folder cannot be written to.
        InputError: If the image or the bundle is refused.
        BackendError: If the runtime is not installed.
    """
    if is_batch(settings):
        return segment_batch(settings)
    if settings.source is None:
        raise UsageError("name an image, a folder, or a --manifest. See: bedside segment --help")
    if settings.source.is_dir():
        return _segment_folder(settings, settings.source)
    return _segment_file(settings, settings.source)


def _segment_file(settings: Settings, file: Path) -> int:
    """Segment one image."""
    from bedside.io.channels import join_channels
    from bedside.system.parallel import run_in_background

    reading = read_reading(settings, max_bytes=_read_ceiling(settings))
    for path in (file, *settings.channels):
        check_apart(path, settings.output)
    # A file is inflated while the runtime is loaded.
    with run_in_background(lambda: _load(settings)) as loaded:
        if reading.untrusted is not None and reading.untrusted.ceiling_bytes is not None:
            # What is left for the child is known only after.
            loaded()
        source = join_channels([reading.open(path) for path in (file, *settings.channels)])
        with results_folder(settings.output) as output:
            finished = _segment(settings, loaded(), source, output)
    if settings.json:
        _describe_json(finished.to_mapping())
        return 0
    for line in summary(finished.report):
        print_out(line)
    print_out(f"  Written to {output}: {', '.join(finished.files)}")
    print_out(finished.report.disclaimer)
    return 0


def read_reading(settings: Settings, *, max_bytes: int | None = None) -> "ReadOptions":
    """Read how files are to be opened.

    Args:
        settings: Of this command.
        max_bytes: Resident memory that opening must not exceed, a child's included; None for
            no ceiling.

    Raises:
        UsageError: If a selection or a limit cannot be meant.
    """
    from bedside.io.dicom.options import DicomOptions
    from bedside.io.read_options import Limits, ReadOptions
    from bedside.io.select import parse_selection

    if settings.untrusted_mb < 1 or not 0 < settings.untrusted_s < 1e9:
        raise UsageError(
            f"--untrusted-mb is {settings.untrusted_mb} and --untrusted-s is "
            f"{settings.untrusted_s:g}; expected numbers above 0."
        )
    limits = None
    if settings.untrusted:
        limits = Limits(settings.untrusted_mb, settings.untrusted_s, max_bytes)
    gaps: Any = settings.gaps
    third_axis: Any = settings.third_axis
    dicom = DicomOptions(gaps=gaps, values_are_hu=settings.values_are_hu)
    return ReadOptions(
        tuple(parse_selection(settings.select).items()), limits, dicom, third_axis=third_axis
    )


def _load(settings: Settings) -> Loaded:
    """Load the bundle and its runtime."""
    import cv2

    from bedside.segment import open_segmenter

    if settings.threads is not None:
        # The work around the network is spread by OpenCV's number, as OpenCV's own is.
        cv2.setNumThreads(settings.threads)
    bundle = open_bundle(
        settings.model,
        trusted_keys=settings.trusted_keys,
        require_signed=settings.require_signed,
    )
    segmenter = open_segmenter(
        bundle,
        backend=settings.backend,
        precision=settings.precision,
        threads=settings.threads,
        on_choice=print_err,
    )
    return Loaded(bundle, segmenter)


def _read_ceiling(settings: Settings) -> int | None:
    """Read the memory that the process must not exceed, in bytes."""
    return None if settings.max_ram is None else parse_bytes(settings.max_ram)


def _segment_folder(settings: Settings, root: Path) -> int:
    """Segment every image of a folder; a refused one does not stop the others.

    Raises:
        UsageError: If channels are named, which belong to one scan.
    """
    reading = read_reading(settings, max_bytes=_read_ceiling(settings))
    if settings.channels:
        raise UsageError("--channels goes with one scan, not with a folder; name its first file.")
    check_apart(root, settings.output)
    found = reading.find(root).outside(settings.output)
    finished: list[Finished] = []
    refused: dict[str, BedsideError] = {}
    with results_folder(settings.output) as output:
        loaded = _load(settings)
        for path, folder in zip(found.paths, _case_folders(found.paths, root, output), strict=True):
            try:
                source = reading.open(path, files=found.files.get(path, ()))
                finished.append(_segment(settings, loaded, source, folder))
            except (BackendError, OutputError):
                raise
            except BedsideError as error:
                refused[str(path)] = error
        if not finished:
            # Alone, an error says more than a table; and an empty folder goes again.
            _raise_refused(settings, list(refused.values()))
    for note in found.notes:
        print_err(note)
    if settings.json:
        _describe_json({**_folder_mapping(finished, refused, found.skipped), "notes": found.notes})
    else:
        _describe_folder(finished, refused, found.skipped, output)
    return _BAD_INPUT if refused else 0


def _segment(settings: Settings, loaded: Loaded, source: "Source", folder: Path) -> Finished:
    """Segment one image, with a bar."""
    choices = OutputOptions(
        settings.format,
        read_reading(settings),
        force=settings.force,
        with_sr=settings.sr,
        with_report=not settings.no_report,
        max_bytes=_read_ceiling(settings),
    )
    with frame_progress(source.path.name, len(source.sequence), source.sequence.unit) as on_frame:
        return segment_case(loaded, source, folder, choices=choices, on_frame=on_frame)


def _case_folders(paths: tuple[Path, ...], root: Path, output: Path) -> list[Path]:
    """Name a folder for each image after it."""
    if len(paths) == 1:
        return [output]
    return [output / case.id for case in name_cases(paths, root)]


def _raise_refused(settings: Settings, errors: list[BedsideError]) -> None:
    """Raise the error of the only image, or one for all of them."""
    if len(errors) == 1:
        raise errors[0]
    raise FormatError(f"all {len(errors)} images of {settings.source} were refused: {errors[0]}")


def _folder_mapping(
    finished: list[Finished], refused: dict[str, BedsideError], skipped: tuple[str, ...]
) -> dict[str, Any]:
    """Gather what `--json` prints for a folder."""
    return {
        "cases": [case.to_mapping() for case in finished],
        "refused": [
            {"source": source, "type": type(error).__name__, "message": str(error)}
            for source, error in refused.items()
        ],
        "skipped": list(skipped),
    }


def _describe_folder(
    finished: list[Finished], refused: dict[str, BedsideError], skipped: tuple[str, ...],
    output: Path,
) -> None:  # fmt: skip
    """Print a table of the cases, then what was refused and what was skipped."""
    rows = [("image", "size", "time", "warnings", "results")]
    for case in finished:
        report = case.report
        count = f"{report.frames} {report.unit}{'s' if report.frames > 1 else ''}"
        time = f"{report.latency_ms['total'].p50:,.1f} ms a {report.latency_of}"
        rows.append((report.source, count, time, str(len(report.warnings)),
                     str(case.folder)))  # fmt: skip
    for line in table(rows):
        print_out(line)
    for line in group_warnings(
        [(case.report.source, text) for case in finished for text in case.report.warnings]
    ):
        print_out(line)
    for error in refused.values():
        print_out(f"Refused: {error}")
    for text in skipped:
        print_out(f"Skipped: {text}")
    print_out(
        f"{len(finished)} segmented, {len(refused)} refused, {len(skipped)} skipped: {output}"
    )
    print_out(finished[0].report.disclaimer)


def _describe_json(mapping: dict[str, Any]) -> None:
    from bedside.report.record import to_json

    print_out(to_json(mapping))
