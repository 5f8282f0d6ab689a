"""Which result a client asks for: by `format=`, else by its Accept header."""

from dataclasses import dataclass

from bedside.http_api.failures import RequestError
from bedside.io.formats import label_formats

REPORT = "json"
"""The name for the report instead of a mask."""

# The first of a format names its answers.
_TYPES = {
    "application/dicom": "dicom-seg",
    "application/gzip": "nifti",
    "application/x-gzip": "nifti",
    "application/x-nifti": "nifti",
    "application/nifti": "nifti",
    "application/vnd.unknown.nifti-1": "nifti",
    "application/octet-stream": "auto",
    "application/x-nrrd": "seg-nrrd",
    "image/png": "png",
    "image/*": "png",
    "application/json": REPORT,
    "application/*": "auto",
    "*/*": "auto",
}
_NAMES = {"dicom-labelmap": "application/dicom", "dicom-seg": "application/dicom",
          "nifti": "application/gzip", "seg-nrrd": "application/x-nrrd",
          "png": "image/png", REPORT: "application/json"}  # fmt: skip


@dataclass(frozen=True)
class _Choice:
    kind: str
    quality: float


def choose_result(format_: str | None, accept: str | None) -> str:
    """Return the format of labels, "auto" for that of the image, or `REPORT`.

    Args:
        format_: The value of `format=`.
        accept: The Accept header.

    Raises:
        RequestError: If there is no such format.

    Example:
        >>> choose_result(None, "text/html, application/dicom;q=0.9, */*;q=0.1")
        'dicom-seg'
    """
    known = ("auto", REPORT, *label_formats())
    if format_:
        if format_ not in known:
            raise RequestError(400, f"format is unknown. Choose one of {', '.join(known)}.")
        return format_
    choices = [_parse(part) for part in (accept or "*/*").split(",")]
    for choice in sorted(choices, key=lambda each: -each.quality):
        if choice.kind in _TYPES and choice.quality > 0:
            return _TYPES[choice.kind]
    offered = ", ".join(kind for kind in _TYPES if "*" not in kind)
    raise RequestError(406, f"nothing that Accept names can be sent. Accept one of {offered}.")


def media_type(format_: str) -> str:
    """Return the media type of a format."""
    return _NAMES[format_]


def _parse(part: str) -> _Choice:
    """Split "type;q=0.5"; other parameters do not matter."""
    kind, *parameters = (each.strip().lower() for each in part.split(";"))
    for each in parameters:
        name, _, value = each.partition("=")
        if name.strip() == "q":
            try:
                return _Choice(kind, float(value))
            except ValueError:
                return _Choice(kind, 0.0)
    return _Choice(kind, 1.0)
