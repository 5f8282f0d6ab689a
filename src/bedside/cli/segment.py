"""`bedside segment`: images on disk in, masks, pictures and reports in a folder out."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedside.cli.arguments import option, positional
from bedside.cli.case import Finished, Loaded, segment_case
from bedside.cli.console import say, summary, table
from bedside.cli.results import check_apart, results_folder
from bedside.errors import BackendError, BedsideError, FormatError, OutputError, UsageError
from bedside.io.dicom_options import DicomOptions

_BAD_INPUT = 3


@dataclass(frozen=True)
class Settings:
    """Segment an image, a cine, a scan, or a folder of them: masks, pictures and a report.

    Of a folder with several images each gets a folder of its own. The slices of a DICOM
    series are one image.
    """

    source: Path = positional(help="a DICOM, NIfTI, PNG or JPEG file, or a folder of them")
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
        choices=("auto", "dicom-seg", "dicom-labelmap", "nifti", "png"),
    )
    backend: str = option(help="runtime", default="auto")
    precision: str = option(help="graph and arithmetic", default="auto")
    threads: int | None = option(
        help="threads of the runtime (default: every core allowed)", default=None
    )
    force: bool = option(
        help="go on where the image is of another kind than the bundle's", default=False
    )
    gaps: str = option(
        help="a DICOM series with missing or uneven slices is refused, or interpolated",
        default="refuse",
        choices=("refuse", "interpolate"),
    )
    values_are_hu: bool = option(
        help="take CT values as HU where the file does not say how to rescale them", default=False
    )
    no_report: bool = option(help="leave out report.json and report.html", default=False)
    json: bool = option(help="print the report as JSON, and nothing else", default=False)


def run(settings: Settings) -> int:
    """Segment, write, and sum up.

    Returns:
        0, or 3 if an image of a folder was refused.

    Raises:
        UsageError: If an option has no meaning, or the output folder cannot be written to.
        InputError: If the image or the bundle is refused.
        BackendError: If the runtime is not installed.
    """
    if settings.source.is_dir():
        return _segment_folder(settings)
    from bedside.io.channels import join_channels
    from bedside.io.source import open_source

    for path in (settings.source, *settings.channels):
        check_apart(path, settings.output)
    sources = [
        open_source(path, dicom=_dicom_options(settings))
        for path in (settings.source, *settings.channels)
    ]
    source = join_channels(sources)
    with results_folder(settings.output) as output:
        finished = segment_case(
            _load(settings), source, output, labels_format=settings.format,
            force=settings.force, with_report=not settings.no_report,
        )  # fmt: skip
    if settings.json:
        _say_json(finished.to_mapping())
        return 0
    for line in summary(finished.report):
        say(line)
    say(f"  Written to {output}: {', '.join(finished.files)}")
    say(finished.report.disclaimer)
    return 0


def choose_model(name_or_path: str | None) -> Path:
    """Find the bundle; without a name, the only one that is shipped.

    Raises:
        BundleError: If there is no such bundle.
        UsageError: If none is named and there is not just one.
    """
    from bedside.bundle import find_bundle, shipped_bundles

    if name_or_path is not None:
        return find_bundle(name_or_path)
    shipped = shipped_bundles()
    if len(shipped) != 1:
        names = ", ".join(path.stem for path in shipped) or "none"
        raise UsageError(f"name a bundle with -m: a .bedside file, or a shipped one ({names}).")
    return shipped[0]


def _load(settings: Settings) -> Loaded:
    """Load the bundle and its runtime."""
    from bedside.bundle import read_bundle
    from bedside.segment import open_segmenter

    bundle = read_bundle(choose_model(settings.model))
    segmenter = open_segmenter(
        bundle,
        backend=settings.backend,
        precision=settings.precision,
        threads=settings.threads,
    )
    return Loaded(bundle, segmenter)


def _segment_folder(settings: Settings) -> int:
    """Segment every image of a folder; a refused one does not stop the others.

    Raises:
        UsageError: If channels are named, which belong to one scan.
    """
    from bedside.io.source import find_sources

    if settings.channels:
        raise UsageError("--channels goes with one scan, not with a folder; name its first file.")
    check_apart(settings.source, settings.output)
    found = find_sources(settings.source)
    # Results of an earlier run below the source folder are no images to segment.
    place = settings.output.resolve()
    paths = [path for path in found.paths if not path.resolve().is_relative_to(place)]
    if not paths:
        raise FormatError(f"{settings.source} holds no image that can be read, but for results.")
    finished: list[Finished] = []
    refused: dict[str, BedsideError] = {}
    with results_folder(settings.output) as output:
        loaded = _load(settings)
        for path, folder in zip(paths, _case_folders(paths, settings.source, output), strict=True):
            try:
                files = found.files.get(path, ())
                finished.append(_try_case(settings, loaded, path, folder, files=files))
            except (BackendError, OutputError):
                raise
            except BedsideError as error:
                refused[str(path)] = error
        if not finished:
            # Alone, an error says more than a table; and an empty folder goes again.
            _raise_refused(settings, list(refused.values()))
    if settings.json:
        _say_json(_folder_mapping(finished, refused, found.skipped))
    else:
        _say_folder(finished, refused, found.skipped, output)
    return _BAD_INPUT if refused else 0


def _try_case(
    settings: Settings, loaded: Loaded, path: Path, folder: Path, *, files: tuple[Path, ...]
) -> Finished:
    """Segment one image of a folder."""
    from bedside.io.source import open_source

    return segment_case(
        loaded, open_source(path, files=files, dicom=_dicom_options(settings)), folder,
        labels_format=settings.format, force=settings.force, with_report=not settings.no_report,
    )  # fmt: skip


def _dicom_options(settings: Settings) -> DicomOptions:
    """Gather what the command line says of open DICOM headers."""
    gaps: Any = settings.gaps
    return DicomOptions(gaps=gaps, values_are_hu=settings.values_are_hu)


def _case_folders(paths: list[Path], root: Path, output: Path) -> list[Path]:
    """Name a folder for each image after it; with its suffix where two would share one."""
    if len(paths) == 1:
        return [output]
    # A folder's name, which may be a UID with dots, has no suffix to leave out.
    short = [
        path.relative_to(root)
        if path.is_dir()
        else path.relative_to(root).with_name(path.name.split(".")[0] or path.name)
        for path in paths
    ]
    return [
        output / (name if short.count(name) == 1 else path.relative_to(root))
        for name, path in zip(short, paths, strict=True)
    ]


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


def _say_folder(
    finished: list[Finished], refused: dict[str, BedsideError], skipped: tuple[str, ...],
    output: Path,
) -> None:  # fmt: skip
    """Print a table of the cases, then what was refused and what was skipped."""
    rows = [("image", "frames", "frames/s", "p95 ms", "warnings", "results")]
    for case in finished:
        report = case.report
        p95 = report.latency_ms["total"].p95
        rows.append((report.source, str(report.frames), f"{report.fps:.0f}", f"{p95:.1f}",
                     str(len(report.warnings)), str(case.folder)))  # fmt: skip
    for line in table(rows):
        say(line)
    for error in refused.values():
        say(f"Refused: {error}")
    for text in skipped:
        say(f"Skipped: {text}")
    say(f"{len(finished)} segmented, {len(refused)} refused, {len(skipped)} skipped: {output}")
    say(finished[0].report.disclaimer)


def _say_json(mapping: dict[str, Any]) -> None:
    from bedside.io.report_json import to_json

    say(to_json(mapping))
