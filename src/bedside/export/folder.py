"""The folder of an export: files of the format, spec, certificate and license."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from bedside.bundle import Bundle
from bedside.errors import UsageError
from bedside.export.certificate import Certificate
from bedside.spec import to_mapping
from bedside.system.atomic import made_folder, output_errors
from bedside.system.signals import held
from bedside.system.unfinished import part_folder

CERTIFICATE, SPEC, CARD, LICENSE = "certificate.json", "spec.json", "card.json", "LICENSE.txt"


@contextlib.contextmanager
def written_folder(output: Path, *, marker: str = CERTIFICATE) -> Iterator[Path]:
    """A hidden folder to write to, which is moved to its place at the end.

    Args:
        output: Where it is to be. An earlier export there is replaced.
        marker: File by which an earlier one is known.

    Yields:
        An empty folder beside it.

    Raises:
        UsageError: If something else than an export is there.
        OutputError: If it cannot be written.
    """
    if output.exists() and not (output / marker).is_file() and not _is_empty(output):
        raise UsageError(f"{output} is there and is no export; choose another place with -o.")
    with (
        output_errors(output),
        made_folder(output.parent),
        part_folder(output.parent) as scratch,
    ):
        staging = scratch / "new"
        staging.mkdir()
        yield staging
        with held():
            if output.exists():
                output.rename(scratch / "old")
            staging.rename(output)


def describe_export(
    folder: Path, bundle: Bundle, certificate: Certificate, *, hints: Mapping[str, str]
) -> None:
    """Write spec, card, certificate and license beside the files of a format.

    Args:
        folder: Where the files are.
        bundle: The bundle that was exported.
        certificate: The certificate of the export.
        hints: Settings of the runtime that the export needs.
    """
    spec = bundle.spec
    takes = [1, spec.input.channels, *spec.input.size_px]
    gives = [size // spec.model.logit_stride for size in spec.input.size_px]
    about = {
        "input": {"name": "image", "shape": takes, "type": "float32"},
        "output": {
            "name": "logits",
            "shape": [1, spec.model.num_classes, *gives],
            "type": "float32",
        },
        "runtime_hints": dict(hints),
        "deployment": to_mapping(spec),
    }
    card = bundle.card
    terms = [
        f"{spec.name} {spec.version}, exported to {certificate.format}.",
        f"Data and weights: {card.license}",
        f"Source of the data: {card.source}",
        card.disclaimer,
    ]
    texts = {
        SPEC: json.dumps(about, indent=1, allow_nan=False),
        CARD: json.dumps(to_mapping(card), indent=1, allow_nan=False),
        CERTIFICATE: certificate.to_json(),
        LICENSE: "\n".join(terms),
    }
    for name, text in texts.items():
        (folder / name).write_text(text.rstrip() + "\n", "utf-8")


def _is_empty(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())
