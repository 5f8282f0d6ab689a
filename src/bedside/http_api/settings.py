"""Settings of the HTTP door."""

from dataclasses import dataclass


@dataclass(frozen=True)
class HttpSettings:
    """The table `[http]` of a configuration.

    Attributes:
        host: Address that is listened on.
        port: Its port; 0 for any that is free.
        upload_mb: Largest body of a request, in MiB.
        unpacked_mb: Largest content of a zip, in MiB.
        header_s: Seconds in which the head of a request must be there.
        body_s: Seconds in which its body must be there.
        image_store: Folder for what DICOMweb and MONAI Label's clients store; empty for none.
    """

    host: str = "127.0.0.1"
    port: int = 8077
    upload_mb: int = 2048
    unpacked_mb: int = 4096
    header_s: float = 10.0
    body_s: float = 300.0
    image_store: str = ""
