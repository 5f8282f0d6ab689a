"""A fleet: bundles for many targets at once, from a table, with one page of certificates.

A row that is done stays: its folder has a certificate of the same bundle, format, precision,
images and chip. The page and `fleet.json` are written whole after every row.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from html import escape
from pathlib import Path
from typing import Any

from bedside.bundle import Bundle, find_bundle, read_bundle
from bedside.chips import find_chip
from bedside.errors import BedsideError, SpecError, UsageError
from bedside.export.bundle import ValidationData, choose_samples, export_bundle
from bedside.export.chip import REPORT, check_bundle
from bedside.export.folder import CERTIFICATE
from bedside.export.formats.format import Options
from bedside.export.formats.table import find_format
from bedside.report.page_frame import write_page, write_table
from bedside.spec import from_mapping
from bedside.spec.card import DISCLAIMER
from bedside.system.atomic import files_together, output_folder, write_text
from bedside.system.regular_files import open_regular

PAGE, STATE = "fleet.html", "fleet.json"
SCHEMA_VERSION = 1
_MOST_ROWS = 1000


@dataclass(frozen=True)
class FleetRow:
    """One line of the table.

    Attributes:
        bundle: File, or name of a shipped bundle.
        to: Format; empty for the usual one of the chip.
        chip: Chip, or a profile; empty for none.
        precision: Precision of the export; empty for f32.
    """

    bundle: str
    to: str = ""
    chip: str = ""
    precision: str = ""

    def __post_init__(self) -> None:
        """Check that there is something to export, and to what.

        Raises:
            SpecError: If there is not.
        """
        if not self.bundle or not (self.to or self.chip):
            raise SpecError(f"expected a bundle, and a format or a chip; this is {self}.")

    @property
    def format(self) -> str:
        """The format, also where a chip chooses it."""
        return self.to or find_chip(self.chip).formats[0]

    @property
    def folder(self) -> str:
        """Name of the folder of the export."""
        parts = [Path(self.bundle).stem, Path(self.chip).stem, self.format, self.precision or "f32"]
        return "-".join(part for part in parts if part)


@dataclass(frozen=True)
class FleetResult:
    """What came of one line.

    Attributes:
        row: The line.
        certificate: The certificate, as it lies in the folder; None if there is none.
        falls_back: Nodes that fall back to the CPU of the chip; None without a chip.
        error: Why there is no export; empty if there is one.
        kept: Whether it was there before.
    """

    row: FleetRow
    certificate: Mapping[str, Any] | None = None
    falls_back: int | None = None
    error: str = ""
    kept: bool = False


def read_fleet(path: Path) -> tuple[FleetRow, ...]:
    """Read a table: CSV whose first line names the columns of `FleetRow`.

    Raises:
        SpecError: If it is no such table, or two lines would write one folder; the error names
            the line.
    """
    try:
        with open_regular(path) as file:
            lines = file.read().decode("utf-8-sig").splitlines()
    except OSError as error:
        raise SpecError(f"cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise SpecError(f"{path} is not UTF-8.") from error
    table = csv.DictReader(lines, strict=True, restkey="beyond the columns", restval="")
    rows: dict[str, FleetRow] = {}
    try:
        for cells in table:
            where = f"{path}, line {table.line_num}"
            stripped = {k: v.strip() if isinstance(v, str) else v for k, v in cells.items()}
            row = from_mapping(FleetRow, stripped, where)
            if row.folder in rows:
                raise SpecError(f"{where}: {row.folder} is asked for twice.")
            rows[row.folder] = row
    except csv.Error as error:
        raise SpecError(f"{path} is no CSV: {error}.") from error
    if not 0 < len(rows) <= _MOST_ROWS:
        names = ",".join(field.name for field in fields(FleetRow))
        raise SpecError(
            f"{path} has {len(rows)} lines; expected 1 to {_MOST_ROWS} below the head {names}."
        )
    return tuple(rows.values())


def export_fleet(
    rows: Sequence[FleetRow],
    output: Path,
    *,
    options: Options,
    validation: ValidationData,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> tuple[FleetResult, ...]:
    """Make every export of a table that is not there yet.

    All lines are checked before the first is converted. One that cannot be exported is on the
    page with its reason, and the others go on.

    Args:
        rows: The table.
        output: Folder with a folder for each line, the page and `fleet.json`.
        options: Threads, and where other environments are.
        validation: Images to validate on.
        on_stage: Called with what is being done.

    Returns:
        What came of each line, in order.

    Raises:
        UsageError: If a format cannot hold a network or a precision.
        BundleError: If a bundle is not there, or damaged.
        BackendError: If a converter is not installed.
        OutputError: If the folder cannot be written to.
    """
    work = [(row, read_bundle(find_bundle(row.bundle))) for row in rows]
    for row, bundle in work:
        _check(row, bundle, options)
    results: list[FleetResult] = []
    with output_folder(output):
        for row, bundle in work:
            say = _prefix(row.folder, on_stage)
            results.append(_export(row, bundle, output / row.folder, options, validation, say))
            with files_together(output) as folder:
                write_text(folder / STATE, to_json(results, planned=len(rows)))
                write_text(folder / PAGE, to_page(results, planned=len(rows)))
    return tuple(results)


def _prefix(name: str, on_stage: Callable[[str], None]) -> Callable[[str], None]:
    return lambda stage: on_stage(f"{name}: {stage}")


def _check(row: FleetRow, bundle: Bundle, options: Options) -> None:
    target = find_format(row.format)
    target.check(
        spatial_dims=bundle.spec.model.spatial_dims, precision=_options(row, options).precision
    )
    target.make_converter(_options(row, options))
    if row.chip:
        chip = find_chip(row.chip)
        if row.format not in chip.formats or (row.precision or "f32") not in chip.accepts:
            raise UsageError(
                f"{row.folder}: {chip.compiler} reads {' or '.join(chip.formats)} in "
                f"{' or '.join(chip.accepts)}."
            )


def _options(row: FleetRow, options: Options) -> Options:
    chip = find_chip(row.chip).name if row.chip else None
    return replace(options, precision=row.precision or "f32", chip=chip)


def _export(
    row: FleetRow,
    bundle: Bundle,
    folder: Path,
    options: Options,
    validation: ValidationData,
    on_stage: Callable[[str], None],
) -> FleetResult:
    try:
        if _is_done(row, bundle, folder, validation):
            on_stage("is there")
            return replace(_read(row, folder), kept=True)
        report = row.chip and check_bundle(
            bundle, find_chip(row.chip), to=row.format, precision=row.precision or "f32"
        )
        export_bundle(
            bundle,
            folder,
            to=row.format,
            options=_options(row, options),
            validation=validation,
            chip=report or None,
            on_stage=on_stage,
        )
    except BedsideError as error:
        on_stage(f"failed: {error}")
        return FleetResult(row, error=str(error))
    return _read(row, folder)


def _is_done(row: FleetRow, bundle: Bundle, folder: Path, validation: ValidationData) -> bool:
    """Whether the folder has an earlier export of the very same."""
    found = _read_json(folder / CERTIFICATE)
    if found is None:
        return False
    report = _read_json(folder / REPORT)
    chip = report["chip"]["name"] if report else ""
    return (
        found.get("bundle", {}).get("sha256") == bundle.sha256
        and found.get("format") == row.format
        and found.get("precision") == (row.precision or "f32")
        and chip == (find_chip(row.chip).name if row.chip else "")
        and found.get("data") in ("", choose_samples(bundle, validation)[1])
    )


def _read(row: FleetRow, folder: Path) -> FleetResult:
    report = _read_json(folder / REPORT)
    found = [each["status"] for each in report["after"]] if report else []
    fallen = found.count("falls back") if report else None
    return FleetResult(row, _read_json(folder / CERTIFICATE), fallen)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def to_json(results: Sequence[FleetResult], *, planned: int) -> str:
    """The results as JSON."""
    rows = [
        {
            "folder": each.row.folder,
            "bundle": each.row.bundle,
            "chip": each.row.chip or None,
            "error": each.error or None,
            "falls_back": each.falls_back,
            "certificate": each.certificate,
        }
        for each in results
    ]
    mapping = {"schema_version": SCHEMA_VERSION, "planned": planned, "exports": rows}
    return json.dumps({**mapping, "disclaimer": DISCLAIMER}, indent=1, allow_nan=False) + "\n"


def to_page(results: Sequence[FleetResult], *, planned: int) -> str:
    """The page of all certificates, as HTML."""
    failed = sum(bool(each.error) for each in results)
    unmade = planned - len(results)
    head = ("export", "format", "runtime", "processor", "images", "labels equal", "largest loss")
    rows = [_cells(each) for each in results]
    said = f"{len(results) - failed} of {planned} exports are made, {failed} failed"
    parts = [
        "<header><h1>Exports of a fleet</h1>",
        f"<p>{said}{f', {unmade} are still to be made' if unmade else ''}.</p></header>",
        write_table(
            (*head, "largest logit error", "on the chip's CPU", "result"), rows, words=True
        ),
        "<p>Labels are compared with those of the bundle's f32 graph on this machine, pixel by "
        "pixel on the grid of each image. A certificate is of one runtime on one architecture: it "
        "shows nothing of another.</p>",
        f"<footer><p class=quiet>{escape(DISCLAIMER)}</p></footer>",
    ]
    return write_page("Exports of a fleet", parts)


def _cells(result: FleetResult) -> list[str]:
    link = f'<a href="{escape(result.row.folder, quote=True)}/">{escape(result.row.folder)}</a>'
    found, compared = result.certificate, (result.certificate or {}).get("comparison")
    if found is None:
        blank = ["", "", "", "", "", "", ""]
        return [escape(result.row.folder), escape(result.row.format), *blank, escape(result.error)]
    fallen = "" if result.falls_back is None else f"{result.falls_back} nodes"
    shown = [f"{found['format']}, {found['precision']}"]
    if compared is None:
        return [link, *shown, "not run", "", "", "", "", "", fallen, escape(found["not_run"])]
    worst = max(compared["structures"], key=lambda each: float(each["loss"]))
    shown += [
        found["ran_in"],
        f"{found['architecture']}: {found['processor']}",
        f"{compared['cases']}: {found['data']}",
        f"{100 * compared['labels_equal']:.4f} %",
        f"{worst['loss']:.4f} Dice, {worst['name']}",
        f"{compared['worst_logit_part']:.2g} of the largest",
        fallen,
        "passed" if found["passed"] else "failed",
    ]
    return [link, *(escape(str(cell)) for cell in shown)]
