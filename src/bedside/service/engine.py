"""What segments, for all doors: models by name, admission, untrusted files decoded apart."""

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bedside.bundle import Bundle, find_bundle, read_bundle, shipped_bundles
from bedside.errors import BedsideError, FormatError, NoModelError, SpecError
from bedside.io.image import Image, open_image
from bedside.io.opened import Source
from bedside.io.read_options import ReadOptions
from bedside.io.sandbox.decoders import Decoders
from bedside.io.sandbox.limits import Limits
from bedside.pool import ModelPool
from bedside.result import Result
from bedside.runtime import default_threads
from bedside.segment import Model
from bedside.service.admission import LIMITS, Admission, Lane, Place
from bedside.service.settings import EngineSettings, ServedModel
from bedside.service.turns import Turns
from bedside.volume import ImageSequence

DEADLINE_S = 600.0
"""Seconds for one image, unless its request says less."""

_THREADS_OF_IMAGE = 2
"""What one image keeps busy: the network has more threads only for a part of the time."""


class Engine:
    """Segments images for any number of threads and doors; close it at the end.

    with Engine() as engine:
        result = engine.segment("camus-4ch", Path("image.dcm"))

    Args:
        settings: Models, memory, threads, limits.

    Attributes:
        settings: The same.
        admission: Who may work now. A door that has to refuse before it has the image asks it.

    Raises:
        BundleError: If a model has no bundle.
        SpecError: If two models have one name.
    """

    def __init__(self, settings: EngineSettings | None = None) -> None:
        self.settings = settings or EngineSettings()
        listed = list_models(self.settings)
        self._models = {each.name: each for each in listed}
        if len(self._models) < len(listed):
            raise SpecError("two models have one name. Give each its own.")
        self._paths = {
            name: find_bundle(each.bundle or name) for name, each in self._models.items()
        }
        images = replace(LIMITS[Lane.IMAGE], waiting=self.settings.queue)
        at_most = max(1, min(self.settings.volumes, self.settings.slots - 1))
        volumes = replace(LIMITS[Lane.VOLUME], running=at_most)
        self.admission = Admission(
            self.settings.slots, {**LIMITS, Lane.IMAGE: images, Lane.VOLUME: volumes}
        )
        self._pool = ModelPool(
            self.settings.memory_mb * 2**20,
            threads=self.settings.threads,
            at_once=self.settings.at_once,
            backend=self.settings.backend,
            precision=self.settings.precision,
        )
        threads = self.settings.threads or default_threads()
        self._turns = Turns(max(1, threads // _THREADS_OF_IMAGE))
        self._pins = _Pins(self)
        self._decoders = Decoders()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the models."""
        return tuple(self._models)

    @property
    def loaded(self) -> Mapping[str, int]:
        """Bytes that each loaded model counts for, by the name of its bundle."""
        return self._pool.loaded

    @property
    def decoding(self) -> Limits:
        """Limits for decoding an image, and what starts the process that does."""
        return replace(self.settings.decoding, start=self._decoders.run)

    def bundle(self, model: str) -> Bundle:
        """Return the bundle of a model, for its spec and its card.

        Raises:
            NoModelError: If there is no such model.
            BundleError: If its bundle is damaged.
        """
        return self._read(self._path(model))

    def lane(self, model: str) -> Lane:
        """Return the class of work that one image is for a model.

        Raises:
            NoModelError: If there is no such model.
        """
        is_scan = self.bundle(model).spec.model.spatial_dims == 3
        return Lane.VOLUME if is_scan else Lane.IMAGE

    def check(self, model: str, *, n_bytes: int = 0) -> None:
        """Return if there is room for an image now, before it is received.

        Args:
            model: Name of the model.
            n_bytes: As for `reserve`.

        Raises:
            NoModelError: If there is no such model.
            BusyError: If there is no room for more work.
            ClosedError: If the server is being stopped.
        """
        lane = self.lane(model)
        self.admission.check(lane, _name_cost(lane, model, n_bytes))

    def reserve(
        self,
        model: str,
        *,
        lane: Lane | None = None,
        n_bytes: int = 0,
        deadline_s: float = DEADLINE_S,
    ) -> Place:
        """Return a place for one image, at once; see `Admission.reserve`.

        Args:
            model: Name of the model.
            lane: Class of the work; None for that of the model.
            n_bytes: Size of the image as it was sent, by which costs are remembered; 0 if unknown.
            deadline_s: Seconds from now in which it must be done.

        Raises:
            NoModelError: If there is no such model.
            BusyError: If there is no room for more work.
            ClosedError: If the server is being stopped.
        """
        lane = self.lane(model) if lane is None else lane
        key = _name_cost(lane, model, n_bytes)
        return self.admission.reserve(lane, key, deadline_s=deadline_s)

    def segment(
        self,
        model: str,
        source: Image,
        *,
        place: Place | None = None,
        read: ReadOptions | None = None,
        with_probabilities: bool = False,
        force: bool = False,
        on_frame: Callable[[int], None] | None = None,
    ) -> Result:
        """Return the result of segmenting one image.

        Args:
            model: Name of the model.
            source: The image as `Model.segment` takes it, or the folder of one DICOM series.
                Files and bytes are decoded in a process of their own, under limits.
            place: The turn, entered by the caller, who may encode the result within it too;
                None to wait for one here.
            read: How files are opened; limits are always those of the settings.
            with_probabilities: Keep class probabilities. The result cannot compute them later.
            force: Accept images of another modality than the model's.
            on_frame: Called with the number of frames done.

        Raises:
            NoModelError: If there is no such model.
            BusyError: If there is no room for more work.
            CancelledError: If the place was cancelled.
            DeadlineError: If the time of the place is over.
            InputError: If the image is refused.
            MemoryLimitError: If there is no room for the model.
        """
        if place is None:
            with self.reserve(model) as own:
                return self.segment(
                    model, source, place=own, read=read, with_probabilities=with_probabilities,
                    force=force, on_frame=on_frame,
                )  # fmt: skip
        turn = place

        # A volume would keep images waiting, and does not yield.
        turns = self._turns if self.lane(model) is Lane.IMAGE else Turns(1)

        opened = self.open(source, read=read)

        def tick(done: int) -> None:
            turn.check()
            if on_frame is not None:
                on_frame(done)
            # After the last frame the rest is short: an image that let another go first here would
            # be done after that one, and every image would take as long as two.
            if done < len(opened.sequence):
                turns.share()

        turn.check()
        with self.model(model) as loaded, turns.taken():
            return loaded.segment_source(
                opened, with_probabilities=with_probabilities, force=force, on_frame=tick,
                is_plane=isinstance(source, np.ndarray) and source.ndim == 2,
            )  # fmt: skip

    def open(self, source: Image, *, read: ReadOptions | None = None) -> Source:
        """Open an image; files and bytes in a process of their own.

        Args:
            source: As for `segment`.
            read: How files are opened; limits are always those of the settings.

        Raises:
            InputError: If the image is refused.
        """
        read = replace(read or ReadOptions(), untrusted=self.decoding)
        if isinstance(source, np.ndarray | ImageSequence | Source):
            return open_image(source, read=replace(read, untrusted=None))
        if isinstance(source, Path) and source.is_dir():
            return _open_folder(source, read)
        # Uploads have no names here, and their hashes would tell them apart all the same.
        return replace(open_image(source, read=read), files=())

    @contextlib.contextmanager
    def model(self, name: str) -> Iterator[Model]:
        """Keep a model loaded within a block, for streams; images go by `segment`.

        Raises:
            NoModelError: If there is no such model.
            MemoryLimitError: If there is no room for it.
        """
        with self._pool.model(self._path(name)) as model:
            yield model

    @property
    def is_ready(self) -> bool:
        """Whether the pinned models are loaded."""
        return self._pins.is_ready

    @property
    def fault(self) -> BedsideError | None:
        """Why a pinned model could not be loaded."""
        return self._pins.fault

    def start(self) -> None:
        """Load the pinned models, and what decodes, in the background."""
        self._decoders.start()
        self._pins.start([each.name for each in self._models.values() if each.pinned])

    def drain(self, patience_s: float) -> None:
        """Take no more work, wait for what was taken, then cancel what is left.

        Args:
            patience_s: Seconds that it may take.
        """
        self.admission.close()
        if not self.admission.drain(patience_s):
            self.admission.cancel_all()

    def close(self) -> None:
        """Take no more work, cancel what was taken, and close the models."""
        self.drain(0.0)
        self._pins.close()
        self._pool.close()
        self._decoders.close()

    def __enter__(self) -> "Engine":
        """Return the engine; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine."""
        self.close()

    def _path(self, model: str) -> Path:
        if model not in self._paths:
            raise NoModelError(f'no model "{model}". Choose one of {", ".join(self._paths)}.')
        return self._paths[model]

    @functools.cached_property
    def _read(self) -> Callable[[Path], Bundle]:
        return functools.cache(read_bundle)


class _Pins:
    """Keeps models loaded, in a thread that does nothing else, as the pool counts by threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self.is_ready = False
        self.fault: BedsideError | None = None

    def start(self, names: Sequence[str]) -> None:
        if not names:
            self.is_ready = True
            return
        self._thread = threading.Thread(
            target=self._keep, args=(names,), name="bedside pinned models", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join()

    def _keep(self, names: Sequence[str]) -> None:
        with contextlib.ExitStack() as stack:
            try:
                for name in names:
                    stack.enter_context(self._engine.model(name))
            except BedsideError as error:
                self.fault = error
                return
            self.is_ready = True
            self._closing.wait()


def _name_cost(lane: Lane, model: str, n_bytes: int) -> str:
    """Return what the cost of an image is remembered by: sizes within a factor of two are alike."""
    return f"{lane.name} {model} {n_bytes.bit_length()}"


def list_models(settings: EngineSettings) -> tuple[ServedModel, ...]:
    """Return the models that are served: those named, else every shipped bundle."""
    return settings.models or tuple(ServedModel(path.stem) for path in shipped_bundles())


def _open_folder(folder: Path, read: ReadOptions) -> Source:
    """Open the only image of a folder.

    Raises:
        FormatError: If it holds none, or several.
    """
    found = read.find(folder)
    if len(found.paths) != 1:
        names = ", ".join(path.name for path in found.paths[:5])
        raise FormatError(
            f"{len(found.paths)} images were sent together ({names}, ...); expected one image or "
            "one series. Send each by itself."
        )
    path = found.paths[0]
    return read.open(path, files=found.files.get(path, ()))
