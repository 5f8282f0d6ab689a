"""Settings that all doors of a server share."""

from dataclasses import dataclass, field

from bedside.errors import SpecError
from bedside.io.sandbox.limits import Limits


@dataclass(frozen=True)
class ServedModel:
    """A model that is served.

    Attributes:
        name: What requests call it.
        bundle: Name of a shipped bundle or path of a `.bedside` file; the same as `name` if empty.
        pinned: Loaded at the start, and kept.
    """

    name: str
    bundle: str = ""
    pinned: bool = False

    def __post_init__(self) -> None:
        """Check the name, which stands in addresses.

        Raises:
            SpecError: If it is empty, or has a character that would have to be escaped.
        """
        if not self.name or not self.name.replace("-", "").replace("_", "").isalnum():
            raise SpecError(
                f'the name of a model is "{self.name}"; expected letters, digits, - and _.'
            )


@dataclass(frozen=True)
class EngineSettings:
    """What segments for all doors.

    Attributes:
        models: The models; empty for every shipped bundle.
        memory_mb: MiB for the loaded models together, as `bedside.pool.estimate_bytes` counts.
        threads: Threads of all networks together; None for every core this process may use.
        at_once: Networks that may run at the same time.
        slots: Images that are worked on at the same time, decoding and encoding included.
        queue: Images that may wait for a slot; more make those that are taken slower, not more.
        volumes: Volumes and jobs among them; each takes memory for itself. With more than one
            slot, one is always left to images.
        backend: Name of a runtime, or "auto".
        precision: As in `bedside.load`.
        decoding: Limits for decoding one image.
    """

    models: tuple[ServedModel, ...] = ()
    memory_mb: int = 2048
    threads: int | None = None
    at_once: int = 1
    slots: int = 2
    queue: int = 1
    volumes: int = 1
    backend: str = "auto"
    precision: str = "default"
    decoding: Limits = field(default_factory=Limits)
