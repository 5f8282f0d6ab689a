"""`bedside export --fleet TABLE`: every export of a table, with one page of certificates."""

from pathlib import Path
from typing import TYPE_CHECKING

from bedside.cli.console import print_err, print_out
from bedside.errors import ExportError

if TYPE_CHECKING:
    from bedside.export.bundle import ValidationData
    from bedside.export.formats.format import Options


def run_fleet(
    table: Path,
    output: Path,
    *,
    options: "Options",
    validation: "ValidationData",
    as_json: bool,
) -> int:
    """Make what is not there yet; progress goes to stderr.

    Raises:
        SpecError: If the table is damaged.
        UsageError: If a line cannot be exported as it is asked for; nothing is made then.
        ExportError: If some exports failed; the others are there.
    """
    from bedside.export.fleet import PAGE, export_fleet, read_fleet, to_json

    rows = read_fleet(table)
    results = export_fleet(
        rows,
        output,
        options=options,
        validation=validation,
        on_stage=lambda stage: print_err(f"{stage} ..."),
    )
    if as_json:
        print_out(to_json(results, planned=len(rows)).rstrip())
    else:
        made = sum(not each.error and not each.kept for each in results)
        kept = sum(each.kept for each in results)
        print_out(f"{output / PAGE}: {made} exports made, {kept} were there")
    if failed := [each for each in results if each.error]:
        raise ExportError(
            f"{len(failed)} of {len(results)} exports failed; the first, {failed[0].row.folder}: "
            f"{failed[0].error}"
        )
    return 0
