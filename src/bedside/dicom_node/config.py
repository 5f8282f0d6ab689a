"""The table `[dicom]` of a server's configuration."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bedside.dicom_node.sending.destination import DicomDestination, WebDestination
from bedside.dicom_node.traits import SeriesTraits
from bedside.errors import SpecError

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LONGEST_TITLE = 16


@dataclass(frozen=True)
class Route(SeriesTraits):
    """A table `[[dicom.route]]`: which series a model is for.

    What a series says is compared with patterns, without regard to case; `*` stands for any
    letters, `?` for one. An empty pattern fits everything, also a series that does not say.

    Attributes:
        model: Name of the model.
        send_to: Names of the archives that its results go to; none for all.
    """

    model: str
    send_to: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sender:
    """A table `[[dicom.sender]]`: who knows how many images a series has.

    Attributes:
        calling_ae: AE title of the sender.
        method: How it is asked: "c-find", or "qido" for DICOMweb.
        host: For C-FIND.
        port: For C-FIND.
        ae_title: For C-FIND: AE title that answers; that of the sender if empty.
        url: For QIDO: root of the service, such as "http://pacs/dicom-web".
    """

    calling_ae: str
    method: Literal["c-find", "qido"] = "c-find"
    host: str = ""
    port: int = 104
    ae_title: str = ""
    url: str = ""

    def __post_init__(self) -> None:
        """Check that it can be asked.

        Raises:
            SpecError: If it cannot.
        """
        if self.method == "c-find" and not self.host:
            raise SpecError(f'sender "{self.calling_ae}" is asked by C-FIND; state its host.')
        if self.method == "qido" and not self.url:
            raise SpecError(f'sender "{self.calling_ae}" is asked by QIDO; state its url.')


@dataclass(frozen=True)
class DicomTls:
    """The table `[dicom.tls]`: encryption of the port, for all peers.

    Attributes:
        certificate: File of the certificate, with those between it and its root.
        private_key: File of its key.
        client_ca: Certificates that those of peers must be signed by; none to ask for none.
    """

    certificate: Path
    private_key: Path
    client_ca: Path | None = None

    def open_context(self) -> ssl.SSLContext:
        """Return the context of a server after BCP 195, without older versions.

        Raises:
            SpecError: If a file cannot be read, or key and certificate do not belong together.

        Source:
            PS3.15, B.12 (Non-Downgrading BCP 195 TLS Secure Transport Connection Profile).
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM")
        context.options |= ssl.OP_NO_RENEGOTIATION
        try:
            context.load_cert_chain(self.certificate, self.private_key)
            if self.client_ca is not None:
                context.load_verify_locations(self.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except OSError as error:
            raise SpecError(f"the files of [dicom.tls] cannot be used: {error}") from error
        return context


@dataclass(frozen=True)
class PeerLimits:
    """The table `[dicom.limits]`: what a peer may take. The defaults suit a hospital's network.

    Attributes:
        associations: Associations at the same time; one more is rejected for now.
        associations_per_address: Of them, those of one address.
        half_open: Connections without an association; one more ends the oldest.
        half_open_per_address: Of them, those of one address; one more ends its oldest.
        association_s: Seconds from the connection to the whole request for an association.
        pdu_s: Seconds for one PDU, from its first byte to its last.
        idle_s: Seconds of silence that end an association.
        pdu_bytes: Longest PDU, which peers are told.
        object_mb: Largest object, in MiB.
        kb_per_s: An object that comes more slowly is cut off, after `pdu_s`.
        free_mb: With less free disk than that, in MiB, objects are refused.
    """

    associations: int = 32
    associations_per_address: int = 16
    half_open: int = 256
    half_open_per_address: int = 128
    association_s: float = 5.0
    pdu_s: float = 8.0
    idle_s: float = 60.0
    pdu_bytes: int = 131072
    object_mb: int = 2048
    kb_per_s: float = 16.0
    free_mb: int = 512

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            SpecError: If one is not above 0, or no PDU fits.
        """
        for name, value in vars(self).items():
            if not 0 < value < float("inf"):
                raise SpecError(f"{name} is {value}; expected a number above 0.")
        if not 4096 <= self.pdu_bytes <= 2**20:
            raise SpecError(f"pdu_bytes is {self.pdu_bytes}; expected 4096 to 1048576.")


@dataclass(frozen=True)
class DicomSettings:
    """The table `[dicom]`.

    Attributes:
        ae_title: Our AE title.
        host: Address that is listened on.
        port: Its port; 0 for any that is free.
        calling_ae_titles: Senders that may associate; none for all, which only this machine may.
        require_called_ae_title: Whether senders must call us by our title.
        route: Which series are for which model; the first that fits counts.
        sender: Who knows how many images a series has.
        archive: Where results are sent by C-STORE.
        web_archive: Where results are sent by STOW-RS.
        settle_s: Seconds without an image after which a series is taken as complete, if neither
            its sender nor its header tells.
        missing_s: Seconds without an image after which a series fails whose sender has more.
        keep_s: Seconds for which a series is kept after its last change, images and results.
        output: Folder that results are copied to; none without one.
        with_sr: Whether measurements are written as a DICOM SR too.
        on_disk: "series": images are on disk before their series is complete, and are lost with a
            failure of the machine before that, which fails the series; "image": before each is
            acknowledged, which is slower.
        tls: Encryption of the port; None for none.
        limits: What a peer may take.
    """

    ae_title: str = "BEDSIDE"
    host: str = "127.0.0.1"
    port: int = 11112
    calling_ae_titles: tuple[str, ...] = ()
    require_called_ae_title: bool = False
    route: tuple[Route, ...] = ()
    sender: tuple[Sender, ...] = ()
    archive: tuple[DicomDestination, ...] = ()
    web_archive: tuple[WebDestination, ...] = ()
    settle_s: float = 10.0
    missing_s: float = 600.0
    keep_s: float = 86400.0
    output: Path | None = None
    with_sr: bool = False
    on_disk: Literal["image", "series"] = "series"
    tls: DicomTls | None = None
    limits: PeerLimits = field(default_factory=PeerLimits)

    def __post_init__(self) -> None:
        """Check titles and times.

        Raises:
            SpecError: If a title is none, a time is not above 0, or anybody could send from
                elsewhere.
        """
        for title in (self.ae_title, *self.calling_ae_titles):
            if not 0 < len(title.strip()) <= _LONGEST_TITLE or not title.isascii():
                raise SpecError(f'"{title}" is no AE title; expected 1 to 16 ASCII letters.')
        for name in ("settle_s", "missing_s", "keep_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise SpecError(f"{name} is {getattr(self, name)}; expected seconds above 0.")
        knows_peers = self.tls is not None and self.tls.client_ca is not None
        if self.host not in _LOOPBACK and not self.calling_ae_titles and not knows_peers:
            raise SpecError(
                f'host is "{self.host}", which others can reach. List who may send in '
                "calling_ae_titles, and keep the port within a network that you trust: AE titles "
                "are no passwords. Or ask for certificates, by client_ca under [dicom.tls]."
            )
        known = [each.name for each in self.archives]
        for name in (name for route in self.route for name in route.send_to):
            if name not in known:
                raise SpecError(
                    f'a route sends to "{name}"; there is: {", ".join(known) or "no archive"}.'
                )

    @property
    def archives(self) -> tuple[DicomDestination | WebDestination, ...]:
        """Where results are sent."""
        return (*self.archive, *self.web_archive)
