"""A process that is a worklist over DIMSE, by pynetdicom, until its input ends: UID IMAGE ...

It holds performers to the rules of `ups_for_tests.UpsServer`, whose items it shares, and writes
as JSON the port of DIMSE and the root of the images. For each line that it reads it writes what has
become of the work items; a line "UID KIND STATE HOST PORT" has an event sent there first.
"""

import json
import sys
from pathlib import Path

from pydicom import Dataset
from pynetdicom import AE, build_role, evt

from ups_for_tests import TRANSACTION, UpsServer, make_work_item

PUSH, WATCH, PULL, EVENT = (f"1.2.840.10008.5.1.4.34.6.{number}" for number in range(1, 5))
# Statuses of PS3.4 CC.2: no such item, wrong key, not allowed in this state.
STATUSES = {200: 0x0000, 404: 0xC307, 400: 0xC301, 409: 0xC310}


def run(uids_and_images: list[str]) -> None:
    """Serve work items."""
    with UpsServer(transaction_in="body") as ups:
        for uid, image in zip(uids_and_images[::2], uids_and_images[1::2], strict=True):
            ups.schedule(make_work_item(uid, [Path(image)]), [Path(image)])

        subscribed: dict[str, str] = {}

        def find(event):
            query = event.identifier
            assert event.context.abstract_syntax == PULL
            assert query.ProcedureStepState == "SCHEDULED"
            _, found, _ = ups.search({"ProcedureStepState": "SCHEDULED"})
            for item in found or ():
                yield 0xFF00, Dataset.from_json(item)

        def get(event):
            assert event.request.RequestedSOPClassUID == PUSH
            status, found, _ = ups.retrieve(event.request.RequestedSOPInstanceUID)
            return STATUSES[status], Dataset.from_json(found[0]) if found else None

        def act(event):
            if event.action_type == 3:
                assert event.context.abstract_syntax == WATCH
                information = event.action_information
                uid = event.request.RequestedSOPInstanceUID
                status, *_ = ups.subscribe(uid, information.ReceivingAE)
                subscribed[uid] = information.ReceivingAE
                return STATUSES.get(status, 0x0000), None
            assert event.action_type == 1
            change = event.action_information.to_json_dict()
            status, *_ = ups.change(event.request.RequestedSOPInstanceUID, change)
            return STATUSES[status], None

        def update(event):
            changes = event.attribute_list.to_json_dict()
            status, *_ = ups.update(event.request.RequestedSOPInstanceUID, changes, {})
            return STATUSES[status], event.attribute_list if status == 200 else None

        entity = AE(ae_title="WORKLIST")
        entity.add_supported_context(PULL)
        entity.add_supported_context(WATCH)
        handlers = [(evt.EVT_C_FIND, find), (evt.EVT_N_GET, get), (evt.EVT_N_ACTION, act),
                    (evt.EVT_N_SET, update)]  # fmt: skip
        server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        _tell({"port": server.server_address[1], "url": ups.url})
        for line in sys.stdin:
            if line.split():
                _send_event(*line.split())
            shown = {uid: {key: value for key, value in item.items() if key != TRANSACTION}
                     for uid, item in ups.items.items()}  # fmt: skip
            _tell({"items": shown, "claims": ups.claims, "completions": ups.completions,
                   "subscribed": subscribed})  # fmt: skip
        server.shutdown()


def _send_event(uid: str, kind: str, state: str, host: str, port: str) -> None:
    """Send an event of a work item on an association of our own, as a worklist does."""
    entity = AE(ae_title="WORKLIST")
    entity.add_requested_context(EVENT)
    role = build_role(EVENT, scp_role=True)
    association = entity.associate(host, int(port), ext_neg=[role])
    assert association.is_established
    information = Dataset()
    information.InputReadinessState, information.ProcedureStepState = "READY", state
    status, _ = association.send_n_event_report(information, int(kind), PUSH, uid, meta_uid=EVENT)
    association.release()
    assert status.Status == 0, status


def _tell(what: dict) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    run(sys.argv[1:])
