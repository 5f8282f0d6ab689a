"""The table `[worklist]` of a server's configuration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bedside.dicom_node.sending.destination import (
    DicomDestination,
    RetryPolicy,
    Tls,
    WebDestination,
)
from bedside.errors import SpecError


@dataclass(frozen=True)
class WorklistSettings:
    """The table `[worklist]`: work items that this server performs.

    Attributes:
        url: Root of the worklist's service, such as "https://pacs/dicom-web"; for one that speaks
            DIMSE "dicom://AE_TITLE@HOST:PORT", encrypted "dicom+tls://AE_TITLE@HOST:PORT".
        models: Name of the model for each code of a scheduled work item, such as "121726^DCM", or
            for each worklist label; "*" for any other. Work items without a model are left.
        archive: Where results are sent by C-STORE; this or `web_archive`.
        web_archive: Where results are sent by STOW-RS.
        images_url: Root of the service that images are fetched from by WADO-RS; `url` if empty.
        query: Attributes that work items must have, such as {"WorklistLabel": "AI"}.
        transaction_in: As `WorklistService.transaction_in`.
        bodies: As `WorklistService.bodies`.
        ae_title: Who subscribes to events of work items, or calls over DIMSE; each server needs its
            own.
        at_once: How many work items are performed at a time.
        look_s: Pause before the worklist is asked again, where it had nothing to do.
        keep_s: Seconds for which ended work items are kept, with images and results.
        with_sr: Whether measurements are written as a DICOM SR too.
        token_file: File with a bearer token for worklist and images.
        tls: Certificates for https and "dicom+tls".
        retry: Pauses while worklist or images cannot be reached, and when to give up.
    """

    url: str
    models: Mapping[str, str]
    archive: DicomDestination | None = None
    web_archive: WebDestination | None = None
    images_url: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    transaction_in: str = "query"
    bodies: str = "list"
    ae_title: str = "BEDSIDE"
    at_once: int = 1
    look_s: float = 5.0
    keep_s: float = 86400.0
    with_sr: bool = True
    token_file: Path | None = None
    tls: Tls = field(default_factory=Tls)
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        """Check what goes together.

        Raises:
            SpecError: If there is not one archive, no model, nowhere to fetch images, or a number
                is none.
        """
        if (self.archive is None) == (self.web_archive is None):
            raise SpecError("[worklist] needs either archive or web_archive for its results.")
        if self.is_dimse and not self.images_url:
            raise SpecError(
                "a worklist over DIMSE sends no images; state where they are fetched by WADO-RS, "
                'such as images_url = "https://pacs/dicom-web".'
            )
        if not self.models:
            raise SpecError('[worklist] has no models; state them like models = {"*" = "NAME"}.')
        times_s = (self.look_s, self.keep_s)
        if self.at_once < 1 or not all(0 < each < float("inf") for each in times_s):
            raise SpecError("at_once must be 1 or more, look_s and keep_s seconds above 0.")
        if not self.ae_title.isalnum() or len(self.ae_title) > 16:
            raise SpecError(f'ae_title is "{self.ae_title}"; expected 1 to 16 letters and digits.')

    @property
    def is_dimse(self) -> bool:
        """Whether the worklist speaks DIMSE."""
        return self.url.startswith(("dicom://", "dicom+tls://"))

    @property
    def destinations(self) -> tuple[DicomDestination | WebDestination, ...]:
        """Where results are sent: one archive."""
        return tuple(each for each in (self.archive, self.web_archive) if each is not None)
