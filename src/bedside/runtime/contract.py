"""The contract of sessions: tensors in, logits out, from any number of threads."""

from abc import ABC, abstractmethod
from typing import Any, Self, final

import numpy as np

from bedside.errors import BedsideError, ClosedError
from bedside.runtime.checks import check_logits, check_out, check_tensor, make_backend_error


class Session(ABC):
    """A network that is ready to run, from any number of threads at once.

    Each call returns the logits of its own tensor, in memory that nothing writes to afterwards.
    It is its own context manager, closed at the end of the block.

    Attributes:
        backend: Name in the table of backends.
        precision: Such as "f32", "bf16" or "int8".
        threads: Threads that one call uses.
        is_shared: Whether it has a part of the memory and threads of others, so that no further
            session of its bundle may be opened beside it.
    """

    backend: str
    precision: str
    threads: int
    is_shared = False
    _closed = False

    @abstractmethod
    def predict(self, tensor: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Turn (B, C, *S) float32 into (B, K, *s) float32 logits that the caller owns.

        Args:
            tensor: Of any real dtype and memory layout; not changed.
            out: Array for the logits: of their shape, float32, in C order, writeable, apart from
                `tensor`. If None, a new one. If the call fails, its values mean nothing.

        Returns:
            The logits: `out` if it was given.

        Raises:
            InputError: If the shape is not the graph's, a value is no finite number, or `out` is
                not such an array.
            ClosedError: If the session was closed.
        """

    def close(self) -> None:
        """Free the network. Calls under way finish; later calls of `predict` are refused.

        Closing twice does nothing.
        """
        self._closed = True

    def check_open(self) -> None:
        """Refuse a call to a closed session.

        Raises:
            ClosedError: If it was closed.
        """
        if self._closed:
            raise ClosedError(f"the {self.backend} session was closed. Open another one.")

    def __enter__(self) -> Self:
        """Return the session itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the session."""
        self.close()


class WrappedSession(Session):
    """A session around another one, which it owns and closes.

    Args:
        session: The other one.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.backend, self.precision = session.backend, session.precision
        self.threads, self.is_shared = session.threads, session.is_shared

    def predict(self, tensor: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return the logits of the other session."""
        return self.session.predict(tensor, out)

    def close(self) -> None:
        """Close this session and the other one."""
        super().close()
        self.session.close()


class GraphSession(Session):
    """A graph with one input and one output of batch 1; a runtime adds how one image is run.

    A subclass defines `backend` and `_run`, which any number of threads may call at once.

    Args:
        network: What the runtime loaded. Only this object holds it, so closing frees it.
        takes: (C, *S) of the input.
        gives: (K, *s) of the output.
        precision: How it computes.
        threads: Threads for one call.
    """

    def __init__(
        self,
        network: Any,
        *,
        takes: tuple[int, ...],
        gives: tuple[int, ...],
        precision: str,
        threads: int,
    ) -> None:
        self.precision = precision
        self.threads = threads
        self._network = network
        self._takes, self._gives = tuple(takes), tuple(gives)

    @abstractmethod
    def _run(self, network: Any, image: np.ndarray, logits: np.ndarray) -> None:
        """Run one image, (1, C, *S), and write its logits, (1, K, *s)."""

    @final
    def predict(self, tensor: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Turn (B, C, *S) float32 into (B, K, *s) float32 logits that the caller owns."""
        network = self._network  # None only once the session is marked as closed
        self.check_open()
        taken = check_tensor(tensor, self._takes)
        shape = (len(taken), *self._gives)
        logits = np.empty(shape, np.float32) if out is None else check_out(out, shape, tensor)
        for index in range(len(taken)):
            try:
                self._run(network, taken[index : index + 1], logits[index : index + 1])
            except BedsideError:
                raise
            except Exception as error:  # the errors of runtimes share no other base
                raise make_backend_error(self.backend, error) from error
        return check_logits(logits)

    def close(self) -> None:
        """Free the network. Calls under way finish; later calls of `predict` are refused."""
        super().close()
        self._network = None
