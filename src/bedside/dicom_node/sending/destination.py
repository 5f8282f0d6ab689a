"""Where results are sent, how it is confirmed, and how often it is tried."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from bedside.errors import SpecError

DICOM_CONFIRMATIONS = ("none", "find", "commitment")
WEB_CONFIRMATIONS = ("none", "qido")


@dataclass(frozen=True)
class RetryPolicy:
    """How long and how often a delivery is tried.

    Attributes:
        first_s: Longest pause after the first failure; it doubles with each further one.
        longest_s: Limit of that pause.
        max_attempts: Attempts that the peer answered with a failure, before it is given up.
        max_checks: Answers "not there" to a check, before the files are sent again.
        report_s: How long a report of storage commitment may take, before it is asked for again.
        give_up_after_s: Age of a delivery at which it is given up, whatever the reason.
    """

    first_s: float = 2.0
    longest_s: float = 300.0
    max_attempts: int = 8
    max_checks: int = 6
    report_s: float = 900.0
    give_up_after_s: float = 3 * 86400.0

    def __post_init__(self) -> None:
        """Refuse limits that never end or never begin."""
        for name in ("first_s", "longest_s", "report_s", "give_up_after_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise SpecError(f"{name} is {getattr(self, name)}; it must be above 0 and finite.")
        for name in ("max_attempts", "max_checks"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name} is {getattr(self, name)}; it must be at least 1.")


@dataclass(frozen=True)
class Tls:
    """Files for an encrypted connection.

    Attributes:
        ca_file: Certificates that the peer's must be signed by; None for the system's.
        certificate: Our certificate with its key, if the peer asks for one.
    """

    ca_file: Path | None = None
    certificate: Path | None = None

    def open_context(self) -> ssl.SSLContext:
        """Return the context of a client that checks certificate and host name.

        Raises:
            SpecError: If a file cannot be read.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate)
        except OSError as error:
            raise SpecError(f"the certificates of a destination cannot be read: {error}") from error
        return context


@dataclass(frozen=True)
class DicomDestination:
    """An archive that takes files by C-STORE.

    Attributes:
        name: Its name in settings, states and logs.
        host: Name or address.
        port: TCP port.
        ae_title: AE title that is called.
        calling_ae_title: Our own.
        confirm: "find" asks by C-FIND for each instance, "commitment" asks for storage
            commitment, "none" believes the status of C-STORE.
        connect_s: Limit for the connection and for the association.
        deadline_s: Limit for one association as a whole, however slowly bytes move.
        report_wait_s: How long a report of storage commitment is awaited on the association that
            asked for it; later ones come on an association of the archive's own.
        tls: Encryption; None for none.
        retry: How often it is tried.
    """

    name: str
    host: str
    port: int
    ae_title: str
    calling_ae_title: str = "BEDSIDE"
    confirm: str = "find"
    connect_s: float = 10.0
    deadline_s: float = 300.0
    report_wait_s: float = 5.0
    tls: Tls | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        """Refuse what no association can be made with."""
        _check_confirm(self.name, self.confirm, DICOM_CONFIRMATIONS)
        if not 0 < self.port < 65536:
            raise SpecError(f'destination "{self.name}": port {self.port} is not in 1 to 65535.')
        for title in (self.ae_title, self.calling_ae_title):
            if not 0 < len(title.strip()) <= 16 or not title.isascii() or "\\" in title:
                raise SpecError(
                    f'destination "{self.name}": AE title "{title}" must have 1 to 16 ASCII '
                    "characters and no backslash."
                )


@dataclass(frozen=True)
class WebDestination:
    """An archive that takes files by STOW-RS.

    Attributes:
        name: Its name in settings, states and logs.
        url: Root of its DICOMweb services, such as "https://pacs/dicom-web".
        confirm: "qido" asks for each instance, "none" believes the answer to STOW-RS.
        token_file: File with a bearer token, read for each request.
        connect_s: Limit for the connection.
        deadline_s: Limit for one request with its answer, however slowly bytes move.
        tls: Certificates for https.
        retry: How often it is tried.
    """

    name: str
    url: str
    confirm: str = "qido"
    token_file: Path | None = None
    connect_s: float = 10.0
    deadline_s: float = 300.0
    tls: Tls = field(default_factory=Tls)
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        """Refuse what is no address of a web service."""
        _check_confirm(self.name, self.confirm, WEB_CONFIRMATIONS)
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise SpecError(
                f'destination "{self.name}": "{self.url}" is no address of a DICOMweb service; '
                "write it like https://pacs.example/dicom-web."
            )


Destination = DicomDestination | WebDestination


def _check_confirm(name: str, confirm: str, known: tuple[str, ...]) -> None:
    if confirm not in known:
        raise SpecError(
            f'destination "{name}": confirm = "{confirm}" is unknown; it is one of '
            f"{', '.join(known)}."
        )
