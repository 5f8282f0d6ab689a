"""`bedside serve --check`: what would be served, and what is missing."""

import importlib.util
from collections.abc import Sequence

from bedside.dicom_node.config import DicomSettings
from bedside.errors import BedsideError, install_command
from bedside.serve.config import ServeSettings
from bedside.service.settings import ServedModel

_HTTP_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "websockets", "prometheus_client")
_DICOM_PACKAGES = ("pynetdicom", "httpx")
_WORKLIST_PACKAGES = ("pynetdicom", "httpx")


def check_settings(settings: ServeSettings) -> tuple[list[str], bool]:
    """Return lines for a person, and whether everything that is needed is there.

    Args:
        settings: What would be served.
    """
    from bedside.bundle import find_bundle, read_bundle
    from bedside.pool import estimate_bytes
    from bedside.service.engine import list_models

    lines, is_sound = [_describe_http(settings), _describe_stores(settings)], True
    packages: tuple[str, ...] = _HTTP_PACKAGES
    if settings.dicom is not None:
        described = _describe_dicom(settings.dicom, list_models(settings.engine))
        lines += described
        is_sound = len(described) == 1
        packages += _DICOM_PACKAGES
    if settings.worklist is not None:
        lines.append(
            f"work   items of {settings.worklist.url}, as {settings.worklist.ae_title}; "
            f"{len(settings.worklist.models)} models"
        )
        packages += _WORKLIST_PACKAGES
    if settings.telemetry is not None:
        lines.append(f"otel   traces and metrics to {settings.telemetry.endpoint}")
        if importlib.util.find_spec("opentelemetry") is None:
            is_sound = False
            lines.append(f"  MISSING opentelemetry: {install_command('otel')}")
    missing = [name for name in dict.fromkeys(packages) if importlib.util.find_spec(name) is None]
    if missing:
        is_sound = False
        lines.append(f"  MISSING {', '.join(missing)}: {install_command('serve')}")
    for model in list_models(settings.engine):
        try:
            bundle = read_bundle(find_bundle(model.bundle or model.name))
            n_bytes = estimate_bytes(bundle)
        except BedsideError as error:
            is_sound = False
            lines.append(f"model  {model.name}\n  MISSING {error}")
            continue
        lines.append(
            f"model  {model.name}: {bundle.spec.task}; {n_bytes / 2**20:.0f} MiB"
            + (", loaded at the start" if model.pinned else "")
        )
        if n_bytes > settings.memory_mb * 2**20:
            is_sound = False
            lines.append(f"  TOO LARGE for memory_mb = {settings.memory_mb}. Raise it.")
    lines.append("Ready." if is_sound else "Not ready.")
    return lines, is_sound


def _describe_dicom(dicom: DicomSettings, models: Sequence[ServedModel]) -> list[str]:
    """Return a line about the DICOM node, and one for each thing that is missing."""
    lines = [f"dicom  {dicom.ae_title} on {dicom.host}, port {dicom.port}; "
             f"{'without' if dicom.tls is None else 'with'} TLS; {len(dicom.route)} routes, "
             f"{len(dicom.archives)} archives"]  # fmt: skip
    names = [model.name for model in models]
    for route in dicom.route:
        if route.model not in names:
            lines.append(
                f'  MISSING model "{route.model}" of a route; there is: {", ".join(names)}'
            )
    if not dicom.route:
        lines.append("  MISSING a [[dicom.route]]: no series would be segmented")
    if dicom.tls is not None:
        try:
            dicom.tls.open_context()
        except BedsideError as error:
            lines.append(f"  MISSING {error}")
    if dicom.with_sr and importlib.util.find_spec("highdicom") is None:
        lines.append(f"  MISSING highdicom, for with_sr: {install_command('sr')}")
    return lines


def _describe_stores(settings: ServeSettings) -> str:
    """Return where what other programs store goes, and where the series are that they name."""
    http = settings.http
    instances = "the DICOM node" if settings.dicom is not None else http.image_store or "nowhere"
    return (
        f"store  instances of DICOMweb: {instances}; images and labels of MONAI Label's clients: "
        f"{http.image_store or 'nowhere'}; series that OHIF names: "
        f"{http.archive_url or http.image_store or 'nowhere'}"
    )


def _describe_http(settings: ServeSettings) -> str:
    """Return who can come in over HTTP."""
    http = settings.http
    who = "this machine" if http.is_local else "others"
    keys = f"{len(settings.key)} keys" if settings.key else "no key"
    lines = [
        f"http   {http.host}, port {http.port}: for {who}, {keys}, "
        f"{'without' if http.tls is None else 'with'} TLS",
        f"health {http.health_host}, port {http.health_port}: without a key",
    ]
    if not http.is_local and http.tls is None:
        lines.append(
            "  WARNING images and keys travel unencrypted: state [http.tls], or put a proxy with "
            "TLS in front"
        )
    return "\n".join(lines)
