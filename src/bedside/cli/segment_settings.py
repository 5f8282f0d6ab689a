"""The settings of `bedside segment`, and how they are parsed into options."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedside.cli.amounts import parse_bytes
from bedside.cli.arguments import option, positional
from bedside.cli.bundles import REQUIRE_SIGNED_HELP, TRUSTED_KEYS_HELP
from bedside.errors import UsageError
from bedside.io.formats import label_formats
from bedside.options import Options, OutputOptions, RunOptions
from bedside.system.store_url import store_url

if TYPE_CHECKING:
    from bedside.io.read_options import ReadOptions


_NAMED = re.compile(r"([A-Za-z0-9_-]+)=(.+)")


@dataclass(frozen=True)
class Settings:
    """Segment images, cines and scans: masks, pictures and a report.

    Of several images each gets a folder of its own. The slices of a DICOM series are one image.
    """

    sources: tuple[Path, ...] = positional(
        help="DICOM, NIfTI, NRRD, MetaImage, PNG or JPEG files, or folders of them", default=()
    )
    output: Path = option(
        help="folder for the results; of many cases also s3://bucket/prefix", short="-o"
    )
    channels: tuple[Path, ...] = option(
        help="further files of the same scan, one per channel, in the bundle's order; or all of "
        "them by name and no other file, such as flair=a.nii.gz t1=b.nii.gz",
        default=(),
    )
    model: str | None = option(
        help="bundle file, or the name of a shipped bundle, see bedside models",
        default=None,
        short="-m",
    )
    format: str = option(
        help="format of the mask; auto keeps that of the source",
        default="auto",
        choices=("auto", *label_formats()),
    )
    sr: bool = option(
        help="also write the measurements as a DICOM SR (TID 1500), beside a DICOM SEG",
        default=False,
    )
    probabilities: bool = option(
        help="write the probability of each class too: probabilities.nii.gz (x, y, z, class) "
        "beside a NIfTI mask, else probabilities.npz (class, frame, row, column)",
        default=False,
    )
    csv: Path | None = option(
        help="write the measurements of all images to this file, a row for each structure",
        default=None,
    )
    select: tuple[str, ...] = option(
        help="image to take from a file that holds several: time=N, channel=N or stack=N, from 1",
        default=(),
    )
    third_axis: str = option(
        help="meaning of the third axis of a NIfTI, NRRD or MetaImage file; auto uses its header "
        "and the bundle",
        default="auto",
        choices=("auto", "time", "space"),
    )
    pixel_spacing: str | None = option(
        help="distance of pixels as ROW,COLUMN in mm, for pictures and other files without one",
        default=None,
    )
    untrusted: bool = option(
        help="decode files in a child process with limits on memory and time",
        default=False,
    )
    untrusted_mb: int = option(
        help="memory limit for decoding an untrusted file, in MiB", default=2048
    )
    untrusted_s: float = option(
        help="time limit for decoding an untrusted file, in seconds", default=60.0
    )
    backend: str = option(help="runtime", default="auto")
    precision: str = option(
        help="f32, bf16 or int8; auto times the certified ones at first use and keeps the "
        "fastest, default does not time anything",
        default="auto",
    )
    threads: int | None = option(
        help="threads of the runtime (default: all available cores)", default=None
    )
    manifest: Path | None = option(
        help='file with a line {"id": ..., "source": ...} for each case, instead of sources; '
        "also s3://bucket/key",
        default=None,
    )
    jobs: int = option(help="number of worker processes", default=1)
    shard: str | None = option(
        help="segment only part i of n, as i/n; env:NAME/n takes i from a variable that counts "
        "from 0",
        default=None,
    )
    resume: bool = option(help="continue an earlier run: segment what is missing", default=False)
    timeout: float | None = option(help="seconds after which a case fails", default=None)
    ray: str | None = option(
        help='run workers on a Ray cluster: its address, "auto", or "local"', default=None
    )
    no_names: bool = option(
        help="of many cases print counts only, no ids, paths or warnings: for logs of others",
        default=False,
    )
    max_ram: str | None = option(help="memory limit, such as 1GB; shared by --jobs", default=None)
    force: bool = option(
        help="segment images of another modality than the bundle was trained for", default=False
    )
    gate: str = option(
        help="what happens to images that look unlike those the network was trained on",
        default="warn",
        choices=("refuse", "warn", "off"),
    )
    gaps: str = option(
        help="refuse a DICOM series with missing slices (or uneven ones of unknown thickness), "
        "or read it with missing slices marked",
        default="refuse",
        choices=("refuse", "interpolate"),
    )
    values_are_hu: bool = option(
        help="take CT values as HU if the file has no rescale values", default=False
    )
    no_report: bool = option(help="omit report.json and report.html", default=False)
    require_signed: bool = option(help=REQUIRE_SIGNED_HELP, default=False)
    trusted_keys: Path | None = option(help=TRUSTED_KEYS_HELP, default=None)
    json: bool = option(help="print only the report, as JSON", default=False)


def name_channels(channels: tuple[Path, ...]) -> dict[str, Path]:
    """Return the files of --channels by name; nothing if they have no names.

    Raises:
        UsageError: If only some have, or a name occurs twice.

    Example:
        >>> name_channels((Path("flair=a.nii.gz"),))
        {'flair': PosixPath('a.nii.gz')}
    """
    parts = [_NAMED.fullmatch(str(path)) for path in channels if not path.exists()]
    named = [(part[1], Path(part[2])) for part in parts if part]
    if not named:
        return {}
    if len(named) < len(channels):
        raise UsageError("give a name for each of --channels, such as flair=a.nii.gz, or for none.")
    if len(dict(named)) < len(named):
        raise UsageError(f"--channels names {', '.join(name for name, _ in named)}; each once.")
    return dict(named)


def is_batch(settings: Settings) -> bool:
    """Whether workers do it, and not this process."""
    asked = (settings.manifest, settings.shard, settings.ray, settings.timeout)
    return (
        settings.jobs != 1
        or settings.resume
        or any(value is not None for value in asked)
        or store_url(settings.output) is not None
    )


def read_options(settings: Settings) -> Options:
    """Parse all settings of a run in this process.

    Raises:
        UsageError: If one has no meaning.
    """
    max_bytes = None if settings.max_ram is None else parse_bytes(settings.max_ram)
    gate: Any = settings.gate
    return Options(
        read=_read_reading(settings, max_bytes),
        run=RunOptions(
            settings.backend, settings.precision, settings.threads, max_bytes, settings.force, gate
        ),
        output=OutputOptions(
            settings.format,
            with_probabilities=settings.probabilities,
            with_sr=settings.sr,
            with_report=not settings.no_report,
        ),
    )


def _read_reading(settings: Settings, max_bytes: int | None) -> "ReadOptions":
    """Parse how files are opened.

    Args:
        settings: Settings of this command.
        max_bytes: Resident memory that opening must not exceed, a child's included; None for
            no ceiling.

    Raises:
        UsageError: If a selection, a spacing or a limit has no meaning.
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
    return ReadOptions(
        tuple(parse_selection(settings.select).items()),
        limits,
        DicomOptions(gaps=gaps, values_are_hu=settings.values_are_hu),
        third_axis=third_axis,
        pixel_spacing_mm=_parse_spacing(settings.pixel_spacing),
    )


def _parse_spacing(text: str | None) -> tuple[float, float] | None:
    """Read "0.2,0.3" as the distance of rows and that of columns.

    Raises:
        UsageError: If it is not two numbers.

    Example:
        >>> _parse_spacing("0.2,0.3")
        (0.2, 0.3)
    """
    if text is None:
        return None
    try:
        row, column = (float(part) for part in text.split(","))
    except ValueError as error:
        raise UsageError(
            f'--pixel-spacing is "{text}"; expected ROW,COLUMN in mm, such as 0.2,0.2.'
        ) from error
    return row, column
