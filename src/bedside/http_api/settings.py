"""Settings of the HTTP door."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from bedside.errors import SpecError
from bedside.service.keys import Key

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Addresses that only programs of this machine reach."""


@dataclass(frozen=True)
class TlsSettings:
    """The table `[http.tls]`.

    Attributes:
        certificate: File of the certificate, with those between it and its root.
        private_key: File of its key.
        client_ca: Certificates that clients must be signed by; none to take every client.
    """

    certificate: Path
    private_key: Path
    client_ca: Path | None = None


@dataclass(frozen=True)
class HttpSettings:
    """The table `[http]` of a configuration.

    Attributes:
        host: Address that is listened on.
        port: Its port; 0 for any that is free.
        health_host: Address of the listener for health and metrics, which needs no key.
        health_port: Its port; 0 for any that is free.
        hosts: Names that requests may be for, in their header Host; those of this machine if
            empty, and any where a key is needed.
        origins: Web sites of others whose pages may send requests, such as
            "https://viewer.example".
        tls: Certificate; None for plain HTTP.
        upload_mb: Largest body of a request, in MiB.
        unpacked_mb: Largest content of a zip, in MiB.
        spool_mb: Disk for the bodies of all requests together, in MiB, and as much for the images
            of all sessions.
        header_s: Seconds in which the head of a request must be there.
        body_s: Seconds in which its body must be there.
        image_store: Folder for what DICOMweb and MONAI Label's clients store; empty for none.
        archive_url: Root of a DICOMweb archive, such as "http://127.0.0.1:8042/dicom-web", whose
            series MONAI Label's clients may name; empty for none.
        kb_per_s: A body that comes more slowly is cut off, after `header_s`.
        half_open: Connections without a request; one more ends the oldest.
        connections: All connections; one more ends the oldest, a half-open one first.
        keys: Who may come in; set by the tables `[[key]]`.
    """

    host: str = "127.0.0.1"
    port: int = 8077
    health_host: str = "127.0.0.1"
    health_port: int = 8078
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    tls: TlsSettings | None = None
    upload_mb: int = 2048
    unpacked_mb: int = 4096
    spool_mb: int = 16384
    header_s: float = 10.0
    body_s: float = 900.0
    image_store: str = ""
    archive_url: str = ""
    kb_per_s: float = 16.0
    half_open: int = 256
    connections: int = 1000
    keys: tuple[Key, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            SpecError: If one cannot mean anything.
        """
        for name in ("port", "health_port"):
            if not 0 <= getattr(self, name) < 2**16:
                raise SpecError(f"{name} is {getattr(self, name)}; expected 0 to 65535.")
        for name in ("upload_mb", "unpacked_mb", "spool_mb", "header_s", "body_s", "kb_per_s",
                     "half_open", "connections"):  # fmt: skip
            if not 0 < getattr(self, name) < math.inf:
                raise SpecError(f"{name} is {getattr(self, name)}; expected a number above 0.")

    @property
    def is_local(self) -> bool:
        """Whether only programs of this machine can come in."""
        return self.host in LOOPBACK
