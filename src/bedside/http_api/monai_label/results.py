"""Masks and replies in the form that clients of MONAI Label ask for."""

import gzip
import io
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from starlette.responses import Response

from bedside.errors import UsageError
from bedside.io.nrrd.seg import encode_plain_nrrd
from bedside.result import Result

EXTENSIONS = {
    ".nrrd": "application/octet-stream",
    ".seg.nrrd": "application/octet-stream",
    ".nii.gz": "application/gzip",
    ".nii": "application/octet-stream",
}
"""Media types of masks by the end of their names."""

DICOM_SEG = "dicom_seg"
_DTYPES = ("uint8", "uint16")


@dataclass(frozen=True)
class Wanted:
    """What a client asks for.

    Attributes:
        output: "all" for mask and JSON together, "image" for the mask, "json", or "dicom_seg".
        extension: End of the name of the mask, which says its format.
        dtype: Type of its numbers; that of NIfTI is always uint8.
    """

    output: str = "all"
    extension: str = ".nrrd"
    dtype: Literal["uint8", "uint16"] = "uint8"

    @classmethod
    def read(cls, output: str, params: Mapping[str, Any]) -> "Wanted":
        """Read a request.

        Args:
            output: The parameter of the address; empty for "all".
            params: The field "params" of the form.

        Raises:
            UsageError: If there is no such form.
        """
        extension = params.get("result_extension") or ".nrrd"
        dtype = params.get("result_dtype") or "uint8"
        outputs = ("all", "image", "json", DICOM_SEG)
        for name, value, known in (
            ("output", output or "all", outputs),
            ("result_extension", extension, tuple(EXTENSIONS)),
            ("result_dtype", dtype, _DTYPES),
        ):
            if value not in known:
                raise UsageError(f"{name} is {value!r:.40}; expected one of {', '.join(known)}.")
        return cls(output or "all", extension, cast("Literal['uint8', 'uint16']", dtype))


def encode_mask(result: Result, wanted: Wanted) -> bytes:
    """Return the mask on the grid of its image.

    Raises:
        UsageError: If a DICOM SEG is asked for, and the image is not DICOM.
    """
    if wanted.output == DICOM_SEG:
        return result.to_bytes("dicom-seg")
    if wanted.extension == ".seg.nrrd":
        return result.to_bytes("seg-nrrd")
    if wanted.extension == ".nrrd":
        file = io.BytesIO()
        encode_plain_nrrd(result.label_map, result.source, file, dtype=wanted.dtype)
        return file.getvalue()
    packed = result.to_bytes("nifti")
    return packed if wanted.extension == ".nii.gz" else gzip.decompress(packed)


def describe_result(result: Result) -> dict[str, Any]:
    """Return what stands beside a mask; clients name its values by `label_names`."""
    return {
        "label_names": name_labels(result.bundle.spec.labels),
        "warnings": list(result.warnings),
        "latencies": {"total": round(result.facts.wall_s, 3)},
    }


def name_labels(labels: Any) -> dict[str, int]:
    """Return the value of each structure by its name, in the order of values."""
    return {label.name: label.value for label in labels}


def answer(result: Result, wanted: Wanted) -> Response:
    """Return the answer with a result."""
    headers = {"Cache-Control": "no-store"}
    text = json.dumps(describe_result(result)).encode()
    if wanted.output == "json":
        return Response(text, media_type="application/json", headers=headers)
    mask = encode_mask(result, wanted)
    extension = ".dcm" if wanted.output == DICOM_SEG else wanted.extension
    # Clients save it in a folder of their own, where several may lie.
    name = f"segmentation-{secrets.token_hex(8)}{extension}"
    kind = EXTENSIONS.get(extension, "application/dicom")
    if wanted.output != "all":
        headers["Content-Disposition"] = f'attachment; filename="{name}"'
        return Response(mask, media_type=kind, headers=headers)
    boundary = secrets.token_hex(16)
    content = b"".join(
        (
            _part_head(boundary, 'name="params"', "application/json"), text,
            _part_head(boundary, f'name="image"; filename="{name}"', kind), mask,
            f"\r\n--{boundary}--\r\n".encode(),
        )
    )  # fmt: skip
    # The first part begins without the line end that closes the one before.
    return Response(
        content[2:], media_type=f"multipart/form-data; boundary={boundary}", headers=headers
    )


def _part_head(boundary: str, disposition: str, kind: str) -> bytes:
    return (
        f"\r\n--{boundary}\r\nContent-Disposition: form-data; {disposition}\r\n"
        f"Content-Type: {kind}\r\n\r\n"
    ).encode()
