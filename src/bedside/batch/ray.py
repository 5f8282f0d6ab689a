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
    """What stands on the other side: one process, which Ray starts somewhere.

    Args:
        threads: Threads that it may use.
    """

    def __init__(self, threads: int) -> None:
        limit_threads(threads)
        self._desk = CaseRunner(threads)

    def prepare(self, job: Job) -> Message:
        """Load the bundle that the first case needs."""
        return self._desk.prepare(job)

    def do(self, job: Job) -> Message:
        """Do a case."""
        return self._desk.do(job)


class RayWorker:
    """One actor, and the answer that it owes.

    Args:
        ray: The module.
        first: A job whose bundle it loads.
    """

    def __init__(self, ray: Any, first: Job) -> None:
        self._ray = ray
        # Its cores are its own. It is never restarted: who has it replaced counts its deaths.
        kind = ray.remote(num_cpus=first.threads, max_restarts=0)(Actor)
        self._actor = kind.remote(first.threads)
        self.answer = self._actor.prepare.remote(first)

    def give(self, job: Job) -> None:
        """Hand a case over."""
        self.answer = self._actor.do.remote(job)

    def hear(self) -> Message:
        """Take the answer, or find the actor gone."""
        try:
            message: Message = self._ray.get(self.answer)
        except self._ray.exceptions.RayError as error:
            return WorkerExited(f"Ray says: {' '.join(str(error).split())}")
        return message

    def stop(self) -> None:
        """Kill the actor."""
        self._ray.kill(self._actor, no_restart=True)


class RayPool:
    """Workers on the cluster that this process is connected to.

    Args:
        ray: The module.
    """

    # A cluster may take any time to find room for a worker, or to grow.
    start_limit_s: float | None = None

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def start(self, first: Job) -> RayWorker:
        """Ask for an actor."""
        return RayWorker(self._ray, first)

    def listen(
        self, workers: Collection[Worker], timeout_s: float | None
    ) -> list[tuple[Worker, Message]]:
        """Wait for answers; that of a dead actor comes too, and is an error."""
        owing = {worker.answer: worker for worker in workers if isinstance(worker, RayWorker)}
        heard, _ = self._ray.wait(list(owing), num_returns=1, timeout=timeout_s)
        return [(owing[answer], owing[answer].hear()) for answer in heard]


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
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(
            f'no Ray cluster at "{address}": {error}. Start one with "ray start --head", '
            "or choose --ray local."
        ) from error
    return RayPool(ray)
