"""Hands results to the sender, and keeps the state of each series true to its deliveries."""

from collections.abc import Callable

from bedside.dicom_node.config import DicomSettings
from bedside.dicom_node.routing import find_route
from bedside.dicom_node.sending.delivery import Delivery, Finding, State
from bedside.dicom_node.sending.sender import Sender
from bedside.dicom_node.series import CONFIRMED, FAILED, KIND, SEGMENTED, SENT, Series
from bedside.errors import StaleJobError
from bedside.service.jobs import Job, JobStore

_MARGIN_S = 86400.0
_BEING_SENT = (SEGMENTED, SENT, FAILED)


class Forwarder:
    """Orders deliveries of series, and takes note of what became of them.

    Args:
        store: Where series and deliveries are.
        settings: The table `[dicom]`.
        on_event: Called with sentences about series, without anything of a patient.
    """

    def __init__(
        self,
        store: JobStore,
        settings: DicomSettings,
        *,
        on_event: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._store, self._settings, self._on_event = store, settings, on_event
        self._sender = Sender(store, settings.archives, on_change=self._note)

    def start(self) -> None:
        """Order what a kill has kept from being ordered, and begin to send."""
        for job in self._store.list(KIND, [SEGMENTED, SENT], limit=10**6):
            self.forward(job)
        self._sender.start()

    def close(self) -> None:
        """End after the steps in progress; what is left is continued after the next start."""
        self._sender.close()

    def receive_report(self, transaction_uid: str, found: Finding) -> None:
        """Take a report of storage commitment that an archive has sent by itself."""
        self._sender.receive_report(transaction_uid, found)

    def remove_sent(self) -> None:
        """Remove series that are sent and can wait for no confirmation any more, and deliveries.

        Deliveries stay longer than their series, which would be ordered anew without them.
        """
        longest_s = max((each.retry.give_up_after_s for each in self._settings.archives), default=0)
        older_s = self._settings.keep_s + longest_s
        self._store.remove(KIND, [SENT], older_s=older_s)
        self._sender.remove_ended(older_s=older_s + _MARGIN_S)

    def forward(self, job: Job) -> None:
        """Order the deliveries of a series; those that were ordered stay as they are."""
        series = Series.from_payload(job.payload)
        files = [self._store.folder(job) / name for name in series.results]
        for name in self._destinations(series):
            self._sender.order(job.id, files, name)
        self._refresh(job.id)

    def _destinations(self, series: Series) -> tuple[str, ...]:
        route = find_route(series, self._settings.route)
        named = () if route is None else route.send_to
        return named or tuple(each.name for each in self._settings.archives)

    def _note(self, delivery: Delivery) -> None:
        self._refresh(delivery.key)

    def _refresh(self, job_id: str) -> None:
        """Set a series to the state that its deliveries have together."""
        while (job := self._store.get(job_id)) is not None and job.state in _BEING_SENT:
            series = Series.from_payload(job.payload)
            found = [self._sender.find(job_id, name) for name in self._destinations(series)]
            state, why = _sum_up([each for each in found if each is not None], job)
            if state == job.state or not series.results:
                return
            try:
                self._store.move(job, state, reason=why)
            except StaleJobError:  # by the thread of another destination
                continue
            self._on_event(f"series {job_id} is {state}")


def _sum_up(deliveries: list[Delivery], job: Job) -> tuple[str, str]:
    """Return the state of a series, and why."""
    failed = [each for each in deliveries if each.state is State.FAILED]
    if failed:
        names = ", ".join(each.destination for each in failed)
        return FAILED, f"segmented, but not sent to {names}: {failed[0].why}"
    states = {each.state for each in deliveries}
    if states == {State.CONFIRMED}:
        return CONFIRMED, job.reason
    if states and states <= {State.SENT, State.CONFIRMED}:
        return SENT, job.reason
    return SEGMENTED, job.reason
