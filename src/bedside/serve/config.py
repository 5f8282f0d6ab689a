"""The configuration of a server: one TOML file, read strictly."""

import math
from dataclasses import dataclass, field, replace
from pathlib import Path

from bedside.dicom_node.config import DicomSettings
from bedside.dicom_node.ups.config import WorklistSettings
from bedside.errors import SpecError
from bedside.http_api.settings import HttpSettings
from bedside.io.sandbox.limits import Limits
from bedside.service.keys import Key
from bedside.service.settings import EngineSettings, ServedModel
from bedside.service.telemetry import TelemetrySettings
from bedside.spec.reading import from_mapping, read_toml


@dataclass(frozen=True)
class ServeSettings:
    """A configuration file.

    Attributes:
        model: Tables `[[model]]`, one a model; none for every shipped bundle.
        memory_mb: As `EngineSettings.memory_mb`.
        threads: As `EngineSettings.threads`.
        key: Tables `[[key]]`: who may come in over HTTP; needed where others can reach it.
        slots: As `EngineSettings.slots`.
        queue: As `EngineSettings.queue`.
        volumes: As `EngineSettings.volumes`.
        decode_mb: MiB for decoding one image, in a process of its own.
        decode_s: Seconds for decoding it.
        http: The table `[http]`.
        dicom: The table `[dicom]`; without it, no DICOM is received.
        worklist: The table `[worklist]`; without it, no work items are performed.
        telemetry: The table `[telemetry]`; without it, nothing is sent to a collector.
        state: Folder for what was accepted and is not done yet: images and results of patients.
        audit: File of the audit log; None for none.
        drain_s: Seconds for the work in progress when the server is stopped.
    """

    model: tuple[ServedModel, ...] = ()
    memory_mb: int = 2048
    threads: int | None = None
    slots: int = 2
    queue: int = 1
    volumes: int = 1
    decode_mb: int = 2048
    decode_s: float = 60.0
    key: tuple[Key, ...] = ()
    http: HttpSettings = field(default_factory=HttpSettings)
    dicom: DicomSettings | None = None
    worklist: WorklistSettings | None = None
    telemetry: TelemetrySettings | None = None
    state: Path | None = None
    audit: Path | None = None
    drain_s: float = 30.0

    def __post_init__(self) -> None:
        """Check what goes together.

        Raises:
            SpecError: If a number is not above 0, anybody could come in from elsewhere, two keys
                have one name, or DICOM or work items have no folder.
        """
        if not self.http.is_local and not self.key:
            raise SpecError(
                f'http.host is "{self.http.host}", which others can reach: state who may come in, '
                "by tables [[key]] as `bedside serve --new-key NAME` prints them."
            )
        numbers = {
            name: value for name, value in vars(self).items() if isinstance(value, int | float)
        }
        for name, value in numbers.items():
            if not 0 < value < math.inf:
                raise SpecError(f"{name} is {value}; expected a number above 0.")
        if self.dicom is not None and self.state is None:
            raise SpecError(
                "[dicom] keeps series on disk until they are done; name a folder for them, such "
                'as state = "/var/lib/bedside".'
            )
        if self.worklist is not None and self.state is None:
            raise SpecError(
                "[worklist] keeps work items on disk until they are done; name a folder for them, "
                'such as state = "/var/lib/bedside".'
            )
        if len({key.name for key in self.key}) < len(self.key):
            raise SpecError("two keys have one name. Give each its own.")

    @property
    def engine(self) -> EngineSettings:
        """What all doors share."""
        return EngineSettings(
            self.model, memory_mb=self.memory_mb, threads=self.threads, slots=self.slots,
            queue=self.queue, volumes=self.volumes, decoding=Limits(self.decode_mb, self.decode_s),
        )  # fmt: skip

    @property
    def door(self) -> HttpSettings:
        """The HTTP door, with its keys."""
        return replace(self.http, keys=self.key)


def read_settings(path: Path | None) -> ServeSettings:
    """Read a configuration; the defaults without a file.

    Raises:
        SpecError: If the file is missing, is not TOML, or has an unknown key.
    """
    if path is None:
        return ServeSettings()
    return from_mapping(ServeSettings, read_toml(path))
