"""Workers on a Ray cluster: `bedside segment --manifest cases.jsonl -o OUT --ray ADDRESS`.

Only paths and records travel. Every machine must have the sources, the bundle and the output
folder under the same paths, and bedside itself.
"""

from collections.abc import Collection
from typing import Any

from bedside.batch.job import Job
from bedside.batch.worker import CaseRunner, Message, WorkerExited, limit_threads
from bedside.batch.worker_pool import Worker
from bedside.errors import BackendError, UsageError, install_command


class Actor:
    """A worker process that Ray starts somewhere.

    Args:
        threads: Number of its threads.
    """

    def __init__(self, threads: int) -> None:
        limit_threads(threads)
        self._runner = CaseRunner(threads)

    def prepare(self, job: Job) -> Message:
        """Load the bundle of the first case."""
        return self._runner.prepare(job)

    def run(self, job: Job) -> Message:
        """Run a case."""
        return self._runner.run(job)


class RayWorker:
    """One actor and its pending answer.

    Args:
        ray: The module.
        first: A job whose bundle it loads.
    """

    def __init__(self, ray: Any, first: Job) -> None:
        self._ray = ray
        # Never restarted: the supervisor counts crashes and starts another one.
        kind = ray.remote(num_cpus=first.threads, max_restarts=0)(Actor)
        self._actor = kind.remote(first.threads)
        self.answer = self._actor.prepare.remote(first)

    def submit(self, job: Job) -> None:
        """Submit a case."""
        self.answer = self._actor.run.remote(job)

    def receive(self) -> Message:
        """Receive the answer, or `WorkerExited`."""
        try:
            message: Message = self._ray.get(self.answer)
        except self._ray.exceptions.RayError as error:
            return WorkerExited(f"Ray says: {' '.join(str(error).split())}")
        return message

    def stop(self) -> None:
        """Kill the actor."""
        self._ray.kill(self._actor, no_restart=True)


class RayPool:
    """Workers on the connected cluster.

    Args:
        ray: The module.
    """

    # A cluster may take any time to start a worker.
    start_limit_s: float | None = None

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def start(self, first: Job) -> RayWorker:
        """Start an actor."""
        return RayWorker(self._ray, first)

    def listen(
        self, workers: Collection[Worker], timeout_s: float | None
    ) -> list[tuple[Worker, Message]]:
        """Wait for answers; the answer of a crashed actor is an error."""
        pending = {worker.answer: worker for worker in workers if isinstance(worker, RayWorker)}
        ready, _ = self._ray.wait(list(pending), num_returns=1, timeout=timeout_s)
        return [(pending[answer], pending[answer].receive()) for answer in ready]


def connect(address: str) -> RayPool:
    """Connect to a cluster.

    Args:
        address: Of its head; "auto" for the one that runs here; "local" to start one of this
            machine's cores that ends with this process.

    Raises:
        BackendError: If Ray is not installed.
        UsageError: If there is no such cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise BackendError(
            f"Ray is not installed. Install it with: {install_command('ray')}."
        ) from error
    local = {"include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address=address, logging_level="error", log_to_driver=False, **local)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        raise UsageError(
            f'no Ray cluster at "{address}": {error}. Start one with "ray start --head", '
            "or choose --ray local."
        ) from error
    return RayPool(ray)
