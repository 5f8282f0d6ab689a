"""The configuration of a server: one TOML file, read strictly."""

from dataclasses import dataclass, field
from pathlib import Path

from bedside.dicom_node.config import DicomSettings
from bedside.errors import SpecError
from bedside.http_api.settings import HttpSettings
from bedside.service.settings import EngineSettings, ServedModel
from bedside.spec.reading import from_mapping, read_toml

LOOPBACK = ("127.0.0.1", "::1", "localhost")
"""Addresses that only programs of this machine reach."""


@dataclass(frozen=True)
class ServeSettings:
    """A configuration file.

    Attributes:
        model: Tables `[[model]]`, one a model; none for every shipped bundle.
        memory_mb: As `EngineSettings.memory_mb`.
        threads: As `EngineSettings.threads`.
        http: The table `[http]`.
        dicom: The table `[dicom]`; without it, no DICOM is received.
        state: Folder for what was accepted and is not done yet: images and results of patients.
        drain_s: Seconds for the work in progress when the server is stopped.
    """

    model: tuple[ServedModel, ...] = ()
    memory_mb: int = 2048
    threads: int | None = None
    http: HttpSettings = field(default_factory=HttpSettings)
    dicom: DicomSettings | None = None
    state: Path | None = None
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        """Check what goes together.

        Raises:
            SpecError: If the server could be reached from elsewhere, or DICOM has no folder.
        """
        if self.http.host not in LOOPBACK:
            raise SpecError(
                f'http.host is "{self.http.host}"; only this machine can be served as yet: '
                f"{', '.join(LOOPBACK)}."
            )
        if self.dicom is not None and self.state is None:
            raise SpecError(
                "[dicom] keeps series on disk until they are done; name a folder for them, such "
                'as state = "/var/lib/bedside".'
            )

    @property
    def engine(self) -> EngineSettings:
        """What all doors share."""
        return EngineSettings(self.model, memory_mb=self.memory_mb, threads=self.threads)


def read_settings(path: Path | None) -> ServeSettings:
    """Read a configuration; the defaults without a file.

    Raises:
        SpecError: If the file is missing, is not TOML, or has an unknown key.
    """
    if path is None:
        return ServeSettings()
    return from_mapping(ServeSettings, read_toml(path))
