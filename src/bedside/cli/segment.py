"""`bedside segment`: images on disk in, masks, pictures and reports in a folder out."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedside.cli.bundles import open_bundle
from bedside.cli.console import frame_progress, group_warnings, print_err, print_out, summary, table
from bedside.cli.segment_settings import Settings, is_batch, name_channels, read_options
from bedside.errors import BackendError, BedsideError, FormatError, OutputError, UsageError
from bedside.report.folder import check_apart
from bedside.report.measurement_table import check_table, measurement_rows, write_csv
from bedside.system.atomic import output_folder

if TYPE_CHECKING:
    from bedside.batch.manifest import Case
    from bedside.io.source import Source
    from bedside.options import Options
    from bedside.report.results import SavedResult
    from bedside.segment import Model

__all__ = ["Settings", "run"]

_BAD_INPUT = 3


def run(settings: Settings) -> int:
    """Segment, write, and sum up.

    Returns:
        0, or 3 if one of several images was refused or failed.

    Raises:
        UsageError: If an option has no meaning, or the output folder cannot be written to.
        InputError: If the image or the bundle is refused.
        BackendError: If the runtime is not installed.
    """
    if settings.csv is None:
        return _run(settings)
    check_table(settings.csv)
    with output_folder(settings.csv.absolute().parent):
        return _run(settings)


def _run(settings: Settings) -> int:
    """Segment one image, several in this process, or several by workers."""
    if is_batch(settings):
        from bedside.cli.batch import segment_batch

        return segment_batch(settings)
    named = name_channels(settings.channels)
    if named:
        if settings.sources:
            raise UsageError(
                f"{settings.sources[0]} has no name, and --channels has some; name all files there."
            )
        return _segment_one(settings, named)
    if not settings.sources:
        raise UsageError(
            "name an image, a folder, or a --manifest, before --select and --channels, which take "
            "all words that follow. See: bedside segment --help"
        )
    if len(settings.sources) > 1 or settings.sources[0].is_dir():
        return _segment_several(settings)
    files = (settings.sources[0], *settings.channels)
    return _segment_one(settings, dict(enumerate(files)))


def _segment_one(settings: Settings, files: Mapping[Any, Path]) -> int:
    """Segment one image, whose files are numbered in order, or named by their channels."""
    from bedside.io.channels import join_channels, join_named
    from bedside.system.parallel import run_in_background

    options = read_options(settings)
    read = options.read
    for path in files.values():
        check_apart(path, settings.output)
    # A file is inflated while the runtime is loaded.
    with run_in_background(lambda: _load(settings, options)) as model:
        if read.untrusted is not None and read.untrusted.ceiling_bytes is not None:
            # What is left for the child is known only after.
            model()
        opened = {name: read.open(path) for name, path in files.items()}
        if 0 in opened:
            source = join_channels(list(opened.values()))
        else:
            source = join_named(opened, model().bundle.spec.input)
        with output_folder(settings.output):
            saved = _segment(model(), source, settings.output, options)
            _write_csv(settings, [(source.path.name, saved)])
    if settings.json:
        _print_json(saved.to_mapping())
        return 0
    for line in summary(saved.report):
        print_out(line)
    print_out(f"  Written to {settings.output}: {', '.join(saved.files)}")
    print_out(saved.report.disclaimer)
    return 0


def _segment_several(settings: Settings) -> int:
    """Segment every image of a folder, or of several sources; a refused one stops no other.

    Raises:
        UsageError: If channels are named, which belong to one scan.
    """
    from bedside.cli.batch import find_cases

    options = read_options(settings)
    if settings.channels:
        raise UsageError("--channels goes with one scan, not with several; name its first file.")
    cases, skipped, notes = find_cases(settings.sources, settings.output, options.read)
    saved: dict[str, SavedResult] = {}
    refused: dict[str, BedsideError] = {}
    output = settings.output
    with output_folder(output):
        model = _load(settings, options)
        for case in cases:
            # The only image of a folder needs no folder of its own.
            folder = output / case.id if len(cases) > 1 else output
            try:
                source = options.read.open(case.source, files=case.files)
                saved[case.id] = _segment(model, source, folder, options)
            except (BackendError, OutputError):
                raise
            except BedsideError as error:
                refused[str(case.source)] = error
        if not saved:
            # Alone, an error says more than a table; and an empty folder goes again.
            _raise_refused(cases, list(refused.values()))
        _write_csv(settings, list(saved.items()))
    for note in notes:
        print_err(note)
    if settings.json:
        _print_json({**_to_mapping(list(saved.values()), refused, skipped), "notes": notes})
    else:
        _print_table(list(saved.values()), refused, skipped, output)
    return _BAD_INPUT if refused else 0


def _load(settings: Settings, options: "Options") -> "Model":
    """Load the bundle and its runtime."""
    import cv2

    from bedside.segment import Model

    if settings.threads is not None:
        # The work around the network is spread by OpenCV's number, as OpenCV's own is.
        cv2.setNumThreads(settings.threads)
    bundle = open_bundle(
        settings.model,
        trusted_keys=settings.trusted_keys,
        require_signed=settings.require_signed,
    )
    return Model.open(bundle, options.run, on_choice=print_err)


def _segment(model: "Model", source: "Source", folder: Path, options: "Options") -> "SavedResult":
    """Segment one image, with a bar."""
    from bedside.segment import segment_file

    # What the user states of an image was stated when it was opened.
    with frame_progress(source.path.name, len(source.sequence), source.sequence.unit) as on_frame:
        return segment_file(model, source, folder, options.output, on_frame=on_frame)


def _write_csv(settings: Settings, saved: "list[tuple[str, SavedResult]]") -> None:
    """Write the measurements of all images, if a file is named for them."""
    if settings.csv is not None:
        write_csv(settings.csv, [(name, measurement_rows(each.report)) for name, each in saved])


def _raise_refused(cases: "tuple[Case, ...]", errors: list[BedsideError]) -> None:
    """Raise the error of the only image, or one for all of them."""
    if len(errors) == 1:
        raise errors[0]
    raise FormatError(f"all {len(cases)} images were refused; the first: {errors[0]}")


def _to_mapping(
    saved: "list[SavedResult]", refused: dict[str, BedsideError], skipped: tuple[str, ...]
) -> dict[str, Any]:
    """What `--json` prints for several images."""
    return {
        "cases": [case.to_mapping() for case in saved],
        "refused": [
            {"source": source, "type": type(error).__name__, "message": str(error)}
            for source, error in refused.items()
        ],
        "skipped": list(skipped),
    }


def _print_table(
    saved: "list[SavedResult]", refused: dict[str, BedsideError], skipped: tuple[str, ...],
    output: Path,
) -> None:  # fmt: skip
    """Print a table of the cases, then what was refused and what was skipped."""
    rows = [("image", "size", "time", "warnings", "results")]
    for case in saved:
        report = case.report
        count = f"{report.frames} {report.unit}{'s' if report.frames > 1 else ''}"
        time = f"{report.latency_ms['total'].p50:,.1f} ms a {report.latency_of}"
        rows.append((report.source, count, time, str(len(report.warnings)),
                     str(case.folder)))  # fmt: skip
    for line in table(rows):
        print_out(line)
    for line in group_warnings(
        [(case.report.source, text) for case in saved for text in case.report.warnings]
    ):
        print_out(line)
    for error in refused.values():
        print_out(f"Refused: {error}")
    for text in skipped:
        print_out(f"Skipped: {text}")
    print_out(f"{len(saved)} segmented, {len(refused)} refused, {len(skipped)} skipped: {output}")
    print_out(saved[0].report.disclaimer)


def _print_json(mapping: dict[str, Any]) -> None:
    from bedside.report.record import to_json

    print_out(to_json(mapping))
