"""A pool of models: loaded at their first use, closed when memory runs short.

with ModelPool(max_bytes=2**30) as pool, pool.model("camus-4ch") as model:
    result = model.segment("image.dcm")
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bedside.bundle import Bundle, check_graph, find_bundle, read_bundle
from bedside.errors import ClosedError, MemoryLimitError, UsageError
from bedside.runtime import default_threads, open_session
from bedside.runtime.contract import Session, WrappedSession
from bedside.runtime.execution_modes import certificate_warnings
from bedside.segment import Model, Segmenter
from bedside.system.process_memory import trim_heap

# What loaded networks took in OpenVINO and ONNX Runtime, see benchmarks/pool.md: bytes of a
# weight and of a value that is computed, and what any network takes.
_WEIGHT_BYTES, _VALUE_BYTES, _BASE_BYTES = 20, 12, 2 * 2**20


def estimate_bytes(bundle: Bundle, *, at_once: int = 1) -> int:
    """Estimate the resident memory that a bundle takes while it is loaded and runs.

    Args:
        bundle: What is loaded.
        at_once: Calls of the network that run at the same time.

    Returns:
        Bytes: its graphs, the weights as a runtime keeps them, and the values of each call.
    """
    graphs = [bundle.read_graph(name) for name in bundle.precisions]
    weights = max(bundle.card.parameters, *(len(graph) // 2 for graph in graphs))
    size = (1, bundle.spec.input.channels, *bundle.spec.input.size_px)
    signature = check_graph(bundle.read_graph("f32"), where=str(bundle.path), input_shape=size)
    values = _VALUE_BYTES * signature.cost.live * at_once
    return _BASE_BYTES + sum(map(len, graphs)) + _WEIGHT_BYTES * weights + values


@dataclass(eq=False)
class _Entry:
    """A model of the pool.

    Attributes:
        path: File of its bundle.
        model: None until it is loaded.
        error: Why it could not be loaded.
        given_up: Whether the thread that loads it found no room within its own time.
        n_bytes: What it counts for.
        waits: Whether there is no room for it yet.
        users: Threads that use it, one entry a use.
    """

    path: Path
    model: Model | None = None
    error: BaseException | None = None
    given_up: bool = False
    n_bytes: int = 0
    waits: bool = False
    users: list[int] = field(default_factory=list)


class ModelPool:
    """Models by name, for any number of threads.

    A model is loaded at its first use, and only once if several threads ask for it together. If
    there is no room for it, unused models are closed, the least recently used first. A model in
    use is never closed. All networks share one budget of threads: at most `at_once` calls run at
    the same time, each with an equal part of `threads`. A stream runs its model in the mode that is
    loaded and opens no other, which would not be counted. A result computes probabilities with its
    model, so they are asked for within the block.

    Args:
        max_bytes: Memory for the loaded models together, as `estimate_bytes` counts them.
        threads: Threads of all runtimes together; None for every core this process may use.
        at_once: Calls of networks that may run at the same time.
        backend: Name of a runtime, or "auto".
        precision: As in `bedside.load`; "auto" opens all certified ways for some seconds, at the
            first use of a bundle on a machine, so "default" keeps to the memory.

    Raises:
        UsageError: If a number is below 1, or is none.
    """

    def __init__(
        self,
        max_bytes: int,
        *,
        threads: int | None = None,
        at_once: int = 1,
        backend: str = "auto",
        precision: str = "default",
    ) -> None:
        threads = default_threads() if threads is None else threads
        numbers = (max_bytes, threads, at_once)
        if not all(isinstance(number, int | float) and number >= 1 for number in numbers):
            raise UsageError(
                f"max_bytes is {max_bytes!r}, threads {threads!r} and at_once {at_once!r}; "
                "expected numbers above 0."
            )
        self._max_bytes, self._at_once = max_bytes, at_once
        self._backend, self._precision = backend, precision
        self._threads = max(1, threads // at_once)
        self._slots = threading.BoundedSemaphore(at_once)
        self._changed = threading.Condition()
        self._entries: OrderedDict[Path, _Entry] = OrderedDict()  # used longest ago first
        self._closed = False

    @property
    def loaded(self) -> Mapping[str, int]:
        """Bytes that each loaded model counts for, by the name of its bundle."""
        with self._changed:
            models = [entry for entry in self._entries.values() if entry.model is not None]
            return {entry.path.stem: entry.n_bytes for entry in models}

    @contextmanager
    def model(self, name_or_path: str | Path, *, wait_s: float = 60.0) -> Iterator[Model]:
        """Keep a model loaded within a block.

        Args:
            name_or_path: As in `bedside.load`.
            wait_s: Seconds to wait for models in use to leave room. A thread that uses a model
                itself does not wait, as two such threads could wait for each other for ever.

        Yields:
            The model; it stays loaded within the block.

        Raises:
            BundleError: If there is no such bundle, or it is damaged.
            BackendError: If the runtime is not installed.
            MemoryLimitError: If the model is larger than the ceiling, or models in use leave no
                room for it.
            ClosedError: If the pool was closed.
        """
        path = find_bundle(str(name_or_path)).resolve()
        user = threading.get_ident()
        model = None
        while model is None:  # the thread that loads it may give up where this one can wait
            entry, is_new = self._enter(path, user)
            try:
                if is_new:
                    self._load(entry, wait_s=wait_s)
                model = self._await(entry, user)
                if model is not None:
                    yield model
            finally:
                self._leave(entry, user)

    def close(self) -> None:
        """Close all models, those in use at the end of their blocks; later calls are refused."""
        with self._changed:
            self._closed = True
            self._close_unused(room=self._max_bytes)
            self._changed.notify_all()

    def __enter__(self) -> "ModelPool":
        """Return the pool; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the pool."""
        self.close()

    def _enter(self, path: Path, user: int) -> tuple[_Entry, bool]:
        """Register a use of a model; return its entry, and whether this use has to load it."""
        with self._changed:
            if self._closed:
                raise ClosedError("the pool of models was closed. Open another one.")
            is_new = path not in self._entries
            entry = self._entries.setdefault(path, _Entry(path))
            self._entries.move_to_end(path)
            entry.users.append(user)
            return entry, is_new

    def _leave(self, entry: _Entry, user: int) -> None:
        """Register the end of a use."""
        with self._changed:
            entry.users.remove(user)
            if self._closed:
                self._close_unused(room=self._max_bytes)
            self._changed.notify_all()

    def _await(self, entry: _Entry, user: int) -> Model | None:
        """Return a model once it is loaded, or None if the thread that loads it gave up.

        Raises:
            MemoryLimitError: If it waits for room, and so would wait for this thread.
            BaseException: What its loading has raised.
        """
        with self._changed:
            while entry.model is None and not entry.given_up:
                if entry.error is not None:
                    raise entry.error
                if entry.waits and self._uses_another(entry, user):
                    raise self._no_room(entry)
                self._changed.wait()
            return entry.model

    def _load(self, entry: _Entry, *, wait_s: float) -> None:
        """Load a model; an error is kept for every thread that waits for it.

        That there is no room for this thread says nothing of the others: each tries by itself.
        """
        try:
            bundle = read_bundle(entry.path)
            self._reserve(entry, estimate_bytes(bundle, at_once=self._at_once), wait_s=wait_s)
            session = open_session(
                bundle, backend=self._backend, precision=self._precision, threads=self._threads
            )
            warnings = certificate_warnings(bundle, session.backend, session.precision)
            shared = _SharedSession(session, self._slots)
            segmenter = Segmenter(
                bundle.spec, shared, warnings=warnings, gate=bundle.gate,
                confidence=bundle.confidence,
            )  # fmt: skip
            model = Model(bundle, segmenter)
        except BaseException as error:
            with self._changed:
                entry.given_up = isinstance(error, _NoRoomError)
                entry.error = None if entry.given_up else error
                del self._entries[entry.path]
                self._changed.notify_all()
            raise
        with self._changed:
            entry.model = model
            self._changed.notify_all()

    def _reserve(self, entry: _Entry, n_bytes: int, *, wait_s: float) -> None:
        """Reserve memory for a model, and close unused ones for it.

        Raises:
            MemoryLimitError: If there is none.
        """
        if n_bytes > self._max_bytes:
            raise MemoryLimitError(
                f"{entry.path.stem} takes about {n_bytes / 2**20:.0f} MiB, and the pool may take "
                f"{self._max_bytes / 2**20:.0f} MiB. Raise max_bytes."
            )
        until = time.monotonic() + wait_s
        with self._changed:
            while not self._close_unused(room=n_bytes):
                left_s = until - time.monotonic()
                if left_s <= 0 or self._uses_another(entry, threading.get_ident()):
                    raise self._no_room(entry)
                entry.waits = True
                self._changed.notify_all()
                self._changed.wait(left_s)
            entry.n_bytes, entry.waits = n_bytes, False

    def _uses_another(self, entry: _Entry, user: int) -> bool:
        """Whether a thread uses another model, so that waiting could never end."""
        others = (other for other in self._entries.values() if other is not entry)
        return any(user in other.users for other in others)

    def _no_room(self, entry: _Entry) -> "_NoRoomError":
        used = ", ".join(e.path.stem for e in self._entries.values() if e.users and e.n_bytes)
        return _NoRoomError(
            f"models in use ({used}) leave no room for {entry.path.stem} in the pool's "
            f"{self._max_bytes / 2**20:.0f} MiB. Leave their blocks first, or raise max_bytes."
        )

    def _close_unused(self, *, room: int) -> bool:
        """Close unused models until there is room; return whether there is."""
        for path, entry in list(self._entries.items()):
            if sum(each.n_bytes for each in self._entries.values()) + room <= self._max_bytes:
                break
            if not entry.users and entry.model is not None:
                del self._entries[path]
                entry.model.close()
                trim_heap()
        return sum(each.n_bytes for each in self._entries.values()) + room <= self._max_bytes


class _NoRoomError(MemoryLimitError):
    """Models in use leave no room for a model to a thread that cannot wait longer."""


class _SharedSession(WrappedSession):
    """A session that limits how many networks of a pool run at the same time.

    Args:
        session: The network.
        slots: Calls of all networks that may run at the same time.
    """

    def __init__(self, session: Session, slots: threading.BoundedSemaphore) -> None:
        super().__init__(session)
        self._slots, self.is_shared = slots, True

    def predict(self, tensor: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Turn (B, C, *S) float32 into (B, K, *s) float32 logits that the caller owns."""
        with self._slots:
            return super().predict(tensor, out)
